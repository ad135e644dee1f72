import json
import re
from dataclasses import replace
from unittest.mock import ANY

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from prompts.evidence import DEFAULT_BUDGETS
from prompts.reply import UnparsableReply
from prompts.template import load_template
from schemas.difficulty import Difficulty
from schemas.losses import Loss
from schemas.query import PAPERS_VARIANTS, Query
from schemas.video import AsrSegment, EngineStamp, Evidence, MediaFacts, Metadata, Video
from tests.support.scripted_teacher import ScriptedEngine, ScriptedTeacher
from transforms.engines.stand_ins.rules import Rules
from transforms.journal.budget import Budget, Deferred
from transforms.journal.journal import Journal
from transforms.protocols.engine import EngineError
from transforms.protocols.teacher import TeacherFailed, TeacherReply
from transforms.synthesize.write_queries import Reply, WriteQueries, _write, shown_modalities, write_queries
from transforms.teacher.asking import seed_of

STAMP = EngineStamp("scripted", "1", "", "f" * 16)


def video_of(video_id, **evidence):
    return Video(video_id, f"/{video_id}.mp4", MediaFacts("0" * 64, 1), Evidence(**evidence))


TRAM = video_of(
    "tram",
    caption="A red tram leaves a station.",
    asr=(AsrSegment(0.0, 2.0, "everyone rides for free until sunday", 0.9),),
    metadata=Metadata("First ride", "The tram line of Linden opened in 2036.", "en", "2036-04-02", "linden"),
)


def drafts(*texts, rationale="because"):
    items = [
        {
            "evidence": ["asr: rides for free"],
            "rationale": rationale,
            "query": text,
            "query_type": "specific",
            "modalities": ["asr"],
        }
        for text in texts
    ]
    return TeacherReply(json.dumps({"queries": items}))


def written(reply, variant="asr", count=3, seed=0):
    teacher = ScriptedTeacher(lambda _: reply)
    return write_queries(teacher, STAMP, TRAM, variant, count, seed), teacher.asked[0]


def test_a_written_query_carries_its_whole_story():
    reply = drafts("who rides for nothing")
    (query,), asked = written(reply)

    assert query == Query(
        query_id=Query.id_of("tram", "asr", "who rides for nothing"),
        video_id="tram",
        text="who rides for nothing",
        source="teacher",
        query_type="specific",
        variant="asr",
        rationale="because",
        modalities=("asr",),
        writer=STAMP,
        reply=reply.text,
        prompt_sha256=asked.prompt.sha256,
        cited=("asr: rides for free",),
        difficulty=Difficulty(None, 1, 0.5, "keyword"),
        seed=asked.seed,
        attempts=1,
    )


def test_the_teacher_sees_only_the_modalities_of_the_variant():
    _, asked = written(drafts("x"))

    assert asked.evidence == Evidence(asr=TRAM.evidence.asr)
    assert "everyone rides for free" in asked.prompt.user
    assert "tram" not in asked.prompt.user
    assert (asked.task, asked.count) == ("write_queries", 3)


def test_the_variant_all_shows_everything_but_the_event():
    _, asked = written(drafts("x"), variant="all")

    assert asked.evidence.present == ("caption", "asr", "metadata")
    assert asked.evidence.metadata.event == ""


def test_a_text_that_a_reply_holds_twice_is_one_query_and_surplus_is_left_out():
    assert [query.text for query in written(drafts("a", "b", "a", "c", "d"))[0]] == ["a", "b", "c"]


def test_an_empty_rationale_is_kept_for_the_filters():
    assert written(drafts("a", rationale=""))[0][0].rationale == ""


def test_a_refused_reply_is_not_read():
    with pytest.raises(UnparsableReply, match="refused: I would rather not"):
        written(TeacherReply("I would rather not", refused=True, truncated=True))


def test_a_query_rests_on_what_the_teacher_was_shown():
    assert written(drafts("who rode for nothing"), variant="caption")[0][0].modalities == ("caption",)


def asked_until(*replies):
    """The queries that come of these replies, or the error, and all that was asked."""
    left = iter(replies)
    teacher = ScriptedTeacher(lambda _: next(left))
    try:
        return write_queries(teacher, STAMP, TRAM, "asr", 3), teacher.asked
    except (UnparsableReply, TeacherFailed, Deferred) as error:
        return error, teacher.asked


def test_a_reply_that_cannot_be_read_is_quoted_with_what_is_wrong_and_asked_for_again_with_another_seed():
    spoiled = drafts("who rode for nothing").text.replace('"specific"', '"Specific"')
    good = drafts("who rode for nothing")
    (query,), (first, second) = asked_until(TeacherReply(f"<think>Well.</think>{spoiled}"), good)

    assert second == replace(
        first, seed=seed_of(first.seed, "retry", "1"), subject="tram asr retry 1", said=spoiled, follow_up=ANY
    )
    assert second.follow_up.startswith("That reply cannot be used: wrong schema: Invalid enum value 'Specific'")
    assert (query.seed, query.attempts, query.reply) == (second.seed, 2, good.text)
    assert query.prompt_sha256 == first.prompt.sha256


def test_a_teacher_that_gives_back_the_example_of_its_prompt_is_told_so_and_asked_again():
    echo = re.search(r'^{"queries": .*}$', load_template("write_queries").source, re.M)[0]
    (query,), (_, second) = asked_until(TeacherReply(echo), drafts("who rode for nothing"))

    assert second.follow_up.startswith("That reply cannot be used: echoes the prompt: why could nobody")
    assert (query.text, query.attempts) == ("who rode for nothing", 2)


@pytest.mark.parametrize(
    "reply",
    [
        TeacherReply(drafts("a").text, truncated=True),
        TeacherReply(drafts("a").text[:-9]),
        TeacherReply("<think>and so on"),
        TeacherReply(""),
        TeacherReply("<think>all it says</think>"),
    ],
)
def test_a_reply_that_was_cut_off_or_says_nothing_is_asked_for_anew_and_not_quoted(reply):
    (query,), (first, second) = asked_until(reply, drafts("who rode for nothing"))

    assert (second.said, second.follow_up) == ("", "")
    assert second.seed != first.seed
    assert query.attempts == 2


def test_a_reply_that_cannot_be_read_is_asked_for_three_times_and_every_one_with_its_own_seed():
    error, asked = asked_until(*map(TeacherReply, ("Sorry?", '{"queries": []}', "")))

    assert (error.reason, error.detail) == ("empty reply", "(3 attempts)")
    assert len({request.seed for request in asked}) == 3
    assert [request.said for request in asked] == ["", "Sorry?", '{"queries": []}']


def test_a_refusal_is_not_argued_with():
    for replies in ((TeacherReply("No.", refused=True),), (TeacherReply("?"), TeacherReply("No.", refused=True))):
        error, asked = asked_until(*replies)
        assert (error.reason, len(asked)) == ("refused", len(replies))


def test_a_retry_that_fails_fails_the_variant():
    error, asked = asked_until(TeacherReply("?"), TeacherFailed("HTTP 500"))

    assert isinstance(error, TeacherFailed)
    assert len(asked) == 2


def test_a_recorded_reply_that_cannot_be_read_is_not_paid_for_again_and_its_retry_is_looked_up(journal):
    counted = []

    def first_bad(request):
        counted.append(request.seed)
        return drafts("who rode for nothing") if request.follow_up else TeacherReply("Sorry?")

    engine = ScriptedEngine(first_bad)
    for _ in range(2):
        (query, reply) = _write(TRAM, engine, journal, ("asr",), 1, 0, {}, DEFAULT_BUDGETS)
        assert (query.attempts, reply.value) == (2, Reply("tram", "asr", 1))
    assert len(counted) == 2


def test_a_budget_that_ends_before_a_retry_defers_the_variant(tmp_path):
    journal = Journal(str(tmp_path), budget=Budget(max_calls=1))

    (deferred,) = _write(
        TRAM, ScriptedEngine(lambda _: TeacherReply("?")), journal, ("asr",), 1, 0, {}, DEFAULT_BUDGETS
    )
    journal.close()

    assert deferred.tag == "losses"
    assert deferred.value == Loss("deferred", "synthesize", "write", "max calls", video_id="tram")


def test_an_engine_that_no_request_can_reach_stops_the_run(journal):
    def refuse(_):
        raise EngineError("HTTP 401")

    with pytest.raises(EngineError):
        list(_write(TRAM, ScriptedEngine(refuse), journal, ("asr",), 1, 0, {}, DEFAULT_BUDGETS))


def test_a_reply_stopped_at_the_token_limit_is_not_read():
    with pytest.raises(UnparsableReply, match="truncated"):
        written(TeacherReply(drafts("a").text, truncated=True))


def test_seeds_follow_from_the_video_the_variant_and_the_recipe():
    seeds = {
        written(drafts("a"), variant, seed=seed)[1].seed for variant in ("asr", "caption", "all") for seed in (0, 1)
    }

    assert len(seeds) == 6
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seed_of(0, "tram", "asr") == written(drafts("a"))[1].seed


@pytest.mark.parametrize(
    ("evidence", "variant", "shown"),
    [
        (TRAM.evidence, "asr", ("asr",)),
        (TRAM.evidence, "ocr", ()),
        (TRAM.evidence, "all", ("caption", "asr", "metadata")),
        (Evidence(caption="x"), "caption", ("caption",)),
        (Evidence(caption="x"), "all", ()),
        (Evidence(), "all", ()),
    ],
)
def test_a_variant_needs_text_and_all_needs_two_modalities(evidence, variant, shown):
    assert shown_modalities(evidence, variant) == shown


def answer_by_variant(request):
    match request.evidence.present:
        case ("caption",):
            return drafts("first", "second")
        case ("asr",):
            return TeacherReply("I would rather not.")
        case ("metadata",):
            return TeacherFailed("HTTP 400: too long")
        case _:
            return TeacherReply('{"queries": [{"rati')


def rejection(reason, video_id, variant):
    return "rejected", "synthesize", "write", reason, f"variant {variant}", video_id, ""


def found_of(loss):
    detail = loss.detail.split(":")[0] if loss.kind == "rejected" else loss.detail
    return loss.kind, loss.stage, loss.step, loss.reason, detail, loss.video_id, loss.uri


def test_every_call_is_accounted_for_once(journal):
    with beam.Pipeline("FnApiRunner") as pipeline:
        outputs = (
            pipeline
            | beam.Create([TRAM, video_of("silent")])
            | WriteQueries(ScriptedEngine(answer_by_variant), journal, PAPERS_VARIANTS, 2)
        )
        assert_that(outputs.queries | beam.Map(lambda query: query.text), equal_to(["first", "second"]), "queries")
        assert_that(outputs.replies, equal_to([Reply("tram", "caption", 2)]), "replies")
        assert_that(
            outputs.losses | beam.Map(found_of),
            equal_to(
                [
                    rejection("not json", "tram", "asr"),
                    rejection("no evidence", "tram", "ocr"),
                    rejection("truncated", "tram", "all"),
                    *(rejection("no evidence", "silent", variant) for variant in PAPERS_VARIANTS),
                    (
                        "failed",
                        "synthesize",
                        "write",
                        "TeacherFailed",
                        "variant metadata: HTTP 400: too long",
                        "tram",
                        "/tram.mp4",
                    ),
                ]
            ),
            "losses",
        )


def test_the_rules_write_for_every_variant_that_has_text(journal):
    with beam.Pipeline("FnApiRunner") as pipeline:
        outputs = pipeline | beam.Create([TRAM]) | WriteQueries(Rules(), journal)
        variants = outputs.queries | beam.Map(lambda query: query.variant)
        assert_that(variants, equal_to(["caption", "asr", "metadata", "all"] * 2), "variants")
        assert_that(
            outputs.losses | beam.Map(lambda loss: (loss.kind, loss.reason)),
            equal_to([("rejected", "no evidence")]),
            "losses",
        )
