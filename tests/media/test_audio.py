import gc
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from schemas.fingerprint import sha256_file
from tests.support.make_clips import (
    Track,
    audio_frames,
    film_frames,
    make_audio,
    make_clip,
    make_tracks,
    sound_frames,
    tone,
)
from tests.support.peak_memory import peak_growth_mb
from transforms.media.audio import read_windows, write_audio
from transforms.media.container import NoAudioStream, UndecodableAudio

RATE = 16_000
HOUR_S = 3600.0


def decode(path, origin_s=0.0, max_duration_s=HOUR_S):
    audio = f"{path}.flac"
    written = write_audio(str(path), audio, origin_s, max_duration_s)
    samples = np.concatenate(list(read_windows(audio)))
    assert written.duration_s == len(samples) / RATE
    return samples, [warning.reason for warning in written.warnings]


def loudness(samples: np.ndarray, from_s: float, to_s: float) -> float:
    return float(np.abs(samples[round(from_s * RATE) : round(to_s * RATE)].astype(float)).mean())


def write_with_hole(path, before: np.ndarray, after: np.ndarray, after_start_s: float) -> None:
    """Two stretches of sound in one Matroska stream, the second at a time of its own."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for frame in [*audio_frames(before, RATE), *audio_frames(after, RATE, round(after_start_s * RATE))]:
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def test_samples_that_need_no_conversion_come_through_unchanged(tmp_path):
    noise = np.random.default_rng(0).integers(-32768, 32767, 70_003, np.int16)
    samples, warnings = decode(make_audio(tmp_path / "noise.wav", noise))
    np.testing.assert_array_equal(samples, noise)
    assert warnings == []


def test_windows_are_whole_and_the_last_is_the_rest(tmp_path):
    make_audio(tmp_path / "a.wav", tone(2.5, RATE))
    write_audio(str(tmp_path / "a.wav"), str(tmp_path / "a.flac"), 0.0, HOUR_S)
    assert [len(window) for window in read_windows(str(tmp_path / "a.flac"), 1.0)] == [16_000, 16_000, 8_000]
    assert {window.dtype for window in read_windows(str(tmp_path / "a.flac"))} == {np.dtype(np.int16)}


def test_the_same_sound_gives_the_same_bytes(tmp_path):
    make_audio(tmp_path / "a.wav", tone(1.0, RATE))
    for name in ("one.flac", "two.flac"):
        write_audio(str(tmp_path / "a.wav"), str(tmp_path / name), 0.0, HOUR_S)
    assert sha256_file(tmp_path / "one.flac") == sha256_file(tmp_path / "two.flac")


def test_other_rates_are_resampled_to_the_last_sample(tmp_path):
    samples, _ = decode(make_audio(tmp_path / "a.wav", tone(2.0, 44_100), rate=44_100))
    assert len(samples) == pytest.approx(2 * RATE, abs=2)
    spectrum = np.abs(np.fft.rfft(samples[: 2 * RATE]))
    assert np.argmax(spectrum) / 2 == pytest.approx(440, abs=1)


def test_a_late_track_starts_with_silence(tmp_path):
    clip = make_clip(tmp_path / "late.mp4", frames=96, audio=tone(2.0), audio_start_s=1.5)
    samples, _ = decode(clip)
    assert loudness(samples, 0.0, 1.45) < 1
    assert loudness(samples, 1.6, 3.4) > 5_000
    assert len(samples) / RATE == pytest.approx(3.5, abs=0.1)


def test_sound_before_the_first_picture_is_dropped(tmp_path):
    ramp = np.arange(RATE, dtype=np.int16)
    samples, _ = decode(make_audio(tmp_path / "a.wav", ramp), origin_s=0.25)
    np.testing.assert_array_equal(samples, ramp[4_000:])


def test_a_hole_is_filled_with_silence(tmp_path):
    write_with_hole(tmp_path / "hole.mkv", tone(1.0, RATE), tone(1.0, RATE), after_start_s=3.0)
    samples, _ = decode(tmp_path / "hole.mkv")
    assert len(samples) == pytest.approx(4 * RATE, abs=RATE // 500)
    assert loudness(samples, 0.1, 0.9) > 5_000
    assert loudness(samples, 1.1, 2.9) == 0
    assert loudness(samples, 3.1, 3.9) > 5_000


def test_sound_beyond_the_limit_is_dropped_with_a_warning(tmp_path):
    samples, warnings = decode(make_audio(tmp_path / "a.wav", tone(3.0, RATE)), max_duration_s=1.25)
    assert (len(samples), warnings) == (20_000, ["clipped"])


def clusters(data: bytes) -> list[tuple[int, int]]:
    """Where each Matroska cluster keeps its two-byte time (ms), and that time; the first, at 0, is not listed."""
    found = re.finditer(rb"\x1f\x43\xb6\x75.{4,16}?\xe7\x82(..)", data, re.DOTALL)
    return [(match.start(1), int.from_bytes(match[1])) for match in found]


@pytest.mark.parametrize("damaged_ms", [50, 12_000, 33_000])
def test_one_damaged_timestamp_moves_nothing_after_it(tmp_path, damaged_ms):
    sound = np.concatenate([np.zeros(30 * RATE, np.int16), tone(1.0, RATE), np.zeros(9 * RATE, np.int16)])
    path = make_audio(tmp_path / "a.mkv", sound)
    data = bytearray(path.read_bytes())
    (place, _), *_ = [(place, ms) for place, ms in clusters(data) if ms > 9_000]
    data[place : place + 2] = damaged_ms.to_bytes(2)
    path.write_bytes(data)
    samples, warnings = decode(path)
    assert len(samples) / RATE == pytest.approx(40.0, abs=0.05)
    assert loudness(samples, 29.0, 29.95) == 0
    assert loudness(samples, 30.05, 30.95) > 5_000
    assert warnings == ["odd timestamps"]


def test_a_hole_before_a_damaged_timestamp_is_kept(tmp_path):
    write_with_hole(tmp_path / "a.mkv", tone(1.0, RATE), tone(20.0, RATE), after_start_s=3.0)
    data = bytearray((tmp_path / "a.mkv").read_bytes())
    place, _ = clusters(data)[-1]
    data[place : place + 2] = (500).to_bytes(2)
    (tmp_path / "a.mkv").write_bytes(data)
    samples, warnings = decode(tmp_path / "a.mkv")
    assert len(samples) / RATE == pytest.approx(23.0, abs=0.05)
    assert loudness(samples, 1.1, 2.9) == 0
    assert warnings == ["odd timestamps"]


def test_a_hole_of_hours_costs_neither_memory_nor_disk(tmp_path):
    write_with_hole(tmp_path / "hole.mkv", tone(1.0, RATE), tone(1.0, RATE), after_start_s=20 * HOUR_S)
    with peak_growth_mb() as growth:
        written = write_audio(str(tmp_path / "hole.mkv"), str(tmp_path / "a.flac"), 0.0, max_duration_s=HOUR_S)
        assert growth() < 30
    assert written.duration_s <= HOUR_S
    assert (tmp_path / "a.flac").stat().st_size < 1_000_000


def test_long_sound_is_never_held_whole(tmp_path):
    make_audio(tmp_path / "a.wav", np.tile(tone(1.0, RATE), 720))
    with peak_growth_mb() as growth:
        write_audio(str(tmp_path / "a.wav"), str(tmp_path / "a.flac"), 0.0, 2 * HOUR_S)
        assert sum(len(window) for window in read_windows(str(tmp_path / "a.flac"))) == 720 * RATE
        assert growth() < 20  # the samples alone have 22 MB


@pytest.mark.parametrize("rate", [1, 100])
def test_a_lying_sample_rate_is_refused(tmp_path, rate):
    path = make_audio(tmp_path / "a.wav", tone(1.0, RATE))
    data = bytearray(path.read_bytes())
    data[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(UndecodableAudio, match=f"{rate} Hz"):
        decode(path)


def test_damaged_packets_are_skipped_and_counted(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", frames=48, audio=tone(2.0), audio_codec="flac")
    damaged = tmp_path / "damaged.mkv"
    with av.open(str(clip)) as source, av.open(str(damaged), "w") as out:
        stream = out.add_stream_from_template(source.streams.audio[0])
        for number, packet in enumerate(source.demux(audio=0)):
            if packet.dts is None:
                continue
            copy = av.Packet(b"\x55" * packet.size if number in (5, 6) else bytes(packet))
            copy.pts, copy.dts, copy.time_base, copy.stream = packet.pts, packet.dts, packet.time_base, stream
            out.mux(copy)
    samples, warnings = decode(damaged)
    assert warnings == ["damaged packets"]
    assert len(samples) / RATE == pytest.approx(2.0, abs=0.1)


def test_a_file_without_sound_is_named_so(tmp_path):
    with pytest.raises(NoAudioStream):
        decode(make_clip(tmp_path / "mute.mp4", frames=5))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_not_blamed_on_the_sound(tmp_path):
    noise = np.random.default_rng(0).integers(-32768, 32767, 100_000, np.int16)
    with pytest.raises(OSError, match="No space left"):
        write_audio(str(make_audio(tmp_path / "a.wav", noise)), "/dev/full", 0.0, HOUR_S)


def test_ten_milliseconds_are_kept(tmp_path):
    assert len(decode(make_audio(tmp_path / "a.wav", tone(0.01, RATE)))[0]) == 160


@pytest.mark.parametrize("layout", ["stereo", "5.1", "7.1", "quad"])
def test_channels_are_mixed_down(tmp_path, layout):
    with av.open(str(tmp_path / "a.wav"), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=RATE, layout=layout)
        channels = stream.codec_context.layout.nb_channels
        samples = np.repeat(tone(0.5, RATE)[:, None], channels, axis=1).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="s16", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), 0
        out.mux(stream.encode(frame))
    samples, _ = decode(tmp_path / "a.wav")
    assert len(samples) == RATE // 2
    assert loudness(samples, 0.1, 0.4) > 5_000


def test_of_several_tracks_the_first_that_can_be_heard_is_taken(tmp_path):
    film = Track("libx264", film_frames(range(72)), {"preset": "ultrafast"})
    silent, loud = (Track("aac", sound_frames(track[None])) for track in (np.zeros(144_000, np.int16), tone(3.0)))
    for name, tracks, used in (("a.mp4", (silent, loud), 2), ("b.mkv", (silent, silent, loud, loud), 3)):
        clip = make_tracks(tmp_path / name, film, *tracks)
        written = write_audio(str(clip), str(tmp_path / "a.flac"), 0.0, HOUR_S)
        assert loudness(np.concatenate(list(read_windows(str(tmp_path / "a.flac")))), 0.5, 2.5) > 5_000
        [warning] = written.warnings
        assert warning.reason == "several sound tracks"
        assert warning.message == f"the file holds {len(tracks)} sound tracks; the one used is number {used}"


def test_where_all_tracks_are_silent_the_first_is_taken(tmp_path):
    silent = Track("aac", sound_frames(np.zeros((1, 48_000), np.int16)))
    samples, warnings = decode(make_tracks(tmp_path / "a.mp4", silent, silent))
    assert len(samples) == pytest.approx(RATE, abs=2_000)
    assert warnings == ["several sound tracks"]


def test_a_track_that_cannot_be_decoded_does_not_hide_the_next(tmp_path):
    clip = make_tracks(tmp_path / "a.mkv", *[Track("flac", sound_frames(tone(2.0)[None]))] * 2)
    with av.open(str(clip)) as source, av.open(str(tmp_path / "damaged.mkv"), "w") as out:
        streams = [out.add_stream_from_template(stream) for stream in source.streams.audio]
        for packet in source.demux(audio=(0, 1)):
            if packet.size:
                broken = packet.stream.index == 0
                copy = av.Packet(b"\x55" * packet.size if broken else bytes(packet))
                copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                copy.stream = streams[packet.stream.index]
                out.mux(copy)
    samples, warnings = decode(tmp_path / "damaged.mkv")
    assert loudness(samples, 0.5, 1.5) > 5_000
    assert warnings == ["several sound tracks"]


@pytest.mark.parametrize("share", [-1.0, -0.9])
@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.wav", "pcm_s16le"), ("a.mkv", "libopus")])
def test_channels_that_cancel_out_are_not_mixed(tmp_path, name, codec, share):
    channels = np.stack([tone(2.0), (share * tone(2.0)).astype(np.int16)])
    samples, warnings = decode(make_tracks(tmp_path / name, Track(codec, sound_frames(channels, layout="stereo"))))
    assert loudness(samples, 0.2, 1.8) == pytest.approx(2 / np.pi * 16_000, rel=0.1)
    assert warnings == ["one channel used"]


@pytest.mark.parametrize(("layout", "channel"), [("stereo", 1), ("5.1", 2), ("5.1", 0), ("7.1", 2), ("7.1", 4)])
def test_one_channel_alone_is_mixed_as_ever(tmp_path, layout, channel):
    channels = np.zeros((av.AudioLayout(layout).nb_channels, 96_000), np.int16)
    channels[channel] = tone(2.0)
    clip = make_tracks(tmp_path / "a.wav", Track("pcm_s16le", sound_frames(channels, layout=layout)))
    samples, warnings = decode(clip)
    with av.open(str(clip)) as source:
        resampler = av.AudioResampler("s16", "mono", RATE)
        mixed = [part.to_ndarray()[0] for frame in source.decode() for part in resampler.resample(frame)]
    np.testing.assert_array_equal(samples[:30_000], np.concatenate(mixed)[:30_000])
    assert warnings == []


def test_a_channel_without_a_standard_place_brings_nothing_down(tmp_path):
    channels = np.zeros((8, 96_000), np.int16)
    channels[2] = tone(2.0)
    clip = make_tracks(tmp_path / "a.mov", Track("pcm_s16le", sound_frames(channels, layout="7.1")))
    data = bytearray(clip.read_bytes())
    at = data.index(b"chan") + 8
    data[at : at + 8] = bytes.fromhex("0080000800000000")  # the tag of a layout that FFmpeg keeps as a list
    clip.write_bytes(data)
    for _ in range(3):
        samples, warnings = decode(clip)
        gc.collect()
    assert loudness(samples, 0.2, 1.8) == pytest.approx(2 / np.pi * 16_000 / np.sqrt(8), rel=0.1)
    assert warnings == []


def test_a_real_late_track_is_laid_on_the_pictures_clock(extra_media, tmp_path):
    clip = extra_media / "clips" / "36_late_audio.mp4"
    write_audio(str(clip), str(tmp_path / "a.flac"), 0.0, HOUR_S)
    samples = np.concatenate(list(read_windows(str(tmp_path / "a.flac"))))
    assert len(samples) / RATE == pytest.approx(12.0, abs=0.05)
    assert loudness(samples, 0.0, 1.9) == 0
