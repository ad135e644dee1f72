"""Parsers of other distributions: verdicts and queries in forms that this project's prompts do not ask for."""

import json
import math
from dataclasses import replace

import pytest

from pipeline.config import RecipeError, load_recipe
from pipeline.engines import find_engines, find_judge_parser
from pipeline.outputs.diff.given import Given
from prompts.reply import UnparsableReply
from prompts.template import load_template
from prompts.write_queries import parse_queries
from schemas.token import Token
from schemas.video import EngineStamp
from tests.support.ranking_records import query, video
from tests.support.scripted_teacher import ScriptedTeacher
from tests.support.tiny_output import write_tiny
from transforms.engines.registry import find_engine
from transforms.judge.judge_pairs import JudgeOptions, Pair, judge_pair
from transforms.protocols.reply_parser import NamedParser, ParserFailed
from transforms.protocols.teacher import Ladder, TeacherReply

STAMP = EngineStamp("judge", "1", "", "0")
PAIR = Pair(query(), video("pos", "A bridge that a flood closed."), None, is_positive=True)
SURE = ((b"yes", math.log(0.8)), (b"no", math.log(0.2)))
TOKENS = (
    *(Token('{"why": "Es ist überall naß'.encode(), 0.0), Token(b'.", "answer": "', 0.0)),
    *(Token(b"yes", math.log(0.8), SURE), Token(b'"}', 0.0)),
)
JSON = b"".join(token.text for token in TOKENS).decode()
SERVED = "judge.teacher={engine: openai, model: m, base_url: 'http://localhost:1'}"
AT_HAND = [SERVED, "judge.parser.engine=json_verdict"]
ODD = """
from dataclasses import dataclass
from prompts.reply import UnparsableReply
from transforms.protocols.engine import stamp_of
@dataclass(frozen=True)
class Odd:
    says: str = ""
    requires = ()
    extra = ""
    def load(self): return self
    def stamp(self): return stamp_of(self, "odd", "")
    def rewritten(self, reply):
        if reply == "nothing": raise UnparsableReply("said nothing")
        lines = [line for line in reply.splitlines() if line]
        if self.says == "breaks": 1 / 0
        if self.says == "number": return 7
        return '{"queries": [%s]}' % ", ".join(
            '{"query": "%s", "rationale": "Said.", "query_type": "base", "modalities": ["asr"], "evidence": ["x"]}'
            % line for line in lines)
    def answer_at(self, reply): return len(reply) + 1
"""


def judged(parser, rungs, answers):
    teacher = ScriptedTeacher(lambda request: answers[request.confidence], Ladder(rungs, 4))
    options = JudgeOptions(template=replace(load_template("judge"), parser=parser))
    return judge_pair(teacher, STAMP, PAIR, options), teacher.asked


@pytest.fixture
def json_verdict(example):
    example("0.1.0")
    return NamedParser("judge.parser", find_engine("parser", {"engine": "json_verdict"}))


def test_a_verdict_of_another_form_is_read_with_the_margin_of_its_own_tokens(json_verdict):
    judgement, asked = judged(json_verdict, ("logprobs",), {"logprobs": TeacherReply(JSON, TOKENS)})

    assert (judgement.label, judgement.rationale, len(asked)) == ("yes", "Es ist überall naß.", 1)
    assert (judgement.confidence_source, judgement.reply) == ("logprobs", JSON)
    assert judgement.margin.delta == pytest.approx(math.log(4))


def test_where_a_reply_has_no_tokens_it_is_gone_on_with_from_before_the_answer_or_drawn_again(json_verdict):
    decides = (Token(b"no", math.log(0.2), SURE),)
    answers = {
        "logprobs": TeacherReply(JSON),
        "label_only": TeacherReply(JSON),
        "logprobs_prefill": TeacherReply("no", decides),
        "sampling": TeacherReply(JSON.replace('"yes"', '"no"')),
    }

    gone_on, asked = judged(json_verdict, ("logprobs", "logprobs_prefill"), answers)
    drawn, _ = judged(json_verdict, ("sampling",), answers)

    assert (gone_on.confidence_source, asked[-1].said) == ("logprobs_prefill", JSON.removesuffix('yes"}'))
    assert gone_on.margin.delta == pytest.approx(math.log(4))
    assert (drawn.label, drawn.margin.delta) == ("yes", pytest.approx(-math.log(5)))


def test_what_it_cannot_read_is_a_rejection_with_its_reason_and_an_echo_is_still_one(json_verdict):
    with pytest.raises(UnparsableReply, match="not json: ValueError"):
        judged(json_verdict, ("logprobs",), {"logprobs": TeacherReply("I would say yes.")})
    told = json.dumps({"why": "Judge only by the evidence", "answer": "maybe"})
    with pytest.raises(UnparsableReply, match="not yes/no"):
        judged(json_verdict, ("logprobs",), {"logprobs": TeacherReply(told)})


def test_queries_of_another_form_are_held_to_the_same_rules(install):
    install("hardquery-odd", "3", {"parser.odd": "hardquery_odd:Odd"}, ODD)
    own = NamedParser("synthesize.parser", find_engine("parser", {"engine": "odd"}))
    asked = replace(load_template("write_queries"), parser=own)

    drafts = parse_queries("who closed the bridge\n\nwhen was it closed\n", ("asr",), asked)

    assert [draft.text for draft in drafts] == ["who closed the bridge", "when was it closed"]
    with pytest.raises(UnparsableReply, match="said nothing"):
        parse_queries("nothing", ("asr",), asked)
    with pytest.raises(UnparsableReply, match="no queries"):
        parse_queries("\n", ("asr",), asked)


def test_one_that_breaks_is_named_with_its_key_and_version(install):
    install("hardquery-odd", "3", {"parser.odd": "hardquery_odd:Odd"}, ODD)
    for says, message in (("breaks", "reply 'who': ZeroDivisionError"), ("number", "is rewritten as text, got 7")):
        own = NamedParser("judge.parser", find_engine("parser", {"engine": "odd", "says": says}))
        with pytest.raises(ParserFailed, match=rf"judge.parser \(hardquery-odd 3\).*{message}"):
            own.rewritten("who")
    with pytest.raises(ParserFailed, match=r"begins in the reply or nowhere \(None\), got 4"):
        own.answer_at("who")


def test_a_recipe_names_one_and_it_reads_the_replies_to_that_prompt_alone(example):
    example("0.1.0")
    recipe = load_recipe("demo", AT_HAND)
    engines = find_engines(recipe)

    prompts = engines.read(recipe.templates())

    assert [name for name, prompt in prompts.items() if prompt.parser] == ["judge"]
    assert prompts["judge"].parser == find_judge_parser(recipe)
    assert prompts["judge"].version == load_template("judge").version
    assert engines.stamps()["judge_parser"].version == "hardquery-brightness 0.1.0"
    assert find_judge_parser(load_recipe("demo")) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["judge.parser.engine=json_verdict"], "engine 'rules' of judge.teacher replies in this project's own form"),
        ([*AT_HAND, "judge.panel={second: {engine: rules}}"], "engine 'rules' of judge.panel.second"),
        (
            [*AT_HAND, "synthesize.negative_queries={verifier: {engine: rules}}"],
            "engine 'rules' of synthesize.negative_queries.verifier",
        ),
        ([*AT_HAND, "judge.parser.engine=json_verdct"], "did you mean 'json_verdict'"),
        ([*AT_HAND, "judge.teacher.prior=prefill"], "leave out judge.teacher.prior"),
        (
            [SERVED.replace("judge", "synthesize", 1), "synthesize.parser.engine=json_verdict"],
            "set synthesize.teacher.json_schema: false",
        ),
    ],
)
def test_where_replies_cannot_be_of_another_form_it_is_refused_with_the_fix(example, settings, message):
    example("0.1.0")
    with pytest.raises(RecipeError, match=message):
        find_engines(load_recipe("demo", settings))


def test_another_version_of_it_is_a_cause_of_what_differs(example, tmp_path):
    outputs = []
    for version in ("0.1.0", "0.2.0"):
        example(version)
        stamps = find_engines(load_recipe("demo", AT_HAND)).stamps()
        outputs.append(replace(write_tiny(tmp_path / version), engines=stamps))

    [cause] = Given(*outputs).engine("judge_parser")

    assert str(cause) == "judge_parser version: hardquery-brightness 0.1.0 -> hardquery-brightness 0.2.0"
