"""What is found of a server before a run; each double is a server that was met."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import pytest

from schemas.capabilities import Capabilities
from tests.support.llama_server import serving
from tests.support.probe_double import BUSY, LADDER, PAIR, Double, found, judge, mentions, posted, probe
from tests.support.scripted_server import Asked, Reply, ScriptedServer, completion
from transforms.engines.openai.probing.probe import SAID
from transforms.engines.openai.teacher import OpenAiTeacher, Served
from transforms.protocols.engine import EngineError


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr("transforms.engines.openai.probing.probed_server.pause_s", lambda *_: 0.0)


def test_a_server_that_does_it_all_is_asked_five_tokens_and_lacks_nothing():
    with ScriptedServer(Double(models={"data": [{"id": "other"}, {"id": "m", "max_model_len": 9000}]})) as server:
        teacher, capabilities = judge(server).fitted("judge")

    assert capabilities == Capabilities(
        server=server.base_url,
        logprobs="yes",
        alternatives=5,
        logprobs_mode="raw",
        n="yes",
        prefill="yes",
        usage=("input_tokens", "output_tokens"),
        context_tokens=9000,
    )
    assert teacher == replace(judge(server), served=Served(logprobs=True))
    assert [body["max_tokens"] for body in posted(server)] == [1] * 5


def test_a_writer_is_asked_for_schemas():
    capabilities, server = found(Double(), "write_queries")

    assert (capabilities.json_schema, capabilities.schema_bounds, capabilities.logprobs) == ("yes", "yes", "unknown")
    asked = [body for body in posted(server) if "response_format" in body]
    assert all(body["response_format"]["json_schema"]["strict"] and body["max_tokens"] < 100 for body in asked)
    assert [mentions(body, "maxLength") for body in asked].count(True) == 1


def test_a_writer_without_a_schema_is_asked_the_plainest_question():
    models = {"data": [{"id": "m", "max_model_len": 9000}]}
    _, server = found(Double(models=models), "write_queries", json_schema=False)

    assert [body["max_tokens"] for body in posted(server)] == [1]


@pytest.mark.parametrize("option", ["logprobs", "n", "prefill"])
@pytest.mark.parametrize("way", ["yes", "ignored", "refused"])
def test_what_a_server_does_with_an_option_is_read_from_its_replies(option, way):
    capabilities, _ = found(Double(**{option: way}))

    assert getattr(capabilities, option) == way


@pytest.mark.parametrize(
    ("double", "seen"),
    [
        (Double(), "yes"),
        (Double(spaces="\n  "), "yes"),
        (Double(spaces=" " * 80), "unknown"),  # a random model behind vLLM: blanks up to the token limit
        (Double(json_schema="ignored"), "ignored"),
        (Double(json_schema="busy"), "unknown"),
    ],
)
def test_a_schema_constrains_where_the_reply_is_the_one_that_it_allows(double, seen):
    capabilities, _ = found(double, "write_queries")

    assert capabilities.json_schema == seen


def test_a_server_that_refuses_a_schema_is_an_error_that_names_the_option():
    with pytest.raises(EngineError, match=r"refuses JSON schemas \(HTTP 400: unknown field\); set json_schema: false"):
        found(Double(json_schema="refused"), "write_queries")


@pytest.mark.parametrize(("task", "json_schema"), [("judge", True), ("write_queries", True), ("write_queries", False)])
def test_a_server_that_refuses_every_question_is_an_error_with_its_words(task, json_schema):
    with pytest.raises(EngineError, match=r"refuses even the plainest question \(HTTP 400: unknown field\)"):
        found(Double(any="refused"), task, json_schema=json_schema)


def test_the_words_of_a_reasoning_model_come_with_the_options_that_it_wants():
    words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    refusal = Reply({"error": {"message": words, "code": "unsupported_parameter"}}, status=400)
    with ScriptedServer([refusal]) as server, pytest.raises(EngineError) as refused:
        probe(judge(server), "judge")

    assert words in str(refused.value)
    assert "max_tokens: null, temperature: null and extra_body: {max_completion_tokens: 4096}" in str(refused.value)


def test_a_server_that_is_busy_for_a_moment_is_asked_again():
    seen = set()

    def busy_first(asked):
        request = json.dumps(asked.body)
        if request in seen or not asked.body:
            return Double()(asked)
        seen.add(request)
        return Reply(status=503) if "n" in asked.body else BUSY

    with ScriptedServer(busy_first) as server:
        capabilities = probe(judge(server), "judge")

    assert (capabilities.logprobs, capabilities.n, capabilities.logprobs_mode) == ("yes", "yes", "raw")


@pytest.mark.parametrize(
    "reply",
    [Reply(b"<html>"), Reply({"choices": []}), Reply(status=500), Reply(dropped=True), Reply({"error": "odd"})],
)
def test_a_server_that_answers_nonsense_is_not_known(reply):
    def nonsense(asked):
        return reply if asked.body else Reply({"data": "none"})

    with ScriptedServer(nonsense) as server:
        assert probe(judge(server), "judge") == Capabilities(server=server.base_url)


@pytest.mark.parametrize(("processed", "mode"), [(False, "raw"), (True, "processed")])
def test_log_probabilities_of_two_temperatures_tell_whether_they_follow_it(processed, mode):
    assert found(Double(processed=processed))[0].logprobs_mode == mode


def test_without_a_temperature_none_is_sent_and_the_mode_is_not_known():
    capabilities, server = found(Double(processed=True), temperature=None)

    assert capabilities.logprobs_mode == "unknown"
    assert not [asked for asked in server.asked if "temperature" in asked.body]


def test_llama_cpp_repeats_what_it_goes_on_from():
    assert found(Double(echo=True))[0].prefill == "yes"


def test_to_begin_anew_with_the_same_words_is_not_to_go_on():
    def anew(asked):
        return completion(f"{SAID} five six seven eight nine ten")

    with ScriptedServer(anew) as server:
        assert probe(judge(server), "judge").prefill == "ignored"


@pytest.mark.parametrize(
    ("entry", "tokens"),
    [({"max_model_len": 4096}, 4096), ({"meta": {"n_ctx": 8192, "n_ctx_train": 1}}, 8192), ({}, None)],
)
def test_the_context_is_what_the_list_of_models_says(entry, tokens):
    assert found(Double(models={"data": [{"id": "a file's name", **entry}]}))[0].context_tokens == tokens


def test_llama_cpp_is_found_to_do_it_all(random_llm):
    with serving(random_llm.gguf) as server:
        teacher = OpenAiTeacher(model="tiny", base_url=server.base_url, confidence=LADDER, top_logprobs=50)
        of_judge, of_writer = probe(teacher, "judge"), probe(teacher, "write_queries")

    assert (of_judge.logprobs, of_judge.alternatives, of_judge.logprobs_mode) == ("yes", 50, "raw")
    assert (of_judge.n, of_judge.prefill, of_writer.json_schema) == ("yes", "yes", "yes")
    assert "cached_tokens" in of_judge.usage
    assert of_judge.context_tokens == 8192


@dataclass(frozen=True)
class Strict:
    """A server that refuses what ``refuses`` says of a request's body."""

    refuses: object
    words: str = "no"
    double: Double = field(default_factory=Double)

    def __call__(self, asked: Asked) -> Reply:
        if asked.body and self.refuses(asked.body):
            return Reply({"error": {"message": self.words}}, status=400)
        return self.double(asked)


@pytest.mark.parametrize(("limit", "allowed"), [(5, 5), (8, 5), (1, 1), (19, 10)])
def test_a_server_that_allows_fewer_alternatives_is_asked_for_fewer(limit, allowed):
    server_like = Strict(lambda body: body.get("top_logprobs", 0) > limit, f"top_logprobs must be at most {limit}")
    with ScriptedServer(server_like) as server:
        before = judge(server, top_logprobs=20)
        teacher, capabilities = before.fitted("judge")
        teacher.load().reply(PAIR)

    assert (capabilities.logprobs, capabilities.prefill, capabilities.logprobs_mode) == (
        "yes",
        "yes",
        "raw" if allowed > 1 else "unknown",
    )
    assert f"allows only {allowed} of 20 alternatives of a token" in capabilities.lacks
    assert server.asked[-1].body["top_logprobs"] == allowed
    assert teacher.stamp() == before.stamp()


def test_a_server_that_refuses_bounds_in_a_schema_is_sent_none():
    request = replace(PAIR, task="write_queries", count=2)
    with ScriptedServer(Strict(lambda body: mentions(body, "maxLength"))) as server:
        before = judge(server)
        teacher, capabilities = before.fitted("write_queries")
        teacher.load().reply(request)
        before.load()

    assert (capabilities.json_schema, capabilities.schema_bounds) == ("yes", "refused")
    assert "refuses a JSON schema that bounds strings and lists" in capabilities.lacks
    sent = server.asked[-1].body
    assert mentions(sent, "evidence")
    assert not any(mentions(sent, bound) for bound in ("maxLength", "minItems", "maxItems"))
    assert teacher.stamp() == before.stamp()


def test_bounds_are_not_blamed_where_the_schema_is_refused_without_them_too():
    capabilities, _ = found_of(Strict(lambda body: mentions(body, "evidence")), "write_queries")

    assert capabilities.schema_bounds == "unknown"


def found_of(server_like: object, task: str) -> tuple[Capabilities, ScriptedServer]:
    with ScriptedServer(server_like) as server:
        return probe(judge(server), task), server


def counting(window: int | None):
    """A server that reads the last tokens of a prompt, at most ``window``, and says how many it read."""

    def reply(asked: Asked) -> Reply:
        answer = Double()(asked)
        if "choices" in answer.body:
            words = sum(len(message["content"].split()) for message in asked.body["messages"])
            answer.body["usage"] = {"prompt_tokens": min(words, window or words), "completion_tokens": 1}
        return answer

    return reply


@pytest.mark.parametrize("task", ["judge", "write_queries"])
@pytest.mark.parametrize("window", [300, 2048, 4096])
def test_a_server_that_reads_only_the_end_of_a_prompt_is_found_by_its_own_count(task, window):
    with ScriptedServer(counting(window)) as server:
        _, capabilities = judge(server, temperature=1.0).fitted(task)

    assert capabilities.reads_tokens == window
    assert f"reads only {window} tokens of a longer prompt and says nothing" in capabilities.lacks


@pytest.mark.parametrize("server_like", [counting(None), Double(), Strict(lambda body: len(json.dumps(body)) > 9000)])
def test_a_server_that_reads_it_all_or_refuses_or_does_not_count_cuts_nothing(server_like):
    assert found_of(server_like, "judge")[0].reads_tokens is None


def test_a_server_that_says_how_much_it_reads_is_sent_no_long_prompt():
    _, server = found_of(Double(models={"data": [{"id": "m", "max_model_len": 9000}]}), "judge")

    assert max(len(json.dumps(body)) for body in posted(server)) < 1000


def muttering(asked: Asked) -> Reply:
    """A model that cannot count, or is bound by a grammar: whatever it is asked, and from wherever it goes on."""
    return completion("yes", [{"token": "yes", "logprob": -0.1, "top_logprobs": []}]) if asked.body else Reply({})


def test_a_server_that_refuses_to_be_told_nonsense_goes_on_whatever_its_model_says():
    def vllm(asked):
        if asked.body.get("continue_final_message") and asked.body.get("add_generation_prompt"):
            words = "Cannot set both `continue_final_message` and `add_generation_prompt` to True."
            return Reply({"error": {"message": words}}, status=400)
        return muttering(asked)

    assert found_of(vllm, "judge")[0].prefill == "yes"
    assert found_of(muttering, "judge")[0].prefill == "ignored"
