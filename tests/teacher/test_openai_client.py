"""How the client drives a server: places, turns, retries, and what happens when the run is over."""

import asyncio
import json
import os
import ssl
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from tests.support.scripted_server import Reply, ScriptedServer, completion, token
from transforms.engines.openai.chat import STUMBLES, ChatClient
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.engines.server.connection import trusted
from transforms.protocols.engine import EngineError
from transforms.protocols.teacher import ContextOverflow, RequestRefused, ServerFailed, TeacherFailed
from transforms.workers import event_loop, window

GOOD = completion("yes")
BUSY = Reply({"error": {"message": "slow down"}}, status=429, headers={"retry-after": "60"})
BROKEN = Reply({"error": {"message": "does not match the expected format"}}, status=500)
PATIENCE_S = 300.0


async def no_pause(_):
    pass


def client_of(server, sleep=no_pause, **options):
    return ChatClient(OpenAiTeacher(model="m", base_url=server.base_url, **{"timeout_s": 20.0, **options}), sleep)


def test_an_error_500_is_tried_again_twice_with_other_seeds_and_is_then_a_failure_for_now():
    with (
        ScriptedServer([BROKEN]) as server,
        pytest.raises(TeacherFailed, match=r"after 3 attempts.*HTTP 500") as failed,
    ):
        client_of(server, attempts=6).complete([], seed=2**31 - 2)

    assert STUMBLES == 2
    assert [asked.body["seed"] for asked in server.asked] == [2**31 - 2, 2**31 - 1, 0]
    assert not failed.value.permanent


def test_a_request_without_a_seed_is_given_none():
    with ScriptedServer([BROKEN, GOOD]) as server:
        client_of(server).complete([])

    assert ["seed" in asked.body for asked in server.asked] == [False, False]


@pytest.mark.parametrize("fault", [Reply(status=502), Reply(status=503), BUSY, Reply(b"<html>"), Reply(dropped=True)])
def test_other_faults_are_tried_again_as_often_as_asked_with_the_same_seed(fault):
    with ScriptedServer([*[fault] * 5, GOOD]) as server:
        client_of(server, attempts=6).complete([], seed=5)

    assert [asked.body["seed"] for asked in server.asked] == [5] * 6


def test_no_more_calls_are_under_way_than_may_be():
    changed, inside, most = threading.Condition(), 0, 0

    def answer(_):
        return GOOD

    class Counting(ScriptedServer):
        def _next(self, asked):
            nonlocal inside, most
            with changed:
                inside += 1
                most = max(most, inside)
                changed.notify_all()
                changed.wait_for(lambda: most >= 3, PATIENCE_S)
                inside -= 1
            return super()._next(asked)

    with Counting(answer) as server, ThreadPoolExecutor(12) as threads:
        client = client_of(server, in_flight=3)
        replies = list(threads.map(lambda _: client.complete([]).text, range(24)))

    assert replies == ["yes"] * 24
    assert most == 3


def test_a_request_that_waits_to_be_tried_again_leaves_its_place_to_others():
    waiting, resumed = threading.Event(), threading.Event()

    async def sleep(_):
        waiting.set()
        await asyncio.to_thread(resumed.wait, PATIENCE_S)

    with ScriptedServer([BUSY, GOOD]) as server, ThreadPoolExecutor(1) as thread:
        client = client_of(server, sleep, in_flight=1)
        first = thread.submit(client.complete, [])
        assert waiting.wait(PATIENCE_S)
        assert client.complete([]).text == "yes"
        assert not first.done()
        resumed.set()
        assert first.result(PATIENCE_S).text == "yes"


def test_a_client_outlives_the_connections_of_a_run():
    with ScriptedServer([GOOD]) as server:
        client = client_of(server)
        for _ in range(2):
            assert client.complete([]).text == "yes"
            window.shut_down()
            assert not [thread for thread in threading.enumerate() if thread.name == "event-loop"]


def test_a_call_that_is_under_way_when_the_run_ends_is_cancelled_and_no_failure():
    asked = threading.Event()

    def silent(_):
        asked.set()
        return Reply(silent=True)

    with ScriptedServer(silent) as server, ThreadPoolExecutor(1) as thread:
        call = thread.submit(client_of(server).complete, [])
        assert asked.wait(PATIENCE_S)
        event_loop.shut_down()
        with pytest.raises(CancelledError):
            call.result(PATIENCE_S)


def test_a_request_that_goes_on_while_the_run_ends_begins_no_other_event_loop():
    ending = []

    async def run_ends(_):
        ending.append(event_loop._loops.pop(os.getpid()))  # what shut_down does first

    with ScriptedServer([BUSY, GOOD]) as server:
        assert client_of(server, run_ends).complete([]).text == "yes"

    assert os.getpid() not in event_loop._loops
    ending[0].shut_down()


def test_a_client_closes_its_connections_without_a_word(caplog, recwarn):
    with ScriptedServer([GOOD]) as server:
        client_of(server).complete([])
        event_loop.shut_down()

    assert not [record for record in caplog.records if "nclosed" in record.getMessage()]
    assert not [warning for warning in recwarn if "nclosed" in str(warning.message)]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (
            400,
            {
                "message": "request (40014 tokens) exceeds the available context size (8192 tokens), try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 40014,
                "n_ctx": 8192,
            },
        ),
        (
            400,
            {
                "message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
                "type": "BadRequestError",
            },
        ),
        (400, {"message": "The decoder prompt (length 5000) is longer than the maximum model length of 4096."}),
        (400, {"message": "The input (5000 tokens) is longer than the model's context length (4096 tokens)."}),
        (400, {"message": "Please reduce the length of the messages.", "code": "context_length_exceeded"}),
        (400, {"message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."}),
        (
            422,
            {
                "message": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 "
                "`inputs` tokens and 20 `max_new_tokens`"
            },
        ),
        (422, {"message": "Input validation error: `inputs` must have less than 1024 tokens. Given: 5000"}),
        (400, {"message": "prompt is too long: 210000 tokens > 200000 maximum"}),
        (400, {"message": "Input is too long for requested model."}),
        (400, {"message": "Range of input length should be [1, 30720]"}),
        (400, {"message": "This model's maximum prompt length is 131072 but the request contains 140000 tokens."}),
        (400, {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081"}),
    ],
    ids=[
        *("llama.cpp", "vLLM", "vLLM of 2025", "SGLang", "OpenAI", "Gemini", "TGI", "TGI, prompt alone"),
        *("Anthropic", "Bedrock", "DashScope", "xAI", "Cohere"),
    ],
)
def test_a_request_that_is_too_long_for_the_context_is_a_failure_of_its_own_class(status, error):
    with ScriptedServer([Reply({"error": error}, status=status)]) as server, pytest.raises(ContextOverflow) as failed:
        client_of(server).complete([])

    assert failed.value.permanent
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "message",
    [
        "Unknown field: context",
        "max_tokens must be positive",
        "This is no JSON",
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens.",
        "Invalid value for 'top_logprobs': must be less than or equal to 5.",
    ],
)
def test_other_refusals_are_not_about_the_context(message):
    refusal = Reply({"error": {"message": message}}, status=400)
    with ScriptedServer([refusal]) as server, pytest.raises(TeacherFailed) as failed:
        client_of(server).complete([])

    assert type(failed.value) is RequestRefused


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (402, {"message": "Insufficient credits. Add more on the settings page.", "code": 402}),
        (402, "no words"),
        (400, {"message": "Your credit balance is too low to access the API. Please go to Plans & Billing."}),
        (400, {"message": "Billing hard limit has been reached", "code": "billing_hard_limit_reached"}),
        (400, {"message": "Access denied, please make sure your account is in good standing.", "code": "Arrearage"}),
        (403, {"message": "Your team doesn't have any credits yet.", "code": "permission-denied"}),
        (429, {"message": "Your account is suspended", "type": "exceeded_current_quota_error"}),
        (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}),
        (429, {"message": "Insufficient balance or no resource package."}),
    ],
)
def test_an_empty_account_stops_the_run_whatever_the_server_calls_it(status, error):
    line = "top up the account of OPENAI_API_KEY; the same command continues"
    with ScriptedServer([Reply({"error": error}, status=status)]) as server, pytest.raises(EngineError, match=line):
        client_of(server).complete([])

    assert len(server.asked) == 1


@pytest.mark.parametrize("words", ["You exceeded your current quota. Please retry in 52s.", "too many requests"])
def test_a_quota_of_the_minute_passes(words):
    with ScriptedServer([Reply({"error": {"message": words}}, status=429), GOOD]) as server:
        assert client_of(server).complete([]).text == "yes"


def within(error, **choice):
    """A reply of status 200 that says that something went wrong."""
    if not choice:
        return Reply({"error": error})
    message = {"role": "assistant", "content": ""}
    return Reply({"choices": [{"index": 0, "message": message, "error": error, **choice}]})


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (within({"message": "upstream overloaded", "code": 502}), "HTTP 502: upstream overloaded"),
        (within({"message": "slow down", "code": "429"}), "HTTP 429: slow down"),
        (within({"message": "upstream died"}), "HTTP 502: upstream died"),
        (within("out of order"), "HTTP 502: out of order"),
        (within({"message": "upstream died", "code": 502}, finish_reason="error"), "HTTP 502: upstream died"),
        (within(None, finish_reason="error"), "HTTP 502: the reply ended with finish_reason 'error'"),
        (within(None, finish_reason="abort"), "HTTP 502: the reply ended with finish_reason 'abort'"),
    ],
)
def test_an_error_inside_a_reply_is_tried_again_and_told_in_the_server_s_words(fault, words):
    with ScriptedServer([fault, GOOD]) as server:
        assert client_of(server).complete([]).text == "yes"
    with ScriptedServer([fault]) as server, pytest.raises(ServerFailed, match=f"the last: {words}$") as failed:
        client_of(server, attempts=2).complete([])

    assert not failed.value.permanent


@pytest.mark.parametrize(
    ("code", "kind"), [(401, EngineError), (402, EngineError), (400, RequestRefused), ("403", EngineError)]
)
@pytest.mark.parametrize("choice", [{}, {"finish_reason": "error"}])
def test_the_code_of_an_error_inside_a_reply_decides_as_a_status_does(code, kind, choice):
    with ScriptedServer([within({"message": "no", "code": code}, **choice)]) as server, pytest.raises(kind):
        client_of(server).complete([])

    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("ended", "truncated", "refused"),
    [
        ("stop", False, False),
        (None, False, False),
        ("STOP", False, False),
        ("eos_token", False, False),
        ("length", True, False),
        ("MAX_TOKENS", True, False),
        ("content_filter", False, True),
        ("SAFETY", False, True),
    ],
)
def test_a_reply_is_whole_cut_or_refused_by_why_it_ended(ended, truncated, refused):
    with ScriptedServer([completion("yes", finish=ended)]) as server:
        reply = client_of(server).complete([])

    assert (reply.text, reply.truncated, reply.refused) == ("yes", truncated, refused)


def test_the_texts_of_a_message_in_parts_are_one_and_thoughts_stay_apart():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "so"}]},
        {"type": "text", "text": "<answer>"},
        {"type": "text", "text": "yes</answer>"},
    ]
    with ScriptedServer([completion(parts)]) as server:
        assert client_of(server).complete([]).text == "<think>so</think>\n<answer>yes</answer>"
    with ScriptedServer([completion([{"type": "refusal", "refusal": "I will not."}])]) as server:
        reply = client_of(server).complete([])

    assert (reply.text, reply.refused) == ("I will not.", True)


@pytest.mark.parametrize("odd", ["-Infinity", "NaN", "null"])
def test_a_log_probability_that_is_no_number_is_not_reported(odd):
    good = completion("no", [token("no", -0.1, no=-0.1, yes=-8.0)])
    body = json.dumps(good.body).replace("-8.0", odd).encode()
    with ScriptedServer([Reply(body)]) as server:
        reply = client_of(server, attempts=1).complete([])

    assert reply.tokens[0].alternatives == ((b"no", -0.1), (b"yes", -9999.0))
    assert reply.usage.input_tokens == 11


def test_the_seed_of_a_reply_is_told_where_it_is_not_the_one_that_was_asked_with():
    with ScriptedServer([BROKEN, GOOD]) as server:
        client = client_of(server)
        assert (client.complete([], seed=5).seed, client.complete([], seed=5).seed) == (6, None)


def test_whom_to_trust_is_read_once_and_again_where_the_environment_says_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    before = trusted()
    assert trusted() is before
    assert before.verify_mode == ssl.CERT_REQUIRED

    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert trusted() is not before
    assert trusted().cert_store_stats()["x509_ca"] == 0
