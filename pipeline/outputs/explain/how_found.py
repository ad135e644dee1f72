"""How the first stage found a query's own video, as part of its story."""

from __future__ import annotations

from pipeline.outputs.manifest import Manifest
from pipeline.outputs.plain_text import Lines, field, heading
from pipeline.outputs.run_lines import rankings, runs_of
from pipeline.outputs.tables import Row, Tables

_RANKS_SHOWN = 5


def how_found(manifest: Manifest, tables: Tables, query: Row) -> Lines:
    """Where the first stage, and each of several, found a query's own video; the best ranks of one that was kept."""
    if query["stage"] == "synthesize":
        return
    yield from heading("First stage")
    runs = runs_of(manifest.recipe)
    if query["positive_rank"] is None:
        yield "  did not find its video"
    else:
        yield f"  found its video at rank {query['positive_rank']}, score {query['positive_score']:.4g}"
    if len(runs) > 1:
        places = {place["run"]: place for place in query["positive_runs"]}
        for run in runs:
            yield from field(run, standing(places[run]) if run in places else "did not find it")
    if query["verdict"] == "kept":
        for query_id, placed in rankings(tables.output):
            if query_id == query["query_id"]:
                for video_id, rank, score in placed[:_RANKS_SHOWN]:
                    own = "  <- its own video" if video_id == query["video_id"] else ""
                    yield f"  {rank:>4}  {score:>10.4f}  {video_id}{own}"
                return


def standing(place: Row) -> str:
    """A place in a run."""
    rank = f"rank {place['rank']}" if place["rank"] else "behind its last candidate"
    return f"{rank}, score {place['score']:.4g}"
