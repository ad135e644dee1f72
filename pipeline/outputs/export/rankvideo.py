"""Exports: an output in the formats of other projects, by name."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, TextIO

import jsonlines

from pipeline.outputs.errors import UnreadableOutput, UnwritableExport, reading
from pipeline.outputs.manifest import SOURCE, manifest_sha256, read_manifest
from pipeline.outputs.run_lines import RUN, rankings
from pipeline.outputs.tables import Row, Tables, VideoIndex, evidence_of
from schemas.example import SPLITS
from transforms.storage.files import join, open_seekable, replacing

Export = Callable[[str, str, str | None], list[str]]


def export_rankvideo(output: str, destination: str, video_dir: str | None = None) -> list[str]:
    """Write the files that the public release of RankVideo (arXiv 2602.02444) reads; returns their paths.

    - ``train.jsonl``, ``validation.jsonl``: one line a (query, candidate), the positive first
    - ``perception_train.jsonl``, ``perception_validation.jsonl``: one line a video with its caption
    - ``queries.tsv`` (``id<TAB>text``), ``qrels.trec``, ``run.trec``
    - ``run.json`` (``{query: {video: score}}``), ``candidates.json`` (``{video: [query, …]}``, by first-stage run)
    - ``SOURCE.json``: the hash of the manifest of ``output``, from which verify knows an export of an earlier run

    A video's path is its address in the input or, with ``video_dir``, its file name below that folder. The bytes depend
    on the output alone; memory does not grow with it, but for the ids of its videos.

    Raises:
        NotAnOutput: ``output`` is not finished, a file of it cannot be read, or ``destination`` cannot be written to.
    """
    tables, source = read_manifest(output).tables(output), {"manifest_sha256": manifest_sha256(output)}
    videos = VideoIndex(tables, ["uri", "caption", "asr", "ocr", "metadata"])

    def path_of(video: Row) -> str:
        uri: str = video["uri"]
        return f"{video_dir.rstrip('/')}/{uri.rpartition('/')[2]}" if video_dir else uri

    contents: dict[str, Callable[[TextIO], None]] = {}
    for split in SPLITS:
        contents[f"{split}.jsonl"] = _json_lines(_pairs(tables, videos, split, path_of))
        contents[f"perception_{split}.jsonl"] = _json_lines(_captions(tables, videos, split, path_of))
    contents["queries.tsv"] = _text_lines(_queries(tables))
    contents["run.json"] = _json_object(_scores(tables))
    contents["candidates.json"] = _json_object(_queries_by_video(tables))
    for name in (RUN, "qrels.trec"):
        contents[name] = _text_lines(_lines(output, name))
    contents[SOURCE] = lambda file: print(_dumps(source), file=file)
    written = []
    try:
        for name, write in contents.items():
            written.append(join(destination, name))
            with _text_file(written[-1]) as file:
                write(file)
    except OSError as error:  # of writing: those of reading are UnreadableOutput by now
        raise UnwritableExport(
            f"cannot export to {destination}: {error.strerror or error}; name a folder to write to"
        ) from error
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
        raise UnreadableOutput(videos.tables.output, "videos/", f"video {video_id!r} is not in it")
    return video


def _scores(tables: Tables) -> Iterator[tuple[str, dict[str, float]]]:
    for query_id, placed in rankings(tables.output):
        yield query_id, {video_id: score for video_id, _, score in placed}


def _queries_by_video(tables: Tables) -> Iterator[tuple[str, list[str]]]:
    """The run, turned round. It may exceed memory, so a temporary database (SQLite's, on disk) sorts it."""
    with closing(sqlite3.connect("")) as database:
        database.execute("CREATE TABLE candidate (video TEXT, query TEXT)")
        for query_id, placed in rankings(tables.output):
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


def _text_lines(lines: Iterable[str]) -> Callable[[TextIO], None]:
    return lambda file: file.writelines(lines)


def _queries(tables: Tables) -> Iterator[str]:
    for row in tables.rows("ranking", ["query_id", "query"]):
        yield f"{row['query_id']}\t{' '.join(row['query'].split())}\n"


def _lines(output: str, name: str) -> Iterator[str]:
    with reading(output, name), open_seekable(join(output, name)) as stream:
        for line in stream:
            yield line.decode()


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
