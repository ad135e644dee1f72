"""The files that the public release of RankVideo reads."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.outputs.errors import UnreadableOutput, reading
from pipeline.outputs.export.groups import grouped_tables
from pipeline.outputs.export.naming import Naming, link_videos, name_videos, naming_lines
from pipeline.outputs.export.texts import VideoTexts
from pipeline.outputs.export.turned import Turned, joined
from pipeline.outputs.export.writing import (
    Write,
    dumps,
    json_lines,
    json_object,
    text_lines,
    write_files,
    writing_to,
)
from pipeline.outputs.manifest import SOURCE, manifest_sha256
from pipeline.outputs.run_lines import RUN, Block, blocks
from pipeline.outputs.tables import Tables
from schemas.example import SPLITS
from schemas.video import Evidence
from transforms.storage.address import is_remote
from transforms.storage.files import join, open_seekable

NAMES = "videos.tsv"

_OF_CANDIDATE = ("video_id", "label", "teacher_label", "p_yes", "delta", "rationale", "rank", "score")
_PAIR = ["query_id", "query", *(f"candidates.list.element.{name}" for name in _OF_CANDIDATE)]
_A_PIECE = 1 << 20
_JSON_FLOAT = r"^-?(0|[1-9][0-9]*)(\.[0-9]+|(\.[0-9]+)?[eE][-+]?[0-9]+)$"


def export_rankvideo(
    output: str, destination: str, video_dir: str | None = None, numeric_ids: bool = False
) -> list[str]:
    """Write the files that the public release of RankVideo (arXiv 2602.02444) reads; returns their paths.

    - ``train.jsonl``, ``validation.jsonl``: one line a (query, candidate), positives first
    - ``perception_train.jsonl``, ``perception_validation.jsonl``: one line a video with its caption
    - ``queries.tsv`` (``id<TAB>text``), ``qrels.trec``, ``run.trec``
    - ``run.json`` (``{query: {video: score}}``), ``candidates.json`` (``{video: [query, …]}``, by first-stage run)
    - ``SOURCE.json``: the hash of the manifest of ``output``, from which verify knows an export of an earlier run

    A video's path is its address in the input or, with ``video_dir``, its file name below that folder. ``numeric_ids``
    gives videos the numbers and folders that the release's reranker expects, says in ``videos.tsv`` which is which, and
    lays links to the files there, below ``destination/videos``; with ``video_dir`` there are no links. The bytes depend
    on the output and on these folders alone; memory does not grow with it, but for the ids of its videos.

    Raises:
        NotAnOutput: ``output`` is not finished or holds no groups, a file of it cannot be read, two videos would have
            one path, or ``destination`` cannot be written to.
    """
    tables, source = grouped_tables(output), {"manifest_sha256": manifest_sha256(output)}
    texts = VideoTexts(tables, _evidence)

    here = destination if is_remote(destination) else os.path.abspath(destination)  # readers are anywhere
    folder = video_dir or (join(here, "videos") if numeric_ids else None)
    naming = name_videos(tables, folder, numeric_ids)

    turned = Turned(list(naming))
    contents: dict[str, Write] = {}
    for split in SPLITS:
        contents[f"{split}.jsonl"] = text_lines(_pairs(tables, texts, split, naming))
        contents[f"perception_{split}.jsonl"] = json_lines(_captions(tables, split, naming))
    contents["queries.tsv"] = text_lines(_queries(tables))
    contents["run.json"] = json_object(_scores(tables, turned, naming))  # which has it turned round on the way
    contents["candidates.json"] = json_object(_queries_by_video(turned, naming))
    for name in (RUN, "qrels.trec"):
        contents[name] = text_lines(_lines(output, name, naming if numeric_ids else {}))
    if numeric_ids:
        contents[NAMES] = text_lines(naming_lines(naming))
    contents[SOURCE] = lambda file: print(dumps(source), file=file)
    if numeric_ids and not video_dir and not is_remote(destination):
        with writing_to(destination):
            link_videos(naming)
    with turned:
        return write_files(destination, contents)


def _pairs(tables: Tables, texts: VideoTexts, split: str, naming: Naming) -> Iterator[str]:
    """A line a candidate. Values are JSON by themselves: those of a query and of a video are, for all their lines."""
    videos = {
        video_id: f'"doc_id": {dumps(named.doc_id)}, "videos": {dumps([named.path])}'
        for video_id, named in naming.items()
    }
    for row in tables.rows("ranking", _PAIR, part=split):
        query = f'"query_id": {dumps(row["query_id"])}, "query": {dumps(row["query"])}'
        for candidate in row["candidates"]:
            [evidence] = texts.of(candidate["video_id"])
            said = ", ".join(
                f'"{name}": {dumps(value)}'
                for name, value in (
                    ("true_label", candidate["label"]),
                    ("teacher_label", int(candidate["teacher_label"] == "yes")),
                    ("teacher_p_yes", candidate["p_yes"]),
                    ("teacher_logit_delta", candidate["delta"]),
                    ("teacher_reasoning", candidate["rationale"]),
                )
            )
            meta = f'{{"rank": {dumps(candidate["rank"])}, "score": {dumps(candidate["score"])}}}'
            yield f'{{{query}, {videos[candidate["video_id"]]}, {said}, "evidence": {evidence}, "meta": {meta}}}\n'


def _evidence(evidence: Evidence) -> tuple[str]:
    return (dumps({"caption": evidence.caption, "asr": evidence.text("asr")}),)


def _captions(tables: Tables, split: str, naming: Naming) -> Iterator[dict[str, Any]]:
    for row in tables.rows("perception", ["video_id", "caption"], part=split):
        named = naming.get(row["video_id"])
        if named is None:
            raise UnreadableOutput(tables.output, "videos/", f"video {row['video_id']!r} is not in it")
        yield {"doc_id": named.doc_id, "videos": [named.path], "caption": row["caption"]}


def _id(naming: Naming, video_id: str) -> str:
    return naming[video_id].doc_id if video_id in naming else video_id


def _scores(tables: Tables, turned: Turned, naming: Naming) -> Iterator[tuple[str, str]]:
    keys = pa.array([f"{dumps(naming[video_id].doc_id)}: " for video_id in sorted(naming)], pa.string())
    for block in blocks(tables.output):
        places = turned.places(block)
        if places.null_count:
            raise UnreadableOutput(tables.output, RUN, f"video {_first_unknown(block, places)!r} is not in videos")
        turned.add(block, places)
        members = pc.binary_join_element_wise(keys.take(places), _numbers(block), "")
        for query_id, found in zip(block.queries, joined(block.starts, members), strict=True):
            yield query_id, f"{{{found}}}"


def _first_unknown(block: Block, places: pa.Array) -> Any:
    return block.videos.filter(places.is_null())[0].as_py()


def _numbers(block: Block) -> pa.Array:
    """The scores as JSON: as they stand where all are JSON's floats, since writing so many anew takes seconds."""
    if pc.all(pc.match_substring_regex(block.said, _JSON_FLOAT)).as_py():
        return block.said
    return pa.array(map(dumps, block.scores.tolist()), pa.string())


def _queries_by_video(turned: Turned, naming: Naming) -> Iterator[tuple[str, str]]:
    for video_id, queries in turned.queries_by_video(dumps):
        yield naming[video_id].doc_id, f"[{queries}]"


def _queries(tables: Tables) -> Iterator[str]:
    for row in tables.rows("ranking", ["query_id", "query"]):
        yield f"{row['query_id']}\t{' '.join(row['query'].split())}\n"


def _lines(output: str, name: str, naming: Naming) -> Iterator[str]:
    """The text of a TREC file, with the ids of ``naming`` in the third column of its lines."""
    with reading(output, name), io.TextIOWrapper(open_seekable(join(output, name)), "utf-8", newline="\n") as stream:
        if not naming:
            yield from iter(lambda: stream.read(_A_PIECE), "")
            return
        for line in stream:
            columns = line.split()
            if len(columns) > 2:
                columns[2] = _id(naming, columns[2])
                yield f"{' '.join(columns)}\n"
            else:
                yield line
