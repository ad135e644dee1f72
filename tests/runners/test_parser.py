"""Slips of the finger on the command line: one line with the word that was meant, and nothing done."""

import pytest

from runners.beam_flags import split_flags
from runners.cli.errors import USAGE_ERROR
from runners.cli.main import main

JOB = ["--input", "videos", "--output", "out"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["rum"], "'rum' is no command; did you mean run?"),
        (["cache", "stts"], "'stts' is no command; did you mean stats?"),
        (["run", "demo", "--outptu", "out"], "--outptu is no option of hardquery run; did you mean --output?"),
        (["run", "demo", *JOB, "--dry_run", "true"], "did you mean --dry-run?"),
        (["run", "demo", *JOB, "--", "--dry_run"], "an option of Beam: argument --dry_run: expected one argument"),
        (["run", "demo", *JOB, "--", "--dry_run=true"], "--dry-run of hardquery does"),
        (["run", "demo", *JOB, "--runer=DataflowRunner"], "did you mean --runner?"),
        (["run", "demo", *JOB, "--runner=DataflowRunner", "--project=p"], "dataflow: --region is missing"),
        (["run", "demo", "--input", "my", "videos", "--output", "out"], "'videos' is left over: quotes hold a path"),
        (["run", "demo", *JOB, "--retry-failures", "al"], "'al' is no choice; did you mean all?"),
        (["run", "demo", *JOB, "--max-calls", "-1"], "--max-calls must be at least 0, got -1"),
        (["run", "demo", *JOB, "--limit", "0"], "--limit must be at least 1, got 0"),
        (["run", "demo"], "the following arguments are required: -i/--input, -o/--output"),
        (["diff", "a", "b", "--jsno"], "did you mean --json?"),
    ],
)  # fmt: skip
def test_a_slip_is_one_line_with_what_was_meant(typed, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    assert main(typed) == USAGE_ERROR

    said = capsys.readouterr()
    assert message in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("typed", [["run", "--help"], ["help", "run"], ["help"], []])
def test_help_is_to_be_had_in_every_way(typed, capsys):
    with pytest.raises(SystemExit) as ended:
        main(typed)

    assert not ended.value.code
    assert capsys.readouterr().out.startswith("usage: hardquery")


def test_options_of_beam_are_told_from_ours_by_a_list_and_by_a_dash():
    typed = ["run", "--runner", "FlinkRunner", "demo", "--flink_master=[local]", "--input", "x", "--", "--streaming"]

    assert split_flags(typed) == (
        ["run", "demo", "--input", "x"],
        ["--runner", "FlinkRunner", "--flink_master=[local]", "--streaming"],
    )


def test_a_dry_run_is_a_plan_and_leaves_nothing_behind(samples, tmp_path, capsys):
    clip = str(samples / "videos" / "aquarium.mp4")
    job = ["run", "demo", "--input", clip, "--output", str(tmp_path / "out"), "--set=extract.asr=null", "--dry-run"]

    assert main(job) == 0

    assert "to run" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
