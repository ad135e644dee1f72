"""What ``hardquery view`` takes on an output of any size: CPU seconds and memory of the server, action by action.

Run with ``python -m benchmarks.view_size [N] [--folder OUT]``: writes a made-up output of N videos (100,000 take some
minutes and 2 GB), a query of four judged pairs each, then asks a server in this process what the page asks.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.request import urlopen

ROOT = Path(__file__).parent.parent
SHARD = 512  # videos
TYPES = ("base", "specific", "ocr", "speech", "text")

Row = dict[str, Any]


def write_output(folder: str, videos: int) -> None:
    """Rows of the tests' small output again and again, under ids of their own."""
    from pipeline.outputs.manifest import Manifest, write_manifest
    from schemas.tables import TABLES
    from tests.support.tiny_output import tiny_rows, tiny_run_info
    from transforms.emit.shards import WrittenFile, shard_index, write_shard

    shards = -(-videos // SHARD)
    small = {name: [row for _, row in rows] for name, rows in tiny_rows().items()}
    buckets: dict[tuple[str, str, int], list[Row]] = defaultdict(list)
    files: list[WrittenFile] = []

    def write(*names: str) -> None:
        for name in names:
            key = TABLES[name].key
            for part in TABLES[name].parts:
                for index in range(shards):
                    rows = sorted(buckets.pop((name, part, index), []), key=lambda row: [str(row[c]) for c in key])
                    path = TABLES[name].shard_path(part, index, shards)
                    files.append(WrittenFile(path, *write_shard(f"{folder}/{path}", name, rows)))

    for makers, names in ((_videos, ("videos",)), (_queries, ("queries", "judgements", "ranking"))):
        for name, part, row in makers(small, videos):
            buckets[name, part, shard_index(row[TABLES[name].key[0]], shards)].append(row)
        write(*names)
    write("rejections", "failures", "perception")
    info = tiny_run_info()
    given = {name: getattr(info, name) for name in asdict(info)}
    write_manifest(folder, Manifest(**given, files=tuple(sorted(files, key=lambda file: file.path))))


def _videos(small: dict[str, list[Row]], videos: int) -> Iterator[tuple[str, str, Row]]:
    for number in range(videos):
        like = small["videos"][number % len(small["videos"])]
        own = {"video_id": _id(number), "group": _id(number), "uri": f"/films/{number % 100}/film {number}.mp4"}
        yield "videos", "part", {**like, **own}


def _queries(small: dict[str, list[Row]], videos: int) -> Iterator[tuple[str, str, Row]]:
    draw = random.Random(1)
    kept = next(row for row in small["queries"] if row["verdict"] == "kept")
    group = next(row for row in small["ranking"] if len(row["candidates"]) > 2)
    pair = small["judgements"][0]
    for number in range(videos):
        query_id = f"q-{hashlib.sha256(str(number).encode()).hexdigest()[:16]}"
        text, kind = f"which boat passed the quay number {number} before the parade", TYPES[number % len(TYPES)]
        yield "queries", "part", {**kept, "query_id": query_id, "video_id": _id(number), "text": text}
        candidates = []
        for place in range(4):
            own = place == 0
            delta = draw.uniform(4, 12) if own else -draw.uniform(1, 12)
            like = group["candidates"][min(place, 2)]
            said = {"delta": delta, "delta_lo": delta, "delta_hi": delta, "rank": place + 1}
            said["video_id"] = _id(number if own else (number * 7 + place * 13 + 1) % videos)
            candidates.append({**like, **said})
            told = {
                "query_id": query_id,
                "is_positive": own,
                "label": "yes" if own else "no",
                "kept": True,
                "reason": "",
            }
            yield "judgements", "part", {**pair, **said, **told, "stratum": like["stratum"]}
        split = "train" if number % 10 else "validation"
        yield (
            "ranking",
            split,
            {**group, "query_id": query_id, "query": text, "query_type": kind} | {"candidates": candidates},
        )


def _id(number: int) -> str:
    return f"v-{number:08d}"


def measure(output: str) -> None:
    """Print a row an action; what this process took before, in imports, is the first."""
    taken = 0.0

    def told(action: str) -> None:
        nonlocal taken
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = usage.ru_utime + usage.ru_stime
        status = Path("/proc/self/status").read_text().splitlines()  # not ru_maxrss, which counts who started it
        peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
        print(f"| {action} | {cpu_s - taken:.2f} | {cpu_s:.2f} | {peak_kib / 1024:.0f} |", flush=True)
        taken = cpu_s

    print("| action | CPU s | of all so far | most memory, MB |\n|---|---:|---:|---:|")
    from pipeline.outputs.view.desk import Desk
    from pipeline.outputs.view.server import ViewServer

    told("start of Python, and imports")
    with ViewServer(Desk.open(output)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def get(path: str) -> bytes:
            with urlopen(server.url + path) as reply:
                return bytes(reply.read())

        for path in ("", "view.css", "view.js", "api/about"):
            get(path)
        rows = json.loads(get("api/list?of=groups&sort=doubt"))["rows"]
        told("first paint: page and the least sure groups")
        get("api/facets?of=groups")
        told("what to filter by, split and language among it")
        pairs = json.loads(get(f"api/query?id={rows[0]['query_id']}"))["pairs"]
        for pair in pairs:
            get(f"api/video?id={pair['video_id']}")
            get(f"frame?n=0&id={pair['video_id']}")
        told("a group, its videos and a frame of each")
        get("api/list?of=groups&sort=against&f.type=ocr")
        told("a filter and another order")
        get("api/list?of=groups&search=film%2099")
        told("a search by file name")
        get("api/list?of=pairs&sort=doubt")
        told("the list of all pairs")
        server.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=int, nargs="?", default=100_000)
    parser.add_argument("--folder", help="an output that is there already is measured as it is")
    parser.add_argument("--measure", action="store_true", help="only measure; in a process that made nothing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="view-") as place:
        output = arguments.folder or f"{place}/out"
        if not arguments.measure:
            if not Path(output, "manifest.json").exists():
                write_output(output, arguments.videos)
            command = [sys.executable, "-m", "benchmarks.view_size", "--measure", "--folder", output]
            sys.exit(subprocess.run(command, cwd=ROOT, check=False).returncode)
        measure(output)


if __name__ == "__main__":
    main()
