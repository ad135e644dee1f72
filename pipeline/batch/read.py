"""Reading a batch: replies from output and error files into the journal, each under the key of its question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from prompts.margin import essential
from schemas.check import read_json
from transforms.engines.openai.batch import BatchReader
from transforms.journal.batch_files import BatchFiles, batch_files, put_away
from transforms.journal.counts import counted_aside
from transforms.journal.journal import Journal
from transforms.journal.record import Key, RecordedFailure
from transforms.protocols.engine import EngineError
from transforms.protocols.teacher import TeacherFailed, TeacherReply

_SHOWN = 3  # examples of each trouble


@dataclass
class Reading:
    """What was read: replies and failures that were recorded, lines whose outcome the journal held ``before``.

    ``not_asked`` are questions that a batch gave up on, which wait on. The others are troubles, as a few examples and
    a count: ids that no question has, lines that cannot be read, and errors that every question would have met.
    """

    replies: int = 0
    failures: int = 0
    before: int = 0
    not_asked: int = 0
    unknown: Trouble = field(default_factory=lambda: Trouble("ids that no question in the folder has"))
    unreadable: Trouble = field(default_factory=lambda: Trouble("lines that are no replies, or cut off"))
    refused: Trouble = field(default_factory=lambda: Trouble("refused, as every question would be; not recorded"))

    @property
    def troubles(self) -> list[Trouble]:
        """Those that there are."""
        return [trouble for trouble in (self.refused, self.unreadable, self.unknown) if trouble.count]


@dataclass
class Trouble:
    """Something that was wrong more than once, perhaps."""

    what: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def note(self, example: str) -> None:
        """One more."""
        self.count += 1
        if len(self.examples) < _SHOWN and example not in self.examples:
            self.examples.append(example)


def read_batch(
    folder: str, files: Sequence[Path], journal: Journal, key: str, told: Callable[[int], object]
) -> Reading:
    """Record what ``files`` hold, in any order, and let the questions go that are settled by it.

    Files that lie in ``folder`` itself are put away when all are read. Reading again what was read before changes
    nothing. ``journal`` has ``retry="all"``; ``key`` is the server's, to be kept out of what is recorded; ``told`` is
    called with the bytes of each line.

    Raises:
        BatchInUse: another process is at work on the folder.
        CannotJournal, OSError: a file cannot be read or written.
    """
    reading, reader = Reading(), BatchReader(key)

    def settled(step: str, custom_id: str) -> bool:
        record = journal.found(step, custom_id)
        return record is not None and (record.failed is None or record.failed.permanent)

    with batch_files(folder) as batch:
        for path in files:
            with path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        _take(line, f"{path}:{number}", reader, batch, journal, reading)
                    told(len(line))
        batch.drop(settled)
        for path in files:
            put_away(folder, path)
    return reading


def _take(line: bytes, place: str, reader: BatchReader, batch: BatchFiles, journal: Journal, reading: Reading) -> None:
    try:
        custom_id, outcome = reader.read(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        reading.unreadable.note(place)
        return
    about = batch.about(custom_id)
    if about is None:
        reading.unknown.note(custom_id[:80])
    elif outcome is None:
        reading.not_asked += 1
    elif isinstance(outcome, EngineError):
        reading.refused.note(str(outcome))
    else:
        _note(_record(journal, read_json(about, Key), outcome), outcome, reading)


def _note(news: bool | EngineError, outcome: TeacherReply | TeacherFailed, reading: Reading) -> None:
    if isinstance(news, EngineError):
        reading.refused.note(str(news))
    elif news:
        reading.replies += isinstance(outcome, TeacherReply)
        reading.failures += isinstance(outcome, TeacherFailed)
    else:
        reading.before += 1


def _record(journal: Journal, key: Key, outcome: TeacherReply | TeacherFailed) -> bool | EngineError:
    """Whether the outcome is news: a failure is only where nothing is recorded, a reply also where a failure is.

    Or the error of a batch that was refused from its beginning on: its other lines are read all the same.
    """
    before = journal.found(key.step, key.digest)
    if before is not None and (before.failed is None or isinstance(outcome, TeacherFailed)):
        return False

    def answer() -> TeacherReply:
        if isinstance(outcome, TeacherFailed):
            raise outcome
        return replace(outcome, tokens=essential(outcome.tokens))

    try:
        with counted_aside():
            journal.once(key, answer, TeacherReply, failures=(TeacherFailed,))
    except RecordedFailure:
        pass
    except EngineError as error:
        return error
    return True
