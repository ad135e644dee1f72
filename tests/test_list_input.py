import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.video import Metadata
from transforms.extract.list_input import InputError, entries_json, list_input, read_entries


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.MKV").touch()
    (tmp_path / "a.mp4").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".hidden.mp4").touch()
    return tmp_path


def manifest(tmp_path, *lines):
    path = tmp_path / "list.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return str(path)


def test_a_folder_is_walked_for_videos_and_the_rest_is_counted(folder):
    listing = list_input(str(folder))

    assert [e.uri for e in listing.entries] == [str(folder / "a.mp4"), str(folder / "deep" / "b.MKV")]
    assert listing.ignored == 1


def test_a_glob_names_videos(folder):
    assert [e.uri for e in list_input(f"{folder}/*.mp4").entries] == [str(folder / "a.mp4")]


def test_one_file_is_taken_whatever_its_extension(folder):
    assert [e.uri for e in list_input(str(folder / "notes.txt")).entries] == [str(folder / "notes.txt")]


def test_a_name_with_glob_characters_is_a_name_first(tmp_path):
    (tmp_path / "[x]%d*.mp4").touch()

    assert len(list_input(str(tmp_path / "[x]%d*.mp4")).entries) == 1


def test_a_side_car_gives_metadata(folder):
    (folder / "a.json").write_text(json.dumps({"title": " Flood ", "event": "e1", "views": 3}))

    listing = list_input(str(folder))

    assert listing.entries[0].metadata == Metadata(title="Flood", event="e1")
    assert listing.ignored == 1


def test_a_side_car_shared_by_two_videos_is_counted_once(folder):
    (folder / "a.mkv").touch()
    (folder / "a.json").write_text('{"title": "T"}')

    listing = list_input(str(folder))

    assert [entry.metadata.title for entry in listing.entries] == ["T", "T", ""]
    assert listing.ignored == 1


def test_a_name_that_is_not_utf8_is_spelled_out(tmp_path):
    (tmp_path / "bad\udcff.mp4").touch()

    [entry] = list_input(str(tmp_path)).entries

    assert entry.uri == str(tmp_path / "bad\\xff.mp4")
    assert entries_json([entry])


@pytest.mark.parametrize("content", ["[1, 2]", "{", '{"title": 3}', "\udcff"])
def test_an_unreadable_side_car_is_a_warning(folder, content):
    (folder / "a.json").write_bytes(content.encode("utf-8", "surrogateescape"))

    [entry, _] = list_input(str(folder)).entries

    assert entry.metadata == Metadata()
    assert [w.reason for w in entry.warnings] == ["unreadable side-car"]


@pytest.mark.parametrize("spec", ["no/such/folder", "no/such/*.mp4", "missing.mp4", "missing.jsonl"])
def test_an_input_without_videos_is_one_clear_error(spec, tmp_path):
    with pytest.raises(InputError, match=r"names no video|cannot be read"):
        list_input(str(tmp_path / spec))


def test_a_manifest_names_videos_relative_to_itself(tmp_path):
    path = manifest(tmp_path, {"uri": "x/a.mp4", "video_id": "a", "title": "T"}, "", {"uri": "gs://b/c.mp4"})

    first, second = list_input(path).entries

    assert (first.uri, first.video_id, first.metadata.title) == (str(tmp_path / "x/a.mp4"), "a", "T")
    assert (second.uri, second.video_id) == ("gs://b/c.mp4", None)


def test_other_line_separators_inside_a_manifest_string_do_not_end_the_line(tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text('{"uri": "a.mp4", "title": "a\u2028b\x85c"}\n{"uri": "b.mp4"}\r\n', encoding="utf-8")

    assert [entry.metadata.title for entry in list_input(str(path)).entries] == ["a b c", ""]


def test_a_parquet_manifest_says_the_same(tmp_path):
    rows = [{"uri": "a.mp4", "video_id": "a", "event": None}, {"uri": "b.mp4", "video_id": None, "event": "e"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "list.parquet")

    entries = list_input(str(tmp_path / "list.parquet")).entries

    assert [(e.video_id, e.metadata.event) for e in entries] == [("a", ""), (None, "e")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"uri": "a.mp4"}', "{oops"], "line 2: JSON"),
        (['{"uri": "a.mp4"}', "[]"], "line 2: Expected `object`"),
        (['{"title": "x"}'], "line 1: every row needs a 'uri'"),
        (['{"uri": "a.mp4", "video_id": 7}'], "line 1: 'video_id' must be a string"),
        (['{"uri": "a.mp4", "video_id": "a b"}'], "line 1: video_id must hold no white space"),
        (['{"uri": "a.mp4", "title": ["x"]}'], "line 1: 'title' must be a string"),
        (['{"uri": "a", "video_id": "v"}', "", '{"uri": "b", "video_id": "v"}'], "line 3: video_id 'v' .* line 1"),
        (['{"uri": "a"}', '{"uri": "a"}'], "line 2: uri .* line 1"),
        ([""], "holds no row"),
    ],
)
def test_a_bad_manifest_line_is_named(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        list_input(manifest(tmp_path, *lines))


def test_entries_survive_their_file(folder, tmp_path):
    entries = list_input(str(folder)).entries
    path = tmp_path / "entries"
    path.write_bytes(entries_json(entries))

    assert tuple(read_entries(str(path))) == entries
