"""A chat completions server with a limit: slots that requests queue for, or a rate beyond which it says 429.

Run with ``python -m benchmarks.limited_server``; it prints its address. Replies take log-normal times (median 200 ms,
99th percentile 2 s). Three requests in a hundred fail: 1 % 429, 1 % 500, 0.7 % cut JSON with status 200, and 0.3 % are
never answered. ``POST /reset`` sets the limit and forgets what was; ``GET /stats`` tells what happened since.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import time
from collections import Counter
from statistics import NormalDist, fmean
from typing import Any

from aiohttp import web

MEDIAN_S, P99_S = 0.2, 2.0
_SIGMA = math.log(P99_S / MEDIAN_S) / NormalDist().inv_cdf(0.99)
_GOLDEN = (math.sqrt(5) - 1) / 2
BURST = 20
_TEXT = f"<think>{'It shows what the query asks for. ' * 8}</think>"


def latency_s(number: int) -> float:
    """Of the reply of this number: at evenly spread quantiles, so that any few hundred in a row have the same mean."""
    quantile = min(0.9995, max(0.0005, number * _GOLDEN % 1.0))
    return MEDIAN_S * math.exp(_SIGMA * NormalDist().inv_cdf(quantile))


MEAN_S = fmean(map(latency_s, range(10_000)))


def completion() -> bytes:
    """A judgement with log-probabilities at the decision."""
    tokens = [("<answer>", []), ("yes", [("yes", -0.2), ("no", -1.7)]), ("</answer>", [])]
    content = [
        {"token": text, "logprob": -0.2, "top_logprobs": [{"token": word, "logprob": p} for word, p in top]}
        for text, top in [(_TEXT, []), *tokens]
    ]
    message = {"role": "assistant", "content": f"{_TEXT}<answer>yes</answer>"}
    choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": {"content": content}}
    usage = {"prompt_tokens": 400, "completion_tokens": 60, "total_tokens": 460}
    reply = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return json.dumps(reply).encode()


class LimitedServer:
    """``slots`` requests at once, or ``per_s`` requests a second, with a bucket of ``BURST``."""

    def __init__(self) -> None:
        self.reset(slots=64, per_s=0.0)
        self._body = completion()

    def reset(self, slots: int, per_s: float) -> None:
        """Begin anew with one limit; the other is 0."""
        self._slots = asyncio.Semaphore(slots or 10**9)
        self._per_s, self._tokens, self._filled_s = per_s, float(BURST), time.monotonic()
        self._chance = random.Random(0)
        self._worked = 0
        self.requests = 0
        self.faults: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.first_answers_s: list[float] = []

    async def chat(self, request: web.Request) -> web.Response:
        """One completion."""
        named = re.search(rb"request-\d+", await request.read())
        assert named, "a request says which one it is"
        self.requests += 1
        drawn = self._chance.random()
        if drawn < 0.01:
            return self._refuse("429")
        if drawn < 0.02:
            self.faults["500"] += 1
            await asyncio.sleep(self._chance.random() * MEDIAN_S)
            return web.json_response({"error": {"message": "out of order"}}, status=500)
        if drawn < 0.023:
            self.faults["silent"] += 1
            await asyncio.sleep(3600.0)
        if self._per_s and not self._has_token():
            return self._refuse("over the limit")
        async with self._slots:
            self._worked += 1
            await asyncio.sleep(latency_s(self._worked))
        if drawn > 0.993:
            self.faults["cut"] += 1
            return web.Response(body=self._body[: len(self._body) // 2], content_type="application/json")
        name = named[0].decode()
        self.answered[name] += 1
        if self.answered[name] == 1:
            self.first_answers_s.append(time.monotonic())
        return web.Response(body=self._body, content_type="application/json")

    def _refuse(self, why: str) -> web.Response:
        self.faults[why] += 1
        return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "1"})

    def _has_token(self) -> bool:
        now = time.monotonic()
        self._tokens = min(BURST, self._tokens + (now - self._filled_s) * self._per_s)
        self._filled_s = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def stats(self) -> dict[str, Any]:
        """What happened since the last reset; ``per_s`` is of the 15th to the 80th percent of first answers."""
        times, n = self.first_answers_s, len(self.first_answers_s)
        begin, end = int(0.15 * n), int(0.8 * n)
        per_s = (end - begin) / (times[end] - times[begin]) if end > begin else 0.0
        doubled = sum(times - 1 for times in self.answered.values())
        return {
            "requests": self.requests,
            "answered": len(self.answered),
            "doubled": doubled,
            "per_s": per_s,
            "faults": dict(self.faults),
        }


async def serve() -> None:
    """Serve on a free port of this machine until killed."""
    server = LimitedServer()

    async def reset(request: web.Request) -> web.Response:
        server.reset(**await request.json())
        return web.json_response({})

    async def stats(_: web.Request) -> web.Response:
        return web.json_response(server.stats())

    app = web.Application(client_max_size=10**8)
    app.add_routes([web.post("/v1/chat/completions", server.chat), web.post("/reset", reset), web.get("/stats", stats)])
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
