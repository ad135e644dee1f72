import contextlib
import math
import threading
from dataclasses import replace

import pytest

from pipeline.config import load_recipe
from prompts.margin import decision_margin
from prompts.template import Prompt
from prompts.write_queries import reply_schema
from schemas.token import Token
from schemas.usage import Usage
from schemas.video import Evidence
from tests.support.scripted_server import Reply, ScriptedServer, completion, token
from transforms.engines.openai.chat import ChatClient
from transforms.engines.openai.options import is_loopback
from transforms.engines.openai.teacher import OpenAiTeacher, ServedTeacher
from transforms.engines.registry import find_engine
from transforms.engines.server.endpoints import UNREACHABLE
from transforms.engines.server.retry import pause_s, retry_after_s
from transforms.protocols.engine import EngineError, loaded
from transforms.protocols.teacher import TeacherFailed, TeacherRequest

JUDGE = TeacherRequest(
    "judge", Prompt("system", "user"), Evidence(caption="A tram."), query="a tram", seed=5, confidence="logprobs"
)
WRITE = TeacherRequest("write_queries", Prompt("system", "user"), Evidence(caption="A tram."), count=2, seed=5)
GOOD = completion("<think>w</think><answer>yes</answer>")


def teacher_of(server, waits=None, **options):
    engine = OpenAiTeacher(model="m", base_url=server.base_url, **{"timeout_s": 10.0, **options})

    async def sleep(seconds):
        if waits is not None:
            waits.append(seconds)

    return ServedTeacher(engine, ChatClient(engine, sleep=sleep))


def test_a_judge_request_asks_for_log_probabilities_and_reads_them_as_bytes():
    tokens = [token("<answer>", -0.1), token("yes", -0.2, yes=-0.2, no=-1.7), token("</answer>", 0.0)]
    with ScriptedServer([completion("<answer>yes</answer>", tokens)]) as server:
        reply = teacher_of(server).reply(JUDGE)

    body = server.asked[0].body
    assert server.asked[0].path == "/v1/chat/completions"
    assert body["messages"] == [{"role": "system", "content": "system"}, {"role": "user", "content": "user"}]
    assert (body["model"], body["seed"], body["temperature"]) == ("m", 5, 0.0)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 20)
    assert "response_format" not in body
    assert reply.text == "<answer>yes</answer>"
    assert reply.tokens[1] == Token(b"yes", -0.2, ((b"yes", -0.2), (b"no", -1.7)))
    assert (reply.usage, reply.truncated) == (Usage(11, 7, requests=1, retries=0), False)
    assert decision_margin(reply.tokens).delta == pytest.approx(1.5)


def test_a_write_request_sends_the_schema_unless_the_server_cannot_take_it():
    with ScriptedServer([GOOD]) as server:
        teacher_of(server).reply(WRITE)
        teacher_of(server, json_schema=False).reply(WRITE)

    assert server.asked[0].body["response_format"]["json_schema"]["schema"] == reply_schema(("caption",), 2)
    assert "response_format" not in server.asked[1].body
    assert "logprobs" not in server.asked[0].body


def test_options_that_are_null_are_not_sent_and_extra_body_is_merged():
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "max_completion_tokens": 99}
    with ScriptedServer([GOOD]) as server:
        teacher = teacher_of(server, temperature=None, max_tokens=None, extra_body=extra)
        teacher.reply(replace(JUDGE, confidence="label_only"))

    body = server.asked[0].body
    assert body.keys().isdisjoint({"temperature", "max_tokens", "logprobs", "top_logprobs"})
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["max_completion_tokens"] == 99


@pytest.mark.parametrize(
    "fault",
    [
        Reply(b"<html>busy</html>", headers={"content-type": "text/html"}),
        Reply(b'{"choices": [{"message": {"content": "ye'),
        Reply({"object": "chat.completion"}),
        Reply({"choices": []}),
        Reply({"choices": [{"message": {"content": ["a", "list"]}}]}),
        Reply({"error": {"message": "overloaded"}}),
        Reply(b'{"choices": "\xff"}'),
        Reply(b""),
        Reply(b'{"choices"', cut=True),
        Reply(b"busy", status=500),
        Reply(b"", status=503),
        Reply({"error": {"message": "slow down"}}, status=429),
        Reply(b"", status=408),
        Reply(b"", status=409),
    ],
    ids=lambda fault: f"{fault.status} {fault.body!s:.30}",
)
def test_a_fault_that_may_pass_is_tried_again(fault):
    waits = []
    with ScriptedServer([fault, fault, GOOD]) as server:
        reply = teacher_of(server, waits).reply(JUDGE)

    assert reply.text == "<think>w</think><answer>yes</answer>"
    assert len(server.asked) == 3
    assert 0.5 <= waits[0] <= 0.625
    assert 1.0 <= waits[1] <= 1.25


def test_a_silent_server_is_a_timeout_that_is_tried_again():
    with ScriptedServer([Reply(silent=True), GOOD]) as server:
        assert teacher_of(server, timeout_s=1.0).reply(JUDGE).text.endswith("</answer>")

    assert len(server.asked) >= 2  # on a busy machine the good reply may not come in time either


@pytest.mark.parametrize("status", [200, 500])
def test_a_reply_that_trickles_in_is_a_timeout_however_steadily_it_comes(status):
    trickle = Reply(b" " * 100_000, status=status, trickle_s=0.02)  # for half an hour
    with ScriptedServer([trickle, GOOD]) as server:
        assert teacher_of(server, timeout_s=1.0).reply(JUDGE).text.endswith("</answer>")

    assert len(server.asked) >= 2  # on a busy machine the good reply may not come in time either


def test_the_teacher_gives_up_after_its_attempts_and_names_the_last_problem():
    waits = []
    with (
        ScriptedServer([Reply(b"<html>")]) as server,
        pytest.raises(TeacherFailed, match=r"after 3 attempts.*no chat completion") as failed,
    ):
        teacher_of(server, waits, attempts=3).reply(JUDGE)

    assert not failed.value.permanent
    assert len(server.asked) == 3
    assert len(waits) == 2


def test_a_server_that_is_not_there_is_a_failure_that_names_its_address():
    with ScriptedServer([GOOD]) as server:
        teacher = teacher_of(server, attempts=2)

    with pytest.raises(TeacherFailed, match=r"gave up on http://127\.0\.0\.1:\d+/v1 after 2 attempts"):
        teacher.reply(JUDGE)


@pytest.mark.parametrize(
    ("status", "message", "hint"),
    [
        (400, "This model does not support logprobs", "confidence: [sampling]"),
        (422, "Unprocessable", "HTTP 422: Unprocessable"),
    ],
)
def test_a_refused_request_fails_at_once_with_one_line_that_helps(status, message, hint):
    refusal = Reply({"error": {"message": message}}, status=status)
    with ScriptedServer([refusal]) as server, pytest.raises(TeacherFailed) as failed:
        teacher_of(server).reply(JUDGE)

    assert len(server.asked) == 1
    assert failed.value.permanent
    assert message in str(failed.value)
    assert hint in str(failed.value)
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(
    ("status", "error", "fix"),
    [
        (401, {"message": "Incorrect API key provided"}, "check OPENAI_API_KEY"),
        (403, {"message": "Not allowed"}, "check OPENAI_API_KEY"),
        (404, {"message": "The model `m` does not exist"}, "check base_url"),
        (429, {"message": "Out of quota", "code": "insufficient_quota"}, "top up the account of OPENAI_API_KEY"),
    ],
)
def test_what_no_request_would_survive_stops_the_run_with_one_line_that_names_the_fix(status, error, fix):
    with ScriptedServer([Reply({"error": error}, status=status)]) as server, pytest.raises(EngineError) as stopped:
        teacher_of(server).reply(JUDGE)

    assert len(server.asked) == 1
    assert f"{server.base_url}: HTTP {status}: {error['message']}" in str(stopped.value)
    assert fix in str(stopped.value)
    assert "\n" not in str(stopped.value)


def test_a_server_that_dies_in_mid_run_stops_the_run_after_a_few_requests():
    with ScriptedServer([GOOD]) as server:
        teacher = teacher_of(server, attempts=1)
        teacher.reply(JUDGE)

    for _ in range(UNREACHABLE - 1):
        with pytest.raises(TeacherFailed):
            teacher.reply(JUDGE)
    with pytest.raises(EngineError, match="is the server still there"):
        teacher.reply(JUDGE)


@pytest.mark.parametrize("alive", [GOOD, Reply(status=400), Reply(status=500), Reply(b"<html>")])
def test_any_reply_shows_that_the_server_is_still_there(alive):
    hangs_up = Reply(cut=True, status=200)
    with ScriptedServer([*[hangs_up] * (UNREACHABLE - 1), alive, hangs_up]) as server:
        teacher = teacher_of(server, attempts=1)
        for _ in range(2 * UNREACHABLE - 1):
            with contextlib.suppress(TeacherFailed):
                teacher.reply(JUDGE)

        with pytest.raises(EngineError):
            teacher.reply(JUDGE)


@pytest.mark.parametrize("status", [200, 400, 404, 405, 429, 500, 503])
def test_the_check_passes_where_a_server_answers_even_without_a_list_of_models(status):
    with ScriptedServer([Reply({"data": []}, status=status)]) as server:
        OpenAiTeacher(model="m", base_url=server.base_url).check()

    assert [asked.path for asked in server.asked] == ["/v1/models"]


@pytest.mark.parametrize("status", [401, 403])
def test_the_check_refuses_a_key_that_the_server_refuses(status):
    refusal = Reply({"error": {"message": "no"}}, status=status)
    with ScriptedServer([refusal]) as server, pytest.raises(EngineError, match="check OPENAI_API_KEY"):
        OpenAiTeacher(model="m", base_url=server.base_url).check()


def test_the_check_names_the_address_of_a_server_that_is_not_there_or_says_nothing():
    with (
        ScriptedServer([Reply(silent=True)]) as server,
        pytest.raises(
            EngineError, match=r"no answer from http://127\.0\.0\.1:\d+/v1 \(no whole reply within 0\.2 s\); start"
        ),
    ):
        OpenAiTeacher(model="m", base_url=server.base_url, timeout_s=0.2).check()

    with pytest.raises(EngineError, match=r"no answer from http://127\.0\.0\.1:\d+/v1 .*; start the server"):
        OpenAiTeacher(model="m", base_url=server.base_url).check()


def test_the_server_says_how_long_to_wait():
    waits = []
    busy = [Reply(status=429, headers={"Retry-After": "7"}), Reply(status=429, headers={"retry-after-ms": "3000"})]
    with ScriptedServer([*busy, GOOD]) as server:
        teacher_of(server, waits).reply(JUDGE)

    assert 7.0 <= waits[0] <= 8.75
    assert 3.0 <= waits[1] <= 3.75


def test_pauses_grow_and_are_bounded():
    assert [math.floor(math.log2(pause_s(attempt, 0.0))) for attempt in range(5)] == [-1, 0, 1, 2, 3]
    assert pause_s(50, 0.0) <= 150.0
    assert pause_s(0, 100_000.0) <= 150.0


def test_retry_after_may_be_a_date_or_nonsense():
    assert retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert retry_after_s({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}) > 1e6
    assert retry_after_s({"retry-after": "soon"}) == 0.0
    assert retry_after_s({"retry-after": "Wed, 21 Oct 99999999999 07:28:00 GMT"}) == 0.0
    assert retry_after_s({"retry-after": "Wed, 99 Oct 2015 99:99:99 GMT"}) == 0.0
    assert retry_after_s({"retry-after": "Wed, 21 Oct 2015 07:28:00 +99999999999999999999"}) == 0.0
    assert retry_after_s({"retry-after": "nan"}) == 0.0
    assert retry_after_s({}) == 0.0


def test_thoughts_that_the_server_split_off_come_back_before_the_text():
    with ScriptedServer([completion("<answer>no</answer>", reasoning_content="Hmm.")]) as server:
        assert teacher_of(server).reply(JUDGE).text == "<think>Hmm.</think>\n<answer>no</answer>"


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (completion(None, refusal="I cannot help with that."), "I cannot help with that."),
        (completion("<answer>yes", finish="content_filter"), "<answer>yes"),
        (completion(None, finish="content_filter"), ""),
    ],
)
def test_a_refusal_and_a_filtered_reply_say_so(reply, text):
    with ScriptedServer([reply, GOOD]) as server:
        teacher = teacher_of(server)
        refused, good = teacher.reply(JUDGE), teacher.reply(JUDGE)

    assert (refused.refused, refused.text) == (True, text)
    assert not good.refused


def test_a_reply_stopped_at_the_token_limit_says_so():
    with ScriptedServer([completion("<think>so", finish="length")]) as server:
        assert teacher_of(server).reply(JUDGE).truncated


def test_tokens_without_bytes_or_log_probability_are_read_as_text_and_as_not_reported():
    bare = {"token": "\u2581yes", "logprob": None, "top_logprobs": None}
    with ScriptedServer([completion("yes", [bare])]) as server:
        assert teacher_of(server).reply(JUDGE).tokens == (Token(b" yes", -9999.0),)


def test_a_byte_that_is_shown_in_hexadecimal_is_that_byte():
    shown = [{"token": text, "logprob": -0.1} for text in ("<answer>", "<0x0A>", "yes")]
    with ScriptedServer([completion("<answer>\nyes", shown)]) as server:
        tokens = teacher_of(server).reply(JUDGE).tokens

    assert [token.text for token in tokens] == [b"<answer>", b"\n", b"yes"]
    assert decision_margin(tokens) is not None


def test_a_reply_without_usage_or_log_probabilities_is_still_a_reply():
    with ScriptedServer([Reply({"choices": [{"message": {"content": "hi"}}]})]) as server:
        reply = teacher_of(server).reply(JUDGE)

    assert (reply.text, reply.tokens, reply.usage) == ("hi", (), Usage(requests=1, retries=0))


def test_the_key_is_sent_and_never_shown(monkeypatch):
    secret = "sk-very-secret-key"
    monkeypatch.setenv("MY_KEY", secret)
    refusal = Reply({"error": {"message": f"bad key {secret}"}}, status=401)
    with ScriptedServer([refusal]) as server:
        engine = OpenAiTeacher(model="m", base_url=server.base_url, api_key_env="MY_KEY")
        with pytest.raises(EngineError) as failed:
            engine.load().reply(JUDGE)

    assert server.asked[0].headers["authorization"] == f"Bearer {secret}"
    assert secret not in str(failed.value) + repr(engine) + str(engine.stamp())


def test_the_key_may_lie_in_a_file(tmp_path):
    (tmp_path / "key").write_text("from-file\n")
    with ScriptedServer([GOOD]) as server:
        teacher_of(server, api_key_file=str(tmp_path / "key")).reply(JUDGE)

    assert server.asked[0].headers["authorization"] == "Bearer from-file"
    with pytest.raises(EngineError, match=r"api_key_file .*No such file"):
        OpenAiTeacher(model="m", api_key_file=str(tmp_path / "none")).load()


@pytest.mark.parametrize("content", [b"", b" \n", b"two\nlines", b"\xff\xfe"])
def test_a_key_file_holds_a_key_and_nothing_else(content, tmp_path):
    (tmp_path / "key").write_bytes(content)

    with pytest.raises(EngineError, match=r"api_key_file '.*key' must hold the key and nothing else"):
        OpenAiTeacher(model="m", api_key_file=str(tmp_path / "key")).check()


def test_a_key_in_the_environment_that_cannot_be_sent_is_not_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret\nsk-second")

    with pytest.raises(EngineError, match="OPENAI_API_KEY must hold the key and nothing else") as refused:
        OpenAiTeacher(model="m").check()
    assert "sk-" not in str(refused.value)


@pytest.mark.parametrize("need", [OpenAiTeacher.check, OpenAiTeacher.load])
def test_only_who_asks_the_server_needs_a_key(need):
    engine = find_engine("teacher", {"engine": "openai", "model": "m"})

    with pytest.raises(EngineError, match=r"no key for api\.openai\.com: set the environment variable OPENAI_API_KEY"):
        need(engine)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "m", "base_url": "localhost:8000"}, "base_url must be an http"),
        ({"model": "m", "base_url": "http://me:secret@localhost/v1"}, "no credentials"),
        ({"model": "m", "base_url": "https//me:secret@localhost/v1"}, "no credentials"),
        ({"model": "m", "base_url": "http://localhost/v1?api-key=secret"}, "no credentials, query"),
        ({"model": "m", "api_key_env": "sk-secret"}, "the name of an environment variable"),
        ({"model": "m", "api_key_env": "hf_secretZ"}, "the name of an environment variable"),
        ({"model": "m", "api_key_env": ""}, "the name of an environment variable"),
        ({"model": "m", "base_url": "http://localhost:secret/v1"}, "base_url must be an http"),
        ({"model": "m", "base_url": "secret-in-the-wrong-place"}, "base_url must be an http"),
        ({"model": "m", "api_key_file": "sk-secret"}, "api_key_file must be the path of a file"),
        ({"model": "m", "extra_body": {"a": [{"X-Api-Key": "secret"}]}}, "extra_body holds 'X-Api-Key'"),
        ({"model": "  ", "base_url": "http://localhost/v1"}, "model must not be blank"),
        ({"base_url": "http://localhost/v1"}, "model"),
        ({"model": "m", "base_url": "http://localhost/v1", "attempts": 0}, "attempts must be at least 1"),
        ({"model": "m", "base_url": "http://localhost/v1", "timeout_s": 0}, "timeout_s must be positive"),
        ({"model": "m", "base_url": "http://localhost/v1", "modle": "x"}, "did you mean 'model'"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(EngineError, match=message) as refused:
        find_engine("teacher", {"engine": "openai", **options})

    assert "secret" not in str(refused.value)


def test_the_paper_s_recipe_lets_neither_writer_nor_judge_think_at_length():
    recipe = load_recipe("rankvideo")

    for teacher in (recipe.synthesize.teacher, recipe.judge.teacher):
        assert teacher["extra_body"] == {"chat_template_kwargs": {"enable_thinking": False}}


def test_loopback_is_this_machine_only():
    assert all(map(is_loopback, ("http://localhost:8000/v1", "http://127.0.0.2/v1", "http://[::1]:8000/v1")))
    assert not any(
        map(is_loopback, ("https://api.openai.com/v1", "http://10.0.0.1/v1", "http://localhost.evil.org/v1"))
    )


def test_the_fingerprint_follows_what_is_asked_and_not_how_the_server_is_reached():
    engine = OpenAiTeacher(model="m", base_url="http://localhost:1/v1")
    moved = replace(engine, base_url="http://localhost:2/v1", timeout_s=9.0, attempts=1)
    others = [
        replace(engine, **change)
        for change in ({"model": "n"}, {"temperature": 0.7}, {"max_tokens": 5}, {"extra_body": {"top_k": 5}})
    ]

    assert moved.stamp() == engine.stamp()
    assert engine.stamp().model == "m"
    assert len({each.stamp().fingerprint for each in (engine, *others)}) == 5


def test_one_loaded_teacher_serves_many_threads():
    def echo(asked):
        return completion(asked.body["messages"][1]["content"])

    replies = {}
    with ScriptedServer(echo) as server:
        engine = OpenAiTeacher(model="m", base_url=server.base_url, extra_body={"a": 1})
        assert loaded(engine) is loaded(replace(engine))

        def ask(number):
            request = replace(JUDGE, prompt=Prompt("s", f"question {number}"))
            replies[number] = loaded(engine).reply(request).text

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert replies == {number: f"question {number}" for number in range(16)}
