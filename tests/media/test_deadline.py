"""How long calls are waited for."""

import pytest

from tests.support.scripted_server import Reply, ScriptedServer, completion
from transforms.engines.openai.chat import ChatClient
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.engines.server.deadline import ENOUGH, LEAST_S, Deadline

GOOD = completion("yes")


async def no_pause(_):
    pass


def client_of(server, **options):
    return ChatClient(OpenAiTeacher(model="m", base_url=server.base_url, **{"timeout_s": 20.0, **options}), no_pause)


def test_the_first_calls_may_take_as_long_as_the_options_say():
    deadline = Deadline(120.0)
    for _ in range(ENOUGH - 1):
        deadline.note(0.1)
    assert deadline.limit_s == 120.0

    deadline.note(0.1)
    assert deadline.limit_s == LEAST_S


def test_later_ones_five_times_the_95th_percentile_of_recent_calls():
    deadline = Deadline(120.0)
    for took_s in [*[1.0] * 900, *[4.0] * 180, *[50.0] * 10, *[4.0] * 10]:
        deadline.note(took_s)
    assert deadline.limit_s == 20.0

    for _ in range(100):
        deadline.note(50.0)
    assert deadline.limit_s == 120.0


@pytest.mark.parametrize("attempts", [2, 6])
def test_a_call_that_the_server_forgot_is_made_anew_long_before_its_time_is_over(attempts, monkeypatch):
    monkeypatch.setattr("transforms.engines.server.deadline.LEAST_S", 0.5)
    with ScriptedServer([*[GOOD] * ENOUGH, Reply(silent=True), GOOD]) as server:
        client = client_of(server, attempts=attempts, timeout_s=300.0)
        replies = [client.complete([]).text for _ in range(ENOUGH + 1)]

    assert replies == ["yes"] * (ENOUGH + 1)
    assert len(server.asked) == ENOUGH + 2


def test_a_reply_that_takes_long_by_its_nature_comes_at_the_second_attempt(monkeypatch):
    monkeypatch.setattr("transforms.engines.server.deadline.LEAST_S", 0.3)
    monkeypatch.setattr(Deadline, "note", lambda self, _: self._took_s.append(0.01))  # however busy this machine is
    slow = Reply(GOOD.body, trickle_s=0.01)  # for some three seconds
    with ScriptedServer([*[GOOD] * ENOUGH, slow]) as server:
        client = client_of(server)
        replies = [client.complete([]).text for _ in range(ENOUGH + 1)]

    assert replies == ["yes"] * (ENOUGH + 1)
    assert len(server.asked) == ENOUGH + 2


@pytest.mark.parametrize("other", [{"attempts": 1}, {"max_tokens": 1}, {"response_format": {}}])
def test_an_only_attempt_and_calls_of_another_kind_get_all_their_time(other, monkeypatch):
    monkeypatch.setattr("transforms.engines.server.deadline.LEAST_S", 0.05)
    slow = Reply(GOOD.body, trickle_s=0.002)
    attempts = {name: value for name, value in other.items() if name == "attempts"}
    parameters = {name: value for name, value in other.items() if name != "attempts"}
    with ScriptedServer([*[GOOD] * ENOUGH, slow]) as server:
        client = client_of(server, **attempts)
        for _ in range(ENOUGH):
            client.complete([])
        client.complete([], **parameters)

    assert len(server.asked) == ENOUGH + 1
