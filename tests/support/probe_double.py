"""A server to be probed: it takes each option in a way of its own; and teachers that ask it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from prompts.template import Prompt
from schemas.capabilities import Capabilities
from schemas.video import Evidence
from tests.support.scripted_server import Asked, Reply, ScriptedServer, completion
from transforms.engines.openai.probing.probe import ANSWER, SAID, probe_judge, probe_writer
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.protocols.teacher import TeacherRequest

REFUSED = Reply({"error": {"message": "unknown field"}}, status=400)
BUSY = Reply({"error": {"message": "slow down"}}, status=429)
PAIR = TeacherRequest("judge", Prompt("system", "user"), Evidence(caption="A tram."), confidence="logprobs")
LADDER = ("logprobs", "logprobs_prefill", "sampling")
LOGITS = {"one": 3.0, "One": 1.0, "1": -1.0, "It": -2.0}


@dataclass(frozen=True)
class Double:
    """A server: each field is how it takes an option, "yes", "ignored", "refused" or "busy"."""

    json_schema: str = "yes"
    logprobs: str = "yes"
    n: str = "yes"
    prefill: str = "yes"
    any: str = "yes"
    echo: bool = False  # llama.cpp repeats what it goes on from
    processed: bool = False
    spaces: str = ""  # what it puts between the words of JSON
    models: dict | None = None

    def __call__(self, asked: Asked) -> Reply:
        body = asked.body
        if asked.path.endswith("/models"):
            return Reply(self.models or {"object": "list", "data": [{"id": "m"}]})
        prefilled = body["messages"][-1]["role"] == "assistant"
        used = {"json_schema": "response_format" in body, "logprobs": "logprobs" in body, "n": "n" in body}
        used |= {"prefill": prefilled, "any": True}
        ways = [getattr(self, option) for option, is_used in used.items() if is_used]
        if "refused" in ways:
            return REFUSED
        if "busy" in ways:
            return BUSY
        if used["json_schema"] and self.json_schema == "yes":
            text = json.dumps(ANSWER, indent=None, separators=("," + self.spaces, ":" + self.spaces))
            cut = len(text.split()) > 1 and len(text) > 60
            return completion(text[:40] if cut else text, finish="length" if cut else "stop")
        text = (SAID if self.echo else "") + " five" if prefilled and self.prefill == "yes" else "one"
        tokens = None
        if used["logprobs"] and self.logprobs == "yes":
            tokens = [self._token(text.removeprefix(SAID), body)]
        reply = completion(text, tokens)
        if used["n"] and self.n == "yes":
            return Reply({**reply.body, "choices": reply.body["choices"] * body["n"]})
        return reply

    def _token(self, text: str, body: dict) -> dict:
        cooling = body.get("temperature", 1.0) if self.processed else 1.0
        scaled = {word: logit / cooling for word, logit in LOGITS.items()}
        total = math.log(sum(map(math.exp, scaled.values())))
        top = [{"token": word, "logprob": logit - total} for word, logit in scaled.items()]
        listed = [*top, {"token": "<pad>", "logprob": -9999.0}][: body["top_logprobs"]]
        return {"token": text, "logprob": top[0]["logprob"], "bytes": list(text.encode()), "top_logprobs": listed}


def judge(server: ScriptedServer, **options) -> OpenAiTeacher:
    return OpenAiTeacher(model="m", base_url=server.base_url, **{"confidence": LADDER, "top_logprobs": 5, **options})


def probe(teacher: OpenAiTeacher, task: str) -> Capabilities:
    if task == "judge":
        return probe_judge(teacher, teacher.top_logprobs)
    return probe_writer(teacher, teacher.json_schema)


def posted(server: ScriptedServer) -> list[dict]:
    return [asked.body for asked in server.asked if asked.body]


def found(double: Double, task: str = "judge", **options) -> tuple[Capabilities, ScriptedServer]:
    with ScriptedServer(double) as server:
        return probe(judge(server, **options), task), server


def mentions(found: object, key: str) -> bool:
    if isinstance(found, dict):
        return key in found or any(mentions(value, key) for value in found.values())
    return isinstance(found, list) and any(mentions(value, key) for value in found)


def settings(server: ScriptedServer, **options) -> list[str]:
    teacher = json.dumps({"engine": "openai", "model": "m", "base_url": server.base_url, **options})
    return [f"synthesize.teacher={teacher}", f"judge.teacher={teacher}"]
