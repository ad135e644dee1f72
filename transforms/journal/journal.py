"""The journal: every expensive result is on disk the moment it is done, and is never computed or paid for twice."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from transforms.journal.budget import Bill, Budget
from transforms.journal.open_journal import OpenJournal, Retry
from transforms.journal.record import Key, Miss, Record, record_of

T = TypeVar("T")
RUN_DIGITS = 12  # of a run's name, in its records


@dataclass(frozen=True)
class Journal:
    """Where results are kept and what to do about those that are not there; cheap, and picklable to any worker.

    ``root`` is the cache's folder or URL. ``retry`` says which recorded failures are tried again. With ``look_only``
    nothing is done: what is missing is deferred, and what ``note`` makes of its key and of the last record of its
    subject is kept. With ``batch``, a folder of this machine, questions that
    would be asked of a server go there instead, and are deferred until their replies are recorded. Two journals of one
    ``run`` and process share their files.
    """

    root: str
    retry: Retry = "transient"
    budget: Budget = field(default_factory=Budget)
    look_only: bool = False
    batch: str = ""
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    note: Callable[[Key, Record | None], Any] = Miss

    def once(
        self,
        key: Key,
        work: Callable[[], T],
        kind: Any,
        failures: tuple[type[Exception], ...] = (),
        usable: Callable[[T], int] | None = None,
        question: Callable[[], Mapping[str, Any] | None] | None = None,
        paid: bool = True,
    ) -> T:
        """The recorded result of ``key``, else what ``work`` returns, which is recorded first.

        ``kind`` is the result's type. What is returned was written as JSON and read again, so that a first run sees
        what every later one will. A recorded result that is not ``usable`` any more (a file it names is gone) is made
        again; of several the most usable counts, by a number that is 0 where one is not. ``failures`` are the errors of
        ``work`` that are this key's own, and are recorded; an error's attribute ``permanent`` says whether trying again
        could help, and ``refused`` that a server would not take the question, which is believed of one that has
        answered another (see ``FirstAnswers``). ``question`` makes the body of the chat completions call
        that ``work`` would make, for a batch; None where there is no such call. Work that
        is not ``paid`` for, though its step may be, counts against no budget: an engine of this process does it.

        Raises:
            RecordedFailure: ``work`` failed, now or before.
            Deferred: the budget leaves no room for the work, or this journal only looks, or it waits for a batch.
            CannotJournal: the result cannot be recorded.
            EngineError: the first questions of the step were all refused.
            Exception: any other error of ``work``.
        """
        return self._open().once(key, work, kind, failures, usable, question, paid)

    def found(self, step: str, digest: str) -> Record | None:
        """The record of a key that counts: one with a value, else the last failure; None where there is none."""
        return self._open().found(step, digest)

    def holds(self, step: str) -> bool:
        """Whether there is any record of a step."""
        return self.count(step) > 0

    def count(self, step: str) -> int:
        """How many records there are of a step."""
        return len(self._open().log(step))

    def misses(self) -> list[Any]:
        """What was noted of all that a journal which only looks did not find, in no particular order."""
        return list(self._open().misses)

    def some(self, step: str, n: int) -> list[Record]:
        """At most ``n`` records of a step, chosen by chance among those of earlier runs."""
        return [record for data in self._open().log(step).some(n) if (record := record_of(data)) is not None]

    def bill(self) -> Bill:
        """What the calls of this process have used so far; nothing where none was made."""
        journal = _opened.get(self.run)
        return journal.bill() if journal is not None else Bill()

    def damage(self) -> list[str]:
        """Damaged lines that were met, one line of text each."""
        return list(dict.fromkeys(text for log in self._open().logs() for text in log.damage))

    def begin_bundle(self) -> None:
        """Another attempt may have done the work of the bundle that begins: the next miss looks for what is new."""
        if (journal := _opened.get(self.run)) is not None:
            for log in journal.logs():
                log.look_again()

    def flush(self) -> None:
        """Have all that this process recorded where other processes find it: a bundle that counts has its results kept.

        Raises:
            CannotJournal: it cannot be sent.
        """
        if (journal := _opened.get(self.run)) is not None and not self.look_only:
            for log in journal.logs():
                log.flush()

    def close(self) -> None:
        """Write out and release all files; the end of this run in this process."""
        with _opening:
            journal = _opened.pop(self.run, None)
        if journal is not None:
            journal.close()

    def _open(self) -> OpenJournal:
        with _opening:
            if self.run not in _opened:
                _opened[self.run] = OpenJournal(
                    self.root, self.retry, self.budget, self.look_only, self.batch, self.note, self.run[:RUN_DIGITS]
                )
            return _opened[self.run]


_opened: dict[str, OpenJournal] = {}
_opening = threading.Lock()
