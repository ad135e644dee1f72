"""What ``--input`` names: a folder, a glob, one file or a manifest becomes a list of manifest entries."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from schemas.check import InvalidRecord
from schemas.video import EvidenceWarning, ManifestEntry, Metadata
from schemas.visible import one_line, visible
from transforms.storage.files import exists, join, list_files, match, open_seekable, read_bytes

# Containers that hold pictures. A folder's and a glob's other files are not videos; a manifest may name any file.
VIDEO_EXTENSIONS = frozenset(
    ".3g2 .3gp .asf .avi .flv .m2ts .m4a .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .ogm .ogv .ts .vob .webm .wmv".split()
)
MANIFEST_EXTENSIONS = (".jsonl", ".ndjson", ".parquet")
_METADATA_FIELDS = tuple(f.name for f in fields(Metadata))


class InputError(ValueError):
    """An input that cannot be listed; one line that names the file, the line in it, and the fix."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The videos of an input, and how many other files lay beside them."""

    entries: tuple[ManifestEntry, ...]
    ignored: int = 0


def list_input(spec: str) -> Listing:
    """List the videos that ``spec`` names, on the local disk or any filesystem that Beam can read.

    A manifest (JSON Lines or Parquet) gives ``uri`` and optionally ``video_id``, ``title``, ``description``,
    ``language``, ``published`` and ``event`` a row; its relative addresses are relative to its own folder. Folders are
    walked; a video's side-car ``<name>.json`` holds the same metadata fields.

    Raises:
        InputError: nothing is there, a manifest row cannot be read, or two rows share an id or an address.
    """
    if spec.endswith(MANIFEST_EXTENSIONS):
        return _read_manifest(spec)
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
            f"--input {spec!r} names no video; give a folder, a glob such as 'videos/*.mp4', or a manifest "
            f"({', '.join(MANIFEST_EXTENSIONS)})"
        )
    side_cars = frozenset(path for path in found if _extension(path) == ".json")
    with ThreadPoolExecutor(10) as pool:  # as many connections as boto3 keeps
        entries = tuple(pool.map(lambda path: _with_side_car(path, side_cars), videos))
    return Listing(entries, len(found) - len(videos) - len(side_cars & {_side_car(path) for path in videos}))


def _find_remote(spec: str) -> list[str]:
    """The files that an address names, or those below it; and the side-cars of the former."""
    is_bucket = not FileSystems.split(spec)[1]
    if any(c in spec for c in "*?[") or (not is_bucket and exists(spec)):
        found = match(spec)
        wanted = {_side_car(path) for path in found}.difference(found)
        return found + [path for path in match(_side_car(spec)) if path in wanted]
    below = list_files(spec)
    return [f"{spec}/{path}" for path in below if not any(part.startswith(".") for part in path.split("/")[:-1])]


def _walk(folder: str) -> list[str]:
    """Every file below a local folder; hidden folders are left out."""
    found: list[str] = []
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found.extend(os.path.join(parent, name) for name in names)
    return found


def _unreadable(error: OSError) -> None:
    raise InputError(f"folder {error.filename!r} cannot be listed: {error.strerror}") from error


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _side_car(path: str) -> str:
    return os.path.splitext(path)[0] + ".json"


def _with_side_car(path: str, side_cars: frozenset[str]) -> ManifestEntry:
    # A name that is not UTF-8 cannot be written down; spelled out it names no file, and ends as a failure.
    entry = ManifestEntry(os.fsencode(path).decode("utf-8", "backslashreplace"))
    side_car = _side_car(path)
    if side_car not in side_cars and not os.path.isfile(side_car):
        return entry
    try:
        content = msgspec.json.decode(read_bytes(side_car))
        if not isinstance(content, dict):
            raise InputError(f"holds a {type(content).__name__}, not an object")
        return replace(entry, metadata=_metadata(content))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InputError, OSError) as error:
        message = one_line(f"the side-car {os.path.basename(side_car)} was not used: {error}")
        return replace(entry, warnings=(EvidenceWarning("metadata", "unreadable side-car", message),))


def _metadata(row: dict[str, Any]) -> Metadata:
    values = {name: row.get(name) for name in _METADATA_FIELDS}
    for name, value in values.items():
        if value is not None and not isinstance(value, str):
            raise InputError(f"{name!r} must be a string, got {value!r}")
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    cleaned = {name: visible(text).strip() if name == "description" else one_line(text) for name, text in texts.items()}
    return Metadata(**cleaned)


def _read_manifest(spec: str) -> Listing:
    try:
        data = read_bytes(spec)
    except OSError as error:
        raise InputError(f"manifest {spec!r} cannot be read: {error}") from error
    base = FileSystems.split(spec)[0]
    entries: list[ManifestEntry] = []
    seen: dict[tuple[str, str], int] = {}
    for number, row in _rows(spec, data):
        try:
            entry = _entry(row, base)
        except (InputError, InvalidRecord) as error:
            raise InputError(f"{spec}, line {number}: {error}") from error
        for name, value in (("video_id", entry.video_id), ("uri", entry.uri)):
            first = seen.setdefault((name, value), number) if value is not None else number
            if first != number:
                raise InputError(f"{spec}, line {number}: {name} {value!r} was used on line {first} already")
        entries.append(entry)
    if not entries:
        raise InputError(f"manifest {spec!r} holds no row")
    return Listing(tuple(entries))


def _rows(spec: str, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their line numbers (Parquet: row numbers), from 1; blank lines are skipped."""
    try:
        if spec.endswith(".parquet"):
            yield from enumerate(pq.read_table(io.BytesIO(data)).to_pylist(), start=1)
            return
        lines = data.decode("utf-8-sig").split("\n")  # not splitlines: JSON strings may hold other line separators
    except (UnicodeDecodeError, pa.ArrowException) as error:
        raise InputError(f"manifest {spec!r} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.DecodeError as error:
                raise InputError(f"{spec}, line {number}: {error}") from error


def _entry(row: dict[str, Any], base: str) -> ManifestEntry:
    uri, video_id = row.get("uri"), row.get("video_id")
    if not isinstance(uri, str) or not uri.strip():
        raise InputError(f"every row needs a 'uri', got {uri!r}")
    if video_id is not None and not isinstance(video_id, str):
        raise InputError(f"'video_id' must be a string, got {video_id!r}")
    if "://" not in uri and not os.path.isabs(uri) and base:
        uri = join(base, uri)
    return ManifestEntry(uri, video_id, _metadata(row))


def read_entries(path: str) -> Iterator[ManifestEntry]:
    """The entries of a file that ``write_entries`` wrote."""
    with open_seekable(path) as stream:
        for line in stream:
            yield msgspec.json.decode(line, type=ManifestEntry)


def entries_json(entries: Iterable[ManifestEntry]) -> bytes:
    """Entries as JSON Lines: what the workers read, so that the graph holds a path and not a million rows."""
    return b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)
