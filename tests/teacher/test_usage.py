import json
from array import array
from collections import Counter

import msgspec
import pytest

from schemas.usage import Usage
from tests.support.scripted_server import Reply, ScriptedServer, completion
from transforms.engines.openai.chat import ChatClient, ChatOptions
from transforms.engines.openai.completion import read_completion
from transforms.engines.openai.usage import read_usage
from transforms.journal.counts import Found, Work, add_up, counted_aside, counts_of
from transforms.journal.counts import count as count_work
from transforms.journal.record import record_of
from transforms.protocols.teacher import TeacherFailed, TeacherReply

OPENAI = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "cache_write_tokens": 64, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 128, "accepted_prediction_tokens": 0},
}
PLAIN = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
SAID = {
    "OpenAI": (OPENAI, None, Usage(2006, 300, 1920, 64, 128)),
    "OpenAI, nothing cached": ({**PLAIN, "prompt_tokens_details": {"cached_tokens": 0}}, None, Usage(11, 7, 0)),
    "vLLM": ({**PLAIN, "prompt_tokens_details": None}, None, Usage(11, 7)),
    "vLLM with details": ({**PLAIN, "prompt_tokens_details": {"cached_tokens": 8}}, None, Usage(11, 7, 8)),
    "SGLang": ({**PLAIN, "prompt_tokens_details": None, "reasoning_tokens": 0}, None, Usage(11, 7, reasoning_tokens=0)),
    "llama.cpp": (PLAIN, {"cache_n": 10, "prompt_n": 1, "predicted_n": 7, "prompt_ms": 1.5}, Usage(11, 7, 10)),
    "llama.cpp with details": (
        {**PLAIN, "prompt_tokens_details": {"cached_tokens": 9}},
        {"cache_n": 9},
        Usage(11, 7, 9),
    ),
    "DeepSeek": ({**PLAIN, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 7}, None, Usage(11, 7, 4)),
    "Moonshot": ({**PLAIN, "cached_tokens": 5}, None, Usage(11, 7, 5)),
    "Anthropic's three apart": (
        {"input_tokens": 3, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 7, "output_tokens": 5},
        None,
        Usage(100, 5, 90, 7),
    ),
    "Anthropic's, added up by a proxy": (
        {**PLAIN, "prompt_tokens_details": {"cached_tokens": 6}, "cache_read_input_tokens": 6},
        None,
        Usage(11, 7, 6),
    ),
    "OpenAI's other API": (
        {
            "input_tokens": 11,
            "input_tokens_details": {"cached_tokens": 6},
            "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 2},
            "total_tokens": 18,
        },
        None,
        Usage(11, 7, 6, reasoning_tokens=2),
    ),
    "thoughts apart": (
        {**PLAIN, "total_tokens": 48, "completion_tokens_details": {"reasoning_tokens": 30}},
        None,
        Usage(11, 37, reasoning_tokens=30),
    ),
    "half of it": ({"completion_tokens": 7}, None, Usage(output_tokens=7)),
    "no tokens at all": ({}, {}, None),
    "nothing": (None, None, None),
}
NONSENSE = [-1, True, 1.5, "11", [11], {"n": 11}, None, 2**31, 10**40]


def body(usage: object, timings: object = None) -> bytes:
    return json.dumps({"choices": [{"message": {"content": "a"}}], "usage": usage, "timings": timings}).encode()


def client_of(server: ScriptedServer) -> ChatClient:
    async def no_pause(_: float) -> None:
        return None

    return ChatClient(ChatOptions(model="m", base_url=server.base_url, attempts=3), sleep=no_pause)


@pytest.mark.parametrize("name", SAID)
def test_every_server_is_understood(name):
    usage, timings, meant = SAID[name]
    assert read_completion(body(usage, timings)).usage == meant


@pytest.mark.parametrize("wrong", NONSENSE)
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens", "prompt_tokens_details", "total_tokens"])
def test_a_number_that_is_none_is_not_known_and_spoils_no_other(name, wrong):
    meant = Usage(2006, 300, 1920, 64, 128)
    lost = {
        "prompt_tokens": ("input_tokens", "cached_tokens", "cache_write_tokens"),
        "completion_tokens": ("output_tokens", "reasoning_tokens"),
        "prompt_tokens_details": ("cached_tokens", "cache_write_tokens"),
        "total_tokens": (),
    }[name]
    left = {field: value for field, value in meant.known().items() if field not in lost}
    assert read_usage({**OPENAI, name: wrong}) == Usage(**left)


@pytest.mark.parametrize("wrong", [*NONSENSE, {"prompt_tokens": None}, {"prompt_tokens": [{}]}])
def test_a_count_that_cannot_be_read_loses_no_reply(wrong):
    for reply in (read_completion(body(wrong)), read_completion(body(None, wrong))):
        assert (reply.text, reply.usage) == ("a", None)


def test_a_number_beyond_all_bounds_loses_no_reply():
    reply = read_completion(body("N").replace(b'"N"', b'{"prompt_tokens": 1e999, "completion_tokens": 7}'))
    assert (reply.text, reply.usage) == ("a", None)


def test_a_reply_that_is_nested_too_deeply_is_no_completion():
    with pytest.raises(msgspec.DecodeError, match="nested too deeply"):
        read_completion(body("N").replace(b'"N"', b"[" * 10**5 + b"]" * 10**5))


@pytest.mark.parametrize(
    "more", [{"prompt_tokens_details": {"cached_tokens": 12}}, {"completion_tokens_details": {"reasoning_tokens": 8}}]
)
def test_a_part_that_is_more_than_the_whole_is_not_known(more):
    assert read_usage({**PLAIN, **more}) == Usage(11, 7)


@pytest.mark.parametrize(
    "wrong",
    [{"input_tokens": -1}, {"retries": -1}, {"cached_tokens": 1}, {"output_tokens": 5, "reasoning_tokens": 6}],
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match=r"tokens|retries"):
        Usage(**wrong)


def test_none_is_not_zero():
    assert Usage(11, 7).known() == {"input_tokens": 11, "output_tokens": 7}
    assert Usage(0, 0, 0).known() == {"input_tokens": 0, "output_tokens": 0, "cached_tokens": 0}
    assert "cacheable_tokens" not in counts_of(Usage(11, 7))
    assert counts_of(Usage(11, 7, 0))["cacheable_tokens"] == 11
    assert counts_of(None) == counts_of(Usage()) == {}


def test_the_counts_of_a_step_are_sums_of_what_is_known():
    with counted_aside() as counts:
        count_work("judge", "run", Usage(100, 10, 90, requests=1, retries=0))
        count_work("judge", "run", Usage(50, 5, requests=3, retries=2))
        count_work("judge", "run", Usage(requests=1, retries=0))
        count_work("judge", "failed", Usage(requests=6, retries=5))
        count_work("judge", "cached")
    sums: dict[str, int] = {}
    for _, name, amount in counts:
        sums[name] = sums.get(name, 0) + amount
    assert sums == {
        "run": 3,
        "failed": 1,
        "cached": 1,
        "silent": 1,
        "requests": 11,
        "retries": 7,
        "input_tokens": 150,
        "cached_tokens": 90,
        "cacheable_tokens": 100,
        "output_tokens": 15,
    }


def test_usage_is_read_back_as_it_was_written():
    reply = TeacherReply("yes", usage=Usage(2006, 300, 1920, 64, 128).sent(2))
    assert msgspec.json.decode(msgspec.json.encode(reply), type=TeacherReply) == reply


def test_a_record_of_an_earlier_version_is_read_with_what_it_says():
    old = (
        b'{"step":"judge","subject":"q-1","engine":null,"settings":{},"inputs":{},"at":1.7e9,"seconds":1.5,'
        b'"usage":{"input_tokens":11,"output_tokens":5},"value":{"text":"yes","tokens":[],'
        b'"usage":{"input_tokens":11,"output_tokens":5},"truncated":false,"refused":false},"failed":null}'
    )
    record = record_of(old)
    assert record is not None
    assert record.usage == Usage(11, 5)
    assert msgspec.json.decode(record.value, type=TeacherReply).usage == Usage(11, 5)


def test_a_reply_says_how_many_requests_it_took():
    busy, html = Reply({"error": {"message": "slow down"}}, status=429), Reply(b"<html>")
    with ScriptedServer([busy, html, completion("hello")]) as server:
        client = client_of(server)
        assert client.complete([]).usage == Usage(11, 7, requests=3, retries=2)
        assert client.complete([]).usage == Usage(11, 7, requests=1, retries=0)


def test_a_server_that_tells_no_tokens_was_asked_all_the_same():
    with ScriptedServer([Reply({"choices": [{"message": {"content": "a"}}]})]) as server:
        assert client_of(server).complete([]).usage == Usage(requests=1, retries=0)


@pytest.mark.parametrize(("status", "requests"), [(503, 3), (500, 3), (400, 1)])
def test_a_request_that_gave_up_says_how_many_it_took(status, requests):
    with ScriptedServer([Reply({"error": {"message": "no"}}, status=status)]) as server:
        with pytest.raises(TeacherFailed) as failed:
            client_of(server).complete([])
        assert len(server.asked) == requests
    assert failed.value.usage == Usage(requests=requests, retries=requests - 1)


def work(**counts: int) -> Work:
    return Work(Counter(counts))


def test_a_record_counts_once_whichever_attempts_of_a_bundle_made_and_found_it():
    counts = {"run": 1, "requests": 1}
    made = Work(Counter(counts), array("Q", [7]))
    found = Work(found=[Found(7, counts, True)])
    other = Work(found=[Found(8, counts, True)])
    before = Work(found=[Found(9, {"failed": 1, "requests": 2}, False)])

    assert add_up([made, work(cached=2)]) == {"run": 1, "requests": 1, "cached": 2}
    assert add_up([found, made]) == {"run": 1, "requests": 1, "cached": 1}  # made for one call, found by another
    assert add_up([found]) == counts  # made by an attempt that came to nothing
    assert add_up([found, found, other]) == {"run": 2, "requests": 2, "cached": 1}
    assert add_up([before, before]) == {"failed": 1, "requests": 2}
