"""How much of a server's own limit a judge step gets, against three plain ways to call it.

Run with ``python -m benchmarks.throughput`` (under six minutes). The server, ``limited_server``, is a process of its
own. Ours is the real step on the local runner, with its journal; the others call the same SDK with its own retries,
the asynchronous ones over aiohttp as ours does. All give up on a call after 6 s.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import apache_beam as beam

from benchmarks.limited_server import MEAN_S
from runners import local
from schemas.query import Judgement, Query
from schemas.video import Evidence, MediaFacts, Video
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgePairs, Pair

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 6.0
SLOTS, PER_S = 64, 100.0
EVIDENCE = "A tram leaves the depot while people wave and a band plays by the river. " * 20


@dataclass(frozen=True)
class Load:
    """What is asked of a server: so many requests, so many of them at once."""

    server: str
    slots: int
    per_s: float
    in_flight: int
    requests: int

    @property
    def limit_per_s(self) -> float:
        """What the server can answer a second of so many calls at once."""
        return min(self.in_flight / MEAN_S, self.per_s or self.slots / MEAN_S)


Design = Callable[[str, Load], int]
"""Makes the requests of a load to a server at an address; how many of them have a result."""


def sliding_window(url: str, load: Load) -> int:
    """The judge step."""
    engine = OpenAiTeacher(model="m", base_url=f"{url}/v1", in_flight=load.in_flight, timeout_s=TIMEOUT_S)
    with tempfile.TemporaryDirectory() as folder, closing(Journal(folder)) as journal:
        pipeline = local.make_pipeline(local.pipeline_options([], workers=1))
        judged = pipeline | beam.Create(range(load.requests)) | beam.Map(_pair) | JudgePairs(engine, journal)
        path = str(Path(folder, "judged"))
        _ = judged.judgements | beam.Map(_query_id) | beam.combiners.ToList() | beam.Map(_write, path)
        local.run(pipeline, _wait)
        found: list[str] = json.loads(Path(path).read_text())
    assert len(set(found)) == len(found), "a pair was judged twice"
    return len(found)


def _wait(over: threading.Event) -> None:
    over.wait()


def _pair(number: int) -> Pair:
    video = Video(f"v{number // 20}", "file:v", MediaFacts("0" * 64, 1), Evidence(caption=EVIDENCE))
    return Pair(Query(f"q{number}", "v", f"request-{number}", "human"), video, None, is_positive=False)


def _query_id(judgement: Judgement) -> str:
    return judgement.query_id


def _write(found: list[str], path: str) -> None:
    Path(path).write_text(json.dumps(found))


def _question(number: int) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": "You judge."},
        {"role": "user", "content": f"{EVIDENCE} request-{number}"},
    ]
    return {"model": "m", "messages": messages, "logprobs": True, "top_logprobs": 20, "seed": number}


def thread_pool(url: str, load: Load) -> int:
    """Blocking calls in threads, with the SDK's timeout and retries."""
    from openai import OpenAI

    with OpenAI(base_url=f"{url}/v1", api_key="none", timeout=TIMEOUT_S) as client:

        def ask(number: int) -> bool:
            try:
                return bool(client.chat.completions.create(**_question(number)).choices)
            except Exception:  # noqa: BLE001 - whatever it is, the result is lost
                return False

        with ThreadPoolExecutor(load.in_flight) as threads:
            return sum(threads.map(ask, range(load.requests)))


def gather_per_batch(url: str, load: Load) -> int:
    """Batches of as many as may be in flight; the next one waits for the slowest of the last."""

    async def work() -> int:
        async with _client(url, load) as client:
            good = 0
            for start in range(0, load.requests, load.in_flight):
                numbers = range(start, min(start + load.in_flight, load.requests))
                good += sum(await asyncio.gather(*(_ask(client, number) for number in numbers)))
            return good

    return asyncio.run(work())


def semaphore(url: str, load: Load) -> int:
    """All at once behind a semaphore, which a call holds while the SDK waits to try again."""

    async def work() -> int:
        places = asyncio.Semaphore(load.in_flight)
        async with _client(url, load) as client:

            async def ask(number: int) -> bool:
                async with places:
                    return await _ask(client, number)

            return sum(await asyncio.gather(*map(ask, range(load.requests))))

    return asyncio.run(work())


def _client(url: str, load: Load) -> Any:
    import httpx2
    from openai import AsyncOpenAI, DefaultAioHttpClient

    http = DefaultAioHttpClient(limits=httpx2.Limits(max_connections=load.in_flight))
    return AsyncOpenAI(base_url=f"{url}/v1", api_key="none", timeout=TIMEOUT_S, http_client=http)


async def _ask(client: Any, number: int) -> bool:
    try:
        return bool((await client.chat.completions.create(**_question(number))).choices)
    except Exception:  # noqa: BLE001 - whatever it is, the result is lost
        return False


OURS = "sliding window (ours)"
DESIGNS: dict[str, Design] = {
    OURS: sliding_window,
    "thread pool, SDK retries": thread_pool,
    "gather per batch, SDK retries": gather_per_batch,
    "semaphore, SDK retries": semaphore,
}


def plan() -> Iterator[tuple[str, Load]]:
    """Every design against both servers with 16, 64 and 256 calls in flight, some ten seconds of work each.

    Ours also with a quarter more than the server has slots; two batches are enough of the design that waits for each.
    """
    queue = [(16, 400), (64, 1600), (80, 1600), (256, 1600)]
    rate = [(16, 400), (64, 1000), (256, 1000)]
    loads = [
        *(Load(f"{SLOTS} slots", SLOTS, 0.0, in_flight, requests) for in_flight, requests in queue),
        *(Load(f"{PER_S:g} a second", 0, PER_S, in_flight, requests) for in_flight, requests in rate),
    ]
    for load in loads:
        for name in DESIGNS if load.in_flight != 80 else (OURS,):
            batches = replace(load, requests=min(load.requests, 2 * load.in_flight))
            yield name, batches if DESIGNS[name] is gather_per_batch else load


def call(url: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The server's answer to a question about itself."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"{url}/{path}", data=data, timeout=60) as reply:
        answer: dict[str, Any] = json.load(reply)
        return answer


def measure(url: str, name: str, load: Load) -> str:
    """A line of the table."""
    call(url, "reset", {"slots": load.slots, "per_s": load.per_s})
    before = resource.getrusage(resource.RUSAGE_SELF)
    good = DESIGNS[name](url, load)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    seen = call(url, "stats")
    cells = [
        load.server,
        str(load.in_flight),
        name,
        f"{100 * seen['per_s'] / load.limit_per_s:.1f} %",
        f"{seen['requests'] / max(1, good):.2f}",
        f"{load.requests - good} of {load.requests}",
        str(seen["doubled"]),
        f"{1000 * cpu_s / load.requests:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    local.quieten()
    command = [sys.executable, "-m", "benchmarks.limited_server"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        try:
            print(f"load of the machine before: {os.getloadavg()[0]:.1f}\n")
            print(
                "| server | in flight | design | of the limit | requests a result | lost | doubled | CPU ms a result |"
            )
            print("|---|---:|---|---:|---:|---:|---:|---:|")
            for name, load in plan():
                print(measure(url, name, load), flush=True)
            print(f"\nload of the machine after: {os.getloadavg()[0]:.1f}")
        finally:
            server.kill()


if __name__ == "__main__":
    main()
