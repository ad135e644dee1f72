"""Emit: everything that a run found becomes deterministic Parquet shards, TREC files and the counts for the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import msgspec

from pipeline.config import EmitConfig
from pipeline.curate import caption_example
from pipeline.stage import Account, merge
from schemas.account import Deferral, Rejection, Tally
from schemas.example import Split
from schemas.query import Candidate, Query
from schemas.tables import TABLES, row_of
from schemas.video import Video
from transforms.curate.curate_query import CuratedPair
from transforms.emit.frame_grid import FrameGrid, on_grid
from transforms.emit.shards import Row, WriteShards, WrittenFile
from transforms.emit.write_parts import WriteParts
from transforms.media.frame_pack import read_jpegs
from transforms.progress import Advance
from transforms.storage.cache import Cache
from transforms.storage.files import join, write_bytes
from transforms.storage.trec import qrels_lines, run_lines

RUN, QRELS, COUNTS = "run.trec", "qrels.trec", ".counts.json"


@dataclass(frozen=True, slots=True)
class Counts:
    """What the workers counted: the finished shards, the tallies, and partial evidence by (part, reason)."""

    files: tuple[WrittenFile, ...]
    tallies: tuple[Tally, ...]
    warnings: tuple[tuple[str, str, int], ...]


@dataclass
class Emit(beam.PTransform):
    """All that a run found, by name -> one path, of a file with its Counts.

    The names: videos (Video), splits ((video_id, split)), written (every Query), ranked (Ranking), examples (Example),
    pairs (CuratedPair).
    """

    config: EmitConfig
    output: str
    shards: int
    cache: Cache
    account: Account

    def expand(self, found: dict[str, beam.PCollection]) -> beam.PCollection:
        pipeline = found["videos"].pipeline
        tables = self._tables(found, pipeline)
        files = [self._write(name, rows) for name, rows in tables.items()]
        trec = self._write_trec(found)
        counts = {
            "files": merge(files, "Files", pipeline),
            "tallies": merge(self.account.tallies, "Tallies", pipeline),
            "warnings": found["videos"]
            | "Warnings" >> beam.FlatMap(lambda video: [((w.part, w.reason), 1) for w in video.warnings])
            | "Count warnings" >> beam.CombinePerKey(sum)
            | "Flat" >> beam.MapTuple(lambda key, count: (*key, count)),
            "trec": trec,
        }
        keyed = {name: items | f"One key {name}" >> beam.Map(lambda item: ("", item)) for name, items in counts.items()}
        return keyed | "Gather" >> beam.CoGroupByKey() | "Counts" >> beam.MapTuple(self._write_counts)

    def _tables(self, found: dict[str, beam.PCollection], pipeline: beam.Pipeline) -> dict[str, beam.PCollection]:
        rejections = merge(self.account.rejections, "Rejections", pipeline)
        failures = merge(self.account.failures, "Failures", pipeline)
        verdicts = {
            "queries": found["written"] | "Key queries" >> beam.Map(lambda query: (query.query_id, query)),
            "rejections": rejections
            | "Of queries" >> beam.Filter(lambda one: one.query_id and one.stage != "judge")  # judge drops pairs
            | "Key rejections" >> beam.Map(lambda one: (one.query_id, one)),
            "deferrals": merge(self.account.deferrals, "Deferrals", pipeline)
            | "Deferred queries" >> beam.Filter(lambda one: one.query_id and one.stage != "judge")
            | "Key deferrals" >> beam.Map(lambda one: (one.query_id, one)),
            "positives": found["ranked"] | "Key positives" >> beam.Map(lambda one: (one.query.query_id, one.positive)),
        } | "Verdicts" >> beam.CoGroupByKey()
        split = found["videos"] | "Add split" >> beam.Map(
            lambda video, splits: (splits[video.video_id], video), beam.pvalue.AsDict(found["splits"])
        )
        return {
            "videos": split | "Video rows" >> beam.MapTuple(video_row),
            "queries": verdicts | "Query rows" >> beam.FlatMapTuple(query_rows),
            "judgements": found["pairs"] | "Pair rows" >> beam.Map(judgement_row),
            "ranking": found["examples"] | "Example rows" >> beam.Map(split_row),
            "perception": split | "Caption rows" >> beam.FlatMapTuple(caption_rows),
            "rejections": rejections | "Rejection rows" >> beam.Map(row_of),
            "failures": failures | "Failure rows" >> beam.Map(row_of),
        }

    def _write(self, name: str, rows: beam.PCollection) -> beam.PCollection:
        keyed = rows if TABLES[name].split else rows | f"Part of {name}" >> beam.Map(lambda row: ("part", row))
        writer = WriteShards(self.output, name, self.shards)
        if name == "videos" and self.config.frames is not None:
            writer.complete = AddFrames(self.cache, self.config.frames)
        files = keyed | f"Write {name}" >> writer | f"Wrote {name}" >> Advance("emit", "done")
        self.account.emitted(name, rows, files)
        return files

    def _write_trec(self, found: dict[str, beam.PCollection]) -> beam.PCollection:
        """Run and qrels of the queries that became examples."""
        kept = {
            "rankings": found["ranked"] | "Rankings" >> beam.Map(lambda one: (one.query.query_id, one)),
            "examples": found["examples"] | "Examples" >> beam.Map(lambda one: (one.query_id, one)),
        } | "Kept" >> beam.CoGroupByKey()
        runs = kept | "Runs" >> beam.FlatMapTuple(_run_of_kept)
        qrels = kept | "Qrels" >> beam.FlatMapTuple(_qrels_of_kept)
        written = (
            runs | "Write run" >> WriteParts(self.output, RUN, self.shards, _run_lines),
            qrels | "Write qrels" >> WriteParts(self.output, QRELS, self.shards, _qrels_lines),
        )
        return written | "Trec" >> beam.Flatten()

    def _write_counts(self, _: str, gathered: Mapping[str, Iterable[Any]]) -> str:
        path = join(self.output, COUNTS)
        counts = Counts(*(tuple(gathered[name]) for name in ("files", "tallies", "warnings")))
        write_bytes(path, msgspec.json.encode(counts))
        return path


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


def video_row(split: Split, video: Video) -> Row:
    """The row of a video, still without frames."""
    row = row_of(video)
    del row["deferred"]
    evidence = row.pop("evidence")
    return {**row, **evidence, "split": split, "frame_times_s": [], "frames": []}


def query_rows(_: str, group: Mapping[str, Iterable[Any]]) -> Iterator[Row]:
    """The row of a query with its verdict: dropped by the one rule that rejected it, deferred, or kept."""
    for query in group["queries"]:
        positive = next(iter(group["positives"]), None)
        yield query_row(query, [*group["rejections"], *group["deferrals"]], positive)


def query_row(query: Query, losses: Iterable[Rejection | Deferral], positive: Candidate | None) -> Row:
    """See query_rows; a query has at most one loss."""
    lost = next(iter(losses), None)
    verdict = "kept" if lost is None else "dropped" if isinstance(lost, Rejection) else "deferred"
    return {
        **row_of(query),
        "positive_rank": positive and positive.rank,
        "positive_score": positive and positive.score,
        "verdict": verdict,
        "stage": lost.stage if lost else "",
        "reason": lost.reason if lost else "",
        "detail": lost.detail if isinstance(lost, Rejection) else "",
    }


def judgement_row(pair: CuratedPair) -> Row:
    """The row of a judged pair, with what curation made of it."""
    row = row_of(pair.judgement)
    margin = pair.judgement.margin
    return {
        **row,
        "delta": margin and margin.delta,
        "delta_lo": margin and margin.lo,
        "delta_hi": margin and margin.hi,
        "censored": margin and margin.censored,
        "label_mass": margin and margin.label_mass,
        "p_yes": margin and margin.p_yes,
        "stratum": pair.stratum,
        "kept": pair.kept,
        "reason": pair.reason,
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


def _run_of_kept(query_id: str, group: Mapping[str, Iterable[Any]]) -> Iterator[tuple[str, tuple[Candidate, ...]]]:
    if list(group["examples"]):
        for ranking in group["rankings"]:
            yield query_id, ranking.candidates


def _qrels_of_kept(query_id: str, group: Mapping[str, Iterable[Any]]) -> Iterator[tuple[str, dict[str, int]]]:
    """The labels of an example's candidates, and the other videos that people called relevant."""
    rankings = list(group["rankings"])
    for example in group["examples"]:
        labels = {candidate.video_id: candidate.label for candidate in example.candidates}
        yield query_id, labels | dict.fromkeys(rankings[0].query.also_relevant, 1)


def _run_lines(pairs: Iterable[tuple[str, tuple[Candidate, ...]]]) -> Iterator[str]:
    return run_lines(dict(pairs), "first-stage")


def _qrels_lines(pairs: Iterable[tuple[str, dict[str, int]]]) -> Iterator[str]:
    return qrels_lines(dict(pairs))
