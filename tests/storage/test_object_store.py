"""Everything that touches files, against an S3 server: what holds on a disk must hold on an object store."""

import itertools
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.cache.contents import _files
from pipeline.outputs.manifest import read_manifest
from runners.cli.main import main
from schemas.video import Metadata
from tests.support.s3_server import S3, serving, serving_in_child
from transforms.emit.shards import WrittenFile
from transforms.extract.list_input import InputError, list_input
from transforms.storage.cache import Cache, CannotFetch, CannotPublish, localized
from transforms.storage.files import (
    StoreError,
    connect,
    exists,
    join,
    list_files,
    match,
    open_seekable,
    read_bytes,
    replacing,
    size,
    write_bytes,
)

CLIPS = ("flood_valdoro_2", "launch_ostara_1", "tram_linden_2")
QUICK = ("extract.asr=null", "extract.ocr=null", "extract.frames.max_frames=2", "emit.frames.frames=2")
QUICK += ("synthesize.variants=[caption,metadata]", "synthesize.queries_per_variant=1")


@pytest.fixture(scope="module")
def server():
    with serving() as s3:
        yield s3


@pytest.fixture
def unset(monkeypatch):
    """No settings of AWS, and Beam's filesystems as they were afterwards."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    return monkeypatch


@pytest.fixture(scope="module")
def options():
    """Those of all connections to the server: options take long to make, and each get a connection of their own."""
    return PipelineOptions([])


@pytest.fixture
def s3(server, unset, options):
    """An empty bucket that the environment says how to reach."""
    bucket = S3(server.endpoint_url).create()
    for name, value in bucket.environment.items():
        unset.setenv(name, value)
    connect(options, bucket.root)
    return bucket


@pytest.mark.parametrize("size", [0, 1, 5 << 20, (12 << 20) + 1])
def test_what_is_written_can_be_read(s3, size):
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]

    write_bytes(f"{s3.root}/deep/er/file", data)

    assert read_bytes(f"{s3.root}/deep/er/file") == data
    assert s3.objects() == {"deep/er/file": data}


def test_a_file_may_lie_at_the_top_of_a_bucket_and_is_replaced(s3):
    write_bytes(f"{s3.root}/file", b"first")
    write_bytes(f"{s3.root}/file", b"second")

    assert s3.objects() == {"file": b"second"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(s3, error):
    s3.put("file", b"old")

    def write():
        yield b"new" * 3_000_000
        raise error

    with pytest.raises(error), replacing(f"{s3.root}/file") as stream:
        stream.writelines(write())

    assert s3.objects() == {"file": b"old"}
    assert not s3.client().list_multipart_uploads(Bucket=s3.bucket).get("Uploads")


def test_a_rename_that_fails_leaves_nothing(s3, monkeypatch):
    def refuse(sources, destinations):
        raise OSError("no copies today")

    monkeypatch.setattr(FileSystems, "rename", refuse)
    with pytest.raises(OSError, match="no copies today"):
        write_bytes(f"{s3.root}/file", b"x")

    assert s3.objects() == {}


def test_streams_seek_as_pyarrow_needs(s3):
    table = pa.table({"n": range(100_000)})
    with replacing(f"{s3.root}/t.parquet") as stream:
        pq.write_table(table, stream, row_group_size=1000)

    with open_seekable(f"{s3.root}/t.parquet") as stream:
        stream.seek(-4, os.SEEK_END)
        assert stream.read() == b"PAR1"
        assert pq.ParquetFile(stream).read_row_group(50)["n"][0].as_py() == 50_000


def test_files_below_a_folder_are_listed_and_its_neighbours_and_markers_are_not(s3):
    for key in ("out/b/c.txt", "out/a.txt", "out/", "out/b/", "out2/x.txt", "outside.txt"):
        s3.put(key)

    assert list_files(f"{s3.root}/out") == list_files(f"{s3.root}/out/") == ["a.txt", "b/c.txt"]
    assert len(list_files(s3.root)) == 4
    assert match(f"{s3.root}/out/*") == [f"{s3.root}/out/a.txt"]
    assert list_files(f"{s3.root}/none") == []


def test_a_folder_is_listed_whatever_its_name(s3):
    for key in ("out [v1]*/a.txt", "out v/b.txt", "out [v1]x/c.txt"):
        s3.put(key)

    assert list_files(f"{s3.root}/out [v1]*") == ["a.txt"]


def test_what_a_cache_holds_is_found_whatever_its_name(s3):
    s3.put("cache [1]/frames/ab/f.parquet", b"12345")

    [stored] = _files(f"{s3.root}/cache [1]")

    assert (stored.path, stored.size_bytes) == ("frames/ab/f.parquet", 5)


def test_more_files_than_one_answer_holds_are_listed(s3, monkeypatch):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    for number in range(7):
        s3.put(f"many/{number}")

    assert len(list_files(f"{s3.root}/many")) == 7


@pytest.mark.parametrize("name", ["a.mp4", "[a]*?.mp4", "ünï %20 {x}+y.mp4"])
def test_the_size_of_a_file_is_known_whatever_its_name(s3, name):
    path = s3.put(f"folder/{name}", b"12345")

    assert size(path) == 5
    assert size(f"{s3.root}/folder") is None


def test_a_folder_is_no_file(s3):
    path = s3.put("folder/file", b"x")

    assert exists(path)
    assert not exists(f"{s3.root}/folder")
    with pytest.raises(FileNotFoundError):
        read_bytes(f"{s3.root}/folder")
    with pytest.raises(FileNotFoundError):
        open_seekable(f"{s3.root}/folder")


def test_a_missing_bucket_is_an_error_that_names_the_address(s3):
    with pytest.raises(StoreError, match=r"^cannot write s3://nowhere-at-all/a: .*bucket does not exist$"):
        write_bytes("s3://nowhere-at-all/a", b"x")
    with pytest.raises(StoreError, match=r"^s3://nowhere-at-all/a cannot be reached: .*; create it"):
        connect(PipelineOptions([]), "s3://nowhere-at-all/a")


def test_a_wrong_key_is_an_error_that_names_the_address(s3, monkeypatch):
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)
    with pytest.raises(StoreError, match=rf"^cannot write {s3.root}/a: .*Access Key Id"):
        write_bytes(f"{s3.root}/a", b"x")
    with pytest.raises(StoreError, match=rf"^cannot list {s3.root}/a/\*\*: .*Access Key Id"):
        list_files(f"{s3.root}/a")
    with pytest.raises(StoreError, match=rf"^{s3.root} cannot be reached: .*Access Key Id.*; check the credentials"):
        connect(PipelineOptions([]), s3.root)


def test_missing_credentials_are_an_error_at_once(s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(StoreError, match="Unable to locate credentials; set AWS_ACCESS_KEY_ID"):
        connect(PipelineOptions([]), s3.root)
    for attempt in (read_bytes, list_files, lambda path: write_bytes(path, b"x")):
        with pytest.raises(StoreError, match="Unable to locate credentials"):
            attempt(f"{s3.root}/a")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("s3://no bucket/x", "'no bucket' is no name of a bucket; correct it"),
        ("gs://bucket/x", r"pip install 'hardquery\[dataflow\]'"),
        ("nosuch://bucket/x", "no filesystem for nosuch:// is installed"),
    ],
)
def test_an_address_that_cannot_be_right_is_an_error(s3, place, message):
    with pytest.raises(StoreError, match=message):
        connect(PipelineOptions([]), None, "out/folder", place)


def test_a_server_that_is_not_there_is_an_error(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    with pytest.raises(StoreError, match=r"Could not connect.*; check the network, and AWS_ENDPOINT_URL"):
        connect(PipelineOptions([]), s3.root)


def test_options_of_a_pipeline_say_how_to_reach_a_store_too(server, unset):
    unset.setenv("AWS_EC2_METADATA_DISABLED", "true")

    connect(PipelineOptions(server.flags), server.root)
    write_bytes(f"{server.root}/file", b"x")

    assert server.objects()["file"] == b"x"


def test_a_cache_keeps_files(s3, tmp_path):
    cache, file = Cache(f"{s3.root}/cache"), tmp_path / "file.parquet"
    file.write_bytes(b"frames")

    assert cache.size("frames/ab/f.parquet") is None
    cache.publish(str(file), "frames/ab/f.parquet")

    assert cache.size("frames/ab/f.parquet") == 6
    with cache.reading("frames/ab/f.parquet") as copy, open(copy, "rb") as stream:
        assert stream.read() == b"frames"
    assert list(s3.objects()) == ["cache/frames/ab/f.parquet"]


def test_a_cache_that_cannot_be_read_or_written_says_so(s3, tmp_path):
    (tmp_path / "file").write_bytes(b"x")

    with pytest.raises(CannotFetch, match=rf"{s3.root}/cache/none"), Cache(f"{s3.root}/cache").reading("none"):
        pass
    with pytest.raises(CannotPublish, match="bucket does not exist"):
        Cache("s3://nowhere-at-all/cache").publish(str(tmp_path / "file"), "key")


def test_media_is_fetched(s3, tmp_path):
    uri = s3.put("videos/ünï %d {x}+y.mp4", b"video" * 1_000_000)

    with open(localized(uri, str(tmp_path)), "rb") as stream:
        assert stream.read() == b"video" * 1_000_000


@pytest.fixture
def videos(s3):
    for key in ("videos/a.mp4", "videos/deep/b.mkv", "videos/notes.txt", "videos/", "videos/.trash/c.mp4"):
        s3.put(key, b"x")
    s3.put("videos/a.json", b'{"title": "T"}')
    s3.put("videos/other.json", b"{}")
    s3.put("elsewhere/d.mp4", b"x")
    return f"{s3.root}/videos"


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_folder_is_walked_for_videos(videos, slash):
    listing = list_input(videos + slash)

    assert [entry.uri for entry in listing.entries] == [f"{videos}/a.mp4", f"{videos}/deep/b.mkv"]
    assert listing.entries[0].metadata == Metadata(title="T")
    assert sum(listing.ignored.values()) == 2


def test_a_bucket_is_walked_for_videos(s3, videos):
    assert len(list_input(s3.root).entries) == len(list_input(f"{s3.root}/").entries) == 3


@pytest.mark.parametrize("spec", ["*.mp4", "*", "a.mp4"])
def test_a_glob_and_a_file_name_videos_with_their_side_cars(videos, spec):
    [entry] = list_input(f"{videos}/{spec}").entries

    assert (entry.uri, entry.metadata.title) == (f"{videos}/a.mp4", "T")


@pytest.mark.parametrize("name", ["Title [abc-1]", "Title [z-a]", "what*? [x", "a**b"])
def test_an_address_that_is_there_is_that_object_whatever_its_name(s3, name):
    s3.put(f"v/{name}.mp4", b"x")
    s3.put(f"v/{name}.json", b'{"title": "T"}')
    s3.put("v/Title a.mp4", b"x")

    [entry] = list_input(f"{s3.root}/v/{name}.mp4").entries

    assert (entry.uri, entry.metadata.title) == (f"{s3.root}/v/{name}.mp4", "T")


@pytest.mark.parametrize("folder", ["Series [z-a]", "Series [1]"])
def test_a_folder_is_walked_whatever_its_name(s3, folder):
    s3.put(f"{folder}/a.mp4", b"x")

    assert [entry.uri for entry in list_input(f"{s3.root}/{folder}").entries] == [f"{s3.root}/{folder}/a.mp4"]


def test_a_pattern_that_cannot_be_one_is_a_clear_error(s3):
    s3.put("v/a.mp4", b"x")

    with pytest.raises(InputError, match=r"names no video"):
        list_input(f"{s3.root}/v/Title [z-a].mp4")


def test_a_manifest_names_videos_relative_to_itself(s3):
    lines = [{"uri": "videos/a.mp4"}, {"uri": "s3://other/b.mp4"}, {"uri": "/disk/c.mp4"}]
    path = s3.put("sets/list.jsonl", "\n".join(map(json.dumps, lines)).encode())

    uris = [entry.uri for entry in list_input(path).entries]

    assert uris == [f"{s3.root}/sets/videos/a.mp4", "s3://other/b.mp4", "/disk/c.mp4"]


@pytest.mark.parametrize("spec", ["none", "none/*.mp4", "none.mp4", "none.jsonl"])
def test_an_input_without_videos_is_one_clear_error(s3, spec):
    with pytest.raises(InputError, match=r"names no video|cannot be read"):
        list_input(f"{s3.root}/{spec}")


def test_a_child_serves_until_it_is_no_longer_needed(unset):
    with serving_in_child() as child:
        connect(PipelineOptions(child.flags), child.root)
        write_bytes(f"{child.root}/file", b"x")
        assert child.objects() == {"file": b"x"}

    with pytest.raises(StoreError):
        connect(PipelineOptions(child.flags), child.root)


def shards(output: str) -> dict[str, WrittenFile]:
    return {file.path: file for file in read_manifest(output).files if file.rows is not None}


def video_id_of(output: str) -> str:
    path = next(path for path in shards(output) if path.startswith("videos/"))
    with open_seekable(join(output, path)) as stream:
        return pq.read_table(stream, columns=["video_id"])["video_id"][0].as_py()


def run_demo(s3: S3, output: str, cache: str) -> None:
    arguments = ["run", "demo", "--input", f"{s3.root}/videos", "--output", output, "--cache", cache, "--workers", "1"]
    assert main([*arguments, *(f"--set={setting}" for setting in QUICK)]) == 0


def test_a_run_on_an_object_store_makes_the_same_shards_as_on_a_disk(s3, samples, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    for clip, suffix in itertools.product(CLIPS, ("mp4", "json")):
        s3.put(f"videos/{clip}.{suffix}", (samples / "videos" / f"{clip}.{suffix}").read_bytes())
    remote, local = f"{s3.root}/out", str(tmp_path / "out")

    run_demo(s3, remote, f"{s3.root}/cache")
    run_demo(s3, local, str(tmp_path / "cache"))

    assert shards(remote) == shards(local)
    assert sum(file.rows for file in shards(remote).values() if file.path.startswith("judgements/")) > 3
    assert list_files(remote) == list_files(local)
    assert not [key for key in s3.objects() if key.endswith(".tmp")]
    assert main(["verify", remote]) == 0
    assert main(["diff", "--exit-code", remote, local]) == 0
    assert main(["export", "rankvideo", remote]) == 0
    assert main(["explain", remote, video_id_of(remote)]) == 0


def test_a_run_with_a_bucket_that_is_not_there_ends_before_any_work(s3, capsys):
    missing, videos = "s3://nowhere-at-all/x", s3.put("videos/a.mp4", b"x")
    for command in (
        ["run", "demo", "--input", missing, "--output", "x"],
        ["run", "demo", "--input", videos, "--output", missing],
        ["run", "demo", "--input", videos, "--output", "x", "--cache", missing],
        ["verify", missing],
        ["explain", missing, "id"],
        ["export", "rankvideo", missing],
    ):
        assert main(command) == 2
        assert f"{missing} cannot be reached" in capsys.readouterr().err
