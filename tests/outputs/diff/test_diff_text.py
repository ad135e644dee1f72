"""How a difference is shown, how frames and shards are compared, and the command."""

import json

import pytest

from pipeline.outputs.diff.diff import diff
from pipeline.outputs.diff.text import row_json, summary_json
from pipeline.outputs.manifest import NotAnOutput, PromptText
from pipeline.outputs.tables import read_group
from runners.cli.main import main
from tests.support.tiny_output import tiny_rows, write_tiny
from tests.support.two_outputs import edited, found_rows, output, text, why


def test_control_characters_of_rows_recipes_and_prompts_do_not_reach_the_terminal(a, b):
    canary = "\x1b[31m\u202ecanary\x9b\n"

    def spoiled(row):
        row["caption"] = canary

    judge = PromptText("c0ffee0011223344", canary)
    other = b(edited("videos", spoiled), {"description": canary, "name": canary}, prompts={"judge": judge})

    told = text(a, other)
    rows = []
    found = diff(a, other, lambda *_: True, rows.append)
    lines = [*map(row_json, rows), *summary_json(found)]

    assert told.count("canary") > 3
    assert all(character == "\n" or character.isprintable() for character in told)
    assert any("canary" in line for line in lines)
    assert all(line.isascii() and line.isprintable() for line in lines)


def test_frames_are_not_read_where_their_sizes_are_the_same(a, b, monkeypatch):
    def other_caption(row):
        row["caption"] += " More."

    read = []

    def watched(file, group, columns):
        read.append(columns)
        return read_group(file, group, columns)

    other = b(edited("videos", other_caption))
    monkeypatch.setattr("pipeline.outputs.diff.compare.read_group", watched)
    _, rows = found_rows(a, other)

    assert {row.change.columns for row in rows["videos"]} == {("caption",)}
    assert read
    assert all("frames" not in columns for columns in read)


def test_frames_that_differ_are_found_by_hash_and_only_named(a, b):
    def darker(row):
        row["frames"][2] = {"bytes": b"another jpeg", "path": None}

    _, rows = found_rows(a, b(edited("videos", darker, lambda row: row["video_id"] == "mars-1")))

    (row,) = rows["videos"]
    assert row.change.columns == ("frames",)
    assert (row.before, row.after) == ({}, {})
    assert why([row]) == {"no cause found in the manifests: frames"}


def test_outputs_of_different_numbers_of_shards_are_compared_row_by_row(a, tmp_path):
    for name, shards in (("quarters", 4), ("thirds", 3)):
        write_tiny(tmp_path / name, shards=shards)
        found, _ = found_rows(a, str(tmp_path / name))
        assert not found.rows_differ
        assert found.same["judgements"] == len(tiny_rows()["judgements"])


def test_rejections_of_one_key_are_paired_with_their_equals(a, tmp_path):
    def lacking(*variants):
        rows = tiny_rows()
        call = {"stage": "synthesize", "step": "write", "reason": "no evidence", "video_id": "mars-1", "query_id": ""}
        rows["rejections"] += [("part", call | {"detail": f"variant {name}: none"}) for name in variants]
        return rows

    _, rows = found_rows(output(tmp_path / "two", lacking("asr", "ocr")), output(tmp_path / "one", lacking("ocr")))

    assert [(row.change.kind, row.before) for row in rows["rejections"]] == [
        ("only in A", {"detail": "variant asr: none"})
    ]
    assert why(rows["rejections"]) == {"no cause found in the manifests: writing"}


def test_the_command_ends_with_0_unless_asked_for_an_exit_code(a, b, capsys):
    def reworded(row):
        row["rationale"] = "Said otherwise."

    other = b(edited("judgements", reworded))

    assert main(["diff", a, other]) == 0
    assert "judgements: 10 of " in capsys.readouterr().out
    assert main(["diff", a, other, "--exit-code", "--rows", "2"]) == 3
    assert "judgements: 2 of " in capsys.readouterr().out
    assert main(["diff", a, a, "--exit-code"]) == 0


def test_the_command_prints_every_row_and_count_as_json_lines(a, b, capsys):
    def reworded(row):
        row["rationale"] = "Said otherwise."

    assert main(["diff", a, b(edited("judgements", reworded)), "--json"]) == 0

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = [line for line in lines if line["kind"] == "row"]
    assert len(rows) == len(tiny_rows()["judgements"])
    assert rows[0]["key"].keys() == {"query_id", "video_id"}
    assert rows[0]["after"] == {"rationale": "Said otherwise."}
    assert [line["rows"] for line in lines if line["kind"] == "why"] == [len(rows)]


def test_a_folder_that_is_no_output_is_wrong_usage(a, tmp_path, capsys):
    with pytest.raises(NotAnOutput):
        found_rows(a, str(tmp_path))
    assert main(["diff", a, str(tmp_path)]) == 2
    assert "is not a finished hardquery output" in capsys.readouterr().err
