"""Content fingerprints: the same value gives the same short hash on every machine and in every run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no spaces; equal values (records, dicts, lists, numbers, strings) give equal bytes."""
    return msgspec.json.encode(value, order="deterministic")


def fingerprint(value: object, length: int = 16) -> str:
    """The first ``length`` hex digits of the SHA-256 of ``canonical_json(value)``."""
    return hashlib.sha256(canonical_json(value)).hexdigest()[:length]


def content_id(prefix: str, *parts: object) -> str:
    """An id that follows from content alone, such as ``q-3f2a9c…``; parts are hashed as a JSON list."""
    return f"{prefix}-{fingerprint(parts)}"


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a local file, read in 1 MiB blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unit_interval(key: str) -> float:
    """A stable pseudo-random number in [0, 1) drawn from a string; used to split and to sample."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
