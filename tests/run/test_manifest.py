import msgspec
import pytest

from pipeline.outputs.manifest import NotAnOutput, has_manifest, read_manifest
from tests.support.tiny_output import write_tiny
from transforms.emit.shards import WrittenFile
from transforms.storage.files import list_files


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


def test_an_output_is_known_by_its_manifest_of_any_schema_version(tmp_path):
    assert not has_manifest(str(tmp_path / "nowhere"))
    for foreign in ("", "\ufffe", "[]", '{"name": "an app", "files": []}'):
        (tmp_path / "manifest.json").write_text(foreign)
        assert not has_manifest(str(tmp_path))
    write_tiny(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | {"schema_version": "0"}))
    assert has_manifest(str(tmp_path))


def test_rows_are_counted_from_the_shards_that_the_manifest_lists(tmp_path):
    manifest = write_tiny(tmp_path)
    tables = manifest.tables(str(tmp_path))

    assert tables.count("videos") == len(list(tables.rows("videos", ["video_id"]))) == 12
    assert tables.count("ranking") == tables.count("ranking", "train") + tables.count("ranking", "validation")
    assert all(isinstance(file, WrittenFile) for file in manifest.files)
