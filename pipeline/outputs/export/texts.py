"""The texts of all videos of an output, to be had in any order."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import msgspec

from pipeline.outputs.errors import UnreadableOutput
from pipeline.outputs.tables import Row, Tables, evidence_of
from schemas.video import MODALITIES


@dataclass(frozen=True, slots=True)
class Texts:
    """What is known of a video, as text; ``metadata`` is title and description together."""

    caption: str
    asr: str
    ocr: str
    metadata: str
    title: str
    description: str


class VideoTexts:
    """Texts by video. Rows are read when the first is asked for, once; their texts then lie in a temporary database.

    It is SQLite's, on disk where they are many. For use in one thread.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._texts = sqlite3.connect("")
        self._texts.execute("CREATE TABLE video (id TEXT PRIMARY KEY, texts BLOB) WITHOUT ROWID")
        self._read = False

    def of(self, video_id: str) -> Texts:
        """The texts of a video.

        Raises:
            UnreadableOutput: there is no such video.
        """
        if not self._read:
            rows = self._tables.rows("videos", ["video_id", *MODALITIES])
            self._texts.executemany("INSERT OR REPLACE INTO video VALUES (?, ?)", map(_encoded, rows))
            self._read = True
        found = self._texts.execute("SELECT texts FROM video WHERE id = ?", (video_id,)).fetchone()
        if found is None:
            raise UnreadableOutput(self._tables.output, "videos/", f"video {video_id!r} is not in it")
        return Texts(*msgspec.msgpack.decode(found[0]))


def _encoded(row: Row) -> tuple[str, bytes]:
    evidence = evidence_of(row)
    texts = (*(evidence.text(name) for name in MODALITIES), evidence.metadata.title, evidence.metadata.description)
    return row["video_id"], msgspec.msgpack.encode(texts)
