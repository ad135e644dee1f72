"""What two real servers make of a prior and of a prompt that is too long."""

import math

import pytest

from prompts.evidence import EvidenceBudgets
from prompts.judge import judge_prompt
from tests.support import llama_server, transformers_server
from tests.support.ranking_records import ENGINE, query, video
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.judge.judge_pairs import JudgeOptions, Pair, judge_pair
from transforms.protocols.teacher import TeacherReply, TeacherRequest
from transforms.teacher.fitting import ask_fitting

SEEN = ("caption",)
STOPS = [video(f"v{number}", f"A tram passes stop {number}.") for number in range(4)]
LONG = video("long", "A tram passes. " * 2500)


UNCUT = EvidenceBudgets(caption=10**6)


def prompt_of(one, budgets=UNCUT):
    return judge_prompt(one.evidence, SEEN, one.video_id, query().text, budgets)


def test_transformers_serve_decides_as_the_same_weights_do_in_process(random_llm):
    from transformers import pipeline

    decide = pipeline("decision", model=random_llm.model, tokenizer=random_llm.tokenizer)
    with transformers_server.serving(random_llm.folder) as base_url:
        teacher = OpenAiTeacher(model=str(random_llm.folder), base_url=base_url, prior="systemone", attempts=1).load()
        pairs = [Pair(query(), one, None, is_positive=False) for one in STOPS]
        # Every prior stays below this bound, so that no rationale is asked for: a random model gives none.
        judgements = [
            judge_pair(teacher, ENGINE, pair, JudgeOptions(SEEN, no_rationale_below=math.inf)) for pair in pairs
        ]

    for judgement, one in zip(judgements, STOPS, strict=True):
        prompt = prompt_of(one)
        question = {"type": "noul", "instructions": "Does the video answer the query?"}
        p_yes = decide({"state": f"{prompt.system}\n\n{prompt.user}", "questions": {"q": question}})["q"]["noul"]
        assert judgement.delta_prior == pytest.approx(math.log(p_yes / (1 - p_yes)), abs=1e-3)
        assert (judgement.label, judgement.confidence_source) == ("no", "prior")


@pytest.fixture(scope="module")
def llama(random_llm):
    with llama_server.serving(random_llm.gguf) as server:
        yield server.base_url


def asked_about_a_long_video(llama, **options):
    """All that was asked until there was a reply, the reply, and what was cut for it."""
    teacher = OpenAiTeacher(model="tiny", base_url=llama, attempts=1, max_tokens=8, **options).load()
    asked = []

    def ask(prompt, cut):
        asked.append(prompt)
        return teacher.reply(TeacherRequest("judge", prompt, LONG.evidence)), cut

    reply, cut = ask_fitting(teacher, LONG.evidence, SEEN, UNCUT, lambda budgets: prompt_of(LONG, budgets), ask)
    assert isinstance(reply, TeacherReply)
    return asked, reply, cut


def test_llama_cpp_refuses_a_long_prompt_and_is_asked_about_half_of_it(llama):
    asked, _, (cut,) = asked_about_a_long_video(llama)

    assert len(asked) == 2
    assert (cut.modality, round(cut.shown / cut.of, 2)) == ("caption", 0.5)


def test_a_prompt_that_is_estimated_to_fit_does(llama):
    asked, reply, _ = asked_about_a_long_video(llama, context_tokens=llama_server.CONTEXT)

    assert len(asked) == 1
    assert 2000 < reply.usage.input_tokens <= llama_server.CONTEXT - 8
