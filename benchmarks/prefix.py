"""How much of a judge's prompts a server has read before: evidence first, against query first.

Run with ``python -m benchmarks.prefix`` (about a minute). The server is llama.cpp's own, with a tiny random model: what
it finds read does not depend on the weights. It keeps no more prompts than it has slots, as if a large model's filled
its memory. The step is the real one on the local runner. The command fails unless evidence first, in the order in which
the pipeline judges, is clearly better.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import apache_beam as beam

from pipeline.config import load_recipe
from runners import local
from schemas.query import Query
from schemas.video import AsrSegment, Evidence, MediaFacts, Metadata, Video
from tests.support.llama_server import SLOTS, VERDICT_GRAMMAR, serving
from tests.support.tiny_llm import make_tiny_llm
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.journal.counts import add, work_of
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgeOptions, JudgePairs, Pair
from transforms.workers.recorded import WORK, AddUpWork

VIDEOS, QUERIES = 6, 20
MODALITIES = ("caption", "asr", "metadata")
CLEARLY = 0.3  # of the prompts' tokens


def make_videos() -> list[Video]:
    """Each with about a thousand tokens of evidence, in words of the licence."""
    words = Path(__file__).parent.parent.joinpath("LICENSE").read_text().split()
    rng = random.Random(0)

    def text(length: int) -> str:
        return " ".join(rng.choices(words, k=length))

    return [
        Video(
            f"v{number}",
            f"file:v{number}",
            MediaFacts("0" * 64, 1),
            Evidence(
                caption=text(150),
                asr=tuple(AsrSegment(10.0 * at, 10.0 * at + 9, text(30), 0.9) for at in range(10)),
                metadata=Metadata(text(8), text(50)),
            ),
        )
        for number in range(VIDEOS)
    ]


def make_pairs() -> list[Pair]:
    """Every query with every video, those of a video one after the other."""
    words = "who opened the old bridge before noon and why did they leave again by tram in winter".split()
    rng = random.Random(1)
    texts = [" ".join(rng.choices(words, k=10)) for _ in range(QUERIES)]
    queries = [Query(f"q{number}", "v0", text, "human") for number, text in enumerate(texts)]
    return [Pair(query, video, None, is_positive=False) for video in make_videos() for query in queries]


def measure(model: Path, pairs: Sequence[Pair], prompt: str | None) -> tuple[int, int, float]:
    """Tokens of all prompts, those of them that a fresh server had read before, and seconds."""
    template = load_recipe("demo", [f"judge.prompt={prompt}"] if prompt else []).templates()["judge"]
    with (
        serving(model, kept_mib=0) as server,
        tempfile.TemporaryDirectory() as folder,
        closing(Journal(folder)) as journal,
    ):
        body = {"grammar": VERDICT_GRAMMAR}
        engine = OpenAiTeacher(model="tiny", base_url=server.base_url, in_flight=SLOTS, extra_body=body, confidence=())
        pipeline = local.make_pipeline(local.pipeline_options([], workers=1))
        judge = JudgePairs(engine, journal, JudgeOptions(MODALITIES, template=template))
        judged = pipeline | beam.Create(pairs, reshuffle=False) | judge
        _ = judged[WORK] | AddUpWork() | beam.MapTuple(add)
        start = time.monotonic()
        work = work_of(local.run(pipeline, _wait))["judge"]
        elapsed_s = time.monotonic() - start
        counted = server.metrics()
    assert work["run"] == len(pairs), "a pair was not judged"
    assert work["cached_tokens"] == counted["prompt_tokens_cached_total"], "the server counted otherwise"
    return work["input_tokens"], work["cached_tokens"], elapsed_s


def _wait(over: threading.Event) -> None:
    over.wait()


def main() -> None:
    """Print a Markdown table; fail unless evidence first is clearly better."""
    local.quieten()
    pairs = make_pairs()
    shuffled = random.Random(2).sample(pairs, len(pairs))
    ours = load_recipe("demo").templates()["judge"].source
    evidence, query = "{{evidence}}", "{{query}}"
    swapped = ours.replace(evidence, "\0").replace(query, evidence).replace("\0", query)
    shares = {}
    with tempfile.TemporaryDirectory() as folder:
        model = make_tiny_llm(Path(folder, "tiny")).gguf
        query_first = Path(folder, "query_first.txt")
        query_first.write_text(swapped, "utf-8")
        designs = {
            "evidence first, by video (ours)": (pairs, None),
            "evidence first, in random order": (shuffled, None),
            "query first, by video": (pairs, str(query_first)),
        }
        print("| prompt | tokens | cached | share | wall s |\n|---|---:|---:|---:|---:|")
        for name, (ordered, prompt) in designs.items():
            tokens, cached, elapsed_s = measure(model, ordered, prompt)
            shares[name] = cached / tokens
            print(f"| {name} | {tokens} | {cached} | {shares[name]:.1%} | {elapsed_s:.1f} |", flush=True)
    best, *_, worst = shares.values()
    if best < worst + CLEARLY:
        sys.exit(f"evidence first has {best:.1%} of the tokens cached, query first {worst:.1%}")


if __name__ == "__main__":
    main()
