"""Several servers of one model: who gets a call, who is left alone, and when all are gone."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.scripted_server import Reply, ScriptedServer, completion
from transforms.engines.openai.chat import ChatClient
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.engines.registry import find_engine
from transforms.engines.server.endpoints import ASIDE_S, UNREACHABLE, Endpoint, Server, Servers
from transforms.protocols.engine import EngineError
from transforms.protocols.teacher import TeacherFailed

GOOD = completion("yes")
HERE = "http://localhost:1/v1"
THERE = "http://localhost:2/v1"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def servers_of(*weights: float, in_flight: int = 8, clock: Clock | None = None) -> Servers:
    endpoints = [Endpoint(f"http://localhost:{at}/v1", weight) for at, weight in enumerate(weights, 1)]
    return Servers(endpoints, in_flight, clock or Clock())


def lose(server: Server) -> list[bool]:
    return [server.note(reached=False, refused=False) for _ in range(UNREACHABLE)]


async def no_pause(_):
    pass


def client_of(*urls: str, **options) -> ChatClient:
    return ChatClient(OpenAiTeacher(model="m", base_url=urls, **{"timeout_s": 20.0, **options}), no_pause)


@pytest.mark.parametrize(
    ("weights", "in_flight", "places"),
    [
        ((1.0,), 64, [64]),
        ((1, 1), 64, [32, 32]),
        ((3, 1), 64, [48, 16]),
        ((1, 1, 1), 64, [21, 22, 21]),
        ((1, 1), 3, [2, 1]),
        ((1, 1), 1, [1, 1]),
        ((1000, 1), 8, [8, 1]),
    ],
)
def test_places_are_shared_by_weight_and_every_server_has_one(weights, in_flight, places):
    assert [server.places for server in servers_of(*weights, in_flight=in_flight).all] == places


def test_a_call_goes_where_the_fewest_are_under_way_for_the_weight():
    servers = servers_of(3, 1)
    for _ in range(8):
        servers.choose().under_way += 1

    assert [server.under_way for server in servers.all] == [6, 2]
    assert servers.choose() is None
    servers.all[1].under_way -= 1
    assert servers.choose() is servers.all[1]


def test_a_call_that_is_tried_again_goes_elsewhere_while_there_is_room():
    servers = servers_of(1, 1, in_flight=2)
    first, second = servers.all

    assert servers.choose(apart_from=first) is second
    second.under_way = 1
    assert servers.choose(apart_from=first) is first


def test_a_server_that_gives_no_reply_is_set_aside_and_tried_with_one_call_later():
    clock = Clock()
    servers = servers_of(1, 1, clock=clock)
    first, second = servers.all

    assert lose(first) == [False] * (UNREACHABLE - 1) + [True]
    second.under_way = second.places
    assert servers.choose() is None

    clock.now_s = ASIDE_S
    assert servers.choose() is first
    first.under_way = 1
    assert servers.choose() is None


def test_a_server_that_is_tried_in_vain_is_set_aside_again_and_one_that_replies_is_back():
    clock = Clock()
    servers = servers_of(1, 1, clock=clock)
    first, second = servers.all
    lose(first)
    second.under_way = second.places

    clock.now_s = ASIDE_S
    assert not first.note(reached=False, refused=False)
    assert servers.choose() is None
    clock.now_s = 2 * ASIDE_S
    first.note(reached=True, refused=False)
    first.under_way = first.places - 1
    assert servers.choose() is first


def test_servers_that_are_all_gone_are_tried_as_before():
    servers = servers_of(1, 1, in_flight=4)
    for server in servers.all:
        lose(server)

    assert servers.gone
    for _ in range(4):
        servers.choose().under_way += 1
    assert [server.under_way for server in servers.all] == [2, 2]


def test_a_call_waits_for_a_place_and_gives_it_back():
    async def work():
        servers = servers_of(1, in_flight=1)
        async with servers.place():
            waiting = asyncio.ensure_future(servers.place().__aenter__())
            await asyncio.sleep(0)
            assert not waiting.done()
        assert await asyncio.wait_for(waiting, 5.0) is servers.all[0]

    asyncio.run(work())


def test_a_call_that_is_cancelled_while_it_waits_for_its_turn_gives_its_place_back():
    async def work():
        servers = servers_of(1, in_flight=1)
        [server] = servers.all
        async with server.turn:
            waiting = asyncio.ensure_future(servers.place().__aenter__())
            await asyncio.sleep(0)
            assert server.under_way == 1
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        assert server.under_way == 0

    asyncio.run(work())


def test_all_servers_work_at_once():
    with ScriptedServer([GOOD]) as one, ScriptedServer([GOOD]) as other, ThreadPoolExecutor(8) as threads:
        client = client_of(one.base_url, other.base_url, in_flight=8)
        replies = list(threads.map(lambda _: client.complete([]).text, range(40)))

    assert replies == ["yes"] * 40
    assert len(one.asked) + len(other.asked) == 40
    assert min(len(one.asked), len(other.asked)) >= 8


def test_no_request_is_lost_to_a_server_that_is_gone_and_it_is_told_once(caplog):
    with ScriptedServer([Reply(dropped=True)]) as gone, ScriptedServer([GOOD]) as there:
        client = client_of(gone.base_url, there.base_url, attempts=2)
        assert [client.complete([]).text for _ in range(3 * UNREACHABLE)] == ["yes"] * 3 * UNREACHABLE

    assert len(gone.asked) == UNREACHABLE
    told = [record.getMessage() for record in caplog.records if "set aside" in record.getMessage()]
    assert len(told) == 1
    assert gone.base_url in told[0]


def test_the_run_goes_on_while_one_server_replies_and_stops_when_none_does():
    with ScriptedServer([Reply(dropped=True)]) as gone:
        with ScriptedServer([GOOD]) as there:
            client = client_of(gone.base_url, there.base_url, attempts=1)
            lost = 0
            for _ in range(3 * UNREACHABLE):
                try:
                    client.complete([])
                except TeacherFailed:
                    lost += 1
        assert lost == UNREACHABLE

        for _ in range(UNREACHABLE - 1):
            with pytest.raises(TeacherFailed):
                client.complete([])
        with pytest.raises(EngineError, match="is the server still there"):
            client.complete([])


def test_the_check_is_content_with_one_server_and_names_the_others(caplog):
    with ScriptedServer([Reply(dropped=True)]) as gone, ScriptedServer([Reply({"data": []})]) as there:
        assert client_of(gone.base_url, there.base_url).check() == (there.base_url,)
    assert f"no answer from {gone.base_url}" in caplog.text

    with pytest.raises(EngineError, match=rf"no answer from {gone.base_url}.*no answer from {there.base_url}.*; start"):
        client_of(gone.base_url, there.base_url).check()


def test_a_key_that_one_of_the_servers_refuses_is_an_error():
    refusal = Reply({"error": {"message": "no"}}, status=401)
    with (
        ScriptedServer([GOOD]) as one,
        ScriptedServer([refusal]) as other,
        pytest.raises(EngineError, match=f"{other.base_url}: HTTP 401: no; check OPENAI_API_KEY"),
    ):
        client_of(one.base_url, other.base_url).check()


def test_servers_are_named_in_a_list_with_or_without_weights():
    urls = [HERE, {"url": THERE, "weight": 2}]
    engine = find_engine("teacher", {"engine": "openai", "model": "m", "base_url": urls})

    assert engine.endpoints == (Endpoint(HERE), Endpoint(THERE, 2.0))
    assert engine.stamp() == OpenAiTeacher(model="m", base_url=HERE).stamp()
    assert hash(engine) != hash(OpenAiTeacher(model="m", base_url=HERE))


@pytest.mark.parametrize(
    ("urls", "message"),
    [
        ([HERE, "http://me:secret@localhost/v1"], "base_url must hold no credentials"),
        ([{"url": "http://localhost/v1?key=secret"}], "base_url must hold no credentials"),
        ([HERE, "secret"], "base_url must be an http"),
        ([HERE, f"{HERE}/"], "each once"),
        ([], "at least one address"),
        ([{"url": HERE, "weight": 0}], "weight must be above 0"),
        ([{"url": HERE, "weight": ".inf"}], "weight"),
        ([{"weight": 1}], "url"),
        ([{"url": HERE, "wait": 1}], "wait"),
    ],
)
def test_every_address_is_checked(urls, message):
    with pytest.raises(EngineError, match=message) as refused:
        find_engine("teacher", {"engine": "openai", "model": "m", "base_url": urls})

    assert "secret" not in str(refused.value)


def test_only_servers_that_are_all_on_this_machine_need_no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    assert OpenAiTeacher(model="m", base_url=(HERE, THERE)).key() == "none"
    with pytest.raises(EngineError, match=r"no key for far\.example"):
        OpenAiTeacher(model="m", base_url=(HERE, "http://far.example/v1")).key()
