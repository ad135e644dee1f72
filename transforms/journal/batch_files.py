"""Batch files: questions that a folder keeps instead of a server being asked, until files with the replies are read."""

from __future__ import annotations

import os
import re
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Final

import msgspec

from schemas.check import read_json
from transforms.journal.segments import Index, Segment, journal_file, line_of
from transforms.journal.step_log import StepLog
from transforms.storage.file_lock import Busy, FileLock, users_in

URL: Final = "/v1/chat/completions"
MAX_LINES, MAX_BYTES = 50_000, 200_000_000
"""What OpenAI takes in one file; all lines of a file ask the same model, as it demands too."""

_LOCK = ".in-use"
_ID = re.compile(r"[0-9a-f]{32}")


class BatchInUse(RuntimeError):
    """Another process is at work on the folder; one line that names it."""


class _Line(msgspec.Struct):
    custom_id: str


@contextmanager
def having_alone(folder: str) -> Iterator[None]:
    """Let no other process change the folder within the block. Raises ``BatchInUse``, ``OSError``."""
    os.makedirs(folder, exist_ok=True)
    try:
        lock = FileLock(os.path.join(folder, _LOCK))
    except Busy as busy:
        who = users_in(busy.content) or "another process"
        raise BatchInUse(f"the batch files in {folder} are in use by {who}; wait for it to end") from busy
    with lock:
        lock.write(b"")
        lock.sign()
        yield


@contextmanager
def batch_files(folder: str) -> Iterator[BatchFiles]:
    """The folder for this process alone. Raises ``BatchInUse``, ``OSError``."""
    with having_alone(folder), closing(BatchFiles(folder)) as files:
        yield files


def request_files(folder: str) -> list[Path]:
    """The files of questions that wait for a reply, ``requests-<step>-….jsonl``, oldest first within a step."""
    return sorted(Path(folder).glob("requests-*.jsonl"))


def reply_files(folder: str, to: Path | None = None) -> list[Path]:
    """Files with replies or errors that were not read yet: all, or those to one file of questions.

    They are named ``replies-…`` and ``errors-…`` like the file of questions, whose name starts with ``requests-``.
    """
    pattern = to.stem.removeprefix("requests-") if to else "*"
    return sorted(path for kind in ("replies", "errors") for path in Path(folder).glob(f"{kind}-{pattern}.jsonl"))


def put_away(folder: str, path: Path) -> None:
    """Move a reply file that was read to the subfolder ``read``; does nothing to files from elsewhere."""
    if path.resolve().parent != Path(folder).resolve():
        return
    away = Path(folder) / "read"
    away.mkdir(exist_ok=True)
    free = (f"{path.stem}{f'.{n}' if n else ''}{path.suffix}" for n in count())
    path.rename(next(away / name for name in free if not (away / name).exists()))


class BatchFiles:
    """The questions in one folder, which this process has alone; safe to use from threads.

    ``requests-<step>-….jsonl`` hold those that wait for a reply, a line each, as OpenAI's batches and vLLM's
    ``run-batch`` take them; lines leave a file when they are settled, and a file goes with its last one. What the
    questions are about is kept apart for good, in ``journal/asked``, under their ids. Files are written in
    ``unfinished``, and appear when they are full or the run ends; those of a killed run appear in the next one.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._asked = StepLog(folder, "asked")
        self._waiting = Index()
        self._under_way: dict[str, tuple[Segment, int]] = {}  # a file and its bytes, by step
        self._writing = threading.Lock()
        for path in sorted(self._folder.glob("unfinished/*/*.jsonl")):
            # What a killed process had not taken down in "asked" will be asked again.
            _rewrite(path, self._finished(path), lambda custom_id: self.about(custom_id) is not None)

    def drop(self, settled: Callable[[str, str], bool]) -> None:
        """Remove the questions that are ``settled``, by step and id, and take stock of those that wait."""
        ids = array("Q")

        def waits(step: str, custom_id: str) -> bool:
            if not _ID.fullmatch(custom_id):
                return True  # somebody put it here, and may want it to go with the next batch
            if settled(step, custom_id):
                return False
            ids.append(_number(custom_id))
            return True

        for path in request_files(str(self._folder)):
            step = path.name.split("-")[1]
            _rewrite(path, path, lambda custom_id, step=step: waits(step, custom_id))  # type: ignore[misc]
        with self._writing:
            self._waiting = Index()
            self._waiting.extend(ids, array("Q", bytes(8 * len(ids))))

    def waits(self, custom_id: str) -> bool:
        """Whether this question was put down and is not settled."""
        with self._writing:
            return bool(self._waiting.places(_number(custom_id)))

    def ask(self, step: str, custom_id: str, subject: str, about: bytes, body: Mapping[str, object]) -> None:
        """Put down a question: the body of a chat completions call, and what it is about, as JSON.

        ``custom_id`` and ``subject`` are hex digits, as a journal has them (see ``line_of``).

        Raises:
            CannotJournal: the folder cannot be written to.
        """
        request = {"custom_id": custom_id, "method": "POST", "url": URL, "body": body}
        line = msgspec.json.encode(request) + b"\n"
        with self._writing:
            file, size = self._file_for(step, len(line))
            file.append(line)
            self._under_way[step] = file, size + len(line)
            self._asked.append(custom_id, subject, line_of(custom_id, subject, about))
            self._waiting.add(_number(custom_id), 0)

    def about(self, custom_id: str) -> bytes | None:
        """What the question of this id is about, as it was given, whether it waits or not; None where none has it."""
        return next(self._asked.find(custom_id), None) if _ID.fullmatch(custom_id) else None

    def close(self) -> None:
        """Finish all files."""
        with self._writing:
            for step in list(self._under_way):
                self._finish(step)
            self._asked.close()

    def _file_for(self, step: str, size: int) -> tuple[Segment, int]:
        """The file under way of a step, with room for a line of ``size`` bytes, and the bytes that it holds."""
        if step in self._under_way:
            file, held = self._under_way[step]
            if file.lines < MAX_LINES and held + size <= MAX_BYTES:
                return file, held
            self._finish(step)
        return Segment(str(self._folder / "unfinished" / step)), 0

    def _finish(self, step: str) -> None:
        file, _ = self._under_way.pop(step)
        file.close()
        path = Path(file.path)
        with journal_file("write", file.path):
            path.rename(self._finished(path))

    def _finished(self, unfinished: Path) -> Path:
        return self._folder / f"requests-{unfinished.parent.name}-{unfinished.name}"


def _rewrite(path: Path, to: Path, wanted: Callable[[str], bool]) -> None:
    """Leave of a file of questions the whole lines whose ids are wanted, under the name ``to``; no lines, no file."""
    rest = to.with_name(f".{to.name}")
    seen = kept = 0
    with path.open("rb") as lines, rest.open("wb") as copy:
        for line in lines:
            seen += 1
            custom_id = _id_of(line)
            if custom_id is not None and wanted(custom_id):
                kept += 1
                copy.write(line)
        copy.flush()
        os.fsync(copy.fileno())
    if kept == seen and path == to:
        rest.unlink()
        return
    rest.replace(to) if kept else rest.unlink()
    if path != to or not kept:
        path.unlink()


def _id_of(line: bytes) -> str | None:
    """The id of a question; None for a line that is cut off, as a killed process leaves it."""
    try:
        return read_json(line, _Line).custom_id if line.endswith(b"\n") else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _number(custom_id: str) -> int:
    return int(custom_id[:16], 16)
