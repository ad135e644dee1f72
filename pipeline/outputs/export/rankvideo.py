"""The files that the public release of RankVideo reads."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from pipeline.outputs.errors import UnreadableOutput, reading
from pipeline.outputs.export.naming import Naming, link_videos, name_videos, naming_lines
from pipeline.outputs.export.writing import (
    Write,
    dumps,
    json_lines,
    json_object,
    text_lines,
    write_files,
    writing_to,
)
from pipeline.outputs.manifest import SOURCE, manifest_sha256, read_manifest
from pipeline.outputs.run_lines import RUN, rankings
from pipeline.outputs.tables import Row, Tables, VideoIndex, evidence_of
from schemas.example import SPLITS
from transforms.storage.address import is_remote
from transforms.storage.files import join, open_seekable

NAMES = "videos.tsv"


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
        NotAnOutput: ``output`` is not finished, a file of it cannot be read, two videos would have one path, or
            ``destination`` cannot be written to.
    """
    tables, source = read_manifest(output).tables(output), {"manifest_sha256": manifest_sha256(output)}
    videos = VideoIndex(tables, ["caption", "asr", "ocr", "metadata"])

    here = destination if is_remote(destination) else os.path.abspath(destination)  # readers are anywhere
    folder = video_dir or (join(here, "videos") if numeric_ids else None)
    naming = name_videos(tables, folder, numeric_ids)

    contents: dict[str, Write] = {}
    for split in SPLITS:
        contents[f"{split}.jsonl"] = json_lines(_pairs(tables, videos, split, naming))
        contents[f"perception_{split}.jsonl"] = json_lines(_captions(tables, videos, split, naming))
    contents["queries.tsv"] = text_lines(_queries(tables))
    contents["run.json"] = json_object(_scores(tables, naming))
    contents["candidates.json"] = json_object(_queries_by_video(tables, naming))
    for name in (RUN, "qrels.trec"):
        contents[name] = text_lines(_lines(output, name, naming if numeric_ids else {}))
    if numeric_ids:
        contents[NAMES] = text_lines(naming_lines(naming))
    contents[SOURCE] = lambda file: print(dumps(source), file=file)
    if numeric_ids and not video_dir and not is_remote(destination):
        with writing_to(destination):
            link_videos(naming)
    return write_files(destination, contents)


def _pairs(tables: Tables, videos: VideoIndex, split: str, naming: Naming) -> Iterator[dict[str, Any]]:
    for row in tables.rows("ranking", part=split):
        for candidate in row["candidates"]:
            video = _video(videos, candidate["video_id"])
            named = naming[candidate["video_id"]]
            yield {
                "query_id": row["query_id"],
                "query": row["query"],
                "doc_id": named.doc_id,
                "videos": [named.path],
                "true_label": candidate["label"],
                "teacher_label": int(candidate["teacher_label"] == "yes"),
                "teacher_p_yes": candidate["p_yes"],
                "teacher_logit_delta": candidate["delta"],
                "teacher_reasoning": candidate["rationale"],
                "evidence": {"caption": video["caption"], "asr": evidence_of(video).text("asr")},
                "meta": {"rank": candidate["rank"], "score": candidate["score"]},
            }


def _captions(tables: Tables, videos: VideoIndex, split: str, naming: Naming) -> Iterator[dict[str, Any]]:
    for row in tables.rows("perception", ["video_id", "caption"], part=split):
        _video(videos, row["video_id"])
        named = naming[row["video_id"]]
        yield {"doc_id": named.doc_id, "videos": [named.path], "caption": row["caption"]}


def _video(videos: VideoIndex, video_id: str) -> Row:
    video = videos.get(video_id)
    if video is None:
        raise UnreadableOutput(videos.tables.output, "videos/", f"video {video_id!r} is not in it")
    return video


def _id(naming: Naming, video_id: str) -> str:
    return naming[video_id].doc_id if video_id in naming else video_id


def _scores(tables: Tables, naming: Naming) -> Iterator[tuple[str, dict[str, float]]]:
    for query_id, placed in rankings(tables.output):
        yield query_id, {_id(naming, video_id): score for video_id, _, score in placed}


def _queries_by_video(tables: Tables, naming: Naming) -> Iterator[tuple[str, list[str]]]:
    """The run, turned round. It may exceed memory, so a temporary database (SQLite's, on disk) sorts it."""
    with closing(sqlite3.connect("")) as database:
        database.execute("CREATE TABLE candidate (video TEXT, query TEXT)")
        for query_id, placed in rankings(tables.output):
            database.executemany("INSERT INTO candidate VALUES (?, ?)", [(video, query_id) for video, _, _ in placed])
        video_id, queries = "", list[str]()
        for video, query in database.execute("SELECT video, query FROM candidate ORDER BY video, query"):
            if video != video_id and queries:
                yield _id(naming, video_id), queries
                queries = []
            video_id = video
            queries.append(query)
        if queries:
            yield _id(naming, video_id), queries


def _queries(tables: Tables) -> Iterator[str]:
    for row in tables.rows("ranking", ["query_id", "query"]):
        yield f"{row['query_id']}\t{' '.join(row['query'].split())}\n"


def _lines(output: str, name: str, naming: Naming) -> Iterator[str]:
    """The lines of a TREC file, with the ids of ``naming`` in their third column."""
    with reading(output, name), open_seekable(join(output, name)) as stream:
        for line in stream:
            text = line.decode()
            columns = text.split()
            if naming and len(columns) > 2:
                columns[2] = _id(naming, columns[2])
                text = f"{' '.join(columns)}\n"
            yield text
