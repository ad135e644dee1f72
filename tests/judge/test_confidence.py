import math
from contextlib import closing
from dataclasses import replace

import jinja2
import pytest

from prompts.judge import HOW_SURE, parse_percentage, up_to_answer
from prompts.margin import LIMIT
from prompts.reply import UnparsableReply
from schemas.check import InvalidRecord
from schemas.query import Margin
from schemas.token import Token
from tests.support.ranking_records import ENGINE, query, video
from tests.support.scripted_server import ScriptedServer, completion, token
from tests.support.scripted_teacher import ScriptedEngine, ScriptedTeacher
from transforms.engines.openai.chat import ChatClient
from transforms.engines.openai.teacher import OpenAiTeacher, ServedTeacher
from transforms.journal.budget import Budget, Deferred
from transforms.journal.journal import Journal
from transforms.judge.confidence import margin_of_mean, margin_of_percentage, margin_of_share
from transforms.judge.judge_pairs import JudgeOptions, Pair, judge_pair
from transforms.protocols.teacher import Ladder, TeacherFailed, TeacherReply
from transforms.teacher.recorded_teacher import RecordedTeacher

PAIR = Pair(query(), video("pos", "A bridge that a flood closed."), None, is_positive=True)
ALL = ("logprobs", "logprobs_prefill", "sampling", "verbalized")
TEXT = "<think>It is notable.</think><answer>yes</answer>"
SURE = ((b"yes", math.log(0.9)), (b"no", math.log(0.1)))

YES = Token(b"yes", math.log(0.9), SURE)
MERGED = (Token(b"<think>It is notable.</think><answer", 0.0), Token(b">yes", -0.1, ((b">yes", -0.1), (b">no", -2.4))))
PLAIN = (Token(b"<think>It is notable.</think><answer>", 0.0), YES, Token(b"</answer>", 0.0))


def judged(answers, rungs=ALL, samples=4):
    """The judgement by a teacher that answers what ``answers`` says of each rung, and what it was asked."""

    def script(request):
        answer = answers[request.confidence]
        return answer(request) if callable(answer) else answer

    teacher = ScriptedTeacher(script, Ladder(rungs, samples))
    return judge_pair(teacher, ENGINE, PAIR, JudgeOptions()), teacher.asked


def drawn(*words):
    """Samples that answer with these words in turn."""
    turn = iter(words)
    return lambda _: TeacherReply(f"<think>Again.</think><answer>{next(turn)}</answer>")


def test_a_margin_of_the_reply_s_own_tokens_needs_no_further_call():
    judgement, asked = judged({"logprobs": TeacherReply(TEXT, PLAIN)})

    assert (judgement.confidence_source, len(asked)) == ("logprobs", 1)
    assert judgement.margin.delta == pytest.approx(math.log(9))
    assert judgement.margin.label_mass == pytest.approx(1.0)


def test_a_decision_merged_into_the_tag_is_asked_for_again_from_the_tag_on():
    judgement, asked = judged({"logprobs": TeacherReply(TEXT, MERGED), "logprobs_prefill": TeacherReply("yes", (YES,))})

    assert (judgement.label, judgement.confidence_source) == ("yes", "logprobs_prefill")
    assert judgement.margin.delta == pytest.approx(math.log(9))
    assert [request.said for request in asked] == ["", "<think>\nIt is notable.\n</think>\n\n<answer>"]
    assert judgement.reply == TEXT


@pytest.mark.parametrize("first", [b"<think>", b"The", b"not", b"</answer>", b" "])
def test_a_server_that_does_not_go_on_from_the_tag_gives_no_margin(first):
    other = Token(first, -0.1, ((first, -0.1), (b"yes", -3.0), (b"no", -4.0)))
    judgement, _ = judged(
        {"logprobs": TeacherReply(TEXT), "logprobs_prefill": TeacherReply(first.decode(), (other,))}, ALL[:2]
    )

    assert (judgement.confidence_source, judgement.margin) == ("label_only", None)


def test_the_share_of_yes_in_further_replies_is_the_next_rung():
    judgement, asked = judged(
        {
            "logprobs": TeacherReply(TEXT),
            "logprobs_prefill": TeacherReply("yes"),
            "sampling": drawn("yes", "no", "yes", "yes"),
        }
    )

    assert judgement.confidence_source == "sampling"
    assert judgement.margin == margin_of_share(3, 4)
    assert judgement.margin.label_mass is None
    samples = [request for request in asked if request.confidence == "sampling"]
    assert len({request.seed for request in (asked[0], *samples)}) == 5
    assert {request.prompt for request in samples} == {asked[0].prompt}


def test_samples_that_cannot_be_read_are_not_counted():
    judgement, _ = judged({"label_only": TeacherReply(TEXT), "sampling": drawn("yes", "maybe", "no", "yes")}, ALL[2:])

    assert judgement.margin == margin_of_share(2, 3)


def told(yes, word="yes"):
    """A sample that says ``word`` and tells the probability of yes."""
    decision = Token(word.encode(), 0.0, ((b"yes", math.log(yes)), (b"no", math.log(1 - yes))))
    return TeacherReply(f"<answer>{word}</answer>", (Token(b"<answer>", 0.0), decision, Token(b"</answer>", 0.0)))


def test_samples_that_tell_their_probabilities_are_averaged():
    turn = iter((told(0.9), told(0.6, "no"), told(0.999), told(0.9)))
    judgement, asked = judged(
        {"logprobs": TeacherReply(TEXT), "sampling": lambda _: next(turn)}, ("sampling", "logprobs")
    )

    assert judgement.confidence_source == "sampling"
    assert judgement.margin.p_yes == pytest.approx((0.9 + 0.6 + 0.999 + 0.9) / 4)
    assert [request.logprobs for request in asked] == [False, True, True, True, True]


def test_where_one_sample_does_not_tell_words_are_counted():
    turn = iter((told(0.9), told(0.6), TeacherReply("<answer>no</answer>"), told(0.9)))
    judgement, _ = judged({"logprobs": TeacherReply(TEXT), "sampling": lambda _: next(turn)}, ("sampling", "logprobs"))

    assert judgement.margin == margin_of_share(3, 4)


@pytest.mark.parametrize("delta", [-LIMIT, -9.0, -0.5, 0.0, 3.0, 12.0, LIMIT])
def test_a_mean_s_bounds_hold_it_and_are_those_of_as_many_words(delta):
    for lo, hi in ((delta, delta), (-LIMIT, delta), (delta, LIMIT)):
        mean = margin_of_mean([Margin(delta, lo, hi)] * 8)

        assert mean.delta == pytest.approx(delta, abs=1e-3)
        assert -LIMIT <= mean.lo <= mean.delta <= mean.hi <= LIMIT
    exact = margin_of_mean([Margin(0.0, 0.0, 0.0)] * 8)
    assert (exact.lo, exact.hi) == (margin_of_share(4, 8).lo, margin_of_share(4, 8).hi)


def test_too_few_readable_samples_are_no_share():
    answers = {
        "label_only": TeacherReply(TEXT),
        "sampling": drawn("yes", "maybe", "yes", "perhaps"),
        "verbalized": TeacherReply("<think>Fairly.</think> 80%"),
    }
    judgement, asked = judged(answers, ALL[2:])

    assert (judgement.confidence_source, judgement.margin) == ("verbalized", margin_of_percentage(80))
    assert (asked[-1].said, asked[-1].follow_up) == (TEXT, HOW_SURE)


def test_where_no_rung_gives_a_margin_there_is_only_the_label():
    answers = {
        "logprobs": TeacherReply(TEXT),
        "logprobs_prefill": TeacherFailed("HTTP 400: no prefill", permanent=True),
        "sampling": TeacherFailed("HTTP 400: no temperature", permanent=True),
        "verbalized": TeacherReply("I am sure."),
    }
    judgement, asked = judged(answers)

    assert (judgement.label, judgement.margin, judgement.confidence_source) == ("yes", None, "label_only")
    assert [request.confidence for request in asked] == list(ALL)


def test_without_rungs_nothing_is_asked_beyond_the_label():
    judgement, asked = judged({"label_only": TeacherReply(TEXT, PLAIN)}, ())

    assert (judgement.confidence_source, judgement.margin, len(asked)) == ("label_only", None, 1)


def test_a_rung_that_fails_for_now_fails_the_pair_instead_of_being_passed_over():
    answers = {"logprobs": TeacherReply(TEXT), "logprobs_prefill": TeacherFailed("gave up")}

    with pytest.raises(TeacherFailed, match="gave up"):
        judged(answers)


def test_tokens_that_spell_another_word_than_the_text_give_no_margin():
    no = Token(b"no", math.log(0.1), SURE)
    judgement, _ = judged({"logprobs": TeacherReply(TEXT, (PLAIN[0], no))}, ("logprobs",))

    assert (judgement.label, judgement.confidence_source) == ("yes", "label_only")


def samples_of(request):
    if request.confidence != "sampling":
        return TeacherReply(TEXT)
    return TeacherReply(f"<answer>{'no' if request.seed % 3 == 0 else 'yes'}</answer>")


def test_every_further_call_is_journaled_by_its_rung_and_counts_against_the_budget(tmp_path):
    engine = ScriptedEngine(samples_of, Ladder(("logprobs", "sampling"), samples=4))

    def run(calls):
        with closing(Journal(str(tmp_path), budget=Budget(max_calls=calls))) as journal:
            return judge_pair(RecordedTeacher(engine, journal), ENGINE, PAIR, JudgeOptions())

    for calls in (0, 2, 2):
        with pytest.raises(Deferred, match="max calls"):
            run(calls)
    judgement = run(1)

    assert judgement.confidence_source == "sampling"
    assert run(0) == judgement


def test_a_longer_ladder_asks_for_no_reply_again(tmp_path):
    asked = []
    short = OpenAiTeacher(model="m", base_url="http://localhost:1/v1")
    long = replace(short, confidence=ALL, samples=16)

    with closing(Journal(str(tmp_path))) as journal:
        teacher = RecordedTeacher(ScriptedEngine(lambda r: asked.append(r) or TeacherReply(TEXT, PLAIN)), journal)
        for ladder in (("logprobs",), ("logprobs", "sampling")):
            judge_pair(
                replace(teacher, engine=replace(teacher.engine, ladder=Ladder(ladder, 4))),
                ENGINE,
                PAIR,
                JudgeOptions(()),
            )

    assert len(asked) == 1
    assert short.stamp() == long.stamp()
    assert short.stamp() != replace(short, top_logprobs=5).stamp()


def test_the_server_is_asked_in_the_way_of_each_rung():
    def answer(asked):
        body, last = asked.body, asked.body["messages"][-1]
        if last["role"] == "assistant":
            return completion("", [])
        if last["content"] == HOW_SURE:
            return completion("85")
        return completion(TEXT if body["temperature"] == 0.0 else "I would rather not say.")

    with ScriptedServer(answer) as server:
        engine = OpenAiTeacher(model="m", base_url=server.base_url, confidence=ALL, samples=2, top_logprobs=7)
        judgement = judge_pair(ServedTeacher(engine, ChatClient(engine)), ENGINE, PAIR, JudgeOptions())
        first, prefill, *samples, statement = (asked.body for asked in server.asked)

    assert (judgement.confidence_source, judgement.margin) == ("verbalized", margin_of_percentage(85))
    assert (first["logprobs"], first["top_logprobs"]) == (True, 7)
    assert first.keys().isdisjoint({"continue_final_message", "add_generation_prompt"})
    assert prefill["messages"] == [
        *first["messages"],
        {"role": "assistant", "content": "<think>\nIt is notable.\n</think>\n\n<answer>"},
    ]
    assert (prefill["max_tokens"], prefill["logprobs"], prefill["top_logprobs"]) == (1, True, 7)
    assert (first["temperature"], prefill["temperature"]) == (0.0, 1.0)
    assert (prefill["continue_final_message"], prefill["add_generation_prompt"]) == (True, False)
    assert [(sample["temperature"], "logprobs" in sample) for sample in samples] == [(1.0, True)] * 2
    assert samples[0]["seed"] != samples[1]["seed"]
    assert [message["role"] for message in statement["messages"]] == ["system", "user", "assistant", "user"]


def test_one_token_from_a_server_that_goes_on_is_a_margin():
    def answer(asked):
        if asked.body["messages"][-1]["role"] == "assistant":
            return completion("yes", [token("yes", -0.105, yes=-0.105, no=-2.303)], finish="length")
        return completion(TEXT)

    with ScriptedServer(answer) as server:
        engine = OpenAiTeacher(model="m", base_url=server.base_url, confidence=ALL)
        judgement = judge_pair(ServedTeacher(engine, ChatClient(engine)), ENGINE, PAIR, JudgeOptions())

    assert judgement.confidence_source == "logprobs_prefill"
    assert judgement.margin.delta == pytest.approx(2.198)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": ("logprobs", "logprobs")}, "each source once"),
        ({"samples": 1}, "samples must be at least 2"),
        ({"top_logprobs": 0}, "top_logprobs must be at least 1"),
    ],
)
def test_a_ladder_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(InvalidRecord, match=message):
        OpenAiTeacher(model="m", base_url="http://localhost:1/v1", **options)


@pytest.mark.parametrize("n", [2, 4, 8, 16, 100])
def test_a_share_s_margin_is_bounded_by_its_interval_and_mirrored(n):
    margins = [margin_of_share(yes, n) for yes in range(n + 1)]

    assert all(-LIMIT <= margin.lo < margin.delta < margin.hi <= LIMIT for margin in margins)
    assert [margin.delta for margin in margins] == sorted(margin.delta for margin in margins)
    assert margins[0].delta == pytest.approx(-margins[n].delta) == pytest.approx(-math.log(n + 1))
    assert (margins[0].lo, margins[n].hi) == pytest.approx((-LIMIT, LIMIT), abs=1e-6)


def test_a_stated_probability_is_a_margin_within_its_rounding_and_never_extreme():
    margins = [margin_of_percentage(percent) for percent in range(101)]

    assert all(margin.lo <= margin.delta <= margin.hi for margin in margins)
    assert margins[50].delta == pytest.approx(0.0)
    assert -6.0 < margins[0].delta < margins[100].delta < 6.0
    assert isinstance(margins[0], Margin)


@pytest.mark.parametrize(
    ("reply", "percent"),
    [("70", 70), (" 5 %.\n", 5), ("<think>From 0 to 100: 30.</think>100", 100), ("0", 0), ("<think>3</think>\n007", 7)],
)
def test_a_stated_number_is_read_after_the_thinking(reply, percent):
    assert parse_percentage(reply) == percent


@pytest.mark.parametrize(
    "reply", ["101", "0.7", "-5", "yes", "about 70", "70 or 80", "７０", "70/100", "<think>a</think>"]
)
def test_anything_but_one_whole_number_is_refused(reply):
    with pytest.raises(UnparsableReply, match="no number"):
        parse_percentage(reply)


# What Qwen3's chat template makes of the last message of a conversation.
SPLITTING = """{%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
{%- set rest = content.split('</think>')[-1].lstrip('\\n') %}
{{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + rest }}"""


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("<think>It fits.</think><answer>yes</answer>", "<think>\nIt fits.\n</think>\n\n<answer>"),
        ("<think>a <answer>no</think>\n\n<Answer> yes", "<think>\na <answer>no\n</think>\n\n<Answer>"),
        ("Long.</think><think>Short.</think><answer>no", "<think>\nLong.\nShort.\n</think>\n\n<answer>"),
        (
            "<think>a</think>So: <answer>no</answer><answer>no",
            "<think>\na\n</think>\n\nSo: <answer>no</answer><answer>",
        ),
    ],
)
def test_a_prefill_ends_with_the_last_tag_and_survives_a_template_that_splits_off_thoughts(reply, said):
    assert up_to_answer(reply) == said
    assert jinja2.Template(SPLITTING).render(content=said) == said


def test_a_prefill_of_a_reply_without_thoughts_has_none():
    assert up_to_answer("<answer>yes") == "<answer>"
