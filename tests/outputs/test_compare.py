"""Outputs side by side: what is shown of each is what its tables and its ledger hold, and what differs is marked."""

import json

import pytest

from pipeline.outputs.diff.side_by_side import compare_text, figures_of
from runners.cli.main import main
from tests.support.tiny_output import tiny_rows, write_tiny


@pytest.fixture(scope="module")
def outputs(made_once, tmp_path_factory):
    rows = tiny_rows()
    changed = {**rows, "judgements": [(part, {**row, "delta": -9.0}) for part, row in rows["judgements"]]}
    other = tmp_path_factory.mktemp("compare") / "other"
    write_tiny(other, changed)
    return str(made_once("viewed", write_tiny)), str(other)


def test_the_figures_are_those_of_the_tables(outputs):
    rows = tiny_rows()
    found = figures_of(outputs[0])

    assert found["groups"] == len(rows["ranking"])
    assert found["pairs judged"] == len(rows["judgements"])
    hard = [row["delta"] for _, row in rows["judgements"] if row["stratum"] == "hard_negative"]
    assert found["hard negative"].startswith(f"{len(hard)}, median margin")
    assert figures_of(outputs[1])["hard negative"].endswith("median margin -9.00")


def test_what_differs_has_an_asterisk_and_nothing_else_has(outputs):
    lines = compare_text(outputs, [figures_of(output) for output in outputs]).splitlines()

    marked = {line[2:].split("  ")[0] for line in lines if line.startswith("*")}
    assert "hard negative" in marked
    assert not {"groups", "pairs judged", "judge"} & marked


def test_the_command_compares_as_many_as_are_named(outputs, tmp_path, capsys):
    assert main(["compare", *outputs, outputs[0], "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert [each["output"] for each in told] == [*outputs, outputs[0]]
    assert main(["compare", str(tmp_path)]) == 2
    assert "is not a finished hardquery output" in capsys.readouterr().err
