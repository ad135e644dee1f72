"""Exports for ms-swift: groups for its rerankers, and lists of videos put in order with reasons."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from pipeline.outputs.errors import UnwritableExport
from pipeline.outputs.export.groups import Groups, Rows, by_split, grouped_tables, require_own_ids
from pipeline.outputs.export.writing import writing_to
from pipeline.outputs.tables import Row, Tables, read_group
from schemas.example import SPLITS
from schemas.fingerprint import fingerprint
from transforms.storage.address import is_remote
from transforms.storage.files import join, write_bytes

FRAMES = "frames"

# A video in a row of ms-swift: the path of its file, or those of its frames.
Video = str | list[str]
VideoOf = Callable[[Groups, Mapping[str, Any]], Video]

_ASKED = (
    "Which of these videos answer the search query: {query}\n{videos}\nReason about each of them, then put them in "
    "order, the most relevant first."
)


def export_ms_swift(output: str, destination: str, video_dir: str | None, numeric_ids: bool) -> list[str]:
    """``SPLIT.jsonl`` for its rerankers: the query as ``messages``, a video each in ``positive_messages``/``_videos``
    and ``negative_messages``/``_videos``; and ``listwise_SPLIT.jsonl`` for its fine-tuning: all videos of a group in
    one question, and an answer that holds the teacher's rationale of each and their order.
    """
    return by_split(output, destination, video_dir, numeric_ids, _formats(lambda groups, each: groups.path(each)))


def export_ms_swift_frames(output: str, destination: str, video_dir: str | None, numeric_ids: bool) -> list[str]:
    """The same rows with the output's own frames, written as JPEG below ``frames/`` in a folder a video.

    Raises:
        UnwritableExport: the output holds no frames or no groups, or ``video_dir`` is given.
    """
    require_own_ids("ms-swift-frames", numeric_ids)
    if video_dir:
        raise UnwritableExport("ms-swift-frames names no files of videos but frames of its own; leave --video-dir out")
    tables = grouped_tables(output)
    folder = join(destination if is_remote(destination) else os.path.abspath(destination), FRAMES)
    with writing_to(destination):
        frames = _write_frames(tables, folder)
    rows = by_split(output, destination, None, numeric_ids, _formats(lambda _, each: frames[each["video_id"]]))
    return [*rows, join(folder, "*")]


def _formats(video_of: VideoOf) -> Mapping[str, Rows]:
    def groups_of(groups: Groups, split: str) -> Iterator[dict[str, Any]]:
        for row, positives, negatives in groups.of(split):
            yield {
                "messages": [{"role": "user", "content": row["query"]}],
                "positive_messages": [[{"role": "assistant", "content": "<video>"}] for _ in positives],
                "positive_videos": [[video_of(groups, each)] for each in positives],
                "negative_messages": [[{"role": "assistant", "content": "<video>"}] for _ in negatives],
                "negative_videos": [[video_of(groups, each)] for each in negatives],
            }

    def lists_of(groups: Groups, split: str) -> Iterator[dict[str, Any]]:
        for row, _, _ in groups.of(split):
            shown = sorted(row["candidates"], key=lambda each: fingerprint([row["query_id"], each["video_id"]]))
            question, answer = _question_and_answer(row["query"], shown)
            yield {
                "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
                "videos": [video_of(groups, each) for each in shown],
            }

    return {"{split}": groups_of, "listwise_{split}": lists_of}


def _question_and_answer(query: str, shown: list[Row]) -> tuple[str, str]:
    """What is asked of videos in the order that they are ``shown``, which tells nothing, and what is right.

    Positives come first, then whatever the teacher was surer of; those without a margin come last of their label.
    """
    numbers = range(1, len(shown) + 1)
    question = _ASKED.format(query=query, videos="\n".join(f"[{number}] <video>" for number in numbers))
    said = [f"[{number}] {shown[number - 1]['rationale']}" for number in numbers if shown[number - 1]["rationale"]]

    def doubt(number: int) -> tuple[bool, bool, float]:
        judged = shown[number - 1]
        return not judged["label"], judged["delta"] is None, -(judged["delta"] or 0.0)

    order = " > ".join(f"[{number}]" for number in sorted(numbers, key=doubt))
    reasons = "\n".join(said)
    return question, f"<think>\n{reasons}\n</think>\n\n<answer>{order}</answer>"


def _write_frames(tables: Tables, folder: str) -> dict[str, Video]:
    """Write the frames of all videos of groups; returns the paths of each video's, in the order of their times."""
    rows = (row for split in SPLITS for row in tables.rows("ranking", ["candidates"], split))
    wanted = {each["video_id"] for row in rows for each in row["candidates"]}
    written: dict[str, Video] = {}
    for shard in tables.shards("videos"):
        with tables.opened(shard.path) as file:
            for group in range(file.num_row_groups):
                for row in read_group(file, group, ["video_id", "frames"]).to_pylist():
                    if row["video_id"] in wanted:
                        written[row["video_id"]] = _write(row, folder)
    return written


def _write(row: Row, folder: str) -> list[str]:
    if not row["frames"]:
        raise UnwritableExport(f"video {row['video_id']!r} has no frames in the output: run with emit.frames")
    below = join(folder, quote(row["video_id"], safe=""))
    paths = [join(below, f"{number:03d}.jpg") for number in range(len(row["frames"]))]
    for path, frame in zip(paths, row["frames"], strict=True):
        write_bytes(path, frame["bytes"])
    return paths
