import math
from contextlib import closing
from dataclasses import replace

import pytest

from pipeline.config import RecipeError, load_recipe
from pipeline.engines import find_engines
from prompts.margin import LIMIT
from schemas.check import InvalidRecord
from schemas.token import Token
from schemas.usage import Usage
from tests.support.ranking_records import ENGINE, query, video
from tests.support.scripted_server import Reply, ScriptedServer, completion, token
from tests.support.scripted_teacher import ScriptedEngine, ScriptedTeacher
from transforms.engines.openai.chat import ChatClient
from transforms.engines.openai.teacher import OpenAiTeacher, ServedTeacher
from transforms.journal.budget import Deferred
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgeOptions, Pair, judge_pair
from transforms.judge.prior import margin_of_probability
from transforms.protocols.engine import EngineError
from transforms.protocols.teacher import ContextOverflow, Ladder, TeacherFailed, TeacherReply
from transforms.teacher.recorded_teacher import RecordedTeacher

NEGATIVE = Pair(query(), video("neg", "A quiet harbour at night."), None, is_positive=False)
POSITIVE = Pair(query(), video("pos", "A bridge that a flood closed."), None, is_positive=True)
TEXT = "<think>It is notable.</think><answer>no</answer>"
FULL = TeacherReply(TEXT, (Token(b"<think>It is notable.</think><answer>", 0.0), Token(b"no", -0.2, ((b"no", -0.2),))))


def one_token(yes, no):
    """A reply of one token, as a server goes on from the answer tag."""
    listed = tuple((word, math.log(p)) for word, p in ((b"yes", yes), (b"no", no)))
    text, logprob = max(listed, key=lambda one: one[1])
    return TeacherReply(text.decode(), (Token(text, logprob, listed),))


def judged(prior, pair=NEGATIVE, bound=None, full=FULL, way="prefill"):
    """The judgement by a teacher that says ``prior`` without a rationale and ``full`` with one; what it was asked."""
    teacher = ScriptedTeacher(
        lambda request: prior if request.confidence == "prior" else full, Ladder(("logprobs",), prior=way)
    )
    return judge_pair(teacher, ENGINE, pair, JudgeOptions(no_rationale_below=bound)), teacher.asked


def test_a_prior_is_one_more_call_about_the_same_prompt_and_stands_beside_the_margin():
    judgement, (prior, full) = judged(one_token(0.2, 0.8))

    assert judgement.delta_prior == pytest.approx(-math.log(4))
    assert (judgement.label, judgement.confidence_source, judgement.reply) == ("no", "logprobs", TEXT)
    assert prior.prompt == full.prompt
    assert (prior.said, prior.prior, full.said, full.prior) == ("<answer>", "prefill", "", None)


def test_without_the_option_nobody_is_asked_for_a_prior():
    judgement, asked = judged(None, way=None)

    assert (judgement.delta_prior, len(asked)) == (None, 1)


@pytest.mark.parametrize(
    "prior",
    [
        TeacherFailed("HTTP 400: no prefill", permanent=True),
        TeacherReply("The", (Token(b"The", -0.1, ((b"The", -0.1), (b"no", -3.0))),)),
        TeacherReply("no"),
        TeacherReply("{}", refused=True, p_yes=0.0),
    ],
)
def test_a_prior_that_cannot_be_had_is_null_and_the_pair_is_judged_in_full(prior):
    judgement, asked = judged(prior, bound=-1.0)

    assert (judgement.delta_prior, judgement.confidence_source, len(asked)) == (None, "logprobs", 2)


def test_a_prior_that_fails_for_now_fails_the_pair():
    with pytest.raises(TeacherFailed, match="gave up"):
        judged(TeacherFailed("gave up"))


def test_a_pair_that_is_surely_below_the_bound_is_judged_no_and_not_asked_about_again():
    judgement, asked = judged(one_token(1e-6, 1.0 - 1e-6), bound=-8.0)

    assert len(asked) == 1
    assert (judgement.label, judgement.rationale, judgement.confidence_source) == ("no", "", "prior")
    assert judgement.margin.delta == judgement.delta_prior == pytest.approx(math.log(1e-6), abs=1e-3)
    assert judgement.margin.hi <= -8.0
    assert (judgement.reply, judgement.prompt_sha256) == ("<answer>no", asked[0].prompt.sha256)


def test_a_prior_whose_bounds_reach_above_the_bound_is_not_enough():
    loose = one_token(0.0005, 0.99)  # up to 1 % of the probability is on tokens that were not reported
    judgement, asked = judged(loose, bound=-6.0)

    assert (len(asked), judgement.confidence_source) == (2, "logprobs")
    assert judgement.delta_prior < -6.0


def test_a_query_s_own_video_is_always_judged_in_full():
    judgement, asked = judged(one_token(1e-6, 1.0 - 1e-6), pair=POSITIVE, bound=-2.0)

    assert (len(asked), judgement.confidence_source) == (2, "logprobs")
    assert judgement.delta_prior < -8.0


def test_what_rests_on_the_prior_alone_is_a_no_without_a_rationale():
    judgement, _ = judged(one_token(1e-6, 1.0 - 1e-6), bound=-2.0)

    for change in ({"label": "yes"}, {"rationale": "It fits."}, {"is_positive": True}, {"delta_prior": -3.0}):
        with pytest.raises(InvalidRecord, match=r"only ever judged no|rests on the prior"):
            replace(judgement, **change)


def says_no(request):
    return one_token(0.01, 0.99) if request.confidence == "prior" else FULL


def test_priors_are_journaled_by_their_way_and_asked_for_beside_replies_that_are_there(tmp_path):
    def run(ladder):
        engine = ScriptedEngine(lambda request: asked.append(request) or says_no(request), ladder)
        with closing(Journal(str(tmp_path))) as journal:
            return judge_pair(RecordedTeacher(engine, journal), ENGINE, NEGATIVE, JudgeOptions())

    asked = []
    run(Ladder(("logprobs",)))
    first = run(Ladder(("logprobs",), prior="prefill"))
    again = run(Ladder(("logprobs",), prior="prefill"))
    run(Ladder(("logprobs",), prior="systemone"))

    assert [request.prior for request in asked] == [None, "prefill", "systemone"]
    assert first == again
    plain = OpenAiTeacher(model="m", base_url="http://localhost:1/v1")
    assert plain.stamp() == replace(plain, prior="decisions", context_tokens=9000).stamp()


@pytest.mark.parametrize(("pair", "bound", "missed"), [(NEGATIVE, None, 2), (NEGATIVE, -9.0, 1), (POSITIVE, -9.0, 2)])
def test_a_plan_knows_of_both_calls_where_both_will_be_made(tmp_path, pair, bound, missed):
    teacher = ScriptedEngine(says_no, Ladder(("logprobs",), prior="prefill"))
    with closing(Journal(str(tmp_path), look_only=True)) as journal:
        with pytest.raises(Deferred):
            judge_pair(RecordedTeacher(teacher, journal), ENGINE, pair, JudgeOptions(no_rationale_below=bound))
        assert len(journal.misses()) == missed


def served(script, **options):
    with ScriptedServer(script) as server:
        engine = OpenAiTeacher(model="m", base_url=server.base_url, **options)
        judgement = judge_pair(ServedTeacher(engine, ChatClient(engine)), ENGINE, NEGATIVE, JudgeOptions())
    return judgement, server.asked


def test_a_server_goes_on_from_the_answer_tag():
    def answer(asked):
        if asked.body["messages"][-1]["role"] == "assistant":
            return completion("<answer>no", [token("maybe", -4.0, no=-0.105, yes=-2.303)], finish="length")
        return completion(TEXT)

    judgement, asked = served(answer, prior="prefill")

    assert judgement.delta_prior == pytest.approx(-2.198)
    assert asked[0].body["messages"][-1] == {"role": "assistant", "content": "<answer>"}
    assert (asked[0].body["max_tokens"], asked[0].body["temperature"]) == (1, 1.0)


SYSTEMONE = {"model": "m", "answers": {"answers": {"type": "noul", "noul": 0.2}}, "usage": {"input_tokens": 40}}
PREDICATE = {"type": "predicate", "name": "answers", "probability": 0.2}


@pytest.mark.parametrize(
    ("way", "reply"),
    [("systemone", SYSTEMONE), ("decisions", {"model": "m", "answers": [PREDICATE], "usage": {"input_tokens": 40}})],
)
def test_a_decision_endpoint_states_a_probability(way, reply):
    def answer(asked):
        return Reply(reply) if asked.path == f"/v1/{way}" else completion(TEXT)

    judgement, (asked, _) = served(answer, prior=way, extra_body={"chat_template_kwargs": {}})

    assert judgement.delta_prior == pytest.approx(math.log(0.25))
    assert asked.body["model"] == "m"
    assert "chat_template_kwargs" not in asked.body
    shown = asked.body["state"] if way == "systemone" else asked.body["input"][1]["content"]
    assert "A quiet harbour at night." in shown


def test_what_a_decision_endpoint_takes_is_counted():
    with ScriptedServer([Reply({**SYSTEMONE, "usage": {"input_tokens": 40, "output_tokens": 0}})]) as server:
        engine = OpenAiTeacher(model="m", base_url=server.base_url, prior="systemone")
        request = judged(one_token(0.2, 0.8))[1][0]
        reply = ServedTeacher(engine, ChatClient(engine)).reply(replace(request, prior="systemone", said=""))

    assert (reply.usage, reply.p_yes) == (Usage(40, 0, requests=1, retries=0), 0.2)
    assert reply.text == '{"answers": {"type": "noul", "noul": 0.2}}'


def test_a_decision_endpoint_that_declines_gives_no_prior():
    reply = Reply({"model": "m", "answers": [{"type": "refusal", "name": "answers"}]})
    judgement, _ = served(lambda asked: reply if "decisions" in asked.path else completion(TEXT), prior="decisions")

    assert judgement.delta_prior is None


@pytest.mark.parametrize(
    "body",
    [
        {"answers": {"answers": {"type": "noul", "noul": 1.5}}},
        {"answers": {"answers": {"type": "noul", "noul": None}}},
        {"answers": {"answers": {"type": "choice", "choice": "yes"}}},
        {"answers": {"other": {"type": "noul", "noul": 0.5}}},
        {"answers": [{"type": "noul", "noul": 0.5}]},
        {"answers": {}},
        {},
    ],
)
def test_what_is_no_decision_is_no_prior_but_a_fault(body):
    with pytest.raises(TeacherFailed, match="gave up"):
        served([Reply(body)], prior="systemone", attempts=1)


@pytest.mark.parametrize("status", [404, 501])
def test_a_server_without_the_endpoint_stops_the_run_before_anything_is_spent(status):
    with pytest.raises(EngineError, match="no /systemone, set the option prior"):
        served([Reply({"error": {"message": "Not Found"}}, status=status)], prior="systemone")


@pytest.mark.parametrize("p", [0.0, 1e-30, 1e-8, 0.2, 0.5, 0.999999, 1.0])
def test_a_stated_probability_is_a_margin_within_its_rounding_and_finite(p):
    margin = margin_of_probability(p)

    assert -LIMIT <= margin.lo <= margin.delta <= margin.hi <= LIMIT
    assert margin.lo < margin.hi
    assert margin.label_mass is None
    mirrored = margin_of_probability(1.0 - p)
    assert mirrored.delta == pytest.approx(-margin.delta, abs=1e-6) or p in (1e-30, 1e-8)


def test_a_prior_that_does_not_fit_is_no_missing_prior():
    with pytest.raises(ContextOverflow):
        judged(ContextOverflow("too long"))


def test_the_bound_needs_a_teacher_with_a_prior():
    settings = ["judge.no_rationale_below=-10"]
    with pytest.raises(RecipeError, match=r"judge\.no_rationale_below: needs judge\.teacher\.prior"):
        find_engines(load_recipe("demo", settings))
    with pytest.raises(RecipeError, match=r"judge\.no_rationale_below: expected `float` <= 0\.0, got 0\.5"):
        load_recipe("demo", ["judge.no_rationale_below=0.5"])
