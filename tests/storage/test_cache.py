import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.localfilesystem import LocalFileSystem

from transforms.storage.cache import Cache, CachedFile, CannotFetch, CannotPublish, localized

KEY = "frames/ab/abcd.parquet"


class ToyFileSystem(LocalFileSystem):
    """toy://… is the folder ``base``: a remote file system as far as Beam and the cache can tell."""

    base: Path

    @classmethod
    def scheme(cls):
        return "toy"

    def _local(self, url: str) -> str:
        return str(self.base / url.removeprefix("toy://"))

    def split(self, path):
        return tuple(path.rsplit("/", 1))

    def join(self, base, *parts):
        return "/".join([base, *parts])

    def exists(self, path):
        return super().exists(self._local(path))

    def metadata(self, path):
        return super().metadata(self._local(path))

    def mkdirs(self, path):
        super().mkdirs(self._local(path))

    def create(self, path, mime_type="application/octet-stream", compression_type=CompressionTypes.AUTO):
        return super().create(self._local(path), mime_type, compression_type)

    def open(self, path, mime_type="application/octet-stream", compression_type=CompressionTypes.AUTO):
        return super().open(self._local(path), mime_type, compression_type)

    def rename(self, source_file_names, destination_file_names):
        super().rename([self._local(s) for s in source_file_names], [self._local(d) for d in destination_file_names])


@pytest.fixture(params=["local", "remote"])
def cache(request, tmp_path) -> Cache:
    ToyFileSystem.base = tmp_path.parent
    return Cache(str(tmp_path / "bucket") if request.param == "local" else f"toy://{tmp_path.name}/bucket")


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"first")
    return path


def read(cache: Cache) -> bytes:
    with cache.reading(KEY) as path:
        return Path(path).read_bytes()


def test_what_is_published_can_be_read(cache, file):
    assert cache.size(KEY) is None
    published = cache.publish(str(file), KEY)
    assert published == CachedFile(KEY, 5, hashlib.sha256(b"first").hexdigest())
    assert cache.size(KEY) == 5
    assert cache.holds(published)
    assert not cache.holds(replace(published, size_bytes=4))
    assert read(cache) == b"first"


def test_publishing_again_mends_a_file(cache, file, tmp_path):
    cache.publish(str(file), KEY)
    (tmp_path / "bucket" / KEY).write_bytes(b"fir")
    cache.publish(str(file), KEY)
    assert read(cache) == b"first"


def test_publishing_leaves_nothing_but_the_file(cache, file, tmp_path):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: cache.publish(str(file), KEY), range(8)))
    assert [path.name for path in (tmp_path / "bucket").rglob("*") if path.is_file()] == ["abcd.parquet"]


def test_a_failed_publication_leaves_no_file(tmp_path):
    cache = Cache(str(tmp_path / "bucket"))
    with pytest.raises(CannotPublish, match=r"abcd\.parquet"):
        cache.publish(str(tmp_path / "missing"), KEY)
    assert cache.size(KEY) is None
    assert not [path for path in (tmp_path / "bucket").rglob("*") if path.is_file()]


def test_a_file_under_a_local_root_is_read_in_place(tmp_path, file):
    cache = Cache(str(tmp_path / "bucket"))
    cache.publish(str(file), KEY)
    with cache.reading(KEY) as path:
        assert path == str(tmp_path / "bucket" / KEY)
    assert cache.size(KEY) == 5


def test_a_copy_of_a_remote_file_is_removed_after_reading(tmp_path, file):
    ToyFileSystem.base = tmp_path
    cache = Cache("toy://bucket")
    cache.publish(str(file), KEY)
    with cache.reading(KEY) as path:
        assert tmp_path not in Path(path).parents
    assert not Path(path).exists()
    assert cache.size(KEY) == 5


def test_publishing_to_a_remote_root_leaves_nothing_in_the_current_folder(tmp_path, file, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    ToyFileSystem.base = tmp_path
    Cache("toy://bucket").publish(str(file), KEY)
    assert not list((tmp_path / "here").iterdir())


def test_reading_what_is_not_there_says_so(cache):
    with pytest.raises(OSError, match=r"abcd\.parquet"):
        read(cache)


def test_a_local_file_is_its_own_local_path(file, tmp_path):
    assert localized(str(file), str(tmp_path)) == str(file)


def test_a_remote_file_is_copied_as_it_is(tmp_path):
    ToyFileSystem.base = tmp_path
    (tmp_path / "ünï %d {x}.mp4.gz").write_bytes(b"\x1f\x8b not to be unpacked")
    path = localized("toy://ünï %d {x}.mp4.gz", str(tmp_path))
    assert Path(path).read_bytes() == b"\x1f\x8b not to be unpacked"
    assert Path(path).parent == tmp_path


@pytest.mark.parametrize("uri", ["toy://missing.mp4", "nosuchscheme://bucket/video.mp4"])
def test_a_remote_file_that_cannot_be_read_is_an_os_error_that_names_it(tmp_path, uri):
    ToyFileSystem.base = tmp_path
    with pytest.raises(CannotFetch, match=uri):
        localized(uri, str(tmp_path))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_not_blamed_on_the_remote_file(tmp_path):
    ToyFileSystem.base = tmp_path
    (tmp_path / "a.mp4").write_bytes(b"video" * 100_000)
    (tmp_path / "media.mp4").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as raised:
        localized("toy://a.mp4", str(tmp_path))
    assert not isinstance(raised.value, CannotFetch)


def test_folders_pipes_devices_and_missing_files_are_refused_before_they_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for path, error, message in [
        (tmp_path, IsADirectoryError, "folder"),
        (tmp_path / "pipe.mp4", OSError, "no regular file"),
        (Path("/dev/zero"), OSError, "no regular file"),
        (tmp_path / "missing.mp4", FileNotFoundError, "missing"),
    ]:
        with pytest.raises(error, match=message):
            localized(str(path), str(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_refused(file):
    file.chmod(0)
    with pytest.raises(PermissionError):
        localized(str(file), str(file.parent))
