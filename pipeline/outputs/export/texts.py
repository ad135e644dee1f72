"""Texts made of the evidence of every video of an output, to be had in any order."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from pipeline.outputs.errors import UnreadableOutput
from pipeline.outputs.tables import Row, Tables, evidence_of
from schemas.video import MODALITIES, Evidence

_CACHE_MB = 64


class Texts(NamedTuple):
    """What is known of a video, as text; ``metadata`` is title and description together."""

    caption: str
    asr: str
    ocr: str
    metadata: str
    title: str
    description: str


def texts_of(evidence: Evidence) -> Texts:
    """Evidence as text."""
    asr, ocr, metadata = (evidence.text(name) for name in MODALITIES[1:])
    return Texts(evidence.caption, asr, ocr, metadata, evidence.metadata.title, evidence.metadata.description)


class VideoTexts:
    """Texts by video. Rows are read when the first is asked for, once; what ``make`` makes of them then lies in a
    temporary database.

    It is SQLite's, on disk where they are many. For use in one thread.
    """

    def __init__(self, tables: Tables, make: Callable[[Evidence], tuple[str, ...]]) -> None:
        self._tables = tables
        self._make = make
        self._texts = sqlite3.connect("")
        self._texts.execute(f"PRAGMA cache_size = {-1024 * _CACHE_MB}")
        self._texts.execute("CREATE TABLE video (id TEXT PRIMARY KEY, texts BLOB) WITHOUT ROWID")
        self._read = False

    def of(self, video_id: str) -> list[str]:
        """The texts of a video.

        Raises:
            UnreadableOutput: there is no such video.
        """
        if not self._read:
            rows = self._tables.rows("videos", ["video_id", *MODALITIES])
            self._texts.executemany("INSERT OR REPLACE INTO video VALUES (?, ?)", map(self._encoded, rows))
            self._read = True
        found = self._texts.execute("SELECT texts FROM video WHERE id = ?", (video_id,)).fetchone()
        if found is None:
            raise UnreadableOutput(self._tables.output, "videos/", f"video {video_id!r} is not in it")
        texts: list[str] = msgspec.msgpack.decode(found[0])
        return texts

    def _encoded(self, row: Row) -> tuple[str, bytes]:
        return row["video_id"], msgspec.msgpack.encode(self._make(evidence_of(row)))
