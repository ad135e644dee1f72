"""A journal at work in one process: looks results up, else has the work done, once, and records it."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NoReturn, TypeVar

import msgspec

from schemas.check import read_json
from schemas.usage import Usage
from transforms.journal.batch_files import BatchFiles, batch_files
from transforms.journal.budget import Bill, Budget, Deferred, Spending
from transforms.journal.counts import WorkOutcome, add, count, count_earlier, count_found
from transforms.journal.first_answers import FirstAnswers
from transforms.journal.record import Failed, Key, Record, RecordedFailure, record_of
from transforms.journal.segments import CannotJournal, line_of
from transforms.journal.step_log import StepLog
from transforms.storage.cache_lock import sharing

T = TypeVar("T")
Retry = Literal["transient", "all", "none"]

NOT_PAID = ""  # the step, to a budget, of work that costs nothing
NOT_RUN = "not run"  # why a journal that only looks defers what it does not hold
BATCH = "batch"  # why one does that puts questions into batch files
BATCHED = "batched"  # the count of questions that were
_NULL = msgspec.Raw(b"null")


class OpenJournal:
    """A journal at work in this process: the log of each step, what was spent, and its share of the cache.

    One thread at a time works on a key. Options are those of ``Journal``, which hands out what is open in a process.
    """

    def __init__(
        self,
        root: str,
        retry: Retry,
        budget: Budget,
        look_only: bool,
        batch: str,
        note: Callable[[Key, Record | None], Any],
        run: str,
    ) -> None:
        self._run = run
        self._using = ExitStack()
        if not look_only or os.path.isdir(root):  # looking makes no folder
            self._using.enter_context(sharing(root))
        self._root, self._retry, self._look_only = root, retry, look_only
        self._spending = Spending(budget)
        self._logs: dict[str, StepLog] = {}
        self._first: dict[str, FirstAnswers] = {}
        self._under_way: dict[str, tuple[threading.Lock, list[None]]] = {}
        self._changing = threading.Lock()
        self._batch: BatchFiles | None = None
        if batch:
            self._batch = self._using.enter_context(batch_files(batch))
            self._batch.drop(self._settled)
        self._note = note
        self.misses: list[Any] = []

    def bill(self) -> Bill:
        """What was spent in this process so far."""
        return self._spending.bill()

    def log(self, step: str) -> StepLog:
        """The log of a step, read on first use."""
        with self._changing:
            if step not in self._logs:
                self._logs[step] = StepLog(self._root, step, subjects=self._look_only)
                self._using.callback(self._logs[step].close)
            return self._logs[step]

    def _first_of(self, step: str) -> FirstAnswers:
        with self._changing:
            return self._first.setdefault(step, FirstAnswers(step))

    def logs(self) -> list[StepLog]:
        """Those in use."""
        with self._changing:
            return list(self._logs.values())

    def close(self) -> None:
        """Write out and release all files. Raises ``CannotJournal``, unless nothing but looking was done."""
        try:
            for first in self._first.values():
                first.close()
            self._using.close()
        except CannotJournal:
            if not self._look_only:  # which needs no right to write
                raise

    def once(
        self,
        key: Key,
        work: Callable[[], T],
        kind: Any,
        failures: tuple[type[Exception], ...],
        usable: Callable[[T], int] | None,
        question: Callable[[], Mapping[str, Any] | None] | None,
        paid: bool,
    ) -> T:
        """The recorded result of ``key``, else what ``work`` returns, recorded first; see ``Journal.once``."""
        digest = key.digest
        with self._alone(digest):
            found = self._recorded(key, digest, kind, usable)
            if isinstance(found, Failed):
                raise RecordedFailure(found, failures)
            if found is not None:
                return found
            if self._look_only and key.step != "media":
                self._miss(key)
                raise Deferred(NOT_RUN)
            body = question() if self._batch is not None and question is not None else None
            if self._batch is not None and body is not None:
                self._ask_later(self._batch, key, digest, body)
            return self._do(key, digest, work, kind, failures, paid)

    def found(self, step: str, digest: str) -> Record | None:
        """The first record of a key that has a value, else the last failure, else None."""
        last: Record | None = None
        for record in map(record_of, self.log(step).find(digest)):
            if record is not None and record.failed is None:
                return record
            last = record or last
        return last

    def _settled(self, step: str, digest: str) -> bool:
        """Whether a key needs no work: it has a value, or a failure that stands."""
        record = self.found(step, digest)
        return record is not None and (record.failed is None or self._stands(record.failed))

    def _ask_later(self, batch: BatchFiles, key: Key, digest: str, body: Mapping[str, Any]) -> NoReturn:
        """Put a question down, unless it waits already. It counts against the budget, as the recipe estimates it."""
        count(key.step, "deferred")
        if not batch.waits(digest):
            with self._spending.call(key.step) as call:
                call.usage = None
                batch.ask(key.step, digest, _subject_digest(key.subject), msgspec.json.encode(key), body)
            add(key.step, BATCHED, 1)
        raise Deferred(BATCH)

    def _recorded(self, key: Key, digest: str, kind: Any, usable: Callable[[T], int] | None) -> T | Failed | None:
        """The most usable value, else the last failure if it stands, else None; what is found is counted."""
        failed: Record | None = None
        values: list[tuple[Record, T]] = []
        recorded: list[Record] = []
        for data in self.log(key.step).find(digest):
            try:
                record = read_json(data, Record)
                recorded.append(record)  # also failures before the value: they were asked for it too
                if record.failed is not None:
                    failed = record
                else:
                    values.append((record, read_json(record.value, kind)))
            except msgspec.DecodeError:
                continue  # written by another version
            if values and usable is None:
                break
        answer: Record | None = None
        value: T | None = None
        if values:
            self._first_of(key.step).note_answer()
            worth = [1 if usable is None else usable(each) for _, each in values]
            if best := max(worth):
                answer, value = values[worth.index(best)]
        if answer is None and failed is not None and failed.failed is not None and self._stands(failed.failed):
            answer = failed
        for record in recorded:
            self._count_recorded(key, digest, record, record is answer)
        if answer is None:
            return None
        return answer.failed if answer.failed is not None else value

    def _count_recorded(self, key: Key, digest: str, record: Record, answers: bool) -> None:
        if record.run == self._run:
            outcome: WorkOutcome = "failed" if record.failed is not None else "run"
            count_found(key.step, outcome, record.usage, record.number_of(digest), answers)
            return
        count_earlier(key.step, record.usage)
        if answers:
            count(key.step, "cached")

    def _stands(self, failed: Failed) -> bool:
        return self._retry == "none" or (self._retry == "transient" and failed.permanent)

    def _miss(self, key: Key) -> None:
        data = self.log(key.step).last_of(_subject_digest(key.subject))
        before = record_of(data) if data is not None else None
        self.misses.append(self._note(key, before and replace(before, value=_NULL)))  # values would fill the memory

    def _do(
        self,
        key: Key,
        digest: str,
        work: Callable[[], T],
        kind: Any,
        failures: tuple[type[Exception], ...],
        paid: bool,
    ) -> T:
        first = self._first_of(key.step)
        try:
            with self._spending.call(key.step if paid else NOT_PAID) as call:
                start = time.monotonic()
                asked = first.ask(material=next(iter(key.inputs.values()), key.subject))
                try:
                    value = work()
                except failures as error:
                    permanent = bool(getattr(error, "permanent", False))
                    failed = Failed(type(error).__name__, str(error), permanent)
                    usage = getattr(error, "usage", None)
                    if usage is not None and usage.input_tokens is not None:
                        call.usage = usage  # it was answered, and billed
                    made = self._record(key, time.monotonic() - start, usage)
                    count(key.step, "failed", usage, made.number_of(digest))
                    if getattr(error, "refused", False):
                        record = partial(self._append_failed, key, digest, made, failed)
                        first.note_refusal(asked, failed.message, record)
                    else:
                        first.note_failure(asked)
                        self._append(key, digest, replace(made, failed=failed))
                    raise RecordedFailure(failed, failures) from error
                except BaseException:
                    first.note_failure(asked)
                    raise
                first.note_answer()
                usage = call.usage = getattr(value, "usage", None)
                encoded = msgspec.json.encode(value)
                made = self._record(key, time.monotonic() - start, usage, msgspec.Raw(encoded))
                self._append(key, digest, made)
        except Deferred:
            count(key.step, "deferred")
            if self._look_only:
                self._miss(key)
            raise
        count(key.step, "run", usage, made.number_of(digest))
        result: T = read_json(encoded, kind)
        return result

    def _record(self, key: Key, seconds: float, usage: Usage | None, value: msgspec.Raw = _NULL) -> Record:
        at, seconds = round(time.time(), 3), round(seconds, 4)
        about = (key.step, key.subject, key.engine, key.settings, key.inputs)
        return Record(*about, at, seconds, usage, value, None, self._run)

    def _append_failed(self, key: Key, digest: str, made: Record, failed: Failed, permanent: bool) -> None:
        self._append(key, digest, replace(made, failed=replace(failed, permanent=permanent)))

    def _append(self, key: Key, digest: str, record: Record) -> None:
        subject = _subject_digest(key.subject)
        try:
            self.log(key.step).append(digest, subject, line_of(digest, subject, msgspec.json.encode(record)))
        except CannotJournal:
            if not self._look_only:  # which needs no right to write
                raise

    @contextmanager
    def _alone(self, digest: str) -> Iterator[None]:
        """Only one thread at a time works on a key: the second one finds what the first one did."""
        with self._changing:
            turn, waiting = self._under_way.setdefault(digest, (threading.Lock(), []))
            waiting.append(None)
        try:
            with turn:
                yield
        finally:
            with self._changing:
                waiting.pop()
                if not waiting:
                    del self._under_way[digest]


def _subject_digest(subject: str) -> str:
    return hashlib.sha256(subject.encode()).hexdigest()[:16]
