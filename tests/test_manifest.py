import msgspec
import pytest
from tiny_output import tiny_rows, tiny_run_info, write_tables, write_tiny

from pipeline.outputs.manifest import MARKER, NotAnOutput, is_output, read_manifest
from pipeline.outputs.publish import publish, retract
from transforms.files import list_files
from transforms.shards import WrittenFile


def test_a_manifest_is_read_back_as_it_was_written(tmp_path):
    written = write_tiny(tmp_path)

    assert read_manifest(str(tmp_path)) == written
    assert written.engines["asr"].name == "pocketsphinx"
    assert "{{evidence}}" in written.prompts["judge"].text


def test_a_folder_without_a_manifest_is_named_as_not_finished(tmp_path):
    with pytest.raises(NotAnOutput, match=r"is not a finished hardquery output: it has no manifest\.json"):
        read_manifest(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": []}', b'{"input": "\xff"}'])
def test_a_manifest_that_cannot_be_read_is_an_error_and_no_crash(content, tmp_path):
    (tmp_path / "manifest.json").write_bytes(content)

    with pytest.raises(NotAnOutput, match="cannot be read"):
        read_manifest(str(tmp_path))


def test_another_schema_version_is_refused(tmp_path):
    write_tiny(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | {"schema_version": "99"}))

    with pytest.raises(NotAnOutput, match="schema version 99"):
        read_manifest(str(tmp_path))


def test_every_file_but_the_manifest_is_in_the_manifest(tmp_path):
    manifest = write_tiny(tmp_path)

    assert [file.path for file in manifest.files] == [p for p in list_files(str(tmp_path)) if p != "manifest.json"]


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

    write_tiny(tmp_path)

    assert not any(path.exists() for path in stale)
    assert all(path.read_text() == "x" for path in others)


def test_publishing_without_accounts_leaves_no_manifest(tmp_path):
    shards = write_tables(str(tmp_path), tiny_rows())

    with pytest.raises(FileNotFoundError, match=r"ledger\.json"):
        publish(str(tmp_path), tiny_run_info(), shards)

    assert not (tmp_path / "manifest.json").exists()


def test_a_retracted_output_is_not_finished(tmp_path):
    write_tiny(tmp_path)

    retract(str(tmp_path))
    retract(str(tmp_path))  # nothing left to do

    with pytest.raises(NotAnOutput):
        read_manifest(str(tmp_path))


def test_a_manifest_of_another_program_is_not_retracted(tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "an app", "files": []}')

    retract(str(tmp_path))

    assert (tmp_path / "manifest.json").exists()


def test_an_output_is_known_by_its_manifest_of_any_version_or_by_the_marker(tmp_path):
    assert not is_output(str(tmp_path / "nowhere"))
    for foreign in ("", "\ufffe", "[]", '{"name": "an app", "files": []}'):
        (tmp_path / "manifest.json").write_text(foreign)
        assert not is_output(str(tmp_path))
    (tmp_path / MARKER).touch()
    assert is_output(str(tmp_path))
    write_tiny(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | {"schema_version": "0"}))
    assert is_output(str(tmp_path))


def test_publishing_removes_the_marker_of_an_unfinished_run(tmp_path):
    (tmp_path / MARKER).touch()

    write_tiny(tmp_path)

    assert not (tmp_path / MARKER).exists()


def test_rows_are_counted_from_the_shards_that_the_manifest_lists(tmp_path):
    manifest = write_tiny(tmp_path)
    tables = manifest.tables(str(tmp_path))

    assert tables.count("videos") == len(list(tables.rows("videos", ["video_id"]))) == 12
    assert tables.count("ranking") == tables.count("ranking", "train") + tables.count("ranking", "validation")
    assert all(isinstance(file, WrittenFile) for file in manifest.files)
