"""Copies of a clip under other names, encoded anew: one group, one split, and no negative of one another."""

import json
import re
from pathlib import Path

import pytest

from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.verify.verify import verify
from runners.cli.main import main
from tests.support.altered_clips import ALTERATIONS, write_copy

OTHERS = ("aquarium", "launch_ostara_1", "launch_ostara_2", "tram_linden_1", "tram_linden_3")
CLIP = "launch_kestrel_1"
COPIES = {
    "another": "another codec (VP9, crf 40)",
    "smaller": "half size",
    "cropped": "middle 90 %",
}
FAST = [
    *"extract.asr=null extract.ocr=null emit.validation_fraction=0.3 synthesize.variants=[caption,metadata] "
    "mine.candidates=9 extract.frames.sample_fps=2".split(),
    "mine.first_stage={engine: bm25}",
]


def write_list(folder: Path, names: list[str]) -> None:
    rows = [
        {"uri": str(path), "video_id": path.stem, "title": f"A look at {path.stem.replace('_', ' ')}"}
        for path in sorted((folder / "videos").iterdir())
        if path.stem in names
    ]
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def command(name: str, folder: Path, out: str, *settings: str) -> list[str]:
    given = ["--input", str(folder / "list.jsonl"), "--output", str(folder / out), "--workers", "1"]
    return [name, "demo", *given, "--cache", str(folder / "cache"), *(f"--set={one}" for one in (*FAST, *settings))]


@pytest.fixture(scope="module")
def folder(short_clips, tmp_path_factory) -> Path:
    """A run over a few clips, and over the same with three copies of one."""
    folder = tmp_path_factory.mktemp("copies")
    videos = folder / "videos"
    videos.mkdir()
    for stem in (CLIP, *OTHERS):
        (videos / f"{stem}.mp4").symlink_to(short_clips / f"{stem}.mp4")
    write_list(folder, [CLIP, *OTHERS])
    assert main(command("run", folder, "before")) == 0
    for stem, name in COPIES.items():
        suffix = "webm" if "vpx" in ALTERATIONS[name].codec else "mp4"
        write_copy(videos / f"{CLIP}.mp4", videos / f"{stem}.{suffix}", ALTERATIONS[name], every=2)
    write_list(folder, [CLIP, *OTHERS, *COPIES])
    assert main(command("run", folder, "after")) == 0
    return folder


def videos_of(output: Path) -> dict[str, dict]:
    tables = read_manifest(str(output)).tables(str(output))
    return {row["video_id"]: row for row in tables.rows("videos", ["video_id", "group", "split"])}


def test_copies_are_one_group_in_one_split(folder):
    found = videos_of(folder / "after")

    same = {CLIP, *COPIES}
    assert {found[name]["group"] for name in same} == {min(same)}
    assert len({found[name]["split"] for name in same}) == 1
    assert {name: found[name]["group"] for name in OTHERS} == {name: name for name in OTHERS}
    assert len({row["split"] for row in found.values()}) == 2
    assert verify(str(folder / "after")) == []


def test_no_copy_is_a_negative_of_another(folder):
    output = str(folder / "after")
    tables, same = read_manifest(output).tables(output), {CLIP, *COPIES}
    own = {row["query_id"]: row["video_id"] for row in tables.rows("queries", ["query_id", "video_id"])}
    of_copies = {query_id for query_id, video_id in own.items() if video_id in same}

    judged = [row for row in tables.rows("judgements", ["query_id", "video_id"]) if row["query_id"] in of_copies]
    left_out = [row for row in tables.rows("rejections") if row["step"] == "guard"]

    assert any(own[row["query_id"]] != row["video_id"] for row in judged)
    assert all(row["video_id"] not in same or own[row["query_id"]] == row["video_id"] for row in judged)
    assert left_out
    for row in left_out:
        assert (row["reason"], row["detail"]) == ("near duplicate", f"of {own[row['query_id']]}")
        assert {row["video_id"], own[row["query_id"]]} <= same


def test_without_copies_every_video_is_its_own_group(folder):
    assert {name: row["group"] for name, row in videos_of(folder / "before").items()} == {
        name: name for name in (CLIP, *OTHERS)
    }


def test_videos_that_have_no_copies_stay_in_their_split(folder):
    before, after = (videos_of(folder / name) for name in ("before", "after"))

    assert {name: before[name]["split"] for name in OTHERS} == {name: after[name]["split"] for name in OTHERS}


def test_a_video_that_its_copies_moved_is_told_by_the_difference(folder, capsys):
    capsys.readouterr()
    main(["diff", str(folder / "before"), str(folder / "after"), "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    [moved] = (row for row in rows if row["kind"] == "row" and row["table"] == "videos" and row["columns"])
    assert (moved["key"], moved["columns"]) == ({"video_id": CLIP}, ["split", "group"])
    text = "input: a video was added, removed or changed"
    assert {(cause["text"], cause["through"]) for cause in moved["causes"]} == {(text, ""), (text, "near-duplicates")}
    assert not any(cause["kind"] == "unknown" for row in rows for cause in row.get("causes", ()))


def test_the_report_shows_a_pair_of_the_group(folder):
    page = (folder / "after" / "report.html").read_text()
    section = page.partition('<h2 id="near-duplicates">')[2].partition("<h2")[0]

    assert "1 group of several, with 4 of 9 videos" in " ".join(section.split())
    assert len(re.findall('<img src="data:image/jpeg', section)) == 6
    assert "No two videos are near-duplicates." in (folder / "before" / "report.html").read_text()


def test_a_run_again_and_its_plan_find_all_hashes(folder, capsys):
    capsys.readouterr()
    assert main([*command("plan", folder, "after"), "--json"]) == 0
    steps = {step["step"]: step for step in json.loads(capsys.readouterr().out)["steps"]}

    assert (steps["frame_hashes"]["cached"], steps["frame_hashes"]["to_run"]) == (9, 0)
    assert all(step["exact"] and not step["to_run"] for step in steps.values())
