import os
import pickle
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import apache_beam as beam
import pytest

from schemas.fingerprint import sha256_file
from schemas.losses import Loss
from schemas.video import ManifestEntry, Metadata, Video
from tests.support.make_clips import make_audio, make_clip, read_barcode, tone
from tests.support.poisons import Deafening, Saboteur, Swapped, Unloadable
from transforms.engines.pyav import PyAv
from transforms.extract.decode import DecodeVideos, Decoding, Limits, decode_video
from transforms.extract.identify import OutOfReach
from transforms.extract.list_input import list_input
from transforms.journal.journal import Journal
from transforms.journal.record import RecordedFailure
from transforms.media.audio import read_windows
from transforms.media.frame_pack import read_frame_pack
from transforms.protocols.frames import FramePolicy
from transforms.storage.cache import Cache

POLICY = FramePolicy(max_frames=4, max_side=320)


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(str(tmp_path / "cache"))


@pytest.fixture
def clip(tmp_path) -> Path:
    return make_clip(tmp_path / "clip.mp4", frames=96, audio=tone(4))


def decode(uri, cache, sampler=None, policy=POLICY, limits=None, **entry) -> Video:
    with closing(Journal(cache.root)) as journal:
        options = Decoding(sampler or PyAv(), policy, limits or Limits(), cache, journal)
        return decode_video(ManifestEntry(str(uri), **entry), options)


def reasons(video: Video) -> list[str]:
    return [warning.reason for warning in video.warnings]


def test_a_clip_becomes_a_video_that_refers_to_its_frames_and_its_sound(clip, cache):
    video = decode(clip, cache, metadata=Metadata(title="A clip", event="Fair"))
    assert video.video_id == f"v-{sha256_file(clip)[:16]}"
    assert video.evidence.metadata.title == "A clip"
    assert (video.media.video_codec, video.media.audio_codec) == ("h264", "aac")
    assert (video.media.width, video.media.height, video.media.fps) == (240, 136, 24.0)
    assert video.media.duration_s == pytest.approx(4.0)
    assert video.media.audio_s == pytest.approx(4.0, abs=0.05)
    assert [use.part for use in video.engines] == ["decode"]
    assert video.warnings == ()
    frames = read_frame_pack(str(Path(cache.root, video.frame_pack)))
    assert len(frames) == video.frame_count == 4
    assert [read_barcode(frame.image) for frame in frames] == [12, 36, 60, 84]
    samples = next(read_windows(str(Path(cache.root, video.audio))))
    assert len(samples) / 16_000 == video.media.audio_s
    assert pickle.loads(pickle.dumps(video)) == video


def test_the_manifests_id_is_kept(clip, cache):
    assert decode(clip, cache, video_id="fair-7").video_id == "fair-7"


def test_decoding_again_gives_the_same_video_and_the_same_files(clip, cache):
    first = decode(clip, cache)
    files = [Path(cache.root, key) for key in (first.frame_pack, first.audio)]
    before = [file.stat().st_mtime_ns for file in files]
    assert decode(clip, cache) == first
    assert [file.stat().st_mtime_ns for file in files] == before  # neither was made again
    files[0].unlink()
    assert decode(clip, cache) == first
    assert files[0].exists()
    other = Cache(cache.root + "2")
    decode(clip, other)
    for key in (first.frame_pack, first.audio):
        assert sha256_file(str(Path(cache.root, key))) == sha256_file(str(Path(other.root, key)))


def test_keys_follow_from_bytes_engine_and_policy_and_not_from_names(clip, cache, tmp_path):
    video = decode(clip, cache)
    assert decode(clip.rename(tmp_path / "renamed.mp4"), cache).frame_pack == video.frame_pack
    smaller = decode(tmp_path / "renamed.mp4", cache, policy=FramePolicy(max_frames=4, max_side=100))
    assert smaller.frame_pack != video.frame_pack
    assert smaller.audio == video.audio
    assert decode(tmp_path / "renamed.mp4", cache, sampler=PyAv("keyframe")).frame_pack != video.frame_pack


def test_sound_alone_is_a_video_without_frames_and_a_warning(tmp_path, cache):
    video = decode(make_audio(tmp_path / "a.wav", tone(2, 16_000)), cache)
    assert (video.frame_pack, video.frame_count) == (None, 0)
    assert video.media.duration_s == video.media.audio_s == 2.0
    assert reasons(video) == ["no video stream"]


def test_pictures_alone_are_a_video_without_sound_and_a_warning(tmp_path, cache):
    video = decode(make_clip(tmp_path / "a.mp4", frames=24), cache)
    assert (video.audio, video.media.audio_s, video.frame_count) == (None, None, 1)
    assert reasons(video) == ["no audio stream"]


def test_long_sound_is_clipped_with_a_warning(clip, cache):
    video = decode(clip, cache, limits=Limits(max_duration_s=1.0))
    assert (video.media.audio_s, reasons(video)) == (1.0, ["clipped"])


def test_pictures_that_are_too_large_leave_the_sound(clip, cache):
    video = decode(clip, cache, policy=FramePolicy(max_pixels=1000))
    assert (video.frame_count, reasons(video)) == (0, ["frame too large"])
    assert video.audio is not None


def test_sound_that_starts_otherwise_without_pictures_is_another_file(tmp_path, cache):
    clip = make_clip(tmp_path / "a.mp4", frames=48, audio=tone(4))
    video, sound = decode(clip, cache), decode(clip, cache, policy=FramePolicy(max_pixels=100))
    assert reasons(sound) == ["frame too large"]
    assert sound.audio != video.audio  # or what was heard in one would be taken for what is heard in the other


@pytest.mark.parametrize("then", ["other bytes", ""])
def test_nothing_stands_under_the_hash_of_bytes_that_were_replaced_before_they_were_decoded(clip, cache, then):
    with closing(Journal(cache.root)) as journal:
        options = Decoding(Swapped(str(clip), then), POLICY, Limits(), cache, journal)
        with pytest.raises(OutOfReach) as failed:
            decode_video(ManifestEntry(str(clip)), options)
        assert failed.value.error_class == ("ChangedMeanwhile" if then else "FileNotFoundError")
        assert not journal.holds("decode")
    assert not list(Path(cache.root).glob("frames/*/*"))


def test_a_file_that_is_neither_is_an_error(tmp_path, cache):
    (tmp_path / "a.mp4").write_text("no video at all")
    with pytest.raises(RecordedFailure) as error:
        decode(tmp_path / "a.mp4", cache)
    assert (error.value.error_class, error.value.permanent) == ("UnreadableMedia", True)
    silent = make_audio(tmp_path / "silent.wav", tone(0.001, 16_000))
    silent.write_bytes(silent.read_bytes()[:44])
    with pytest.raises(RecordedFailure):
        decode(silent, cache)


def test_a_crash_or_a_hang_costs_only_its_own_file(clip, cache, tmp_path):
    limits = Limits(asleep_limit_s=1.0)
    with pytest.raises(RecordedFailure, match="SIGSEGV"):
        decode(make_clip(tmp_path / "segfault.mp4", frames=24), cache, Saboteur(), limits=limits)
    with pytest.raises(RecordedFailure, match="no answer within"):
        decode(clip.rename(tmp_path / "hang.mp4"), cache, Saboteur(), limits=limits)
    assert decode((tmp_path / "hang.mp4").rename(tmp_path / "fine.mp4"), cache, Saboteur()).frame_count == 4


def run(entries: list[ManifestEntry], cache: Cache, sampler=None) -> tuple[list[Video], list[Loss]]:
    """The two outputs of DecodeVideos, sorted by uri."""
    limits = Limits(asleep_limit_s=2.0)
    with tempfile.TemporaryDirectory() as folder:
        with closing(Journal(cache.root)) as journal, beam.Pipeline("FnApiRunner") as pipeline:
            options = Decoding(sampler or PyAv(), POLICY, limits, cache, journal)
            decoded = pipeline | beam.Create(entries) | DecodeVideos(options)
            for name in ("videos", "losses"):
                _ = (
                    decoded[name]
                    | f"List {name}" >> beam.combiners.ToList()
                    | f"Keep {name}"
                    >> beam.Map(lambda records, path: Path(path).write_bytes(pickle.dumps(records)), f"{folder}/{name}")
                )
        lists = [pickle.loads(Path(folder, name).read_bytes()) for name in ("videos", "losses")]
    return tuple(sorted(records, key=lambda record: record.uri) for records in lists)


def test_every_bad_file_is_one_failure_with_its_error_and_what_to_do(clip, cache, tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text %d {x} ünï.mp4").write_text("words")
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    make_clip(tmp_path / "segfault.mp4", frames=24)
    make_clip(tmp_path / "hang.mp4", frames=24)
    expected = {
        "empty.mp4": ("UnreadableMedia", "check that the file plays"),
        "folder.mp4": ("IsADirectoryError", "is a folder"),
        "hang.mp4": ("TimeLimitExceeded", "raise extract.limits"),
        "missing.mp4": ("FileNotFoundError", "No such file"),
        "pipe.mp4": ("OSError", "no regular file"),
        "segfault.mp4": ("WorkerDied", "SIGSEGV"),
        "text %d {x} ünï.mp4": ("UnreadableMedia", "check that the file plays"),
    }
    entries = [ManifestEntry(str(tmp_path / name), f"id-{len(name)}") for name in expected]
    videos, failures = run([*entries, ManifestEntry(str(clip))], cache, Saboteur())
    assert [video.uri for video in videos] == [str(clip)]
    assert [Path(failure.uri).name for failure in failures] == list(expected)
    for failure, (name, (error_class, message)) in zip(failures, expected.items(), strict=True):
        assert (failure.stage, failure.step, failure.reason) == ("extract", "decode", error_class)
        assert message in failure.detail
        assert failure.video_id == f"id-{len(name)}"


def test_pictures_that_bring_down_the_decoder_do_not_cost_the_sound(cache, tmp_path):
    clip = make_clip(tmp_path / "segfault.mp4", frames=24, audio=tone(1.0))
    [video], failures = run([ManifestEntry(str(clip))], cache, Saboteur())
    assert failures == []
    assert (video.frame_count, video.frame_pack) == (0, None)
    assert video.media.audio_s == pytest.approx(1, abs=0.1)
    assert [(warning.reason, warning.message) for warning in video.warnings] == [
        ("undecodable video", "decoding the pictures brings the process down")
    ]


def test_sound_that_brings_down_the_decoder_does_not_cost_the_pictures(cache, tmp_path):
    clip = make_clip(tmp_path / "a.mp4", frames=48, audio=tone(2.0))
    [video], failures = run([ManifestEntry(str(clip))], cache, Deafening())
    assert failures == []
    assert video.frame_count == 2
    assert video.audio is None
    assert [warning.reason for warning in video.warnings] == ["undecodable audio"]


def test_frames_of_several_sizes_become_frames_of_one(cache, tmp_path):
    parts = [
        make_clip(tmp_path / f"{width}.ts", pts=range(first, first + 48), size=(width, height))
        for first, width, height in ((0, 240, 136), (48, 320, 180))
    ]
    (tmp_path / "a.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    [video], _ = run([ManifestEntry(str(tmp_path / "a.ts"))], cache)
    frames = read_frame_pack(str(Path(cache.root, video.frame_pack)))
    assert {frame.image.shape for frame in frames} == {(180, 320, 3)}
    assert (video.media.width, video.media.height) == (320, 180)
    assert "size changes" in [warning.reason for warning in video.warnings]


@pytest.mark.skipif(sys.platform != "linux", reason="other filesystems take UTF-8 only")
def test_a_name_that_is_no_utf8_is_decoded(clip, cache, tmp_path):
    clip.rename(tmp_path / "caf\udce9.mp4")
    [video], failures = run(list_input(str(tmp_path)).entries, cache)
    assert failures == []
    assert video.uri == f"file://{tmp_path}/caf%E9.mp4"
    assert video.frame_count == 4


def test_a_machine_that_is_not_fit_stops_the_run(clip, cache, tmp_path):
    with pytest.raises(Exception, match="No usable temporary directory"):
        run([ManifestEntry(str(clip.rename(tmp_path / "no-temporary-folder.mp4")))], cache, Saboteur())


def test_a_decoder_that_cannot_be_loaded_stops_the_run(clip, cache):
    with pytest.raises(Exception, match="'saboteur' cannot be loaded: ImportError: libGL"):
        run([ManifestEntry(str(clip))], cache, Unloadable())


def test_the_limit_of_a_decode_grows_with_the_file_and_not_beyond_reason():
    assert Limits().for_file(0).cpu_s == 120.0
    assert 600 < Limits().for_file(1_100_000_000).cpu_s < 1200


@pytest.mark.parametrize("name", ["cpu_limit_s", "cpu_limit_per_media_s", "asleep_limit_s", "max_duration_s"])
@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
def test_limits_that_make_no_sense_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sample_fps", 0.0),
        ("sample_fps", float("inf")),
        ("max_frames", 0),
        ("max_side", -1),
        ("max_pixels", 0),
        ("jpeg_quality", 900),
        ("jpeg_quality", 0),
    ],
)
def test_frame_policies_that_make_no_sense_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        FramePolicy(**{name: value})


def test_a_mistake_in_the_program_stops_the_run(clip, cache, tmp_path):
    with pytest.raises(Exception, match="a mistake in the program"):
        run([ManifestEntry(str(clip.rename(tmp_path / "mistake.mp4")))], cache, Saboteur())


def test_every_real_bad_file_ends_as_a_video_or_a_failure(extra_media, cache):
    files = sorted((extra_media / "bad").iterdir())
    videos, failures = run([ManifestEntry(str(path)) for path in files], cache)
    assert len(videos) + len(failures) == len(files)
    assert {Path(failure.uri).name[:2] for failure in failures} >= {"01", "02", "03", "04", "16", "17"}
    partial = {Path(video.uri).name: reasons(video) for video in videos}
    assert "damaged packets" in partial["06_bitflip_mdat.mp4"]
    assert partial["13_no_audio.mp4"] == ["no audio stream"]
    assert partial["mp4parse_amr_wb_1f.3gp"] == ["no video stream"]
    assert partial["32_ünï cödé %d {x}.mp4"] == []
