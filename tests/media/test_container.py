import numpy as np
import pytest

from tests.support.make_clips import (
    Track,
    film_frames,
    make_clip,
    make_tracks,
    picture,
    read_barcode,
    sound_frames,
    tone,
)
from transforms.engines.pyav import PyAvSampler
from transforms.media.audio import read_windows, write_audio
from transforms.media.container import NoAudioStream
from transforms.protocols.frames import FramePolicy

FAST = {"preset": "ultrafast"}


def sample(path):
    return PyAvSampler().sample(str(path), FramePolicy())


def numbers(path) -> list[int]:
    return [read_barcode(frame.image) for frame in sample(path).frames]


def pitch_hz(path) -> float:
    """Of the sound that is taken from the file."""
    write_audio(str(path), f"{path}.flac", 0.0, 3600.0)
    samples = np.concatenate(list(read_windows(f"{path}.flac")))
    return float(np.abs(np.fft.rfft(samples)).argmax() * 16_000 / len(samples))


def beep(hertz: float) -> Track:
    return Track("aac", sound_frames(tone(3.0, hertz=hertz)[None]))


def programme(path, number: int, *tracks: Track):
    """A transport stream whose only programme has this number; no two numbers share an identifier of packets."""
    ids = {"mpegts_service_id": number, "mpegts_start_pid": 256 * number, "mpegts_pmt_start_pid": 4096 + number}
    return make_tracks(path, *tracks, container={name: str(value) for name, value in ids.items()})


def broadcast(target, *programmes):
    """Those programmes, numbered from 1 on, as one transport stream: packets in turn, under one table of programmes."""
    entries = b"".join(n.to_bytes(2) + (0xE000 + 4096 + n).to_bytes(2) for n in range(1, len(programmes) + 1))
    section = b"\x00\xb0" + bytes([len(entries) + 9]) + b"\x00\x01\xc1\x00\x00" + entries
    check = 0xFFFFFFFF  # CRC-32 of MPEG-2
    for bit in np.unpackbits(np.frombuffer(section, np.uint8)).tolist():
        check = (check << 1 & 0xFFFFFFFF) ^ (0x04C11DB7 if (check >> 31) ^ bit else 0)
    packets = []
    for data in (path.read_bytes() for path in programmes):
        own = [data[at : at + 188] for at in range(0, len(data), 188)]
        own = [packet for packet in own if int.from_bytes(packet[1:3]) & 0x1FFF]  # without its own table
        packets += [(position / len(own), packet) for position, packet in enumerate(own)]
    packets.sort(key=lambda packet: packet[0])
    table = (b"\x47\x40\x00\x10\x00" + section + check.to_bytes(4)).ljust(188, b"\xff")
    target.write_bytes(table + b"".join(packet for _, packet in packets))
    return target


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_thumbnail_before_the_film_is_not_the_film(tmp_path, suffix):
    red = film_frames(
        [0], size=(640, 360), draw=lambda _, width, height: np.full((height, width, 3), (200, 0, 0), "u1")
    )
    film = Track("libx264", film_frames(range(96)), FAST)
    clip = make_tracks(tmp_path / f"a{suffix}", Track("mjpeg", red, is_default=True), film)
    assert numbers(clip) == [12, 36, 60, 84]
    assert sample(clip).duration_s == pytest.approx(4, abs=0.05)


def test_a_single_picture_alone_is_the_film(tmp_path):
    assert numbers(make_clip(tmp_path / "a.mp4", frames=1)) == [0]


def test_of_two_films_the_default_one_is_taken(tmp_path):
    small, large = film_frames(range(72)), film_frames(range(500, 572), size=(320, 180))
    for pts, frame in enumerate(large):
        frame.pts = 1000 * pts
    for first in (small, large):
        second = large if first is small else small
        tracks = (Track("libx264", first, FAST, is_default=True), Track("libx264", second, FAST))
        assert numbers(make_tracks(tmp_path / "a.mp4", *tracks))[0] == (12 if first is small else 512)


@pytest.mark.parametrize("first", [1, 2])
def test_sound_is_of_the_programme_that_the_pictures_belong_to(tmp_path, first):
    def film(offset, size):
        return Track("libx264", film_frames(range(72), size=size, draw=lambda n, *at: picture(n + offset, *at)), FAST)

    stereo = Track("aac", sound_frames(np.stack([tone(3.0, hertz=1_000)] * 2), layout="stereo"))
    parts = {first: (film(0, (320, 180)), beep(440)), 3 - first: (film(500, (160, 90)), stereo)}
    clip = broadcast(tmp_path / "a.ts", *(programme(tmp_path / f"{n}.ts", n, *parts[n]) for n in (1, 2)))
    shown = numbers(clip)[0]
    assert pitch_hz(clip) == pytest.approx(440 if shown < 500 else 1_000, abs=5)


def test_a_programme_without_sound_takes_none_from_another(tmp_path):
    large = Track("libx264", film_frames(range(72), size=(320, 180)), FAST)
    small = Track("libx264", film_frames(range(5), size=(160, 90)), FAST)
    clip = broadcast(
        tmp_path / "a.ts",
        programme(tmp_path / "1.ts", 1, large),
        programme(tmp_path / "2.ts", 2, small, beep(1_000)),
    )
    assert numbers(clip)[0] == 12
    with pytest.raises(NoAudioStream):
        write_audio(str(clip), str(tmp_path / "a.flac"), 0.0, 3600.0)
