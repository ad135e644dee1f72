"""A key is sent to its server and written nowhere else, however the server and the user behave."""

import base64
import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.config import RecipeError, load_recipe
from pipeline.engines import find_engines
from pipeline.outputs.manifest import read_manifest
from runners.cli.main import main
from tests.support.forks import run_forked
from tests.support.probe_double import Double
from tests.support.scripted_server import Asked, Reply, ScriptedServer, completion, token
from transforms.engines.openai.chat import ChatClient
from transforms.engines.openai.probing.probe import QUESTION
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.engines.registry import find_engine
from transforms.engines.server.api_key import HIDDEN, KeyKeeper, credential_in
from transforms.protocols.engine import EngineError
from transforms.protocols.teacher import TeacherFailed

CANARY = "sk-canary-7Q2f9XbL0pWz4TtYv8KdRm3E"
CLIPS = ("flood_riverton_1", "tram_linden_3", "launch_ostara_2")
PIECE = 12


def spellings() -> list[bytes]:
    """Pieces of the canary, plain and as base64 holds them, wherever in the encoded bytes it starts."""
    forms = [CANARY]
    forms += [base64.b64encode(b"x" * before + CANARY.encode()).decode()[4:-4] for before in range(3)]
    return [form[at : at + PIECE].encode() for form in forms for at in range(len(form) - PIECE + 1)]


def assert_secret(name: str, data: bytes) -> None:
    for piece in spellings():
        assert piece not in data, f"{name} holds {piece!r}: …{data[max(0, data.find(piece) - 80) :][:200]!r}"


def scan(folder: Path) -> int:
    """Search the bytes of every file, and every value of every Parquet file; how many there are."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        assert_secret(str(path), str(path).encode() + path.read_bytes())
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            assert_secret(str(path), repr(table.to_pylist()).encode() + repr(table.schema.metadata).encode())
    return len(files)


def key_of(asked: Asked) -> str:
    return asked.headers["authorization"].removeprefix("Bearer ")


def writing(text: str) -> str:
    items = [
        {
            "evidence": [text],
            "rationale": f"Joins the flood and the tram; {text}",
            "query": f"how did families leave the lower town when the river rose, {number}, {text}",
            "query_type": "specific",
            "modalities": ["metadata"],
        }
        for number in ("first", "second")
    ]
    return json.dumps({"queries": items})


def tries_out(asked: Asked) -> bool:
    """Whether a question is one of those by which a server is tried out."""
    return str(asked.body["messages"][0]["content"]).endswith(QUESTION)


class Gossip:
    """A server that answers each kind of question, and tells everybody the key in every way it can think of."""

    def __init__(self) -> None:
        self.turns: dict[str, int] = {}

    def __call__(self, asked: Asked) -> Reply:
        key = key_of(asked)
        if asked.path.endswith("/models"):
            return Reply({"error": {"message": f"no models for {key}"}}, status=500)
        kind = "judge" if "logprobs" in asked.body else "write" if "response_format" in asked.body else "caption"
        turn = self.turns[kind] = self.turns.get(kind, -1) + 1
        encoded = base64.b64encode(f"Authorization: Bearer {key}".encode()).decode()
        told = {"x-api-key": key, "set-cookie": f"key={key}", "x-debug": encoded}
        if tries_out(asked) and kind != "write":
            return replace(Double()(asked), headers=told)
        good = self.answer(kind, f"key {key}, Bearer {key}{key}, {encoded}", turn)
        faults = [
            Reply(good.body, headers=told),
            Reply({"error": {"message": f"Incorrect request {'x' * 280} for {key} ({encoded})"}}, status=400),
            Reply({"error": {"message": f"cut {key[:20]}… or\n{key}", "code": key, "type": key}}, status=422),
            Reply(f"<html>{key} {encoded}</html>".encode(), status=500, headers=told),
            Reply({"choices": [{"message": {"content": [key]}, "finish_reason": key}]}),
            Reply({"choices": [{"message": {"content": key}, "finish_reason": key}]}),
            Reply({"error": {"message": key, "code": 400}}),
            Reply(f'{{"choices": "{key}'.encode()),
            Reply(status=302, headers={"location": f"nowhere://{key}/"}),
            Reply(f"{key}".encode(), headers={"content-encoding": "gzip", **told}),
            Reply({"error": key, "message": key}, status=429, headers={"retry-after": key, **told}),
        ]
        return faults[(turn % (2 * len(faults))) // 2] if turn % 2 else Reply(good.body, headers=told)

    def answer(self, kind: str, text: str, turn: int) -> Reply:
        if kind == "write":
            return completion(writing(text), reasoning_content=f"I was given {text}")
        if kind == "caption":
            return completion(f"A street scene. {text}")
        label = "yes" if turn % 4 < 2 else "no"
        decision = token(label, -0.1, yes=-0.1, no=-2.3)
        tokens = [token(f"<think>{text}", -0.1), token("</think><answer>", -0.1), decision, token("</answer>", 0.0)]
        return completion(f"<think>{text}</think><answer>{label}</answer>", tokens)


@pytest.fixture
def manifest(samples, short_clips, tmp_path):
    """Three short clips, their titles and descriptions."""
    lines = [json.loads(line) for line in (samples / "manifest.jsonl").read_text().splitlines()]
    chosen = [{**line, "uri": str(short_clips / Path(line["uri"]).name)} for line in lines if line["video_id"] in CLIPS]
    assert len(chosen) == len(CLIPS)
    path = tmp_path / "list.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in chosen))
    return path


def run(manifest: Path, server: ScriptedServer, variable: str, file: str) -> tuple[int, bytes]:
    """Run the command in a process of its own, as talkative as it gets: its exit code, and all that it printed."""
    engine = {"engine": "openai", "model": "m", "base_url": server.base_url, "attempts": 1, "timeout_s": 20}
    engine |= {"api_key_env": "CANARY_KEY", "api_key_file": file}
    settings = {
        "extract.asr": None,
        "extract.ocr": None,
        "extract.caption": engine,
        "extract.frames.max_frames": 2,
        "emit.frames": None,
        "synthesize.teacher": engine,
        "synthesize.variants": ["caption", "metadata", "all"],
        "judge.teacher": {**engine, "extra_body": {"top_k": 1}},
        "mine.first_stage": {"engine": "bm25"},
        "mine.ambiguity.ratio": 100,
        "emit.validation_fraction": 0.0,
    }
    command = ["run", "demo", "--workers", "1"]
    command += ["--input", str(manifest), "--output", str(manifest.parent / "out")]
    command += [f"--set={key}={json.dumps(value)}" for key, value in settings.items()]
    ambient = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    ambient |= {"HARDQUERY_TRACEBACK": "1", "OPENAI_LOG": "debug", "OMP_NUM_THREADS": "1"}
    if variable:
        ambient["CANARY_KEY"] = variable
    ended = run_forked(command, ambient)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize("source", ["variable", "file"])
def test_a_server_that_tells_the_key_everywhere_gets_it_written_nowhere(manifest, tmp_path, source):
    secret = tmp_path / "keys" / "key"
    secret.parent.mkdir()
    secret.write_text(f"{CANARY}\n")
    with ScriptedServer(Gossip()) as server:
        code, printed = (
            run(manifest, server, CANARY, "") if source == "variable" else run(manifest, server, "", str(secret))
        )
    secret.unlink()

    assert code == 0, printed.decode()
    assert {key_of(asked) for asked in server.asked} == {CANARY}
    assert_secret("the terminal", printed)
    assert scan(tmp_path) > 10
    output = tmp_path / "out"
    kept = {table: pq.read_table(output / table).to_pylist() for table in ("queries", "judgements", "videos")}
    assert any(HIDDEN in row["reply"] for row in kept["queries"])
    assert any(HIDDEN in row["reply"] for row in kept["judgements"])
    assert any(HIDDEN in row["caption"] for row in kept["videos"])
    messages = [row["message"] for row in pq.read_table(output / "failures").to_pylist()]
    assert any(HIDDEN in message for message in messages)
    lacks = read_manifest(str(output)).servers["writer"].lacks
    assert "ignores JSON schemas" in lacks
    assert f"writer: {lacks}\n".encode() in printed


@pytest.mark.parametrize("status", [401, 429])
def test_a_run_that_the_server_stops_shows_no_key_even_with_its_traceback(manifest, tmp_path, status):
    def refuse(asked: Asked) -> Reply:
        if not asked.body or tries_out(asked):
            return Double()(asked)
        key = key_of(asked)
        error = {"message": f"Incorrect API key provided: {key}", "code": "insufficient_quota", "param": key}
        return Reply({"error": error}, status=status, headers={"www-authenticate": f"Bearer {key}"})

    with ScriptedServer(refuse) as server:
        code, printed = run(manifest, server, CANARY, "")

    assert code == 1
    assert b"Traceback" in printed
    assert b"Incorrect API key provided: ***" in printed
    assert_secret("the terminal", printed)
    scan(tmp_path)


def test_a_key_that_is_refused_before_the_run_is_not_shown(manifest, tmp_path):
    refusal = Reply({"error": {"message": f"bad key {CANARY}"}}, status=401)
    with ScriptedServer([refusal]) as server:
        code, printed = run(manifest, server, CANARY, "")

    assert code == 2
    assert b"check CANARY_KEY" in printed
    assert_secret("the terminal", printed)
    scan(tmp_path)


@pytest.mark.parametrize(
    "setting",
    [
        f"judge.teacher.api_key={CANARY}",
        f"judge.teacher.api_key: {CANARY}",
        f"judge.modalities.api_key={CANARY}",
        f"judge.teacher.api_key=[{CANARY}",
        f"judge.teacher={{engine: openai, model: m, api_key: {CANARY}}}",
        f"judge.teacher={{engine: openai, model: m, extra_headers: {{authorization: {CANARY}}}}}",
        f"judge.teacher={{engine: openai, model: m, base_url: 'http://user:{CANARY}@localhost/v1'}}",
        f"judge.teacher={{engine: openai, model: m, base_url: 'http://localhost/v1?key={CANARY}'}}",
        f"judge.teacher={{engine: openai, model: m, base_url: 'http://localhost:{CANARY}/v1'}}",
        f"judge.teacher={{engine: openai, model: m, base_url: {CANARY}}}",
        f"judge.teacher={{engine: openai, model: m, api_key_env: {CANARY}}}",
        f"judge.teacher={{engine: openai, model: m, api_key_file: {CANARY}}}",
        f"judge.teacher={{engine: openai, model: m, extra_body: {{api_key: {CANARY}}}}}",
        f"judge.teacher={{engine: openai, model: m, extra_body: {{a: [{{Authorization: Bearer {CANARY}}}]}}}}",
        f"judge.teacher={{engine: openai, model: m, extra_body: {{user: {CANARY}}}}}",
        f"judge.teacher={{engine: openai, model: {CANARY}}}",
        f"judge.teacher={{engine: openai, model: m, base_url: 'http://localhost/{CANARY}/v1'}}",
        f"judge.teacher={{engine: openai, model: m, base_url: ['http://localhost/v1', 'http://k:{CANARY}@there/v1']}}",
        f"judge.teacher={{engine: openai, model: m, base_url: [{{url: 'http://localhost/{CANARY}/v1', weight: 2}}]}}",
        f"extract.caption={{engine: openai, model: m, extra_body: {{hf_token: {CANARY}}}}}",
    ],
)
def test_a_key_in_a_recipe_is_refused_in_one_line_that_does_not_show_it(setting, samples, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    command = ["run", "demo", "--input", str(samples / "videos"), "--output", str(tmp_path / "out"), "--set", setting]

    assert main(command) == 2

    printed = capfd.readouterr()
    assert printed.err.count("\n") == 1
    assert_secret("the terminal", (printed.out + printed.err).encode())
    assert scan(tmp_path) == 0


def test_a_recipe_that_is_not_yaml_does_not_show_the_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"judge:\n  teacher: {{api_key: {CANARY}: x]\n")

    with pytest.raises(RecipeError, match=r"is not YAML: line 2: ") as refused:
        load_recipe(str(path))

    assert_secret("the error", str(refused.value).encode())


@pytest.mark.parametrize(
    "name",
    "api_key API-KEY apikey x-api-key openai_api_key authorization Authorization proxy-authorization token access_token"
    " auth-token hf_token bearer password db_password secret client_secret secret_key credentials cookie".split(),
)
def test_an_entry_that_only_a_secret_is_given_is_found_at_any_depth(name):
    assert credential_in({"a": [{"b": {name: "x"}}]}) == name
    with pytest.raises(EngineError, match=f"extra_body holds '{name}'"):
        find_engine("teacher", {"engine": "openai", "model": "m", "extra_body": {name: "x"}})


@pytest.mark.parametrize(
    "name",
    "max_tokens max_completion_tokens min_tokens stop_token_ids eos_token bad_words skip_special_tokens prompt_logprobs"
    " return_tokens_as_token_ids thinking_token_budget key keys chat_template_kwargs guided_json user seed".split(),
)
def test_what_servers_take_is_no_secret(name):
    assert credential_in({name: {name: [1]}}) is None


def test_the_recipes_of_the_project_name_no_secret(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    for name in ("demo", "rankvideo"):
        recipe = load_recipe(name, ["extract.asr=null", "extract.ocr=null"])
        assert CANARY not in repr(find_engines(recipe)) + json.dumps(recipe.as_dict())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (CANARY, HIDDEN),
        (f"a {CANARY}, {CANARY}{CANARY}.", f"a {HIDDEN}, {HIDDEN}."),
        (f"cut {CANARY[:20]}", f"cut {HIDDEN}"),
        (f"{CANARY[9:]} cut", f"{HIDDEN} cut"),
        (f"sk-c…{CANARY[-4:]}", f"sk-c…{CANARY[-4:]}"),
        ("sk-canary", "sk-canary"),
        ("", ""),
    ],
)
def test_the_key_is_hidden_whole_and_in_pieces(text, shown):
    assert KeyKeeper(CANARY).hide(text) == shown


@pytest.mark.parametrize("before", ["", "a", "ab", "Authorization: Bearer "])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_the_key_is_hidden_in_base64_wherever_it_starts(before, encode):
    hidden = KeyKeeper(CANARY).hide(encode(f"{before}{CANARY} after".encode()).decode())

    assert HIDDEN in hidden
    assert_secret("base64", hidden.encode())


def test_a_key_with_marks_is_hidden_as_addresses_spell_it():
    assert KeyKeeper("k+/=secret&key").hide("?key=k%2B%2F%3Dsecret%26key#") == f"?key={HIDDEN}#"


def test_a_word_that_stands_in_for_a_key_is_no_secret():
    assert KeyKeeper("none").hide("none of them, nonetheless") == "none of them, nonetheless"
    assert KeyKeeper("").hide("any text") == "any text"


def test_tokens_that_spell_the_key_are_dropped(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    spelled = [token(CANARY[:10], 0.0), token(CANARY[10:], 0.0)]
    listed = [token("yes", 0.0, **{CANARY: -3.0})]
    with ScriptedServer(
        [completion("yes", spelled), completion("yes", listed), completion("yes", [token("yes", 0.0)])]
    ) as server:
        client = ChatClient(OpenAiTeacher(model="m", base_url=server.base_url))
        tokens = [client.complete([]).tokens for _ in range(3)]

    assert [len(each) for each in tokens] == [0, 0, 1]


@pytest.mark.parametrize("reply", [Reply({"error": {"message": CANARY}}, status=400), Reply(CANARY.encode())])
def test_an_error_brings_no_other_error_along_that_shows_the_key(reply, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    with ScriptedServer([reply]) as server:
        client = ChatClient(OpenAiTeacher(model="m", base_url=server.base_url, attempts=1))
        with pytest.raises(TeacherFailed) as failed:
            client.complete([])

    assert failed.value.__cause__ is None
    assert failed.value.__context__ is None
    assert failed.value.permanent == (reply.status == 400)


def test_no_library_logs_what_the_server_says_however_talkative_logging_is(monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    caplog.set_level(logging.DEBUG)
    with ScriptedServer([Reply(completion("yes").body, headers={"x-api-key": CANARY})]) as server:
        ChatClient(OpenAiTeacher(model="m", base_url=server.base_url)).complete([])

    assert_secret("the log", caplog.text.encode())
