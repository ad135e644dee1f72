import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from http.client import HTTPConnection

import msgspec
import pytest

from pipeline.audit.blind import read_answers
from pipeline.outputs.marks import UnreadableMarks, add_mark, read_marks
from pipeline.outputs.tables import Tables
from pipeline.outputs.verify.verify import verify
from pipeline.outputs.view.desk import Desk
from pipeline.outputs.view.files import span
from pipeline.outputs.view.offline import offline_page
from pipeline.outputs.view.server import page_file
from runners.cli.main import main
from schemas.check import InvalidRecord
from schemas.people.mark import Mark
from tests.support.tiny_output import tiny_rows, write_rows, write_tiny
from tests.support.view_client import ask, ids, served, told


@pytest.fixture(scope="module")
def output(made_once):
    return made_once("viewed", write_tiny)


@pytest.fixture(scope="module")
def desk(output):
    return Desk.open(str(output))


@pytest.fixture(scope="module")
def server(desk):
    with served(desk) as server:
        yield server


def test_every_row_of_an_output_is_in_a_list(desk):
    rows = tiny_rows()
    dropped = sum(row["verdict"] != "kept" for _, row in rows["queries"])
    tables = {"groups": "ranking", "pairs": "judgements", "rejections": "rejections", "failures": "failures"}

    found = {of: desk.list(of, {}, count=1000) for of in (*tables, "dropped")}

    assert {of: len(found[of]["rows"]) for of in tables} == {of: len(rows[table]) for of, table in tables.items()}
    assert found["dropped"]["found"] == found["dropped"]["of"] == len(found["dropped"]["rows"]) == dropped == 7


def test_a_list_is_filtered_by_every_facet_and_counts_what_it_filters(desk):
    for of in ("groups", "pairs", "dropped", "rejections", "failures"):
        for name, values in desk.facets(of).items():
            for value, count in values.items():
                assert desk.list(of, {name: value})["found"] == count, (of, name, value)
    assert desk.list("groups", {"stratum": "suspected_positive"})["found"] == 0
    assert desk.list("groups", {"split": "validation", "type": "ocr"})["found"] == 3


@pytest.mark.parametrize("of", ["groups", "pairs", "rejections"])
def test_texts_and_files_of_a_page_are_read_shard_by_shard_and_not_row_by_row(of, desk, monkeypatch):
    desk.facets(of)
    opened = []
    plain = Tables.opened
    monkeypatch.setattr(Tables, "opened", lambda self, path: opened.append(path) or plain(self, path))

    rows = desk.list(of, {})["rows"]

    others = [path for path in opened if path.startswith("videos/" if of == "groups" else ("videos/", "queries/"))]
    assert others
    assert len(others) == len(set(others))
    texts = {row["query_id"]: row["text"] for _, row in tiny_rows()["queries"]}
    uris = {row["video_id"]: row["uri"] for _, row in tiny_rows()["videos"]}
    for row in rows:
        assert row.get("text", row.get("query")) == texts[row["query_id"]]
        assert row["file"] == uris[row["video_id"]].rpartition("/")[2]


def test_groups_are_sorted_by_how_doubtful_they_are(desk):
    def doubt(row):
        return min(abs(delta) for delta in row["deltas"] if delta is not None)

    rows = desk.list("groups", {}, "doubt", count=1000)["rows"]

    assert [doubt(row) for row in rows] == sorted(map(doubt, rows))
    assert doubt(rows[0]) < doubt(rows[-1])


def test_the_pair_that_the_judge_is_most_against_comes_first(desk):
    first, *_ = desk.list("pairs", {}, "against")["rows"]

    assert (first["is_positive"], first["delta"]) == (True, -3.0)  # a query's own video, judged no


def test_a_first_stage_that_contradicts_the_margins_comes_first(tmp_path):
    rows = tiny_rows()
    _, planted = rows["ranking"][20]
    planted["candidates"][0]["rank"], planted["candidates"][1]["rank"] = 900, 1
    write_rows(tmp_path, rows)

    assert ids(Desk.open(str(tmp_path)).list("groups", {}, "rank"))[0] == planted["query_id"]


def test_a_search_looks_into_texts_file_names_titles_and_ids_in_any_case(desk):
    having = [row for _, row in tiny_rows()["ranking"] if "flood-2" in str(row["candidates"])]
    by_file = desk.list("groups", {}, search="FLOOD-2.mp4", count=1000)
    chosen = by_file["rows"][0]

    assert sorted(ids(by_file)) == sorted(row["query_id"] for row in having)
    assert desk.list("groups", {}, search="flood relief, PART 2")["found"] == by_file["found"]
    assert desk.list("groups", {}, search="number 10")["found"] == 1
    assert ids(desk.list("groups", {}, search=chosen["query_id"])) == [chosen["query_id"]]
    assert [row["file"] for row in desk.list("failures", {}, search="gone")["rows"]] == ["gone.mp4"]
    assert desk.list("groups", {}, search="nobody wrote this")["found"] == 0


def test_pages_follow_each_other_and_nothing_is_on_two(desk):
    all_ids = ids(desk.list("groups", {}, "doubt", count=1000))

    paged = [
        query_id for first in range(0, 60, 10) for query_id in ids(desk.list("groups", {}, "doubt", "", first, 10))
    ]

    assert paged == all_ids
    assert len(set(paged)) == 53


def test_a_query_is_shown_with_all_that_was_judged_of_it_and_a_dropped_one_with_its_video(desk):
    rows = tiny_rows()
    for _, row in rows["queries"]:
        shown = desk.query(row["query_id"])
        judged = {pair["video_id"] for _, pair in rows["judgements"] if pair["query_id"] == row["query_id"]}
        assert {pair["video_id"] for pair in shown["pairs"]} == judged | {row["video_id"]}
        assert shown["pairs"][0]["is_positive"]


def test_the_page_its_script_and_its_style_come_with_the_project_and_from_nowhere_else(server):
    for path in ("", "view.css", "view.js"):
        status, headers, body = ask(server, path)
        assert status == 200
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert b"http:" not in body
        assert b"https:" not in body
        assert b"innerHTML" not in body


def test_every_control_of_the_page_has_a_name_and_headings_begin_with_the_first():
    class Page(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.headings, self.unnamed = [], [], []

        def handle_starttag(self, tag, attributes):
            self.open.append(tag)
            if tag in ("h1", "h2", "h3"):
                self.headings.append(tag)
            if tag in ("input", "select") and "label" not in self.open and "aria-label" not in dict(attributes):
                self.unnamed.append(attributes)

        def handle_endtag(self, tag):
            while self.open and self.open.pop() != tag:
                pass

    page = Page()
    page.feed(page_file("page.html").decode())

    assert page.headings == ["h1", "h2"]
    assert page.unnamed == []


def test_the_server_is_on_this_machine_alone_and_refuses_other_names_and_addresses_without_the_secret(server):
    assert server.server_address[0] == "127.0.0.1"
    rebound = ask(server, "api/about", headers={"Host": f"evil.example:{server.server_port}"}.items())
    assert rebound[0] == 421

    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    for path in ("/", "/api/about", "/guessed/api/about"):
        connection.request("GET", path)
        reply = connection.getresponse()
        assert (reply.status, b"rows" in reply.read()) == (404, False)
    connection.close()


def test_only_files_of_the_output_are_served_and_whatever_else_is_asked_for_is_said_in_one_line(server):
    for path, asked in (
        ("source", {"id": "../../etc/passwd"}),
        ("source", {"id": "flood-2"}),  # its file is not on this machine
        ("frame", {"id": "flood-2", "n": 99}),
        ("api/query", {"id": "q-0"}),
        ("api/list", {"of": "secrets"}),
        ("../view.js", {}),
    ):
        status, _, body = ask(server, path, **asked)
        assert status == 404, (path, body)
        assert b"\n" not in body
    assert ask(server, "api/query")[0] == ask(server, "frame", id="flood-2", n="x")[0] == 400


def test_a_frame_is_the_one_of_the_shard(server):
    frames = {row["video_id"]: row["frames"] for _, row in tiny_rows()["videos"]}

    status, headers, body = ask(server, "frame", id="mars-1", n=2)

    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    assert body == frames["mars-1"][2]["bytes"]


def test_a_source_file_is_played_from_any_second_and_only_as_it_was_read(tmp_path):
    film = tmp_path / "films" / "a & b.mp4"
    film.parent.mkdir()
    film.write_bytes(bytes(range(250)) * 4)
    rows = tiny_rows()
    _, video = rows["videos"][0]
    video["uri"] = str(film)
    video["media"]["size_bytes"] = 1000
    write_rows(tmp_path / "out", rows)
    desk = Desk.open(str(tmp_path / "out"))

    with served(desk) as server:
        whole = ask(server, "source", id=video["video_id"])
        part = ask(server, "source", id=video["video_id"], headers={"Range": "bytes=250-259"}.items())
        end = ask(server, "source", id=video["video_id"], headers={"Range": "bytes=990-"}.items())
        beyond = ask(server, "source", id=video["video_id"], headers={"Range": "bytes=1000-"}.items())
        film.write_bytes(b"another film")
        changed = ask(server, "source", id=video["video_id"])

    assert (whole[0], whole[1]["Accept-Ranges"], whole[1]["Content-Type"]) == (200, "bytes", "video/mp4")
    assert whole[2] == bytes(range(250)) * 4
    assert (part[0], part[1]["Content-Range"], part[2]) == (206, "bytes 250-259/1000", bytes(range(10)))
    assert (end[0], end[2]) == (206, bytes(range(240, 250)))
    assert (beyond[0], beyond[1]["Content-Range"]) == (416, "bytes */1000")
    assert changed[0] == 404


@pytest.mark.parametrize(
    ("header", "size", "asked"),
    [
        ("bytes=0-", 10, (0, 9)),
        ("bytes=-3", 10, (7, 9)),
        ("bytes=-30", 10, (0, 9)),
        ("bytes=4-400", 10, (4, 9)),
        ("", 10, (0, 9)),
        ("bytes=10-", 10, None),
        ("bytes=-0", 10, None),
        ("bytes=0-", 0, None),
    ],
)
def test_ranges_are_read_as_the_standard_has_them(header, size, asked):
    assert span(header, size) == asked


def test_text_that_turns_itself_around_is_shown_as_it_is_stored(tmp_path):
    rows = tiny_rows()
    _, row = rows["queries"][0]
    rows["videos"][0][1]["caption"] = "evil\u202etxt.exe"
    write_rows(tmp_path, rows)

    with served(Desk.open(str(tmp_path))) as server:
        assert told(server, "api/video", id=row["video_id"])["caption"] == "evil\N{REPLACEMENT CHARACTER}txt.exe"


def test_marks_are_kept_beside_the_tables_and_the_last_one_counts(tmp_path):
    write_tiny(tmp_path)
    with served(Desk.open(str(tmp_path))) as server:
        group = told(server, "api/list", of="groups")["rows"][0]
        query_id, positive = group["query_id"], group["video_id"]
        negative = told(server, "api/query", id=query_id)["pairs"][1]["video_id"]

        def mark(video_id, verdict, note=""):
            said = {"query_id": query_id, "video_id": video_id, "verdict": verdict, "note": note}
            status, _, body = ask(server, "api/mark", "POST", msgspec.json.encode(said))
            return status, body

        assert mark(positive, "wrong positive", "shows → another\nboat")[0] == 200
        assert mark(negative, "false negative")[0] == 200
        assert mark("", "bad query")[0] == 200
        assert mark("", "")[0] == 200
        assert mark(negative, "wrong positive")[0] == mark(positive, "yes")[0] == 400
        assert mark("nobody", "false negative")[0] == 404
        assert told(server, "api/query", id=query_id)["pairs"][0]["note"] == "shows → another\nboat"
        assert told(server, "api/list", of="groups")["rows"][0]["marks"] == ["false negative", "wrong positive"]

    marks = read_marks(str(tmp_path / "labels.jsonl"))

    assert {about: mark.verdict for about, mark in marks.items()} == {
        (query_id, positive): "wrong positive",
        (query_id, negative): "false negative",
    }
    assert len((tmp_path / "labels.jsonl").read_text().splitlines()) == 4  # only ever added to
    assert verify(str(tmp_path)) == []  # which knows the file


def test_a_line_that_is_no_mark_is_named_and_one_cut_off_spoils_no_other(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text('{"query_id":"q-1","video_id":"v')
    add_mark(str(path), Mark("q-2", "v-2", "false negative"))

    with pytest.raises(UnreadableMarks, match=r"labels.jsonl, line 1: "):
        read_marks(str(path))

    path.write_text(path.read_text().partition("\n")[2])
    assert list(read_marks(str(path))) == [("q-2", "v-2")]


@pytest.mark.parametrize(
    ("video_id", "verdict"), [("v", "bad query"), ("", "wrong positive"), ("", "yes"), ("v", "dubious")]
)
def test_a_mark_says_something_of_a_pair_or_that_a_query_is_bad(video_id, verdict):
    with pytest.raises(InvalidRecord):
        Mark("q", video_id, verdict)


def test_people_who_label_see_the_words_of_a_query_and_the_video_and_nothing_of_the_judge(tmp_path):
    write_tiny(tmp_path)
    desk = Desk.open(str(tmp_path))
    row = desk.list("pairs", {})["rows"][0]
    blind = Desk.open(str(tmp_path), [(row["query_id"], row["video_id"])])

    with served(blind) as server:
        assert told(server, "api/pairs") == [{"query_id": row["query_id"], "video_id": row["video_id"], "answer": ""}]
        assert told(server, "api/question", id=row["query_id"]).keys() == {"query_id", "text"}
        for path, asked in (("api/query", {"id": row["query_id"]}), ("api/list", {"of": "pairs"})):
            assert ask(server, path, **asked)[0] == 404

        def answer(verdict, video_id=row["video_id"], path="api/answer"):
            said = {"query_id": row["query_id"], "video_id": video_id, "verdict": verdict}
            return ask(server, path, "POST", msgspec.json.encode(said))[0]

        assert [answer("unsure"), answer("yes")] == [200, 200]
        assert [answer("maybe"), answer("yes", "another"), answer("", path="api/mark")] == [400, 404, 404]
        assert told(server, "api/pairs")[0]["answer"] == "yes"

    assert read_answers(str(tmp_path)) == {(row["query_id"], row["video_id"]): "yes"}
    assert verify(str(tmp_path)) == []


@pytest.fixture(scope="module")
def exported(desk):
    """A page that stands alone: its text and the data in it."""
    page = offline_page(desk, 12)
    [held] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return page, msgspec.json.decode(held)


def test_a_page_that_stands_alone_holds_the_least_sure_groups_with_all_that_they_lead_to(desk, exported):
    _, data = exported

    groups = [each["row"]["query_id"] for each in data["lists"]["groups"]]
    assert groups == ids(desk.list("groups", {}, "doubt"))[:12]
    for query_id in groups:
        kept = [pair["video_id"] for pair in data["queries"][query_id]["pairs"] if pair["kept"]]
        assert kept
        assert all(data["videos"][video_id]["frames"][0].startswith("data:image/jpeg") for video_id in kept)
    assert data["about"]["part"] == f"12 of {desk.about()['counts']['groups']} groups, least sure first"
    first = data["lists"]["groups"][0]
    assert {"type", "variant", "stratum", "split", "language"} <= first["facets"].keys()
    assert first["measures"]["doubt"] == max(each["measures"]["doubt"] for each in data["lists"]["groups"])


def test_a_page_that_stands_alone_loads_nothing_and_runs_its_own_scripts_alone(exported):
    page, data = exported

    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [b64encode(sha256(script.encode()).digest()).decode() for script in scripts]
    assert policy.startswith("default-src 'none'; script-src " + " ".join(f"'sha256-{each}'" for each in hashes))
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    assert all(video["uri"] == video["file"] and not video["plays"] for video in data["videos"].values())


def test_the_command_writes_a_page_and_refuses_to_show_labellers_what_the_judge_says(output, tmp_path, capsys):
    page = tmp_path / "part.html"

    assert main(["view", str(output), "--export", str(page), "--n", "2"]) == 0

    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert str(page) in capsys.readouterr().out
    assert main(["view", str(output), "--export", str(page), "--n", "0"]) == 2
    assert "--n must be at least 1" in capsys.readouterr().err
