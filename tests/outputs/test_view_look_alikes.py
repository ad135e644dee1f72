"""Groups of one video on the page of an output: queries that look alike, shown, searched and marked."""

import re
import shutil

import msgspec
import pytest

from pipeline.outputs.marks import add_mark, read_marks
from pipeline.outputs.view.desk import Desk
from pipeline.outputs.view.offline import offline_page
from schemas.example import NegativeQuery
from schemas.people.mark import Mark
from tests.support.tiny_by_video import write_tiny_by_video
from tests.support.tiny_output import write_tiny
from tests.support.view_client import ask, ids, served, told


@pytest.fixture(scope="module")
def desk(made_once):
    return Desk.open(str(made_once("viewed", write_tiny)))


@pytest.fixture(scope="module")
def by_video(made_once):
    return Desk.open(str(made_once("viewed_by_video", write_tiny_by_video)))


def test_groups_of_one_video_are_a_list_where_an_output_has_them(desk, by_video):
    assert "by_video" not in desk.about()["counts"]
    assert desk.list("by_video", {})["rows"] == []

    listed = by_video.list("by_video", {}, "doubt", count=1000)

    assert by_video.about()["counts"]["by_video"] == listed["found"] == len(listed["rows"]) > 10
    assert (listed["rows"][0]["edits"], listed["rows"][0]["others"]) == (["year", "place"], 2)
    assert by_video.facets("by_video")["edit"] == {"place": listed["found"], "year": listed["found"]}
    for name, values in by_video.facets("by_video").items():
        for value, count in values.items():
            assert by_video.list("by_video", {name: value})["found"] == count
    first = listed["rows"][0]
    assert first["query_id"] in ids(by_video.list("by_video", {}, search=f"{first['query'].upper()}, BUT YEAR"))
    assert first["file"].endswith(".mp4")


def test_a_query_is_shown_with_those_that_look_like_it(desk, by_video):
    [first, *_] = by_video.list("by_video", {}, "doubt")["rows"]

    others = by_video.query(first["query_id"])["look_alikes"]

    assert [(one["edit"], one["delta"], one["label"]) for one in others] == [("year", -9.0, 0), ("place", -7.0, 0)]
    assert desk.query(first["query_id"])["look_alikes"] == []


def test_a_query_that_looks_like_another_can_be_marked_as_answered_by_its_video(by_video, tmp_path):
    copy = str(tmp_path / "out")
    shutil.copytree(by_video.output, copy)
    with served(Desk.open(copy)) as server:
        query_id = told(server, "api/list", of="by_video")["rows"][0]["query_id"]
        query = told(server, "api/query", id=query_id)
        first, second = (other["query_id"] for other in query["look_alikes"])

        def mark(other, verdict, video_id=query["video_id"]):
            said = {"query_id": other, "looks_like": query_id, "video_id": video_id, "verdict": verdict}
            return ask(server, "api/mark", "POST", msgspec.json.encode(said))[0]

        assert mark(first, "false negative") == 200
        assert mark(second, "wrong positive") == mark(second, "bad query") == 400
        assert mark("n-nobody", "false negative") == mark(second, "false negative", "another") == 404
        assert [other["mark"] for other in told(server, "api/query", id=query_id)["look_alikes"]] == [
            "false negative",
            "",
        ]
        assert told(server, "api/list", of="by_video")["rows"][0]["marks"] == ["false negative"]

    assert list(read_marks(f"{copy}/labels.jsonl")) == [(first, query["video_id"])]


def test_a_look_alike_that_a_mark_took_out_of_the_output_is_named_and_its_mark_can_be_taken_back(by_video, tmp_path):
    copy = str(tmp_path / "out")
    shutil.copytree(by_video.output, copy)
    query_id = by_video.list("by_video", {})["rows"][0]["query_id"]
    video_id, gone = by_video.query(query_id)["video_id"], NegativeQuery.id_of(query_id, "of an earlier output")
    add_mark(f"{copy}/labels.jsonl", Mark(gone, video_id, "false negative", "it does show it"))
    desk = Desk.open(copy)

    *_, marked = desk.query(query_id)["look_alikes"]
    desk.mark(gone, video_id, "", "", looks_like=query_id)

    assert marked == {"query_id": gone, "mark": "false negative", "note": "it does show it"}
    assert gone not in [other["query_id"] for other in desk.query(query_id)["look_alikes"]]
    assert read_marks(f"{copy}/labels.jsonl") == {}


def test_a_page_that_stands_alone_has_them_too(by_video):
    page = offline_page(by_video, 3)

    held = msgspec.json.decode(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert len(held["lists"]["by_video"]) == held["about"]["counts"]["by_video"] == 3
    for each in held["lists"]["by_video"]:
        assert sorted(each["facets"]["edit"]) == ["place", "year"]
        assert len(held["queries"][each["row"]["query_id"]]["look_alikes"]) == 2
