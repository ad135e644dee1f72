"""How the client drives a server: places, turns, retries, and what happens when the run is over."""

import asyncio
import os
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest
from scripted_server import Reply, ScriptedServer, completion

from transforms.engines.openai.chat import STUMBLES, ChatClient
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.protocols.teacher import ContextOverflow, TeacherFailed
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
    ],
    ids=["llama.cpp", "vLLM", "vLLM of 2025", "SGLang", "OpenAI"],
)
def test_a_request_that_is_too_long_for_the_context_is_a_failure_of_its_own_class(status, error):
    with ScriptedServer([Reply({"error": error}, status=status)]) as server, pytest.raises(ContextOverflow) as failed:
        client_of(server).complete([])

    assert failed.value.permanent
    assert len(server.asked) == 1


@pytest.mark.parametrize("message", ["Unknown field: context", "max_tokens must be positive", "This is no JSON"])
def test_other_refusals_are_not_about_the_context(message):
    refusal = Reply({"error": {"message": message}}, status=400)
    with ScriptedServer([refusal]) as server, pytest.raises(TeacherFailed) as failed:
        client_of(server).complete([])

    assert type(failed.value) is TeacherFailed
