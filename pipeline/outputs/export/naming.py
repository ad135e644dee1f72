"""What an export calls the videos of an output, and where it says that their files lie."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from pipeline.outputs.errors import UnwritableExport
from pipeline.outputs.tables import Tables
from transforms.storage.address import is_remote

_VIDEOS_A_FOLDER = 100


@dataclass(frozen=True, slots=True)
class Named:
    """A video in an export: its id there, the path of its file, and the address that the run had it from."""

    doc_id: str
    path: str
    uri: str


Naming = Mapping[str, Named]
"""By video id."""


def name_videos(tables: Tables, video_dir: str | None, numeric: bool) -> Naming:
    """The names of all videos of an output.

    A path is the video's address or, with ``video_dir``, its file name below that folder. ``numeric`` counts the
    videos from 1, by their ids, and lays them into folders of a hundred below ``video_dir``, as the public release of
    RankVideo looks for them: ``000001/7.mp4``.

    Raises:
        UnwritableExport: two videos would have one path.
    """
    videos = sorted((row["video_id"], row["uri"]) for row in tables.rows("videos", ["video_id", "uri"]))
    folder = (video_dir or "").rstrip("/")
    named: dict[str, Named] = {}
    owners: dict[str, str] = {}
    for number, (video_id, uri) in enumerate(videos, start=1):
        if numeric:
            named[video_id] = Named(str(number), f"{folder}/{number // _VIDEOS_A_FOLDER + 1:06d}/{number}.mp4", uri)
            continue
        path = f"{folder}/{uri.rpartition('/')[2]}" if video_dir else uri
        named[video_id] = Named(video_id, path, uri)
        other = owners.setdefault(path, uri)
        if other != uri:
            raise UnwritableExport(
                f"{other} and {uri} have the same file name, and would be one below {folder}: leave --video-dir out, "
                f"or use --numeric-ids, which gives every video a path of its own"
            )
    return named


def naming_lines(naming: Naming) -> Iterator[str]:
    """A line a video: its id in the export, its id in the output, where its file is looked for, where it is from."""
    yield "doc_id\tvideo_id\tpath\turi\n"
    for video_id, video in naming.items():
        yield f"{video.doc_id}\t{video_id}\t{video.path}\t{video.uri}\n"


def link_videos(naming: Naming) -> int:
    """Lay a link to every video that is a file of this machine where the export says that it lies.

    Returns how many there are; what else lies at such a path stays as it is.

    Raises:
        OSError: a link cannot be made.
    """
    linked = 0
    for video in naming.values():
        if is_remote(video.uri) or not os.path.isfile(video.uri):
            continue
        os.makedirs(os.path.dirname(video.path), exist_ok=True)
        if os.path.islink(video.path):
            os.unlink(video.path)
        with suppress(FileExistsError):
            os.symlink(os.path.abspath(video.uri), video.path)
            linked += 1
    return linked
