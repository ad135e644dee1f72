"""What summary and report say of a judge that is too sure, or not sure enough, for the threshold of trust."""

import pytest

from pipeline.outputs.report.sureness import sureness_hint
from tests.support.tiny_output import tiny_rows, write_rows, write_tiny
from transforms.curate.strata import stratum
from transforms.ledger import Line


def hint(folder, deltas, alpha1=-6.0, entered=10, lost=0, yes=0):
    """Of an output whose judge said no with these margins, and yes of so many other negatives."""
    rows = tiny_rows()
    model = next(row for _, row in rows["judgements"] if row["label"] == "no" and row["stratum"] != "positive")
    rows["judgements"] = [
        ("part", model | {"query_id": f"q{i}", "delta": delta, "stratum": stratum(False, "no", delta, alpha1, -8.0)})
        for i, delta in enumerate(deltas)
    ]
    said_yes = model | {"label": "yes", "delta": 4.0, "stratum": "suspected_positive"}
    rows["judgements"] += [("part", said_yes | {"query_id": f"y{i}"}) for i in range(yes)]
    tables = write_rows(folder, rows).tables(str(folder))
    line = Line("curate", "queries", entered, entered - lost, rejected={"no trusted negative": lost} if lost else {})
    return sureness_hint(tables, [line], alpha1)


def test_a_judge_that_trusts_nearly_all_is_named_with_the_threshold_that_parts_them(tmp_path):
    said = hint(tmp_path, [-20.0 + i / 10 for i in range(100)] + [-2.0])

    assert "100 of 101 that it calls no are trusted at curate.alpha1 = -6" in said
    assert "--set curate.alpha1=-15 " in said


def test_a_judge_that_trusts_too_few_is_named_with_the_threshold_that_parts_them(tmp_path):
    said = hint(tmp_path, [-4.9, -4.2, -3.6, -1.0], lost=6)

    assert "6 of 10 queries have no negative with a margin of at most curate.alpha1 = -6" in said
    assert "--set curate.alpha1=-4 " in said


def test_where_the_judge_says_yes_of_most_no_threshold_is_proposed(tmp_path):
    said = hint(tmp_path, [-9.0, -8.0, -1.0], lost=8, yes=20)

    assert "it says yes of 20 of 23" in said
    assert "--set" not in said


def test_without_any_margin_no_threshold_is_proposed(tmp_path):
    said = hint(tmp_path, [None] * 4, lost=10)

    assert "No margin is known" in said
    assert "--set" not in said


def test_where_all_margins_are_alike_no_threshold_is_proposed(tmp_path):
    assert "--set" not in hint(tmp_path, [-20.0] * 60)


@pytest.mark.parametrize(
    ("deltas", "lost"),
    [
        pytest.param([-20.0] * 49, 0, id="too few to say"),
        pytest.param([-20.0] * 60 + [-2.0] * 20, 0, id="some are hard"),
        pytest.param([-4.0] * 60, 4, id="most queries have a trusted one"),
        pytest.param([], 10, id="there is no other video"),
    ],
)
def test_nothing_is_said_where_the_threshold_tells_negatives_apart(tmp_path, deltas, lost):
    assert hint(tmp_path, deltas, lost=lost) == ""


def test_the_report_shows_the_hint_and_what_the_judge_did_not_see(tmp_path):
    rows = tiny_rows()
    for _, row in rows["judgements"]:
        if row["label"] == "no":
            row["stratum"] = "trusted_negative"
    write_tiny(tmp_path, rows)

    page, card = ((tmp_path / name).read_text() for name in ("report.html", "README.md"))
    assert "The judge is sure of nearly every negative" in page
    assert "The judge saw only caption." in page
    assert "Queries were also written from asr, ocr, metadata" in page
    assert "Queries were also written from asr, ocr, metadata" in card
