"""What a plan says of the judge's calls is what a run makes, however far an earlier run came."""

from contextlib import closing
from dataclasses import replace

import pytest

from pipeline.planning.changes import not_held
from pipeline.planning.forecast import calls_behind
from pipeline.planning.foretell import foretold, seconds_each
from runners.job import prepare
from runners.request import Request
from tests.judge.test_judge import PAIR
from tests.support.scripted_teacher import ScriptedEngine
from transforms.journal.budget import Budget
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgeOptions, _judge
from transforms.protocols.teacher import Ladder, TeacherReply
from transforms.teacher.recorded_teacher import RecordedTeacher

SAMPLING, LABEL_ONLY = Ladder(("sampling",), 8), Ladder(())


@pytest.mark.parametrize("answered", [0, 1, 3, 20])
@pytest.mark.parametrize("is_positive", [True, False])
@pytest.mark.parametrize("no_rationale_below", [None, -3.0])
@pytest.mark.parametrize(
    "ladder", [SAMPLING, LABEL_ONLY, replace(SAMPLING, prior="systemone"), replace(LABEL_ONLY, prior="systemone")]
)
def test_the_calls_of_a_pair_are_foretold_exactly(ladder, no_rationale_below, is_positive, answered, tmp_path):
    asked = []

    def script(request):
        asked.append(request)
        return TeacherReply("<think>It fits.</think><answer>yes</answer>", p_yes=0.9)

    engine, pair = ScriptedEngine(script, ladder), replace(PAIR, is_positive=is_positive)

    def judge(**options):
        with closing(Journal(str(tmp_path), note=not_held, **options)) as journal:
            list(_judge(pair, RecordedTeacher(engine, journal), JudgeOptions(no_rationale_below=no_rationale_below)))
            return journal.misses()

    judge(budget=Budget(max_calls=answered))
    missing = judge(look_only=True)
    foretold = len(missing) + calls_behind(ladder, missing, no_rationale_below)
    asked.clear()
    judge()

    assert len(asked) == foretold


def test_a_judge_is_foretold_no_more_candidates_than_the_quotas_let_through(samples, tmp_path):
    union = "mine.fusion={method: union, quotas: {bm25: 2, dense: 1}}"
    request = Request(
        recipe="demo", input=str(samples / "videos"), output=str(tmp_path / "out"), settings=(union,), limit=10
    )
    counts = foretold(prepare(request, look_only=True).job)

    assert counts["judge"] == counts["retrieve"] * 4


def test_a_run_that_was_not_looked_at_foretells_its_items_from_its_videos_and_its_recipe(samples, tmp_path):
    request = Request(
        recipe="demo",
        input=str(samples / "videos"),
        output=str(tmp_path / "out"),
        settings=("extract.asr=null", "synthesize.variants=[caption, asr, metadata]", "mine.candidates=5"),
        limit=10,
    )
    job = prepare(request, look_only=True).job

    counts = foretold(job)

    assert (counts["decode"], counts["ocr"], counts["frame_hashes"], counts["embed_video"]) == (10, 10, 10, 10)
    assert "asr" not in counts
    assert counts["write"] == 20  # nobody can be asked by what was not heard
    assert counts["embed_query"] == counts["retrieve"]
    assert counts["judge"] == counts["retrieve"] * 6
    assert counts["emit"] == 9  # one of each table, or of each split of one
    machinery = {step: counts["judge"] * 2e-4 / counts[step] for step in ("curate", "emit")}
    assert {step: seconds_each(job, step) for step in counts} == dict.fromkeys(counts) | machinery
