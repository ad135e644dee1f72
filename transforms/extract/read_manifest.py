"""Manifests: a list of videos with what is known of them, from rows of a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from apache_beam.io.filesystems import FileSystems

from schemas.check import InvalidRecord
from schemas.video import ManifestEntry, Metadata
from schemas.visible import one_line, visible
from transforms.storage.address import absolute, local_path, writable
from transforms.storage.files import join, read_bytes
from transforms.storage.rows import RowError, read_rows

METADATA_FIELDS = tuple(f.name for f in fields(Metadata))


class InputError(ValueError):
    """An input that cannot be listed; one line that names the file, the line in it, and the fix."""


def read_manifest(path: str) -> tuple[ManifestEntry, ...]:
    """The entries of a manifest; its relative addresses are relative to its own folder.

    Raises:
        InputError: it cannot be read, or two rows share an id or an address.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise InputError(f"manifest {path!r} cannot be read: {error}") from error
    base = FileSystems.split(path)[0]
    entries: list[ManifestEntry] = []
    seen: dict[tuple[str, str], int] = {}
    try:
        for number, row in read_rows(path, data):
            entry = _entry(row, base, f"{path}, line {number}")
            for name, value in (("video_id", entry.video_id), ("uri", entry.uri)):
                first = seen.setdefault((name, value), number) if value is not None else number
                if first != number:
                    raise InputError(f"{path}, line {number}: {name} {value!r} was used on line {first} already")
            entries.append(entry)
    except RowError as error:
        raise InputError(f"manifest {error}") from error
    if not entries:
        raise InputError(f"manifest {path!r} holds no row")
    return tuple(entries)


def metadata_of(row: Mapping[str, Any]) -> Metadata:
    """The metadata among the values of a row; others are left alone. Raises ``InputError`` where one is no string."""
    values = {name: row.get(name) for name in METADATA_FIELDS}
    for name, value in values.items():
        if value is not None and not isinstance(value, str):
            raise InputError(f"{name!r} must be a string, got {value!r}")
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    cleaned = {name: visible(text).strip() if name == "description" else one_line(text) for name, text in texts.items()}
    return Metadata(**cleaned)


def _entry(row: Mapping[str, Any], base: str, where: str) -> ManifestEntry:
    uri, video_id = row.get("uri"), row.get("video_id")
    if not isinstance(uri, str) or not uri.strip():
        raise InputError(f"{where}: every row needs a 'uri', got {uri!r} among the columns {', '.join(row)}")
    if video_id is not None and not isinstance(video_id, str):
        raise InputError(f"{where}: 'video_id' must be a string, got {video_id!r}")
    uri = local_path(uri)
    if "://" not in uri:
        uri = absolute(uri if os.path.isabs(uri) else join(base, uri))
    try:
        return ManifestEntry(writable(uri), video_id, metadata_of(row))
    except (InputError, InvalidRecord) as error:
        raise InputError(f"{where}: {error}") from error
