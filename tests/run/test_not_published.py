"""What does not take the place of an earlier output: a run that lost all of something, or made what does not verify."""

import json
import os

import pytest

from pipeline.finish import refuse_lost
from pipeline.outputs.errors import StepLost
from pipeline.outputs.manifest import manifest_sha256, read_manifest
from pipeline.outputs.problem import Problem
from pipeline.outputs.tables import Tables
from pipeline.outputs.verify.verify import check_staged, verify
from runners.cli.main import main
from tests.support.make_clips import make_clip
from tests.support.tiny_output import tiny_rows, write_tiny
from transforms.ledger import Line

FAST = ["--workers=1", "--set=extract.asr=null", "--set=extract.ocr=null", "--set=emit.frames=null"]
FAST += ["--set=mine.first_stage={engine: bm25}"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two clips with a title each, and two files that are none."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "good").mkdir()
    for name, title in (("river", "The river flood of Monday"), ("school", "The council opens a school")):
        make_clip(folder / "good" / f"{name}.mp4", frames=12 + len(name))
        (folder / "good" / f"{name}.json").write_text(
            json.dumps({"title": title, "description": f"{title}, at length"})
        )
    (folder / "bad").mkdir()
    (folder / "bad" / "list.mp4").write_text("uri,title\na.mp4,A\n")
    (folder / "bad" / "empty.mp4").touch()
    return folder


@pytest.fixture(scope="module")
def output(videos, tmp_path_factory):
    """What an earlier run has published."""
    folder = tmp_path_factory.mktemp("earlier") / "out"
    assert main(["run", "demo", f"--input={videos / 'good'}", f"--output={folder}", *FAST]) == 0
    return folder


def test_where_not_one_video_can_be_decoded_the_earlier_output_stays(output, videos, capsys):
    before = manifest_sha256(str(output))

    assert main(["run", "demo", f"--input={videos / 'bad'}", f"--output={output}", *FAST]) == 5

    said = " ".join(capsys.readouterr().err.split())
    assert "not published: nothing came out of extract/decode, which was given 2: " in said
    assert "the first: " in said
    assert "--retry-failures all" in said
    assert manifest_sha256(str(output)) == before
    assert verify(str(output)) == []


def test_where_nothing_was_published_before_nothing_is_when_all_is_lost(videos, tmp_path):
    assert main(["run", "demo", f"--input={videos / 'bad'}", f"--output={tmp_path / 'out'}", *FAST]) == 5

    assert [name for name in os.listdir(tmp_path / "out") if not name.startswith(".")] == []


def test_a_query_by_people_that_names_no_video_is_a_rejection_and_what_is_published_verifies(videos, tmp_path):
    (tmp_path / "queries.tsv").write_text("h1\twhich river rose on monday\nh2\twho opened the new theatre\n")
    (tmp_path / "manifest.jsonl").write_text(
        "".join(
            json.dumps({"uri": str(videos / "good" / f"{name}.mp4"), "video_id": name, "title": name}) + "\n"
            for name in ("river", "school")
        )
    )
    (tmp_path / "qrels.trec").write_text("h1 0 river 1\n")
    people = [f"--queries={tmp_path / 'queries.tsv'}", f"--qrels={tmp_path / 'qrels.trec'}"]

    assert (
        main(["run", "demo", f"--input={tmp_path / 'manifest.jsonl'}", f"--output={tmp_path / 'out'}", *FAST, *people])
        == 0
    )

    assert verify(str(tmp_path / "out")) == []
    tables = read_manifest(str(tmp_path / "out")).tables(str(tmp_path / "out"))
    assert [row["reason"] for row in tables.rows("rejections") if row["query_id"] == "h2"] == ["no relevant video"]


def test_what_does_not_verify_is_not_published_and_can_be_looked_at(output, videos, capsys, monkeypatch):
    before = manifest_sha256(str(output))
    monkeypatch.setattr("pipeline.finish.check_staged", lambda *_: [Problem("queries/", "is wrong", "q-1")] * 2)

    assert main(["run", "demo", f"--input={videos / 'good'}", f"--output={output}", "--force", *FAST]) == 3

    said = " ".join(capsys.readouterr().err.split())
    assert "not published: what was made does not verify: queries/, q-1: is wrong (and 1 or more others)" in said
    assert f"`hardquery verify {output}/.staging`" in said
    assert manifest_sha256(str(output)) == before
    monkeypatch.undo()
    assert verify(f"{output}/.staging") == []


def test_what_is_staged_is_held_to_the_rules_of_verify(tmp_path):
    rows = tiny_rows()
    rows["queries"][0][1]["text"] = " "
    write_tiny(tmp_path, rows)

    found = check_staged(str(tmp_path), read_manifest(str(tmp_path)))

    assert found
    assert found == verify(str(tmp_path))
    assert check_staged(str(tmp_path), read_manifest(str(tmp_path)), most=1) == found[:1]


@pytest.mark.parametrize(
    ("line", "lost"),
    [
        (Line("judge", "judge", 24, 0, failed={"TeacherFailed": 24}), True),
        (Line("judge", "judge", 24, 0, rejected={"empty reply": 23}, failed={"TeacherFailed": 1}), True),
        (Line("judge", "judge", 24, 0, failed={"TeacherFailed": 4}, deferred={"budget": 20}), True),
        (Line("judge", "judge", 24, 1, failed={"TeacherFailed": 23}), False),
        (Line("judge", "judge", 24, 0, deferred={"budget": 24}), False),
        (Line("synthesize", "filter", 24, 0, rejected={"too short": 24}), False),
        (Line("judge", "judge", 0, 0), False),
    ],
)
def test_a_step_is_lost_where_nothing_came_out_of_it_and_something_failed(line, lost, tmp_path):
    tables = write_tiny(tmp_path).tables(str(tmp_path))
    if not lost:
        refuse_lost([line], {}, tables)
        return
    with pytest.raises(StepLost, match="nothing came out of judge/judge, which was given 24: "):
        refuse_lost([line], {}, tables)


def test_an_engine_that_fails_on_every_video_is_a_lost_step(tmp_path):
    rows = tiny_rows()
    for _, video in rows["videos"]:
        video["warnings"] = [{"part": "caption", "reason": "engine failed", "message": "HTTP 400: no such model"}]
    tables: Tables = write_tiny(tmp_path, rows).tables(str(tmp_path))
    videos = len(rows["videos"])

    refuse_lost([], {"caption": {"engine failed": videos - 1}, "asr": {"no audio": videos}}, tables)
    refuse_lost([], {"ocr": {"time limit": videos}}, tables)
    with pytest.raises(StepLost, match=rf"extract/caption, which was given {videos}: .*; the first: HTTP 400"):
        refuse_lost([], {"caption": {"engine failed": videos}}, tables)
