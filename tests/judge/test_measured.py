"""How hard queries are by measure: ranks and margins that a run has anyway, told beside what the writer says."""

import pytest

from pipeline.outputs.explain.how_judged import how_hard
from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.measured.difficulty import levels, measure
from pipeline.outputs.report.report import render_report
from pipeline.outputs.report.summary import summarize
from tests.support.tiny_output import RECIPE, tiny_rows, write_tiny


def pair(delta, is_positive=False, label=None):
    said = label or ("yes" if delta is None or delta > 0 else "no")
    return {"query_id": "q", "video_id": "v", "is_positive": is_positive, "label": said, "delta": delta}


@pytest.mark.parametrize(
    ("own", "others", "gap", "spread", "rivals"),
    [
        (5.0, [-9.0, -2.0], 7.0, 14.0, 0),
        (5.0, [5.0, 6.0, 4.9], -1.0, 1.1, 2),
        (5.0, [None, -3.0], 8.0, 8.0, 1),  # a yes without a margin cannot be told from a yes with one
        (None, [-3.0, 2.0], None, 5.0, 1),
        (5.0, [], None, None, 0),
    ],
)
def test_a_query_is_measured_by_how_far_its_own_video_is_ahead_and_by_who_cannot_be_told_from_it(
    own, others, gap, spread, rivals
):
    found = measure({}, [pair(own, is_positive=True, label="yes"), *map(pair, others)])

    assert (found.gap, found.rivals, found.judged) == (gap, rivals, len(others))
    assert found.spread == pytest.approx(spread)


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("measured"))
    write_tiny(folder)
    return folder


def test_levels_are_those_that_writers_state_and_measure_every_query_that_was_judged(output):
    rows = tiny_rows()
    judged = {row["query_id"] for _, row in rows["judgements"] if row["is_positive"]}

    found = levels(read_manifest(output).tables(output), RECIPE)

    assert [level.name for level in found] == ["one", "two"]
    assert sum(level.queries for level in found) == len(judged)
    for level in found:
        assert list(level.ranks) == ["bm25", "dense", "fused"]
        assert 0 < level.gap < level.spread
        assert level.specific == 1 - level.rivals == 1.0


def test_the_report_and_the_story_of_a_query_tell_what_was_measured(output):
    manifest = read_manifest(output)
    summary = summarize(output, manifest)

    report = render_report(output, manifest, summary)

    assert 'id="measured"' in report
    assert "<th>two</th>" in report
    told = " ".join("\n".join(how_hard([pair(5.0, is_positive=True), pair(-2.0), pair(6.0)])).split())
    assert told == "measured its own video is ahead of the best other by -1.00; 1 of 2 others cannot be told from it"
    assert list(how_hard([pair(-2.0)])) == []
