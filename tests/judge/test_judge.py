import math
from contextlib import closing
from dataclasses import replace

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from prompts.reply import UnparsableReply
from schemas.check import InvalidRecord
from schemas.losses import Loss
from schemas.query import Candidate, Judgement, Margin, Query
from schemas.token import Token
from schemas.video import EngineStamp, Evidence, MediaFacts, Metadata, Video
from tests.support.scripted_teacher import ScriptedEngine, ScriptedTeacher
from transforms.engines.stand_ins.rules import RuleTeacher
from transforms.journal.budget import Budget
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgeOptions, JudgePairs, Pair, _judge, judge_pair
from transforms.protocols.engine import EngineError
from transforms.protocols.teacher import TeacherFailed, TeacherReply
from transforms.teacher.recorded_teacher import RecordedTeacher

STAMP = EngineStamp("scripted", "1", "", "f" * 16)


def video_of(video_id, **evidence):
    return Video(video_id, f"/{video_id}.mp4", MediaFacts("0" * 64, 1), Evidence(**evidence))


TRAM = video_of("tram", caption="A red tram leaves.", metadata=Metadata("First ride", "Linden opened a line."))
QUERY = Query("q1", "tram", "a red tram", "human")
PAIR = Pair(QUERY, TRAM, Candidate("tram", 3, 7.5), is_positive=True)


def reply_of(word, **probabilities):
    alternatives = tuple((text.encode(), math.log(p)) for text, p in probabilities.items())
    decision = Token(word.encode(), dict(alternatives).get(word.encode(), 0.0), alternatives)
    tokens = (Token(b"<think>It fits.</think><answer>", 0.0), decision) if probabilities else ()
    return TeacherReply(f"<think>It fits.</think><answer>{word}</answer>", tokens)


def judged(reply, pair=PAIR, modalities=("caption",), seed=0):
    teacher = ScriptedTeacher(lambda _: reply)
    return judge_pair(teacher, STAMP, pair, JudgeOptions(modalities, seed)), teacher.asked[0]


def test_a_judgement_carries_its_whole_story():
    reply = reply_of("yes", yes=0.75, no=0.25)
    judgement, asked = judged(reply)

    delta = math.log(3)
    assert judgement == Judgement(
        query_id="q1",
        video_id="tram",
        is_positive=True,
        label="yes",
        rationale="It fits.",
        margin=Margin(judgement.margin.delta, judgement.margin.lo, judgement.margin.hi, label_mass=1.0),
        confidence_source="logprobs",
        teacher=STAMP,
        reply=reply.text,
        prompt_sha256=asked.prompt.sha256,
        rank=3,
        score=7.5,
    )
    assert judgement.margin.delta == pytest.approx(delta)
    assert judgement.margin.p_yes == pytest.approx(0.75)


def test_the_judge_sees_the_chosen_modalities_and_then_the_query():
    _, asked = judged(reply_of("yes"))

    assert asked.evidence == Evidence(caption="A red tram leaves.")
    assert asked.query == "a red tram"
    assert "Linden" not in asked.prompt.user
    assert asked.prompt.user.index("A red tram leaves.") < asked.prompt.user.index('"a red tram"')
    assert "Linden" in judged(reply_of("yes"), modalities=("caption", "metadata"))[1].prompt.user


def test_without_probabilities_a_judgement_is_label_only():
    judgement, _ = judged(reply_of("no"))

    assert (judgement.label, judgement.margin, judgement.confidence_source) == ("no", None, "label_only")


def test_a_label_that_disagrees_with_its_margin_is_kept_with_it():
    judgement, _ = judged(reply_of("yes", yes=0.2, no=0.8))

    assert judgement.label == "yes"
    assert judgement.margin.delta < 0


def test_the_rules_say_so_in_every_row():
    judgement = judge_pair(RuleTeacher(), STAMP, PAIR, JudgeOptions())

    assert (judgement.label, judgement.confidence_source) == ("yes", "rules")
    assert judgement.margin.delta == pytest.approx(12.0)


def test_a_pair_that_the_first_stage_did_not_retrieve_has_neither_rank_nor_score():
    judgement, _ = judged(reply_of("no"), Pair(QUERY, TRAM, None, is_positive=False))

    assert (judgement.rank, judgement.score, judgement.is_positive) == (None, None, False)


def test_a_pair_is_about_one_video():
    with pytest.raises(InvalidRecord, match="the same video"):
        Pair(QUERY, TRAM, Candidate("flood", 1, 1.0), is_positive=False)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (TeacherReply("<think>notable</think>"), "no answer"),
        (TeacherReply("<think>a</think><answer>not</answer>"), "not yes/no"),
        (TeacherReply(""), "empty reply"),
        (TeacherReply("<answer>yes</answer> I mean", truncated=True), "truncated"),
        (TeacherReply("<answer>yes</answer>", refused=True), "refused"),
    ],
)
def test_no_label_is_guessed(reply, reason):
    with pytest.raises(UnparsableReply) as refused:
        judged(reply)

    assert refused.value.reason == reason


def test_an_engine_that_no_request_can_reach_stops_the_run(journal):
    def refuse(_):
        raise EngineError("HTTP 401")

    with pytest.raises(EngineError):
        list(_judge(PAIR, RecordedTeacher(ScriptedEngine(refuse), journal), JudgeOptions()))


def test_seeds_follow_from_the_pair_and_the_recipe():
    other = Pair(Query("q2", "tram", "a red tram", "human"), TRAM, None, is_positive=False)
    seeds = [judged(reply_of("no"), pair, seed=seed)[1].seed for pair in (PAIR, other) for seed in (0, 1)]

    assert len(set(seeds)) == 4
    assert judged(reply_of("no"))[1].seed == seeds[0]


def answer_by_video(request):
    if "tram" in request.evidence.caption:
        return reply_of("yes", yes=0.9, no=0.1)
    if "flood" in request.evidence.caption:
        return TeacherReply("I cannot tell.")
    return TeacherFailed("gave up")


def test_every_pair_is_accounted_for_once(journal):
    videos = [TRAM, video_of("flood", caption="A flood."), video_of("snow", caption="Snow."), video_of("blank")]
    pairs = [Pair(QUERY, video, Candidate(video.video_id, 1, 1.0), is_positive=False) for video in videos]
    with beam.Pipeline("FnApiRunner") as pipeline:
        outputs = pipeline | beam.Create(pairs) | JudgePairs(ScriptedEngine(answer_by_video), journal)
        assert_that(
            outputs.judgements | beam.Map(lambda j: (j.query_id, j.video_id, j.label)),
            equal_to([("q1", "tram", "yes")]),
            "judgements",
        )
        assert_that(
            outputs.losses
            | "Dropped" >> beam.Filter(lambda loss: loss.kind == "rejected")
            | beam.Map(lambda loss: (loss.stage, loss.step, loss.reason, loss.query_id, loss.video_id)),
            equal_to(
                [("judge", "judge", "no answer", "q1", "flood"), ("judge", "judge", "no evidence", "q1", "blank")]
            ),
            "rejected",
        )
        assert_that(
            outputs.losses | "Others" >> beam.Filter(lambda loss: loss.kind != "rejected"),
            equal_to([Loss("failed", "judge", "judge", "TeacherFailed", "gave up", "snow", "q1", "/snow.mp4")]),
            "others",
        )


def test_pairs_beyond_the_budget_are_deferred_and_judged_by_the_next_run(tmp_path):
    pairs = [Pair(QUERY, TRAM, None, True), Pair(replace(QUERY, query_id="q2"), TRAM, None, False)]
    for budget, labels, reasons in ((1, ["yes"], [("deferred", "max calls")]), (1, ["yes"] * 2, [])):
        with (
            closing(Journal(str(tmp_path), budget=Budget(max_calls=budget))) as journal,
            beam.Pipeline("FnApiRunner") as pipeline,
        ):
            outputs = pipeline | beam.Create(pairs) | JudgePairs(ScriptedEngine(answer_by_video), journal)
            assert_that(outputs.judgements | beam.Map(lambda j: j.label), equal_to(labels), "judgements")
            assert_that(outputs.losses | beam.Map(lambda loss: (loss.kind, loss.reason)), equal_to(reasons), "losses")
