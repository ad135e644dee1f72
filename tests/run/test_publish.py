"""Publishing survives a crash before or after every single file operation, on a disk and on an object store."""

import os
import shutil
from dataclasses import replace
from itertools import count

import datasets
import pytest
from apache_beam.io.filesystems import FileSystems

from pipeline.outputs.errors import NotAnOutput, OutputError
from pipeline.outputs.explain.explain import explain
from pipeline.outputs.export.rankvideo import export_rankvideo
from pipeline.outputs.lock import LOCK
from pipeline.outputs.manifest import MANIFEST, read_manifest, write_manifest
from pipeline.outputs.publish import publish, settle
from pipeline.outputs.report.complete import complete
from pipeline.outputs.staging import COMMIT, STAGING, clear_staging, is_half_published, list_output, staging_of
from pipeline.outputs.verify.verify import verify
from tests.support import tiny_output
from tests.support.object_store import ObjectStore
from tests.support.tiny_output import tiny_rows, tiny_run_info, write_tables, write_tiny
from transforms.storage import files
from transforms.storage.files import join, list_files, read_bytes, write_bytes

FOREIGN = "exports/notes.txt"

Files = dict[str, bytes]


class Killed(BaseException):
    """The process is gone."""


class Life:
    """As many operations that change files as the process lives to do, one file each; the dead do nothing more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
        self._left = steps
        for place, name in ((os, "replace"), (os, "remove"), (shutil, "rmtree")):
            monkeypatch.setattr(place, name, self._limited(getattr(place, name)))
        writing = self._limited(open)
        monkeypatch.setattr(
            files, "open", lambda path, mode: (writing if mode == "wb" else open)(path, mode), raising=False
        )
        for name in ("create", "copy"):  # a rename is a copy and a delete
            monkeypatch.setattr(ObjectStore, name, self._limited(getattr(ObjectStore, name)))
        monkeypatch.setattr(ObjectStore, "delete", self._one_by_one(ObjectStore.delete))

    def _limited(self, act):
        def step(*given, **named):
            if not self._left:
                raise Killed
            self._left -= 1
            return act(*given, **named)

        return step

    def _one_by_one(self, delete):
        step = self._limited(delete)

        def delete_all(store, paths):
            for path in paths:
                step(store, [path])

        return delete_all


def contents(output: str) -> Files:
    """What the readers of an output see."""
    return {path: read_bytes(join(output, path)) for path in list_output(output)}


def restore(output: str, files: Files) -> None:
    """Make the folder hold exactly these files."""
    for path in list_files(output):
        if path not in files:
            FileSystems.delete([join(output, path)])
    for path, data in files.items():
        write_bytes(join(output, path), data)


@pytest.fixture(scope="module")
def before(tmp_path_factory) -> Files:
    """An output of an earlier run, with more shards than the next one, and a file of somebody else."""
    folder = str(tmp_path_factory.mktemp("before"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_output, "SHARDS", 3)
        write_tiny(folder)
    write_bytes(join(folder, FOREIGN), b"mine")
    return contents(folder)


@pytest.fixture(scope="module")
def staged(tmp_path_factory) -> Files:
    """What the next run has written when it is about to publish; ``.counts.json`` is not in its manifest."""
    folder = str(tmp_path_factory.mktemp("staged"))
    manifest = write_tiny(folder)
    write_manifest(folder, replace(manifest, created="2027-01-02T03:04:05Z"))
    write_bytes(join(folder, ".counts.json"), b"{}")
    return {path: read_bytes(join(folder, path)) for path in list_files(folder)}


@pytest.fixture
def after(staged) -> Files:
    return {path: data for path, data in staged.items() if path != ".counts.json"} | {FOREIGN: b"mine"}


@pytest.fixture(params=["disk", "objects"])
def output(request, tmp_path, before, staged) -> str:
    """An output of which the next one is staged."""
    ObjectStore.objects.clear()
    folder = str(tmp_path / "out") if request.param == "disk" else "objects://bucket/out"
    restore(folder, before | {f"{STAGING}/{path}": data for path, data in staged.items()})
    return folder


def test_a_staged_output_is_not_seen_until_it_is_published(output, before, after):
    assert contents(output) == before
    assert verify(output) == []

    publish(output)

    assert contents(output) == after
    assert verify(output) == []
    assert list_files(output) == sorted(after)


def test_a_crash_at_any_file_operation_leaves_the_old_output_or_one_that_settles_to_the_new(
    output, before, staged, after, monkeypatch
):
    start = before | {f"{STAGING}/{path}": data for path, data in staged.items()}
    old, half = 0, 0
    for steps in count():
        restore(output, start)
        with monkeypatch.context() as patch:
            Life(patch, steps)
            try:
                publish(output)
                break
            except Killed:
                pass
        if is_half_published(output):
            half += 1
            with pytest.raises(NotAnOutput, match="half published"):
                verify(output)
            settle(output)
            assert contents(output) == after, steps
        elif read_bytes(join(output, MANIFEST)) == before[MANIFEST]:
            old += 1
            assert contents(output) == before, steps
            assert verify(output) == [], steps
            settle(output)
            assert contents(output) == before, steps
        else:
            assert contents(output) == after, steps
        clear_staging(output)
        assert not [path for path in list_files(output) if path.startswith(STAGING)], steps
    assert contents(output) == after
    assert old >= 2
    assert half > len(after)


def test_a_publication_that_is_killed_again_and_again_comes_to_its_end(output, after, monkeypatch):
    write_bytes(join(output, "unused"), b"")
    with monkeypatch.context() as patch:
        Life(patch, 5)
        with pytest.raises(Killed):
            publish(output)
    lives = 0
    while is_half_published(output):
        lives += 1
        with monkeypatch.context() as patch:
            Life(patch, 2)
            try:
                settle(output)
            except Killed:
                continue
    assert contents(output) == after | {"unused": b""}
    assert lives > len(after) / 2


@pytest.mark.parametrize("steps", [1, 20, 47])
def test_a_crash_while_the_run_still_writes_leaves_the_old_output(output, before, steps, monkeypatch):
    clear_staging(output)
    with monkeypatch.context() as patch:
        Life(patch, steps)
        with pytest.raises(Killed):
            write_tiny(staging_of(output))

    settle(output)

    assert list_files(output) != sorted(before)
    assert contents(output) == before
    assert verify(output) == []


def test_settling_where_nothing_was_interrupted_changes_nothing(output, before):
    clear_staging(output)

    settle(output)
    clear_staging(output)

    assert contents(output) == before
    assert list_files(output) == sorted(before)


def test_a_damaged_shard_is_healed_by_the_next_publication(output, after):
    write_bytes(join(output, "videos/part-00000-of-00002.parquet"), b"damaged")

    publish(output)

    assert contents(output) == after


def test_no_shard_is_removed_where_the_new_manifest_is_lost(output, monkeypatch):
    with monkeypatch.context() as patch:
        Life(patch, 8)
        with pytest.raises(Killed):
            publish(output)
    FileSystems.delete([join(staging_of(output), MANIFEST)])
    left = contents(output)

    with pytest.raises(OutputError, match="empty that folder"):
        settle(output)

    assert contents(output) == left


def test_readers_refuse_a_half_published_output_and_name_the_fix(output, tmp_path):
    write_bytes(join(staging_of(output), COMMIT), b"")

    for read in (
        lambda: verify(output),
        lambda: explain(output, "any"),
        lambda: export_rankvideo(output, str(tmp_path / "export")),
    ):
        with pytest.raises(NotAnOutput, match=r"half published.* the same `hardquery run` command finishes it"):
            read()
    assert not (tmp_path / "export").exists()


def test_publishing_removes_the_shards_of_an_earlier_run_and_nothing_else(tmp_path):
    stale = [
        tmp_path / "videos" / "part-00000-of-00001.parquet",
        tmp_path / "ranking" / "train-00007-of-00009.parquet",
        tmp_path / "queries" / f"part-00000-of-00002.parquet.{'0a' * 16}.tmp",  # of a run that was killed
    ]
    others = [
        tmp_path / "notes.txt",
        tmp_path / "exports" / "rankvideo" / "train.jsonl",
        tmp_path / "mine" / "videos.md",
        tmp_path / "videos" / "holiday.mp4",
        tmp_path / "videos" / "train-00000-of-00001.parquet",  # the table has no such part
        tmp_path / "queries" / "old" / "part-00000-of-00001.parquet",
        tmp_path / "ranking" / "train-00000-of-00002.parquet.bak",
    ]
    for path in (*stale, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    write_tiny(tmp_path / STAGING)

    publish(str(tmp_path))

    assert not any(path.exists() for path in stale)
    assert all(path.read_text() == "x" for path in others)


def test_an_output_without_accounts_is_not_completed(tmp_path):
    shards = write_tables(str(tmp_path), tiny_rows())

    with pytest.raises(FileNotFoundError, match=r"ledger\.json"):
        complete(str(tmp_path), tiny_run_info(), shards)

    assert not (tmp_path / "manifest.json").exists()


def test_card_and_report_do_not_say_where_they_were_staged(tmp_path):
    write_tiny(tmp_path / STAGING)

    publish(str(tmp_path))

    for name in ("README.md", "report.html", "manifest.json"):
        assert STAGING not in (tmp_path / name).read_text()


def test_datasets_do_not_see_the_lock_or_what_is_staged(tmp_path, before, staged):
    leftovers = {f"{STAGING}/{path}": data for path, data in staged.items()} | {LOCK: b"{}"}
    restore(str(tmp_path / "out"), before | leftovers)

    tables = read_manifest(str(tmp_path / "out")).tables(str(tmp_path / "out"))
    for name in ("ranking", "videos"):
        found = datasets.load_dataset(tables.output, name, cache_dir=str(tmp_path / "cache"))
        assert sum(split.num_rows for split in found.values()) == tables.count(name)
