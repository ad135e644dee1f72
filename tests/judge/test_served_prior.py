"""What llama.cpp's server makes of a prompt that is too long."""

import pytest

from prompts.evidence import EvidenceBudgets
from prompts.judge import judge_prompt
from tests.support import llama_server
from tests.support.ranking_records import query, video
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.protocols.teacher import TeacherReply, TeacherRequest
from transforms.teacher.fitting import ask_fitting

SEEN = ("caption",)
LONG = video("long", "A tram passes. " * 2500)


UNCUT = EvidenceBudgets(caption=10**6)


def prompt_of(one, budgets=UNCUT):
    return judge_prompt(one.evidence, SEEN, one.video_id, query().text, budgets)


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
