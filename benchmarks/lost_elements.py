"""Whether every element of a pipeline arrives: Beam's local runner with and without its thread that empties buffers.

Run with ``python -m benchmarks.lost_elements``. A pipeline as ``hardquery run`` has them: four bundles that take
seconds and hand on 7,000 query records each, a few at a time as a server's answers come in; the next step counts them.
Each run is a process of its own, since some end by a signal or ask for more memory than there is. Linux only.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import worker_handlers

from runners import local
from runners.cause import cause
from schemas.query import Query

ROOT = Path(__file__).parent.parent
BUNDLES, EACH = 4, 7_000
AT_ONCE, PAUSE_S = 100, 0.02
BEAMS_PERIOD_MS = worker_handlers.DATA_BUFFER_TIME_LIMIT_MS
MEMORY_BYTES = 6 << 30  # a torn element may promise any length


@dataclass(frozen=True)
class Ran:
    """One run: how many elements did not arrive, or None with what stopped it."""

    missing: int | None
    error: str = ""


def queries(bundle: int) -> Iterator[Query]:
    """What a bundle hands on, with a pause after every hundred."""
    for n in range(EACH):
        yield Query(f"h{bundle}-{n}", "v", "some text of a query", "human", rationale="r" * 2000)
        if n % AT_ONCE == 0:
            time.sleep(PAUSE_S)


def run_here(workers: int, period_ms: int, result: Path) -> None:
    """Run the pipeline in this process; the number of elements that arrived, or an error, goes to ``result``."""
    local.quieten()
    pipeline = local.make_pipeline(local.pipeline_options([], workers))
    worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = period_ms
    made = pipeline | beam.Create(range(BUNDLES), reshuffle=False) | beam.Reshuffle() | beam.FlatMap(queries)
    none = pipeline | "None" >> beam.Create([], reshuffle=False)
    counted = (made, none) | beam.Flatten() | beam.combiners.Count.Globally()
    _ = counted | beam.Map(lambda count: result.write_text(json.dumps({"arrived": count})))
    try:
        local.run(pipeline, threading.Event.wait)
    except Exception as error:  # noqa: BLE001 - what stopped it is what this measures
        result.write_text(json.dumps({"error": cause(error)}))


def run(workers: int, period_ms: int, folder: Path) -> Ran:
    """Run the pipeline in a process of its own."""
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.lost_elements", "--workers", str(workers)]
    ended = subprocess.run(
        [*command, "--period-ms", str(period_ms), "--result", str(result)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES)),
        check=False,
    )
    if ended.returncode or not result.exists():
        return Ran(None, f"the process ended with {ended.returncode}")
    said = json.loads(result.read_text())
    return Ran(None, said["error"]) if "error" in said else Ran(BUNDLES * EACH - said["arrived"])


def row(workers: int, period_ms: int, runs: list[Ran]) -> str:
    """A line of the table."""
    ended = [ran.missing for ran in runs if ran.missing is not None]
    lossy = [missing for missing in ended if missing]
    lost = f"{min(lossy)} to {max(lossy)}" if lossy else "0"
    flush = f"every {period_ms} ms" if period_ms else "off"
    return (
        f"| {workers} | {flush} | {len(runs)} | {ended.count(0)} | {len(lossy)} | {lost} | {len(runs) - len(ended)} |"
    )


def main() -> None:
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--period-ms", type=int, default=BEAMS_PERIOD_MS, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.result:
        run_here(arguments.workers[0], arguments.period_ms, arguments.result)
        return
    print(f"| workers | flush by time | runs | all {BUNDLES * EACH:,} there | fewer, exit well | missing | stopped |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for workers in arguments.workers:
            for period_ms in (BEAMS_PERIOD_MS, 0):
                runs = [run(workers, period_ms, Path(folder)) for _ in range(arguments.runs)]
                print(row(workers, period_ms, runs), flush=True)
                for error in sorted({ran.error[:120] for ran in runs if ran.error}):
                    print(f"  {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
