"""What ``--input`` names: a folder, a glob, one file or a manifest becomes a list of manifest entries."""

from __future__ import annotations

import codecs
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from apache_beam.io.filesystems import FileSystems

from schemas.check import read_json
from schemas.video import EvidenceWarning, ManifestEntry
from schemas.visible import one_line
from transforms.extract.read_manifest import METADATA_FIELDS, InputError, metadata_of, read_manifest
from transforms.storage.address import absolute, local_path, writable
from transforms.storage.files import exists, list_files, match, open_seekable, read_bytes
from transforms.storage.rows import FORMS, holds_rows

__all__ = ["InputError", "Listing", "entries_json", "ignored_text", "list_input", "read_entries"]

# Files that hold pictures. A folder's and a glob's other files are not videos; a manifest may name any file.
VIDEO_EXTENSIONS = frozenset(
    ".264 .265 .3g2 .3gp .3gpp .amv .asf .av1 .avc .avi .divx .dv .f4v .flv .gif .h264 .h265 .hevc .ivf .m1v .m2t "
    ".m2ts .m2v .m4a .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpe .mpeg .mpg .mpv .mts .mxf .nut .obu .ogm .ogv .qt .rm .rmvb "
    ".tod .tp .trp .ts .vob .webm .wmv .wtv .xvid .y4m".split()
)
_TEXT_TOLD_BY = 4096  # bytes at the start of a file
_ENDINGS = 8  # named where files are ignored
_INFO = ".info.json"
_OF_AN_OUTPUT = frozenset(
    {"manifest.json", "ledger.json", "qrels.trec", "run.trec"}
)  # an export may hold links to videos
_DAY = re.compile(r"\d{8}")


@dataclass(frozen=True, slots=True)
class Listing:
    """The videos of an input, and how many other files lay beside them, by the ending of their names.

    ``all_entries`` says of how many videos these are only some, and is 0 where they are all.
    """

    entries: tuple[ManifestEntry, ...]
    ignored: Mapping[str, int] = field(default_factory=dict)
    all_entries: int = 0


def list_input(spec: str) -> Listing:
    """List the videos that ``spec`` names, on the local disk or any filesystem that Beam can read.

    Addresses are absolute, whatever ``spec`` is: they are written into shards, and read by who knows whom and where.

    A manifest (JSON Lines, Parquet, CSV or TSV) gives ``uri`` and optionally ``video_id``, ``title``, ``description``,
    ``language``, ``published`` and ``event`` a row; its relative addresses are relative to its own folder. Folders are
    walked, also behind links; a video's side-car ``<name>.json`` holds the same metadata fields, ``<name>.info.json``
    what download tools know of it.

    Raises:
        InputError: nothing is there, a manifest row cannot be read, or two rows share an id or an address.
    """
    spec = absolute(local_path(spec))
    if holds_rows(spec):
        return Listing(read_manifest(spec))
    if FileSystems.get_scheme(spec) is not None:
        spec = spec.rstrip("/")
        found = _find_remote(spec)
    elif os.path.isdir(spec):
        found = _walk(spec)
    elif any(c in spec for c in "*?[") and not os.path.exists(spec):
        found = match(spec)
    else:
        found = [spec] if os.path.lexists(spec) else []
    found = [path for path in found if path == spec or not FileSystems.split(path)[1].startswith(".")]
    videos = sorted(path for path in found if path == spec or _extension(path) in VIDEO_EXTENSIONS)
    if not videos:
        raise InputError(
            f"--input {spec!r} names no video{_beside(found)}; give a folder, a glob such as 'videos/*.mp4', or a "
            f"manifest: {FORMS}"
        )
    if videos == [spec] and _extension(spec) not in VIDEO_EXTENSIONS and _is_text(spec):
        raise InputError(f"--input {spec!r} is text and no video; a manifest is {FORMS}, with a column 'uri'")
    side_cars = frozenset(path for path in found if _extension(path) == ".json")
    with ThreadPoolExecutor(10) as pool:  # as many connections as boto3 keeps
        entries = tuple(pool.map(lambda path: _with_side_car(path, side_cars), videos))
    used = side_cars.intersection(side_car for path in videos for side_car in _side_cars(path))
    return Listing(entries, _endings(path for path in found if path not in used.union(videos)))


def ignored_text(ignored: Mapping[str, int]) -> str:
    """``3 other files ignored: .txt 2, .srt 1``, the most frequent endings first; "" where nothing was."""
    if not ignored:
        return ""
    ordered = sorted(ignored.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{ending or 'no ending'} {count}" for ending, count in ordered[:_ENDINGS])
    more = ", …" if len(ordered) > _ENDINGS else ""
    return f"{sum(ignored.values())} other files ignored: {listed}{more}"


def _beside(found: Iterable[str]) -> str:
    said = ignored_text(_endings(found))
    return f" ({said})" if said else ""


def _endings(paths: Iterable[str]) -> Counter[str]:
    return Counter(map(_extension, paths))


def _find_remote(spec: str) -> list[str]:
    """The file that an address names, else those below it, else those that fit it as a pattern; and side-cars."""
    is_bucket = not FileSystems.split(spec)[1]
    if not is_bucket and exists(spec):
        return [spec, *filter(exists, _side_cars(spec))]
    below = [] if "*" in spec else list_files(spec)
    if not below and any(c in spec for c in "*?["):
        found = match(spec)
        wanted = {side_car for path in found for side_car in _side_cars(path)}.difference(found)
        beside = {path for side_car in _side_cars(spec) for path in match(side_car)}
        return found + sorted(beside & wanted)
    return [f"{spec}/{path}" for path in below if not any(part.startswith(".") for part in path.split("/")[:-1])]


def _walk(folder: str) -> list[str]:
    """Every file below a local folder, each real folder once; hidden folders and outputs of runs are left out.

    Folders behind links come after all others, so that a link to a folder of the same tree renames none of its files.
    """
    found: list[str] = []
    entered: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        for parent, folders, names in os.walk(waiting.pop(0), onerror=_unreadable):
            stat = os.stat(parent)
            if (stat.st_dev, stat.st_ino) in entered or _OF_AN_OUTPUT.issubset(names):
                folders.clear()
                continue
            entered.add((stat.st_dev, stat.st_ino))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            waiting.extend(path for name in folders if os.path.islink(path := os.path.join(parent, name)))
            found.extend(os.path.join(parent, name) for name in names)
    return found


def _unreadable(error: OSError) -> None:
    raise InputError(f"folder {error.filename!r} cannot be listed: {error.strerror}") from error


def _is_text(path: str) -> bool:
    """Whether a file begins as a text does; False where it cannot be read."""
    try:
        if not FileSystems.get_scheme(path) and not os.path.isfile(path):
            return False
        with open_seekable(path) as stream:
            start = stream.read(_TEXT_TOLD_BY)
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(start)  # the last character may be cut
    except (OSError, UnicodeDecodeError):
        return False
    return bool(text.strip()) and all(character.isprintable() or character in "\n\r\t" for character in text)


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _side_cars(path: str) -> tuple[str, str]:
    """Where what is known of a video may stand beside it: our own side-car, then that of download tools."""
    stem = os.path.splitext(path)[0]
    return f"{stem}.json", f"{stem}{_INFO}"


def _with_side_car(path: str, side_cars: frozenset[str]) -> ManifestEntry:
    entry = ManifestEntry(writable(path))
    side_car = next((name for name in _side_cars(path) if name in side_cars or os.path.isfile(name)), None)
    if side_car is None:
        return entry
    try:
        content = msgspec.json.decode(read_bytes(side_car).removeprefix(codecs.BOM_UTF8))
        if not isinstance(content, dict):
            raise InputError(f"holds a {type(content).__name__}, not an object")
        return replace(entry, metadata=metadata_of(_of_download(content) if side_car.endswith(_INFO) else content))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InputError, OSError) as error:
        message = one_line(f"the side-car {os.path.basename(side_car)} was not used: {error}")
        return replace(entry, warnings=(EvidenceWarning("metadata", "unreadable side-car", message),))


def _of_download(content: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata among what download tools write of a video; days are written 20310314 there."""
    known = {name: content.get(name) for name in METADATA_FIELDS if name not in ("event", "published")}
    day = content.get("upload_date")
    published = f"{day[:4]}-{day[4:6]}-{day[6:]}" if isinstance(day, str) and _DAY.fullmatch(day) else None
    return {**known, "published": published}


def read_entries(path: str) -> Iterator[ManifestEntry]:
    """The entries of a file that ``write_entries`` wrote."""
    with open_seekable(path) as stream:
        for line in stream:
            yield read_json(line, ManifestEntry)


def entries_json(entries: Iterable[ManifestEntry]) -> bytes:
    """Entries as JSON Lines: what the workers read, so that the graph holds a path and not a million rows."""
    return b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)
