"""How much work lies before a run that was not looked at: the plan's estimates, for whoever shows how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.planning.forecast import Flow, calls_of_pair, compared_by, test_queries, variants_of
from pipeline.planning.panel import DOUBTFUL
from pipeline.planning.rate import Rate
from pipeline.run import Job
from schemas.tables import TABLES
from transforms.journal.budget import Cost
from transforms.journal.record import STEPS
from transforms.protocols.engine import Waits

_A_PAIR_S = 2e-4  # to curate a pair, and to write all there is of it (benchmarks/growth.py)
_SAMPLE = 200  # records, to learn from what a result takes
# Of steps that are named otherwise than the engine that does them.
_ROLES = {"write": "writer", "verify": "verifier", "necessity": "judge"}


def foretold(job: Job) -> dict[str, float]:
    """How many items each step will be given, as if no video were lost before it; what is cached is among them.

    A pair is one item of judging, whatever calls it takes.
    """
    videos, recipe, embedders = len(job.listing.entries), job.recipe, job.engines.embedders
    nothing: Mapping[str, int] = dict.fromkeys(("write", "judge"), 0)
    flow = Flow(recipe, {}, nothing, nothing, len(job.human), job.engines.judge.ladder, words_alone=not embedders)
    prompts = videos * len(variants_of(recipe))
    queries = flow.searched(flow.write_calls(videos))
    evidence = {name: videos for name in ("asr", "ocr", "caption") if getattr(recipe.extract, name) is not None}
    hashed = {"frame_hashes": videos} if recipe.group.max_bits is not None else {}
    asked = (len(embedders) + compared_by(recipe)) * queries + test_queries(recipe, job.test_files)
    embedded = {"embed_video": len(embedders) * videos, "embed_query": asked} if embedders else {}
    counts = {"decode": videos, **evidence, **hashed, "write": prompts, **embedded}
    pairs = queries * flow.pairs_a_query(videos)
    again = {"panel": DOUBTFUL * pairs * len(job.engines.panel)} if job.engines.panel else {}
    asked_for = {"ranking_by_video": recipe.synthesize.negative_queries, "necessity": recipe.judge.necessity}
    written = [table for table in TABLES.values() if not table.optional or asked_for[table.name] is not None]
    shards = sum(job.shards.of(table.name) * len(table.parts) for table in written)
    return counts | {"retrieve": queries, "judge": pairs, "curate": queries, "emit": shards} | again


def seconds_each(job: Job, step: str) -> float | None:
    """Seconds that an item of a step took in earlier runs, spread over what does such work at once; None: none did.

    Of curating and of writing shards nothing is recorded; they take as long a pair as was once measured.
    """
    if step in ("curate", "emit"):
        due = foretold(job)
        return _A_PAIR_S * due["judge"] / due[step]
    if step not in STEPS:
        return None
    engines = job.engines
    stamps = engines.stamps()
    engine: Any = getattr(engines, _ROLES.get(step, step), None)
    if step in ("embed_video", "embed_query") and engines.embedders:
        engine = engines.embedders[0]
        stamps[step] = engine.document_stamp() if step == "embed_video" else engine.query_stamp()
    if step == "panel" and engines.panel:
        engine = next(iter(engines.panel.values()))
        stamps[step] = engine.stamp()
    rate = Rate.of(job.journal.some(step, _SAMPLE), stamps.get(_ROLES.get(step, step)), Cost())
    at_once = engine.at_once if isinstance(engine, Waits) else job.workers
    calls = calls_of_pair(engine.ladder) if step in ("judge", "panel", "verify", "necessity") else 1
    return None if rate.seconds is None else calls * rate.seconds / at_once
