"""Exports: an output in the formats of other projects, by name."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, TextIO

import jsonlines

from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.run_lines import rankings
from pipeline.outputs.tables import Row, Tables, VideoIndex, evidence_of
from schemas.example import SPLITS
from transforms.files import join, open_seekable, replacing

Export = Callable[[str, str, str | None], list[str]]


def export_rankvideo(output: str, destination: str, video_dir: str | None = None) -> list[str]:
    """Write the files that the public release of RankVideo (arXiv 2602.02444) reads; returns their paths.

    - ``train.jsonl``, ``validation.jsonl``: one line a (query, candidate), the positive first
    - ``perception_train.jsonl``, ``perception_validation.jsonl``: one line a video with its caption
    - ``queries.tsv`` (``id<TAB>text``), ``qrels.trec``, ``run.trec``
    - ``run.json`` (``{query: {video: score}}``), ``candidates.json`` (``{video: [query, …]}``, by first-stage run)

    A video's path is its address in the input or, with ``video_dir``, its file name below that folder. The bytes depend
    on the output alone; memory does not grow with it, but for the ids of its videos.

    Raises:
        NotAnOutput: ``output`` is not finished.
    """
    tables = read_manifest(output).tables(output)
    videos = VideoIndex(tables, ["uri", "caption", "asr", "ocr", "metadata"])

    def path_of(video: Row) -> str:
        uri: str = video["uri"]
        return f"{video_dir.rstrip('/')}/{uri.rpartition('/')[2]}" if video_dir else uri

    contents: dict[str, Callable[[TextIO], None]] = {}
    for split in SPLITS:
        contents[f"{split}.jsonl"] = _json_lines(_pairs(tables, videos, split, path_of))
        contents[f"perception_{split}.jsonl"] = _json_lines(_captions(tables, videos, split, path_of))
    contents["queries.tsv"] = _queries(tables)
    contents["run.json"] = _json_object(_scores(tables))
    contents["candidates.json"] = _json_object(_queries_by_video(tables))
    for name in ("run.trec", "qrels.trec"):
        contents[name] = _copy(join(output, name))
    written = []
    for name, write in contents.items():
        written.append(join(destination, name))
        with _text_file(written[-1]) as file:
            write(file)
    return written


EXPORTS: Mapping[str, Export] = {"rankvideo": export_rankvideo}
"""Exports by name: (output, destination, folder of the videos or None) -> paths written."""


def _pairs(tables: Tables, videos: VideoIndex, split: str, path_of: Callable[[Row], str]) -> Iterator[dict[str, Any]]:
    for row in tables.rows("ranking", part=split):
        for candidate in row["candidates"]:
            video = _video(videos, candidate["video_id"])
            yield {
                "query_id": row["query_id"],
                "query": row["query"],
                "doc_id": candidate["video_id"],
                "videos": [path_of(video)],
                "true_label": candidate["label"],
                "teacher_label": candidate["teacher_label"],
                "teacher_p_yes": candidate["p_yes"],
                "teacher_logit_delta": candidate["delta"],
                "teacher_reasoning": candidate["rationale"],
                "evidence": {"caption": video["caption"], "asr": evidence_of(video).text("asr")},
                "meta": {"rank": candidate["rank"], "score": candidate["score"]},
            }


def _captions(
    tables: Tables, videos: VideoIndex, split: str, path_of: Callable[[Row], str]
) -> Iterator[dict[str, Any]]:
    for row in tables.rows("perception", ["video_id", "caption"], part=split):
        path = path_of(_video(videos, row["video_id"]))
        yield {"doc_id": row["video_id"], "videos": [path], "caption": row["caption"]}


def _video(videos: VideoIndex, video_id: str) -> Row:
    video = videos.get(video_id)
    if video is None:
        raise ValueError(f"video {video_id!r} is not in the videos table; run verify on this output")
    return video


def _scores(tables: Tables) -> Iterator[tuple[str, dict[str, float]]]:
    for query_id, placed in rankings(join(tables.output, "run.trec")):
        yield query_id, {video_id: score for video_id, _, score in placed}


def _queries_by_video(tables: Tables) -> Iterator[tuple[str, list[str]]]:
    """The run, turned round. It may exceed memory, so a temporary database (SQLite's, on disk) sorts it."""
    with closing(sqlite3.connect("")) as database:
        database.execute("CREATE TABLE candidate (video TEXT, query TEXT)")
        for query_id, placed in rankings(join(tables.output, "run.trec")):
            database.executemany("INSERT INTO candidate VALUES (?, ?)", [(video, query_id) for video, _, _ in placed])
        video_id, queries = "", list[str]()
        for video, query in database.execute("SELECT video, query FROM candidate ORDER BY video, query"):
            if video != video_id and queries:
                yield video_id, queries
                queries = []
            video_id = video
            queries.append(query)
        if queries:
            yield video_id, queries


@contextmanager
def _text_file(path: str) -> Iterator[TextIO]:
    with replacing(path) as stream:
        text = io.TextIOWrapper(stream, "utf-8", newline="\n", write_through=False)
        yield text
        text.flush()
        text.detach()  # the stream is closed by whoever opened it


def _json_lines(rows: Iterable[dict[str, Any]]) -> Callable[[TextIO], None]:
    def write(file: TextIO) -> None:
        jsonlines.Writer(file, dumps=_dumps).write_all(rows)

    return write


def _json_object(items: Iterable[tuple[str, Any]]) -> Callable[[TextIO], None]:
    """One JSON object, a member a line, without ever holding it whole."""

    def write(file: TextIO) -> None:
        file.write("{")
        for number, (key, value) in enumerate(items):
            file.write(f"{',' if number else ''}\n{_dumps(key)}: {_dumps(value)}")
        file.write("\n}\n")

    return write


def _queries(tables: Tables) -> Callable[[TextIO], None]:
    def write(file: TextIO) -> None:
        for row in tables.rows("ranking", ["query_id", "query"]):
            file.write(f"{row['query_id']}\t{' '.join(row['query'].split())}\n")

    return write


def _copy(path: str) -> Callable[[TextIO], None]:
    def write(file: TextIO) -> None:
        with open_seekable(path) as stream:
            for line in stream:
                file.write(line.decode())

    return write


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
