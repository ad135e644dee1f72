"""What the pipeline costs over a bare loop: the same engines on the same clips, each way in a process of its own.

Run with ``python -m benchmarks.overhead [--input samples/videos]``. The bare loop calls the demo recipe's engines one
after the other in one process: no Beam, no child processes, no time limits, no cache, no shards, card or report.
CPU seconds are those of the process and its children; the pipeline runs with one worker.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
BY_WORDS = "mine.first_stage={engine: bm25}"  # alone: embedding is the engine's work, whoever calls it


def bare_loop(source: str, folder: str) -> int:
    """Evidence, queries, candidates and judgements of every clip, in plain Python; returns the number of judgements."""
    from pipeline.config import load_recipe
    from pipeline.engines import find_engines
    from schemas.fingerprint import sha256_file
    from schemas.query import PAPERS_VARIANTS
    from schemas.video import Evidence, MediaFacts, Video
    from transforms.curate.split import split_of
    from transforms.extract.caption import caption
    from transforms.extract.list_input import list_input
    from transforms.extract.recognize import read_text, transcribe
    from transforms.judge.judge_pairs import JudgeOptions, Pair, judge_pair
    from transforms.media.audio import write_audio
    from transforms.media.container import MediaError
    from transforms.mine.choose_pairs import choose_pairs
    from transforms.mine.documents import document_text
    from transforms.mine.retrieve import ranking_of, search
    from transforms.protocols.engine import loaded
    from transforms.synthesize.filter_queries import reject_reason
    from transforms.synthesize.write_queries import shown_modalities, write_queries

    recipe = load_recipe("demo", [BY_WORDS])
    engines = find_engines(recipe)
    assert engines.asr is not None
    assert engines.ocr is not None
    assert engines.caption is not None
    videos, queries = [], []
    for number, entry in enumerate(list_input(source).entries):
        sampled = loaded(engines.decode).sample(entry.uri, recipe.extract.frames)
        track = f"{folder}/{number}.flac"
        try:
            write_audio(entry.uri, track, sampled.origin_s, recipe.extract.limits.max_duration_s)
            speech = transcribe(engines.asr, track)
        except MediaError:
            speech = ()
        evidence = Evidence(
            caption(engines.caption, sampled.frames).text,
            speech,
            read_text(engines.ocr, sampled.frames),
            entry.metadata,
        )
        media = MediaFacts(sha256_file(entry.uri), Path(entry.uri).stat().st_size)
        video = Video(f"v{number}", entry.uri, media, evidence, "frames", len(sampled.frames))
        videos.append(video)
        for variant in PAPERS_VARIANTS:
            if shown_modalities(evidence, variant):
                written = write_queries(loaded(engines.writer), engines.writer.stamp(), video, variant, 2)
                queries += [q for q in written if not reject_reason(q, evidence, recipe.synthesize.filters)]
    by_id = {video.video_id: video for video in videos}
    index = loaded(engines.first_stages[0].engine).index((v.video_id, document_text(v.evidence)) for v in videos)
    split = {v.video_id: split_of(v.split_key, recipe.emit.validation_fraction, recipe.seed) for v in videos}
    judge, stamp, judged = loaded(engines.judge), engines.judge.stamp(), 0
    for query in queries:
        ranking = ranking_of(query, search(query, index, recipe.mine.retrievable_at))
        if ranking.positive is not None:
            chosen = choose_pairs(ranking, split.__getitem__, recipe.mine.candidates)
            for candidate in [choice.candidate for choice in chosen]:
                pair = Pair(query, by_id[candidate.video_id], candidate, candidate is ranking.positive)
                judge_pair(judge, stamp, pair, JudgeOptions(recipe.judge.modalities))
                judged += 1
    return judged


def pipeline(source: str, folder: str) -> int:
    """``hardquery run demo`` with one worker."""
    import pyarrow.dataset as ds

    from runners.cli.main import main
    from transforms.workers.sandbox import shut_down

    if main(["run", "demo", "--input", source, "--output", f"{folder}/out", "--workers", "1", "--set", BY_WORDS]):
        raise SystemExit("the run failed")
    shut_down()  # so that the child's CPU time is counted
    count: int = ds.dataset(f"{folder}/out/judgements").count_rows()
    return count


def measure(work: Callable[[str, str], int], source: str) -> tuple[int, float, float, float]:
    """Judgements, CPU seconds, wall seconds and peak memory (MB, of the largest process) of one way."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        judged = work(source, folder)
        wall = time.monotonic() - start
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    return judged, cpu, wall, max(usage.ru_maxrss for usage in usages) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", default=str(ROOT / "samples" / "videos"))
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    best: dict[str, tuple[int, float, float, float]] = {}
    spawn = multiprocessing.get_context("spawn")
    for _ in range(arguments.rounds):
        for name, work in (("bare loop", bare_loop), ("hardquery run", pipeline)):
            with ProcessPoolExecutor(1, mp_context=spawn) as process:
                found = process.submit(measure, work, arguments.input).result()
            best[name] = min(best.get(name, found), found, key=lambda one: one[1])
            print(f"{name}: {found[1]:.1f} CPU s", file=sys.stderr)
    loop, run = best["bare loop"], best["hardquery run"]
    print("| | pairs judged | CPU s | wall s | peak MB |\n|---|---:|---:|---:|---:|")
    for name, (judged, cpu, wall, peak) in best.items():
        print(f"| {name} | {judged} | {cpu:.1f} | {wall:.1f} | {peak:.0f} |")
    print(f"| ratio | | {run[1] / loop[1]:.2f} | {run[2] / loop[2]:.2f} | |")


if __name__ == "__main__":
    main()
