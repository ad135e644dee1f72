import codecs
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.video import Metadata
from transforms.extract.identify import Media, OutOfReach
from transforms.extract.list_input import InputError, entries_json, ignored_text, list_input, read_entries


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
    assert sum(listing.ignored.values()) == 1


def test_the_endings_of_ignored_files_are_named(tmp_path):
    for name in ("a.mp4", "b.txt", "c.TXT", "d.srt", "e"):
        (tmp_path / name).touch()

    assert ignored_text(list_input(str(tmp_path)).ignored) == "4 other files ignored: .txt 2, no ending 1, .srt 1"
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(InputError, match=r"names no video \(4 other files ignored: \.txt 2"):
        list_input(str(tmp_path))


@pytest.mark.parametrize("name", ["a.h264", "a.264", "a.hevc", "a.265", "a.m2v", "a.m1v", "a.ivf", "a.gif", "a.rm"])
def test_what_the_decoder_opens_is_listed(tmp_path, name):
    (tmp_path / name).touch()

    assert [entry.uri for entry in list_input(str(tmp_path)).entries] == [str(tmp_path / name)]


def test_folders_behind_links_are_entered_each_real_folder_once(tmp_path):
    (tmp_path / "other" / "deep").mkdir(parents=True)
    (tmp_path / "other" / "deep" / "x.mp4").touch()
    (tmp_path / "in" / "real").mkdir(parents=True)
    (tmp_path / "in" / "real" / "y.mp4").touch()
    (tmp_path / "in" / "a_link").symlink_to(tmp_path / "in" / "real")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "other")
    (tmp_path / "in" / "more").symlink_to(tmp_path / "other" / "deep")
    (tmp_path / "in" / "real" / "round").symlink_to(tmp_path / "in")

    found = [entry.uri.removeprefix(f"{tmp_path}/in/") for entry in list_input(str(tmp_path / "in")).entries]

    assert found == ["link/deep/x.mp4", "real/y.mp4"]


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
    assert sum(listing.ignored.values()) == 1


def test_a_side_car_shared_by_two_videos_is_counted_once(folder):
    (folder / "a.mkv").touch()
    (folder / "a.json").write_text('{"title": "T"}')

    listing = list_input(str(folder))

    assert [entry.metadata.title for entry in listing.entries] == ["T", "T", ""]
    assert sum(listing.ignored.values()) == 1


def test_a_name_that_is_not_utf8_is_an_address_that_opens(tmp_path):
    (tmp_path / "bad\udcff.mp4").write_bytes(b"film")

    [entry] = list_input(str(tmp_path)).entries

    assert entry.uri == f"file://{tmp_path}/bad%FF.mp4"
    assert entries_json([entry])
    assert Path(Media(entry.uri, "").path).read_bytes() == b"film"


def test_a_side_car_may_begin_with_a_byte_order_mark(folder):
    (folder / "a.json").write_bytes(codecs.BOM_UTF8 + b'{"title": "Flood"}')

    assert list_input(str(folder)).entries[0].metadata.title == "Flood"


def test_what_download_tools_write_beside_a_video_gives_metadata(folder):
    known = {"title": "Flood", "description": None, "language": "en", "upload_date": "20310314", "id": 3, "event": [1]}
    (folder / "a.info.json").write_text(json.dumps(known))

    listing = list_input(str(folder))

    assert listing.entries[0].metadata == Metadata(title="Flood", language="en", published="2031-03-14")
    assert listing.entries[0].warnings == ()
    assert sum(listing.ignored.values()) == 1


def test_our_own_side_car_goes_before_that_of_download_tools(folder):
    (folder / "a.info.json").write_text('{"title": "theirs"}')
    (folder / "a.json").write_text('{"title": "ours"}')

    assert list_input(str(folder)).entries[0].metadata.title == "ours"


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


@pytest.mark.parametrize("typed", ["videos", "./videos/", "videos/../videos", "../here/videos", "{here}/videos//"])
def test_addresses_are_the_same_however_the_input_was_typed(typed, tmp_path, monkeypatch):
    here = tmp_path / "here"
    (here / "videos").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4"):
        (here / "videos" / name).touch()
    monkeypatch.chdir(here)

    listing = list_input(typed.format(here=here))

    assert [entry.uri for entry in listing.entries] == [f"{here}/videos/a.mp4", f"{here}/videos/b.mp4"]


@pytest.mark.parametrize("typed", ["list.jsonl", "./list.jsonl", "{here}/list.jsonl"])
@pytest.mark.parametrize("uri", ["videos/a.mp4", "./videos//a.mp4", "{here}/videos/./a.mp4"])
def test_addresses_of_a_manifest_are_the_same_however_it_and_they_were_typed(typed, uri, tmp_path, monkeypatch):
    (tmp_path / "list.jsonl").write_text(json.dumps({"uri": uri.format(here=tmp_path)}))
    monkeypatch.chdir(tmp_path)

    assert [entry.uri for entry in list_input(typed.format(here=tmp_path)).entries] == [f"{tmp_path}/videos/a.mp4"]


def test_two_dots_behind_a_link_lead_to_where_the_file_system_leads(tmp_path, monkeypatch):
    (tmp_path / "disk" / "old").mkdir(parents=True)
    (tmp_path / "disk" / "a.mp4").touch()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "disk" / "old")
    monkeypatch.chdir(tmp_path / "here")

    assert [entry.uri for entry in list_input("link/../a.mp4").entries] == [f"{tmp_path}/disk/a.mp4"]


def test_other_line_separators_inside_a_manifest_string_do_not_end_the_line(tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text('{"uri": "a.mp4", "title": "a\u2028b\x85c"}\n{"uri": "b.mp4"}\r\n', encoding="utf-8")

    assert [entry.metadata.title for entry in list_input(str(path)).entries] == ["a b c", ""]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", 'uri,video_id,title\na.mp4,a,"Flood, the\ngreat one"\n\nb.mp4,,\n'),
        ("list.CSV", '\ufeffuri;video_id;title\r\na.mp4;a;"Flood, the\ngreat one"\r\nb.mp4\r\n'),
        ("list.tsv", 'video_id\turi\ttitle\na\ta.mp4\t"Flood, the great one"\n\tb.mp4\n'),
    ],
)
def test_a_table_with_a_header_is_a_manifest(tmp_path, name, text):
    (tmp_path / name).write_text(text, newline="")

    first, second = list_input(str(tmp_path / name)).entries

    assert (first.uri, first.video_id, first.metadata.title) == (str(tmp_path / "a.mp4"), "a", "Flood, the great one")
    assert (second.uri, second.video_id, second.metadata) == (str(tmp_path / "b.mp4"), None, Metadata())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title\nx\n", "line 2: every row needs a 'uri', got None among the columns title"),
        ("base/0.mp4\nbase/1.mp4\n", "line 2: every row needs a 'uri'"),
        ("uri,title\na.mp4,x\nb.mp4,x,y\n", "line 3: 3 cells under a header of 2"),
        ('uri,title\na.mp4,"x\n', "line 2: unexpected end of data"),
        ("uri,title\na.mp4,\udcff\n", "cannot be read: not UTF-8"),
        ("uri\n", "holds no row"),
    ],
)
def test_a_bad_line_of_a_table_is_named(tmp_path, text, message):
    (tmp_path / "list.csv").write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(InputError, match=message):
        list_input(str(tmp_path / "list.csv"))


@pytest.mark.parametrize("text", ["base/0.mp4\nbase/1.mp4\n", '[{"uri": "a.mp4"}]', "\ufeff" + "é," * 3000])
def test_a_list_in_another_form_is_no_video(tmp_path, text):
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")

    with pytest.raises(InputError, match=r"is text and no video; a manifest is JSON Lines .* CSV or TSV with a header"):
        list_input(str(tmp_path / "list.txt"))


def test_a_file_url_is_a_file_of_this_machine(tmp_path):
    (tmp_path / "the flood.mp4").touch()
    escaped = str(tmp_path / "the flood.mp4").replace(" ", "%20")

    for url in (f"file://{escaped}", f"file://localhost{escaped}", f"FILE:{escaped}"):
        assert [entry.uri for entry in list_input(url).entries] == [str(tmp_path / "the flood.mp4")]
        assert list_input(manifest(tmp_path, {"uri": url})).entries[0].uri == str(tmp_path / "the flood.mp4")


@pytest.mark.parametrize("uri", ["https://example.invalid/1.mp4", "file://elsewhere/1.mp4"])
def test_an_address_that_nothing_here_reads_is_out_of_reach_and_named(tmp_path, uri):
    [entry] = list_input(manifest(tmp_path, {"uri": uri})).entries

    with pytest.raises(
        OutOfReach, match=r"1\.mp4: no filesystem for .* an address is a path, file:///…, s3://…"
    ) as caught:
        _ = Media(entry.uri, str(tmp_path)).state
    assert caught.value.error_class == "StoreError"


def test_a_parquet_manifest_says_the_same(tmp_path):
    rows = [{"uri": "a.mp4", "video_id": "a", "event": None}, {"uri": "b.mp4", "video_id": None, "event": "e"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "list.parquet")

    entries = list_input(str(tmp_path / "list.parquet")).entries

    assert [(e.video_id, e.metadata.event) for e in entries] == [("a", ""), (None, "e")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"uri": "a.mp4"}', "{oops"], "line 2: not JSON: JSON"),
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


def test_a_line_that_is_no_json_is_named_as_such(tmp_path):
    (tmp_path / "list.jsonl").write_text('{"uri": "a.mp4"}\n{"uri": \n')

    with pytest.raises(InputError, match=r"list\.jsonl, line 2: not JSON: "):
        list_input(str(tmp_path / "list.jsonl"))
