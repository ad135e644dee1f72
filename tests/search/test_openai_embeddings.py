import base64
import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from schemas.query import Query
from schemas.usage import Usage
from tests.support.scripted_server import Asked, Reply, ScriptedServer
from transforms.engines.openai.chat import Client
from transforms.engines.openai.embeddings import OpenAiEmbeddings, ServedEmbedder
from transforms.engines.registry import find_engine
from transforms.journal.journal import Journal
from transforms.journal.record import RecordedFailure
from transforms.mine.embed import embed_query
from transforms.protocols.engine import EngineError
from transforms.protocols.frames import Frame
from transforms.protocols.teacher import ContextOverflow, ServerFailed

DIMS = 12
VIDEO = [Frame(float(n), np.full((72, 128, 3), 40 * n, np.uint8)) for n in range(5)]
Answer = Callable[[Asked], Reply]


def vector_of(body: dict) -> np.ndarray:
    """What an honest model makes of what it is sent."""
    seen = str(body.get("input") or body["messages"])
    return np.array([1 + seen.count(letter) for letter in "abcdefghijkl"], "<f4")


def reply(vector: np.ndarray, as_base64: bool = True, **item) -> Reply:
    written = base64.b64encode(vector.astype("<f4").tobytes()).decode() if as_base64 else vector.tolist()
    one = {"object": "embedding", "index": 0, "embedding": written, **item}
    return Reply({"object": "list", "data": [one], "model": "m", "usage": {"prompt_tokens": 5, "total_tokens": 5}})


def honest(asked: Asked) -> Reply:
    if "/models" in asked.path:
        return Reply({"data": []})
    vector = vector_of(asked.body)[: asked.body.get("dimensions")]
    return reply(vector, asked.body["encoding_format"] == "base64")


def lying(lie: Callable[[dict], Reply]) -> Answer:
    return lambda asked: honest(asked) if "/models" in asked.path else lie(asked.body)


def engine_of(server: ScriptedServer, **options) -> OpenAiEmbeddings:
    given = {"engine": "openai", "model": "m", "base_url": server.base_url, "attempts": 2, **options}
    return find_engine("embed", given)


async def _soon(_: float) -> None:
    """No pause."""


def embedder_of(engine: OpenAiEmbeddings) -> ServedEmbedder:
    return ServedEmbedder(engine, Client(engine, sleep=_soon))


def test_a_text_comes_back_as_a_unit_vector_with_what_it_took():
    with ScriptedServer(honest) as server:
        engine = engine_of(server, query_prompt="query: ", document_prompt="passage: ", max_chars=4)
        engine.check()
        asked, told = embedder_of(engine).embed_query("a cab"), embedder_of(engine).embed_text("a cabbage")

    wanted = vector_of({"input": "query: a cab"}).astype(float)
    assert asked.vectors[0] == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-6)
    assert (asked.usage, asked.levels) == (Usage(5, 0, requests=1, retries=0), (1,))
    assert [call.body["input"] for call in server.asked[-2:]] == ["query: a cab", "passage: a ca"]
    assert {call.body["encoding_format"] for call in server.asked[1:]} == {"base64"}
    assert told.dims == DIMS


def test_frames_go_as_one_video_of_jpegs_and_queries_as_chats_beside_them():
    with ScriptedServer(honest) as server:
        engine = engine_of(server, reads="frames", frames=2, max_side=64, query_prompt="Find it.")
        engine.check()
        video = embedder_of(engine).embed_frames(VIDEO)
        embedder_of(engine).embed_query("a cab")
        embedder_of(replace(engine, frames_as="images")).embed_frames(VIDEO)
    shown, asked, pictures = (call.body["messages"] for call in server.asked[-3:])

    assert video.dims == DIMS
    [part] = shown[0]["content"]
    start, *files = part["video_url"]["url"].split(",")
    assert (start, len(files)) == ("data:video/jpeg;base64", 2)
    assert all(base64.b64decode(file).startswith(b"\xff\xd8") for file in files)
    assert asked == [
        {"role": "system", "content": [{"type": "text", "text": "Find it."}]},
        {"role": "user", "content": [{"type": "text", "text": "a cab"}]},
    ]
    urls = [part["image_url"]["url"] for part in pictures[0]["content"]]
    assert urls == [f"data:image/jpeg;base64,{file}" for file in files]


def with_value(body: dict, value: float, whole: bool = False) -> Reply:
    vector = vector_of(body)
    vector[:] = value if whole else vector
    vector[0] = value
    return reply(vector)


LIES = {
    "dimensions are ignored": (
        lambda body: reply(vector_of(body)),
        "12 dimensions where 4 were asked for; its server ignores the option dimensions: set truncate_dim: 4",
    ),
    "two vectors for one text": (
        lambda body: Reply({"data": [{"embedding": [1.0], "index": 0}, {"embedding": [1.0], "index": 1}]}),
        "2 vectors for one input",
    ),
    "no vector": (lambda body: Reply({"data": []}), "0 vectors for one input"),
    "the vector of another": (lambda body: reply(vector_of(body), index=1), "the vector of input 1, where"),
    "no number": (lambda body: with_value(body, float("nan")), "a vector with values that are no numbers"),
    "infinity": (lambda body: with_value(body, float("inf")), "a vector with values that are no numbers"),
    "NaN in JSON": (lambda body: Reply(b'{"data": [{"embedding": [NaN, 1.0]}]}'), "the reply is no embedding"),
    "null in JSON": (lambda body: Reply(b'{"data": [{"embedding": [null, 1.0]}]}'), "the reply is no embedding"),
    "zeros": (lambda body: with_value(body, 0.0, whole=True), "a vector of zeros"),
    "nothing in it": (lambda body: reply(vector_of(body)[:0]), "a vector without values"),
    "half a number": (
        lambda body: Reply({"data": [{"embedding": base64.b64encode(b"123456").decode()}]}),
        "a vector of 6 bytes, which are no float32",
    ),
    "no base64": (lambda body: Reply({"data": [{"embedding": "€"}]}), "the reply is no embedding"),
    "always the same": (lambda body: reply(np.ones(4)), "gives every text the same vector"),
    "HTML": (lambda body: Reply(b"<html>"), "the reply is no embedding"),
    "an error within": (lambda body: Reply({"error": {"message": "out of memory"}}), "HTTP 502: out of memory"),
    "a refusal": (
        lambda body: Reply({"error": {"message": "unknown encoding_format"}}, status=400),
        "unknown encoding_format; set encoding_format: float",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_what_is_not_what_was_asked_for_is_refused_in_one_line_before_any_work(name):
    lie, said = LIES[name]
    with ScriptedServer(lying(lie)) as server, pytest.raises(EngineError) as refused:
        engine_of(server, dimensions=4).check()

    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_server_that_sees_no_video_is_refused():
    def blind(asked: Asked) -> Reply:
        if "video_url" in str(asked.body):
            return reply(np.arange(1.0, 1 + DIMS))
        return honest(asked)

    def without_chats(asked: Asked) -> Reply:
        if "messages" in asked.body:
            return Reply({"error": {"message": '"input" or "content" must be provided'}}, status=400)
        return honest(asked)

    for server_of, said in ((blind, "every video the same vector"), (without_chats, '"input" or "content" must be')):
        with ScriptedServer(server_of) as server, pytest.raises(EngineError, match=said):
            engine_of(server, reads="frames").check()


def test_numbers_in_the_place_of_base64_are_read_and_said(caplog):
    def spelled_out(asked: Asked) -> Reply:
        return honest(asked) if "/models" in asked.path else reply(vector_of(asked.body), as_base64=False)

    with ScriptedServer(spelled_out) as server, caplog.at_level(logging.WARNING):
        engine_of(server).check()
        spelled = embedder_of(engine_of(server)).embed_query("a cab")
    with ScriptedServer(honest) as server:
        encoded = embedder_of(engine_of(server)).embed_query("a cab")

    assert "writes vectors out as numbers where base64 was asked for" in caplog.text
    assert spelled.vectors.tobytes() == encoded.vectors.tobytes()


def test_a_vector_of_another_length_than_those_before_stops_the_run():
    lengths = iter((12, 12, 8))
    with ScriptedServer(lying(lambda body: reply(vector_of(body)[: next(lengths)]))) as server:
        embedder = embedder_of(engine_of(server))
        embedder.embed_query("a")
        embedder.embed_text("b")
        with pytest.raises(EngineError, match="a vector of 8 dimensions after some of 12"):
            embedder.embed_text("c")


def test_dimensions_are_asked_for_or_cut_here():
    with ScriptedServer(honest) as server:
        asked = embedder_of(engine_of(server, dimensions=4)).embed_query("a cab")
        cut = embedder_of(engine_of(server, truncate_dim=4)).embed_query("a cab")

    assert asked.vectors[0] == pytest.approx(cut.vectors[0], abs=1e-6)
    assert [call.body.get("dimensions") for call in server.asked] == [4, None]


def test_server_faults_are_tried_again_and_a_text_that_is_too_long_is_not():
    too_long = {"error": {"message": "input is larger than the max context size", "type": "exceed_context_size_error"}}
    with ScriptedServer([Reply(status=503), reply(np.ones(3)), Reply(too_long, status=400)]) as server:
        embedder = embedder_of(engine_of(server))
        assert embedder.embed_query("a").usage == Usage(5, 0, requests=2, retries=1)
        with pytest.raises(ContextOverflow) as refused:
            embedder.embed_text("b")
    assert refused.value.permanent
    with (
        ScriptedServer([Reply(status=503)]) as server,
        pytest.raises(ServerFailed, match=r"gave up on .* after 2 attempts"),
    ):
        embedder_of(engine_of(server)).embed_query("a")


def test_a_failure_is_recorded_with_its_class_and_what_the_server_said(tmp_path):
    bad = [Reply({"error": {"message": "no such thing"}}, status=422)]
    with ScriptedServer(bad) as server, closing(Journal(str(tmp_path))) as journal:
        for _ in range(2):
            with pytest.raises(RecordedFailure, match="RequestRefused: HTTP 422: no such thing"):
                embed_query(Query("q", "v", "a cab", "human"), engine_of(server), journal)


def test_each_side_is_stamped_with_what_decides_it():
    plain = OpenAiEmbeddings(model="m", base_url="http://127.0.0.1:9/v1")

    def differ(**options) -> tuple[bool, bool]:
        other = replace(plain, **options)
        return (other.query_stamp() != plain.query_stamp(), other.document_stamp() != plain.document_stamp())

    assert differ(query_prompt="x") == (True, False)
    for options in ({"document_prompt": "x"}, {"frames": 3}, {"max_chars": 5}, {"frames_as": "images"}):
        assert differ(**options) == (False, True)
    for options in ({"dimensions": 8}, {"truncate_dim": 8}, {"reads": "frames"}, {"revision": "2"}):
        assert differ(**options) == (True, True)
    assert differ(base_url="http://127.0.0.1:10/v1", in_flight=3, encoding_format="float") == (False, False)
