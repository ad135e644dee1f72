"""A script for the scripted server: it captions, writes and judges sensibly, but fails three calls in ten."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import cycle
from typing import Literal

from schemas.fingerprint import fingerprint, unit_interval
from tests.support.scripted_server import Asked, Reply, completion, token
from transforms.engines.openai.probing.probe import QUESTION

Task = Literal["caption", "write", "judge"]
Fate = Literal["well", "stubborn", "spoilt", "refused"]

RETRY_AFTER_S = 0.01
_BUSY = Reply({"error": {"message": "slow down"}}, status=429)
_ERRORS = {
    "429 with Retry-After": Reply(_BUSY.body, status=429, headers={"retry-after": str(RETRY_AFTER_S)}),
    "429": _BUSY,
    "500": Reply({"error": {"message": "out of order"}}, status=500),
    "closed connection": Reply(dropped=True),
    "cut short": Reply(b'{"choices": [{"message": {"content": "<think>', cut=True),
    "truncated JSON": Reply(b'{"choices": [{"message": {"content": "<think>'),
    "HTML": Reply(b"<html><body>Bad gateway</body></html>", headers={"content-type": "text/html"}),
    "no choices": Reply({"object": "chat.completion", "choices": []}),
}
TRANSIENT = {**_ERRORS, "no reply in time": Reply(silent=True)}  # the last one only now and then: it costs its timeout
REFUSAL = "I cannot help with that."
SPOILT: dict[Task, dict[str, Reply]] = {
    "caption": {"refusal": completion(None, refusal=REFUSAL)},
    "write": {
        "wrong schema": completion('{"queries": [{"query": "who opened the new line of the tram"}]}'),
        "refusal": completion(None, refusal=REFUSAL),
    },
    "judge": {
        "no tags": completion("yes", [token("yes", -0.1, yes=-0.1, no=-2.4)]),
        "refusal": completion(None, refusal=REFUSAL),
    },
}
BAD_REQUEST = Reply({"error": {"message": "the prompt is not to be had"}}, status=400)

# By turns within each task, so that each of them meets every fate, however few its requests are.
_FATES: tuple[Fate, ...] = ("well", "stubborn", "well", "spoilt", "well", "refused", *["well"] * 14)
_SHARE = 0.08  # of the other calls; at most two in a row of one request


@dataclass(frozen=True)
class Call:
    """One call as the server took it: which request, and the fault that it met, empty where it was answered well."""

    task: Task
    request: str
    fault: str

    @property
    def was_answered(self) -> bool:
        """Whether a model's words were returned, whatever they were worth."""
        return not self.fault or self.fault in SPOILT[self.task]


class FaultyServer:
    """Answers requests until ``healed`` is set only as their fate will have it.

    A "stubborn" request fails at every call, as if its time had not come; a "refused" one is a bad request; a "spoilt"
    one is answered with words that say nothing, until it quotes them and asks again. Which calls of the others fail is
    drawn by a hash of request and call.
    """

    def __init__(self, seed: int) -> None:
        self.calls: list[Call] = []
        self.fates: dict[str, Fate] = {}
        self.healed = False
        self._seed = seed
        self._times: Counter[str] = Counter()
        self._reseeded: dict[str, str] = {}  # what a request becomes after an error 500
        self._turns = {task: cycle(_FATES) for task in SPOILT}
        self._spoilt = {task: cycle(faults) for task, faults in SPOILT.items()}
        self._transient = cycle([*TRANSIENT, *_ERRORS])

    def __call__(self, asked: Asked) -> Reply:
        if asked.path.endswith("/models"):
            return Reply({"data": []})
        if asked.body["messages"][0]["content"] == QUESTION:
            return Reply(_BUSY.body, status=429)  # what it can do is not known
        task = task_of(asked)
        request = fingerprint(asked.body)
        request = self._reseeded.get(request, request)
        if request not in self.fates:
            quotes = any(message["role"] == "assistant" for message in asked.body["messages"])
            self.fates[request] = "well" if quotes else next(self._turns[task])
        fault = "" if self.healed else self._fault(task, request, self.fates[request])
        self._times[request] += 1
        self.calls.append(Call(task, request, fault))
        if fault == "500":
            self._reseeded[fingerprint({**asked.body, "seed": asked.body["seed"] + 1})] = request
        if fault:
            return {**TRANSIENT, **SPOILT[task], "400": BAD_REQUEST}[fault]
        return {"caption": describe, "write": write, "judge": judge}[task](asked)

    def _fault(self, task: Task, request: str, fate: Fate) -> str:
        times = self._times[request]
        if fate == "refused":
            return "400"
        if fate == "stubborn" or (times < 2 and unit_interval(f"{self._seed} {request} {times}") < _SHARE):
            return next(self._transient)
        return next(self._spoilt[task]) if fate == "spoilt" else ""


def task_of(asked: Asked) -> Task:
    """What a request asks for."""
    return "judge" if "logprobs" in asked.body else "write" if "response_format" in asked.body else "caption"


def describe(asked: Asked) -> Reply:
    """A caption that follows from the pictures, though not in the way one would hope for."""
    letters = fingerprint(asked.body["messages"])
    things = ("lantern", "harbour", "signal", "carriage", "platform", "balcony", "engine", "meadow")
    seen = sorted({things[int(letter, 16) % len(things)] for letter in letters[:4]})
    return completion(f"Somebody walks past a {' and a '.join(seen)} while the evening light fades.")


def write(asked: Asked) -> Reply:
    """Two queries that join words of the evidence."""
    text = asked.body["messages"][1]["content"]
    evidence, modalities = _evidence(text), re.findall(r"^(\w+): \[", text, re.MULTILINE)
    named = sorted(set(_long_words(evidence)), key=lambda word: fingerprint([word, modalities]))
    queries = [
        {
            "evidence": named[:2],
            "rationale": f"It takes {chosen[0]} together with the rest.",
            "query": f"what had {' and '.join(chosen)} to do with each other {ending}",
            "query_type": "base",
            "modalities": modalities,
        }
        for chosen, ending in ((named[:3], "on that day"), (named[-3:], "according to those who were there"))
    ]
    return completion(json.dumps({"queries": queries}))


def judge(asked: Asked) -> Reply:
    """Yes where the evidence holds at least two thirds of what the query names, and the surer the clearer it is."""
    text = asked.body["messages"][1]["content"]
    after, evidence = text.partition("END EVIDENCE")[2], set(_long_words(_evidence(text)))
    [query] = re.findall(r'^".*"$', after, re.MULTILINE)
    named = [word for word in _long_words(query) if word != "according"]
    share = sum(word in evidence for word in named) / max(1, len(named))
    label, other, least = ("yes", "no", -9.0) if share > 0.6 else ("no", "yes", -14.0 + 6 * share)
    tokens = [
        token("<think>It names", -0.1),
        token(f" {share:.0%} of it.</think><answer>", -0.1),
        token(label, -0.001, **{label: -0.001, other: least}),
        token("</answer>", 0.0),
    ]
    return completion("".join(one["token"] for one in tokens), tokens)


def _evidence(prompt: str) -> str:
    return prompt.partition("BEGIN EVIDENCE")[2].partition("END EVIDENCE")[0]


def _long_words(text: str) -> Iterable[str]:
    return (word.lower() for word in re.findall(r"[A-Za-z]{5,}", text) if word not in _NAMES)


_NAMES = ("title", "description", "metadata", "caption", "answer", "video", "query")
