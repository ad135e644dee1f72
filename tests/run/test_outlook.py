"""What thresholds will make of a run, by the queries that were judged first."""

import threading
from contextlib import closing
from dataclasses import replace

import apache_beam as beam
import pytest

from pipeline.config import JudgeConfig, load_recipe
from pipeline.engines import Engines
from pipeline.judge import FirstLook, Judge
from pipeline.stage import LedgerBuilder
from prompts.template import load_template
from runners import local
from runners.cause import cause
from tests.support.ranking_records import judgement, positive, video
from tests.support.scripted_teacher import ScriptedEngine
from transforms import progress
from transforms.curate.outlook import is_judged_first, outlook_of
from transforms.curate.thresholds import CurateConfig, Fitted
from transforms.journal.journal import Journal
from transforms.protocols.teacher import TeacherReply

PAPERS = CurateConfig()


def judged(queries, deltas, label="yes"):
    """So many queries, each with its own video and a candidate that is judged no for each margin."""
    others = [judgement(f"n{at}", "no", delta) for at, delta in enumerate(deltas)]
    return [replace(one, query_id=f"q{at}") for at in range(queries) for one in (positive(label), *others)]


def test_an_outlook_says_in_a_line_what_becomes_of_candidates_and_queries():
    outlook = outlook_of([*judged(10, [-7.0, -2.0]), *judged(1, [], "no")[:1]], PAPERS)

    assert outlook.said.startswith("curate.alpha1 = -6, alpha2 = -8, by 10 queries judged first: of 20 candidates ")
    assert "50% trusted, 50% hard, 0% suspected positives; 10 of 10 queries become groups" in outlook.said
    assert not outlook.stop


def test_thresholds_that_reach_nothing_are_a_reason_to_stop_which_names_quantiles_that_reach_something():
    stop = outlook_of(judged(12, [-1.0, -2.0, -3.0, -3.5]), PAPERS).stop

    assert "none of 12 queries judged first has the trusted negatives that it needs" in stop
    assert "at curate.alpha1 = -6: of 48 candidates 0% trusted, 100% hard" in stop
    assert "their margins are -3.50 or more" in stop
    assert "--set 'curate.alpha1={quantile: Q}', Q = 0.1 (-3.50) keeps 12, 0.3 (-3.00) keeps 12, 0.5 (-3.00)" in stop
    assert "\n" not in stop


def test_who_calibrates_is_told_what_few_positives_allow_and_is_offered_other_shares():
    sure, unsure = judged(11, [1.0]), [judgement("n0", "no", -2.0), positive(delta=-4.0)]
    judgements = [*sure, *(replace(one, query_id="q11") for one in unsure)]

    stop = outlook_of(judgements, CurateConfig(Fitted(calibrated=0.02))).stop
    assert "curate.alpha1 = -4 (at or below which none of 12 known positives lies, for 0.02 of them is less" in stop
    assert "Of --set 'curate.alpha1={calibrated: Q}', Q = 0.1 (" in stop
    assert "; of --set 'curate.alpha1={quantile: Q}', Q = " in stop


def test_where_no_quantile_helps_it_is_said():
    stop = outlook_of(judged(12, [-1.0], label="no"), PAPERS).stop

    assert "No quantile keeps one, so that no threshold helps" in stop


@pytest.mark.parametrize(
    ("judgements", "config"),
    [
        (judged(9, [-1.0]), PAPERS),  # too few to tell
        ([*judged(12, [-1.0]), *judged(1, [-7.0])], PAPERS),  # one of a hundred may be enough
        (judged(12, [-1.0]), CurateConfig(Fitted(0.3))),
        ([one for one in judged(12, [-1.0]) if not one.is_positive], PAPERS),  # whose own videos could not be judged
        ([], PAPERS),
    ],
)
def test_nothing_else_is_a_reason_to_stop(judgements, config):
    assert not outlook_of(judgements, config).stop


def test_which_queries_are_judged_first_hangs_on_nothing_but_their_ids_and_the_seed():
    first = {at for at in range(2000) if is_judged_first(f"q{at}", 0.1, seed=0)}

    assert 150 < len(first) < 250
    assert first <= {at for at in range(2000) if is_judged_first(f"q{at}", 0.2, seed=0)}
    assert first != {at for at in range(2000) if is_judged_first(f"q{at}", 0.1, seed=1)}


@pytest.mark.parametrize(("sample", "share"), [(200, 200 / 1003), (0, None), (1003, None), (5000, None)])
def test_of_as_many_queries_as_there_can_be_so_many_are_judged_first(sample, share):
    assert load_recipe("rankvideo", [f"judge.sample_queries={sample}"]).share_judged_first(100, human=3) == share


COUNTED = []


def counting(request):
    COUNTED.append(progress.snapshot()["judge"].ended)
    return TeacherReply("<think>It is.</think><answer>yes</answer>")


def test_pairs_are_counted_while_they_are_judged_those_judged_first_and_the_others(tmp_path):
    COUNTED.clear()
    progress.reset()
    pairs = [("v0", f"q{at}", "which flood", False, 1, 9.0, ()) for at in range(60)]
    engines = Engines(None, None, None, None, None, (), ScriptedEngine(counting))
    pipeline = local.make_pipeline(local.pipeline_options([], 1))
    with closing(Journal(str(tmp_path))) as journal:
        inputs = pipeline | "Pairs" >> beam.Create(pairs), pipeline | "Videos" >> beam.Create([video("v0", "A flood.")])
        look = FirstLook(CurateConfig(), 0.4)
        _ = inputs | Judge(JudgeConfig({}), engines, journal, load_template("judge"), 0, LedgerBuilder(), look)
        local.run(pipeline, threading.Event.wait)

    assert [*COUNTED] == list(range(60))


ASKED = []


def unsure(request):
    ASKED.append(tuple(request.subject.split()))
    return TeacherReply("<think>It may be.</think><answer>no</answer>")


@pytest.mark.parametrize("looks_only", [False, True])
def test_a_run_whose_thresholds_reach_nothing_stops_before_the_other_queries_are_paid_for(looks_only, tmp_path):
    ASKED.clear()
    progress.reset()
    videos, queries = ["v0", "v1", "v2"], [f"q{at}" for at in range(60)]
    first = {(query, video_id) for query in queries if is_judged_first(query, 0.4, 0) for video_id in videos}
    everything = [(name, query, "which flood", name == "v0", 1, 9.0, ()) for query in queries for name in videos]
    pipeline = local.make_pipeline(local.pipeline_options([], 1))
    engines = Engines(None, None, None, None, None, (), ScriptedEngine(unsure))
    for only in (False, looks_only):
        pipeline = local.make_pipeline(local.pipeline_options([], 1))
        with closing(Journal(str(tmp_path), look_only=only)) as journal:
            inputs = (
                pipeline | "Pairs" >> beam.Create(everything),
                pipeline | "Videos" >> beam.Create([video(name, f"What {name} shows.") for name in videos]),
            )
            look = FirstLook(CurateConfig(), 0.4)
            _ = inputs | Judge(JudgeConfig({}), engines, journal, load_template("judge"), 0, LedgerBuilder(), look)
            if only:
                local.run(pipeline, threading.Event.wait)
            else:
                with pytest.raises(Exception, match="none of ") as caught:
                    local.run(pipeline, threading.Event.wait)
                assert cause(caught.value).startswith(
                    f"ThresholdsReachNothing: none of {len(first) // 3} queries judged"
                )
        # What was judged first is in the journal, and not asked again.
        assert len(ASKED) == len(set(ASKED))
        assert set(ASKED) == first
    assert len(progress.announcements()) == 2
