"""Emit: everything that a run found becomes deterministic Parquet shards, TREC files and the counts for the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

import apache_beam as beam
import msgspec

from pipeline.config import EmitConfig
from pipeline.curate import caption_example
from pipeline.outputs.run_lines import run_files
from pipeline.stage import LedgerBuilder, merge
from schemas.example import Example, Split
from schemas.losses import OF_NEGATIVES, Loss, Tally
from schemas.query import Candidate, Candidates, Margin, Place, Query
from schemas.tables import TABLES, row_of
from schemas.video import Video
from transforms.curate.curate_query import CuratedPair
from transforms.curate.strata import Thresholds
from transforms.emit.frame_grid import FrameGrid, on_grid
from transforms.emit.shards import Row, ShardCounts, WrittenFile
from transforms.emit.write_parts import WriteParts
from transforms.emit.write_shards import WriteShards
from transforms.media.frame_pack import read_jpegs
from transforms.mine.margin_rule import FittedMargin
from transforms.mine.retrieve import Ranking
from transforms.progress import Advance
from transforms.storage.cache import Cache
from transforms.storage.files import join, write_bytes
from transforms.storage.trec import qrels_lines, run_lines

QRELS, COUNTS = "qrels.trec", ".counts.json"
CAME_TO = ("thresholds", "margin")  # what the recipe's fitted thresholds came to, where it has such
BY_VIDEO, NECESSITY = "examples_by_video", "necessity"
FIRST_STAGE = "first-stage"  # the tag of the run that a reranker is given
Positive = tuple[Candidate | None, tuple[Place, ...]]  # a video among the candidates, and its places in their runs


@dataclass(frozen=True, slots=True)
class Counts:
    """What the workers counted: finished shards, tallies, partial evidence by (part, reason), work by (step, name).

    ``thresholds`` and ``margin`` are one where quantiles had to be found, else none.
    """

    files: tuple[WrittenFile, ...]
    tallies: tuple[Tally, ...]
    warnings: tuple[tuple[str, str, int], ...]
    work: tuple[tuple[str, str, int], ...] = ()
    thresholds: tuple[Thresholds, ...] = ()
    margin: tuple[FittedMargin, ...] = ()


@dataclass
class Emit(beam.PTransform):
    """All that a run found, by name -> one path, of a file with its Counts.

    The names: videos (Video), splits ((video_id, split)), near ((video_id, name of its near-duplicate group)),
    written (every Query), ranked (Ranking), examples (Example), pairs (CuratedPair), and, not there where there are
    none, thresholds (Thresholds), margin (FittedMargin), examples_by_video (VideoExample) and necessity
    (Necessity). ``runs`` are the names of the first stages; each of several has a file of its own.
    """

    config: EmitConfig
    runs: tuple[str, ...]
    output: str
    shards: ShardCounts
    cache: Cache
    ledger: LedgerBuilder

    def expand(self, found: dict[str, beam.PCollection]) -> beam.PCollection:
        pipeline = found["videos"].pipeline
        tables = self._tables(found, pipeline)
        counts = {
            "files": self._write(tables),
            "tallies": self.ledger.tallies(pipeline),
            "warnings": found["videos"]
            | "Warnings" >> beam.FlatMap(lambda video: [((w.part, w.reason), 1) for w in video.warnings])
            | "Count warnings" >> beam.CombinePerKey(sum)
            | "Flat" >> beam.MapTuple(lambda key, count: (*key, count)),
            "work": self.ledger.work(pipeline),
            "trec": self._write_trec(found),
        }
        counts |= {name: found[name] for name in CAME_TO if name in found}
        named = [items | f"Of {name}" >> beam.Map(_under_one_key, name) for name, items in counts.items()]
        gathered = named | "Gather" >> beam.Flatten() | "All" >> beam.GroupByKey()
        return gathered | "Counts" >> beam.MapTuple(self._write_counts)

    def _tables(self, found: dict[str, beam.PCollection], pipeline: beam.Pipeline) -> dict[str, beam.PCollection]:
        losses = merge(self.ledger.losses, "Losses", pipeline)
        verdicts = {
            "queries": found["written"] | "Key queries" >> beam.Map(lambda query: (query.query_id, query)),
            "losses": losses
            | "Of queries" >> beam.Filter(_is_of_query)
            | "Key losses" >> beam.Map(lambda one: (one.query_id, one)),
            "positives": found["ranked"]
            | "Key positives" >> beam.Map(lambda one: (one.query.query_id, positive_of(one))),
        } | "Verdicts" >> beam.CoGroupByKey()
        split = found["videos"] | "Add split" >> beam.Map(
            lambda video, splits: (splits[video.video_id], video), beam.pvalue.AsDict(found["splits"])
        )
        optional = {}
        if (by_video := found.get(BY_VIDEO)) is not None:
            optional["ranking_by_video"] = by_video | "Rows by video" >> beam.Map(split_row)
        if (necessity := found.get(NECESSITY)) is not None:
            optional[NECESSITY] = necessity | "Necessity rows" >> beam.Map(row_of)
        return {
            "videos": split | "Video rows" >> beam.Map(_video_row, beam.pvalue.AsDict(found["near"])),
            "queries": verdicts | "Query rows" >> beam.FlatMapTuple(query_rows),
            "judgements": found["pairs"] | "Pair rows" >> beam.Map(judgement_row),
            "ranking": found["examples"] | "Example rows" >> beam.Map(split_row),
            "perception": split | "Caption rows" >> beam.FlatMapTuple(caption_rows),
            "rejections": losses | "Rejection rows" >> beam.FlatMap(rejection_rows),
            "failures": losses | "Failure rows" >> beam.FlatMap(failure_rows),
            **optional,
        }

    def _write(self, tables: dict[str, beam.PCollection]) -> beam.PCollection:
        """Every table's files; its rows and theirs enter the ledger."""
        grid = self.config.frames
        complete = {} if grid is None else {"videos": AddFrames(self.cache, grid)}
        files = (
            tables | "Shards" >> WriteShards(self.output, self.shards, complete) | "Wrote" >> Advance("emit", "done")
        )
        self.ledger.emitted(tables, files)
        return files

    def _write_trec(self, found: dict[str, beam.PCollection]) -> beam.PCollection:
        """Runs and qrels of the queries that became examples."""
        runs = run_files(self.runs)
        lines: dict[str, Callable[..., Iterator[str]]] = {QRELS: qrels_of_kept}
        lines |= {name: partial(run_of_kept, tag=run or FIRST_STAGE) for name, run in runs.items()}
        ranked = found["ranked"] | "Of rankings" >> beam.FlatMap(of_ranking, runs)
        kept = found["examples"] | "Of examples" >> beam.FlatMap(of_example, tuple(runs))
        return (ranked, kept) | "Trec" >> WriteParts(self.output, self.shards.by_pair, lines)

    def _write_counts(self, _: str, gathered: Iterable[tuple[str, Any]]) -> str:
        by_name: dict[str, list[Any]] = defaultdict(list)
        for name, item in gathered:
            by_name[name].append(item)
        path = join(self.output, COUNTS)
        counts = Counts(*(tuple(by_name[name]) for name in ("files", "tallies", "warnings", "work", *CAME_TO)))
        write_bytes(path, msgspec.json.encode(counts))
        return path


def _under_one_key(item: Any, name: str) -> tuple[str, tuple[str, Any]]:
    return "", (name, item)


@dataclass(frozen=True)
class AddFrames:
    """Puts a video's frames into its row, from its frame pack, as the shard is written."""

    cache: Cache
    grid: FrameGrid

    def __call__(self, row: Row) -> Row:
        if row["frame_pack"] is None:
            return row
        with self.cache.reading(row["frame_pack"]) as pack:
            times, jpegs = on_grid(read_jpegs(pack), self.grid)
        return {**row, "frame_times_s": times, "frames": [{"bytes": jpeg, "path": None} for jpeg in jpegs]}


def _is_of_query(loss: Loss) -> bool:
    """Whether a query was lost, and no pair of it, nor a negative query."""
    of_pair = loss.stage == "judge" or (loss.stage, loss.step) == ("mine", "guard")
    return bool(loss.query_id) and not of_pair and loss.step not in OF_NEGATIVES


def video_row(split: Split, video: Video, group: str) -> Row:
    """The row of a video, still without frames."""
    row = row_of(video)
    del row["deferred"]
    evidence = row.pop("evidence")
    return {**row, **evidence, "split": split, "group": group, "frame_times_s": [], "frames": []}


def _video_row(found: tuple[Split, Video], near_of: Mapping[str, str]) -> Row:
    split, video = found
    return video_row(split, video, near_of[video.video_id])


def positive_of(ranking: Ranking) -> Positive:
    """Where a query's own video stands."""
    return ranking.positive, ranking.places(ranking.query.video_id)


def of_ranking(ranking: Ranking, runs: Mapping[str, str | None]) -> Iterator[tuple[str, tuple[str, Any]]]:
    """What each TREC file needs of a ranking: the relevant videos, and the candidates by a run, or all."""
    query_id = ranking.query.query_id
    yield QRELS, (query_id, relevant_of(ranking))
    for name, run in runs.items():
        yield name, (query_id, ranking.run(run))


def of_example(example: Example, runs: Iterable[str]) -> Iterator[tuple[str, tuple[str, Any]]]:
    """What each TREC file needs of an example: its labels, and that there is one."""
    yield QRELS, (example.query_id, {candidate.video_id: candidate.label for candidate in example.candidates})
    for name in runs:
        yield name, (example.query_id, None)


def query_rows(_: str, group: Mapping[str, Iterable[Any]]) -> Iterator[Row]:
    """The row of a query with its verdict: dropped by the one rule that rejected it, deferred, or kept."""
    for query in group["queries"]:
        positive = next(iter(group["positives"]), (None, ()))
        yield query_row(query, next(iter(group["losses"]), None), positive)


def query_row(query: Query, lost: Loss | None, positive: Positive) -> Row:
    """See query_rows; a query has at most one loss."""
    found, places = positive
    verdict = "kept" if lost is None else "dropped" if lost.kind == "rejected" else "deferred"
    return {
        **row_of(query),
        "positive_rank": found and found.rank,
        "positive_score": found and found.score,
        "positive_runs": [row_of(place) for place in places],
        "verdict": verdict,
        "stage": lost.stage if lost else "",
        "reason": lost.reason if lost else "",
        "detail": lost.detail if lost else "",
    }


def rejection_rows(loss: Loss) -> Iterator[Row]:
    """The row of what a rule dropped."""
    if loss.kind == "rejected":
        yield {name: getattr(loss, name) for name in TABLES["rejections"].schema.names}


def failure_rows(loss: Loss) -> Iterator[Row]:
    """The row of what broke."""
    if loss.kind == "failed":
        ids = {name: getattr(loss, name) for name in ("stage", "step", "uri", "video_id", "query_id")}
        yield {**ids, "error_class": loss.reason, "message": loss.detail}


def judgement_row(pair: CuratedPair) -> Row:
    """The row of a judged pair, with what curation made of it."""
    judged = pair.judgement
    return {
        **row_of(judged),
        **margin_columns(judged.margin),
        "panel": [{**row_of(opinion), **margin_columns(opinion.margin)} for opinion in judged.panel],
        "stratum": pair.stratum,
        "kept": pair.kept,
        "reason": pair.reason,
    }


def margin_columns(margin: Margin | None) -> Row:
    """The columns that a margin becomes, all null where there is none."""
    return {
        "delta": margin and margin.delta,
        "delta_lo": margin and margin.lo,
        "delta_hi": margin and margin.hi,
        "censored": margin and margin.censored,
        "label_mass": margin and margin.label_mass,
        "p_yes": margin and margin.p_yes,
    }


def split_row(example: Any) -> tuple[Split, Row]:
    """The row of an example of either kind, under its split."""
    split: Split = example.split
    return split, row_of(example)


def caption_rows(split: Split, video: Video) -> Iterator[tuple[Split, Row]]:
    """The perception row of a video that has one."""
    example = caption_example(video, split)
    if example is not None:
        yield split_row(example)


def run_of_kept(found: Iterable[tuple[str, Candidates | None]], tag: str = FIRST_STAGE) -> Iterator[str]:
    """The run's lines of the queries, in order, that became examples: those have a None beside their candidates."""
    for query_id, group in groupby(found, key=itemgetter(0)):
        values = [value for _, value in group]
        if None in values:
            yield from run_lines({query_id: next(value for value in values if value is not None)}, tag)


def relevant_of(ranking: Ranking) -> tuple[tuple[str, int], ...]:
    """The videos of a query's run that are known to answer it, with the grade that people gave them, else 1.

    One that is not in the run is left out: nothing that reranks the run could find it.
    """
    query, grades = ranking.query, dict(ranking.query.grades)
    known = sorted({query.video_id, *query.also_relevant})
    return tuple((video_id, grades.get(video_id, 1)) for video_id in known if ranking.candidates.find(video_id))


def qrels_of_kept(found: Iterable[tuple[str, Mapping[str, int] | tuple[tuple[str, int], ...]]]) -> Iterator[str]:
    """The labels of each example's candidates, and the relevant videos of its run; in order of queries.

    A query that became no example has relevant videos alone.
    """
    for query_id, group in groupby(found, key=itemgetter(0)):
        values = [value for _, value in group]
        labels = next((value for value in values if isinstance(value, Mapping)), None)
        if labels is not None:
            relevant = next(value for value in values if not isinstance(value, Mapping))
            yield from qrels_lines({query_id: {**labels, **dict(relevant)}})
