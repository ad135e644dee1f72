"""What is asked again of a teacher, and what is found in the journal: log-probabilities, seeds and refusals."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from schemas.video import Evidence, MediaFacts, Video
from tests.support.batch_questions import question
from tests.support.scripted_server import Asked, Reply, ScriptedServer, completion, token
from transforms.engines.openai.teacher import OpenAiTeacher, Served
from transforms.journal.counts import UNTOLD, counted_aside
from transforms.journal.journal import Journal
from transforms.protocols.engine import EngineError
from transforms.protocols.teacher import (
    ContextOverflow,
    RequestRefused,
    ServerFailed,
    ServerSilent,
    TeacherFailed,
    TeacherReply,
)
from transforms.synthesize.write_queries import write_queries
from transforms.teacher.recorded_teacher import RecordedTeacher

TEXT = "<think>so</think><answer>no</answer>"
TOKENS = [token("<think>so</think><answer>", -0.1), token("no", -0.1, no=-0.1, yes=-8.0), token("</answer>", 0.0)]
POOR, RICH = completion(TEXT), completion(TEXT, TOKENS)
TELLS = Served(logprobs=True)
ONE = (question(),)
REFUSED = Reply({"error": {"message": "unknown field"}}, status=400)


def asked(cache, reply: Reply, served: Served, requests=ONE) -> tuple[list[TeacherReply], int]:
    """The replies to questions in one run of a server that always gives the same one, and how often it was asked."""
    with ScriptedServer([reply]) as server, closing(Journal(str(cache))) as journal:
        teacher = RecordedTeacher(OpenAiTeacher(model="m", base_url=server.base_url, served=served), journal)
        return [teacher.reply(request) for request in requests], len(server.asked)


def test_a_reply_without_log_probabilities_is_asked_for_again_where_there_are_some_now(tmp_path):
    [poor], _ = asked(tmp_path, POOR, Served(("logprobs", "logprobs_prefill")))
    [rich], calls = asked(tmp_path, RICH, TELLS)

    assert (len(poor.tokens), len(rich.tokens), calls) == (0, 3, 1)
    assert asked(tmp_path, RICH, TELLS) == ([rich], 0)


def test_a_reply_with_log_probabilities_is_kept_where_there_are_none_any_more(tmp_path):
    [rich], _ = asked(tmp_path, RICH, TELLS)

    assert asked(tmp_path, POOR, Served(("logprobs", "logprobs_prefill"))) == ([rich], 0)


def test_of_two_replies_in_one_journal_the_one_with_log_probabilities_counts_whichever_came_first(tmp_path):
    asked(tmp_path, POOR, Served(("logprobs", "logprobs_prefill")))
    [rich], _ = asked(tmp_path, RICH, TELLS)

    assert asked(tmp_path, POOR, Served(("logprobs", "logprobs_prefill"))) == ([rich], 0)
    assert asked(tmp_path, POOR, Served()) == ([rich], 0)


def test_of_a_server_of_which_nothing_is_known_no_reply_is_asked_for_again(tmp_path):
    [poor], _ = asked(tmp_path, POOR, Served())

    assert asked(tmp_path, RICH, Served()) == ([poor], 0)


@pytest.mark.parametrize("change", [{"confidence": "label_only"}, {"confidence": "verbalized", "said": TEXT}])
def test_a_question_that_asks_for_no_log_probabilities_is_not_asked_again_for_them(tmp_path, change):
    requests = [question(**change)]
    replies, _ = asked(tmp_path, POOR, Served(), requests)

    assert asked(tmp_path, RICH, TELLS, requests) == (replies, 0)


def test_a_reply_that_has_none_of_its_own_is_paid_for_once(tmp_path):
    [bare], calls = asked(tmp_path, POOR, TELLS)

    assert (bare.bare, calls) == (True, 1)
    assert asked(tmp_path, POOR, TELLS) == ([bare], 0)


def test_a_query_has_the_seed_of_the_request_that_was_answered(tmp_path):
    item = {
        "evidence": ["tram"],
        "rationale": "w",
        "query": "who opened the new line of the tram",
        "query_type": "base",
    }
    text = json.dumps({"queries": [item | {"modalities": ["caption"], "difficulty": None}]})
    broken = Reply({"error": {"message": "does not match the expected format"}}, status=500)
    video = Video("v", "/v.mp4", MediaFacts("0" * 64, 1), Evidence(caption="The new line of the tram was opened."))
    with ScriptedServer([broken, broken, completion(text)]) as server, closing(Journal(str(tmp_path))) as journal:
        engine = OpenAiTeacher(model="m", base_url=server.base_url)
        first, later = (
            write_queries(RecordedTeacher(engine, journal), engine.stamp(), video, "caption", 2) for _ in range(2)
        )
    sent = [call.body["seed"] for call in server.asked]

    assert [query.seed for query in first] == [sent[-1]]
    assert sent == [sent[0], sent[0] + 1, sent[0] + 2]
    assert later == first


@pytest.mark.parametrize(
    ("reply", "kind", "permanent"),
    [
        (REFUSED, RequestRefused, True),
        (Reply({"error": {"message": "busy"}}, status=503), ServerFailed, False),
        (Reply({"error": {"message": "busy"}}, status=429), ServerFailed, False),
        (Reply(b"<html>"), ServerFailed, False),
        (Reply(dropped=True), ServerSilent, False),
        (Reply({"error": {"message": "maximum context length is 9"}}, status=400), ContextOverflow, True),
        (Reply({"error": {"message": "m", "code": "content_filter"}}, status=400), TeacherFailed, True),
    ],
)
def test_a_failure_has_a_class_that_says_how_it_failed_now_and_from_the_journal(tmp_path, reply, kind, permanent):
    def answer(request: Asked) -> Reply:
        return reply if request.body["seed"] else POOR

    def failure(server: ScriptedServer, retry: str) -> TeacherFailed:
        engine = OpenAiTeacher(model="m", base_url=server.base_url, attempts=1)
        with closing(Journal(str(tmp_path), retry)) as journal:
            RecordedTeacher(engine, journal).reply(question(0))
            with pytest.raises(TeacherFailed) as failed:
                RecordedTeacher(engine, journal).reply(question(1))
        return failed.value

    with ScriptedServer(answer) as server:
        now, later = failure(server, "transient"), failure(server, "none")

    assert (type(now), now.permanent) == (type(later), later.permanent) == (kind, permanent)
    assert str(now) == str(later)
    assert len(server.asked) == 2


def about(n: int, video: int):
    return question(n, evidence=Evidence(caption=f"A tram, number {video}."))


def run(cache, answer, requests, retry: str = "transient") -> tuple[list[object], int]:
    """What became of each question in one run: a reply's text, or the error; and how often the server was asked."""
    outcomes: list[object] = []
    with ScriptedServer(answer) as server, closing(Journal(str(cache), retry)) as journal:
        teacher = RecordedTeacher(OpenAiTeacher(model="m", base_url=server.base_url, attempts=1), journal)
        for request in requests:
            try:
                outcomes.append(teacher.reply(request).text)
            except (TeacherFailed, EngineError) as error:
                outcomes.append(error)
    return outcomes, len(server.asked)


def test_what_a_server_refuses_that_never_answered_is_asked_again_by_the_next_run(tmp_path):
    requests = [about(n, n) for n in range(4)]
    outcomes, _ = run(tmp_path, [REFUSED], requests)

    assert all(isinstance(outcome, RequestRefused) for outcome in outcomes)
    assert run(tmp_path, [POOR], requests) == ([TEXT] * 4, 4)


@pytest.mark.parametrize("refused_first", [True, False])
def test_what_a_server_refuses_that_answers_others_is_not_asked_again_whichever_came_first(tmp_path, refused_first):
    requests = [about(n, n) for n in range(2)]
    answers = [REFUSED, POOR] if refused_first else [POOR, REFUSED]
    outcomes, _ = run(tmp_path, answers, requests)
    again, calls = run(tmp_path, [POOR], requests)

    assert calls == 0
    assert [str(outcome) for outcome in again] == [str(outcome) for outcome in outcomes]


def test_a_server_that_refuses_all_questions_in_the_same_words_stops_the_run(tmp_path):
    refusals = [Reply({"error": {"message": f"no such field (request {n}f)"}}, status=400) for n in range(30)]
    outcomes, _ = run(tmp_path, refusals, [about(n, n // 2) for n in range(9)])

    assert [type(outcome) for outcome in outcomes] == [RequestRefused] * 7 + [EngineError] * 2
    words = "HTTP 400: no such field (request 7f)"
    assert str(outcomes[7]) == f"judge: the first questions were all refused in the same words: {words}"
    assert run(tmp_path, [POOR], [about(0, 0)]) == ([TEXT], 1)


def test_refusals_in_different_words_or_about_few_videos_stop_nothing(tmp_path):
    other = [Reply({"error": {"message": f"no field {'x' * n}"}}, status=400) for n in range(12)]
    of_words, _ = run(tmp_path / "words", other, [about(n, n) for n in range(12)])
    of_videos, _ = run(tmp_path / "videos", [REFUSED], [about(n, n % 2) for n in range(12)])

    assert {type(outcome) for outcome in (*of_words, *of_videos)} == {RequestRefused}


def test_a_reply_found_in_the_journal_is_an_answer(tmp_path):
    run(tmp_path, [POOR], [about(0, 0)])
    outcomes, _ = run(tmp_path, [REFUSED], [about(n, n) for n in range(20)])

    assert outcomes[0] == TEXT
    assert {type(outcome) for outcome in outcomes[1:]} == {RequestRefused}
    assert run(tmp_path, [POOR], [about(n, n) for n in range(20)])[1] == 0


def test_a_plan_counts_the_replies_that_a_better_server_would_be_asked_for_again(tmp_path):
    engine = OpenAiTeacher(model="m", base_url="http://127.0.0.1:9/v1")
    asked(tmp_path, POOR, Served(), [about(0, 0)])
    asked(tmp_path, POOR, TELLS, [about(1, 1)])
    asked(tmp_path, RICH, TELLS, [about(2, 2)])
    with closing(Journal(str(tmp_path), look_only=True)) as journal, counted_aside() as counts:
        for n in range(3):
            RecordedTeacher(engine, journal).reply(about(n, n))

    assert [count for count in counts if count[1] == UNTOLD] == [("judge", UNTOLD, 1)]
