"""The journal: every expensive result is on disk the moment it is done, and is never computed or paid for twice."""

from __future__ import annotations

import hashlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NoReturn, TypeVar

import msgspec

from schemas.account import Usage
from schemas.fingerprint import fingerprint
from schemas.video import EngineStamp
from transforms.batch_files import BatchFiles, batch_files
from transforms.budget import Budget, Deferred, Purse
from transforms.cache_lock import sharing
from transforms.segments import CannotJournal, line_of
from transforms.shelf import Shelf
from transforms.work import add, count, count_earlier

T = TypeVar("T")
Retry = Literal["transient", "all", "none"]

_NULL = msgspec.Raw(b"null")
STEPS = ("media", "decode", "asr", "ocr", "caption", "write", "judge")
# Part of every key: raise it when what is recorded under the same key would no longer mean the same.
FORMAT = 1
NOT_RUN = "not run"  # why a journal that only looks defers what it does not hold
BATCH = "batch"  # why one does that puts questions into batch files
BATCHED = "batched"  # the count of questions that were


@dataclass(frozen=True, slots=True)
class Key:
    """What decides one result of a step.

    ``engine`` does the work; ``settings`` are values of the run that decide as well, such as a prompt's version;
    ``inputs`` are what this one result is made from, such as the hash of a file. ``subject`` decides nothing: it names
    what the result is about, so that an earlier result of the same subject can tell why this one is not there.
    """

    step: str
    subject: str
    engine: EngineStamp | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """32 hex digits."""
        engine = self.engine.fingerprint if self.engine else ""
        return fingerprint([FORMAT, self.step, engine, self.settings, self.inputs], length=32)


@dataclass(frozen=True, slots=True)
class Failed:
    """How work failed; ``permanent`` where trying again could not help."""

    error_class: str
    message: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class Record:
    """What the journal holds of one key: a value as JSON, or how the work failed; when (Unix time) and how long.

    ``value`` is null where the work failed.
    """

    step: str
    subject: str
    engine: EngineStamp | None
    settings: Mapping[str, str]
    inputs: Mapping[str, str]
    at: float
    seconds: float
    usage: Usage | None
    value: msgspec.Raw
    failed: Failed | None


class RecordedFailure(RuntimeError):
    """Work that failed, now or in an earlier run whose failure stands; the same class and message either way."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.error_class, self.message, self.permanent = failed.error_class, failed.message, failed.permanent


@dataclass(frozen=True, slots=True)
class Miss:
    """A key that a journal which only looks does not hold, and the last record of its subject, if any."""

    key: Key
    before: Record | None


@dataclass(frozen=True)
class Journal:
    """Where results are kept and what to do about those that are not there; cheap, and picklable to any worker.

    ``root`` is the cache's folder or URL. ``retry`` says which recorded failures are tried again. With ``look_only``
    nothing is done: what is missing is noted and deferred. With ``batch``, a folder of this machine, questions that
    would be asked of a server go there instead, and are deferred until their replies are recorded. Two journals of one
    ``run`` and process share their files.
    """

    root: str
    retry: Retry = "transient"
    budget: Budget = field(default_factory=Budget)
    look_only: bool = False
    batch: str = ""
    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    def once(
        self,
        key: Key,
        work: Callable[[], T],
        kind: Any,
        failures: tuple[type[Exception], ...] = (),
        usable: Callable[[T], bool] | None = None,
        question: Callable[[], Mapping[str, Any] | None] | None = None,
    ) -> T:
        """The recorded result of ``key``, else what ``work`` returns, which is recorded first.

        ``kind`` is the result's type. What is returned was written as JSON and read again, so that a first run sees
        what every later one will. A recorded result that is not ``usable`` any more (a file it names is gone) is made
        again. ``failures`` are the errors of ``work`` that are this key's own, and are recorded; an error's attribute
        ``permanent`` says whether trying again could help. ``question`` makes the body of the chat completions call
        that ``work`` would make, for a batch; None where there is no such call.

        Raises:
            RecordedFailure: ``work`` failed, now or before.
            Deferred: the budget leaves no room for the work, or this journal only looks, or it waits for a batch.
            CannotJournal: the result cannot be recorded.
            Exception: any other error of ``work``.
        """
        return self._book().once(key, work, kind, failures, usable, question)

    def found(self, step: str, digest: str) -> Record | None:
        """The record of a key that counts: one with a value, else the last failure; None where there is none."""
        return self._book().found(step, digest)

    def holds(self, step: str) -> bool:
        """Whether there is any record of a step."""
        return len(self._book().shelf(step)) > 0

    def misses(self) -> list[Miss]:
        """What a journal that only looks did not find, in no particular order."""
        return list(self._book().misses)

    def some(self, step: str, n: int) -> list[Record]:
        """At most ``n`` records of a step, chosen by chance among those of earlier runs."""
        return [record for data in self._book().shelf(step).some(n) if (record := record_of(data)) is not None]

    def damage(self) -> list[str]:
        """Damaged lines that were met, one line of text each."""
        return list(dict.fromkeys(text for shelf in self._book().shelves() for text in shelf.damage))

    def close(self) -> None:
        """Write out and release all files; the end of this run in this process."""
        with _opening:
            book = _books.pop(self.run, None)
        if book is not None:
            book.close()

    def _book(self) -> Book:
        with _opening:
            if self.run not in _books:
                _books[self.run] = Book(self)
            return _books[self.run]


_books: dict[str, Book] = {}
_opening = threading.Lock()


class Book:
    """A journal at work in this process: its shelves, one a step, the purse, and its share of the cache."""

    def __init__(self, journal: Journal) -> None:
        self._using = ExitStack()
        if not journal.look_only or os.path.isdir(journal.root):  # looking makes no folder
            self._using.enter_context(sharing(journal.root))
        self._journal = journal
        self._purse = Purse(journal.budget)
        self._shelves: dict[str, Shelf] = {}
        self._under_way: dict[str, tuple[threading.Lock, list[None]]] = {}
        self._changing = threading.Lock()
        self._batch: BatchFiles | None = None
        if journal.batch:
            self._batch = self._using.enter_context(batch_files(journal.batch))
            self._batch.drop(self._settled)
        self.misses: list[Miss] = []

    def shelf(self, step: str) -> Shelf:
        """The shelf of a step, read on first use."""
        with self._changing:
            if step not in self._shelves:
                self._shelves[step] = Shelf(self._journal.root, step, subjects=self._journal.look_only)
                self._using.callback(self._shelves[step].close)
            return self._shelves[step]

    def shelves(self) -> list[Shelf]:
        """Those in use."""
        with self._changing:
            return list(self._shelves.values())

    def close(self) -> None:
        """See ``Journal.close``."""
        try:
            self._using.close()
        except CannotJournal:
            if not self._journal.look_only:  # which needs no right to write
                raise

    def once(
        self,
        key: Key,
        work: Callable[[], T],
        kind: Any,
        failures: tuple[type[Exception], ...],
        usable: Callable[[T], bool] | None,
        question: Callable[[], Mapping[str, Any] | None] | None,
    ) -> T:
        """See ``Journal.once``."""
        digest = key.digest
        with self._alone(digest):
            found = self._recorded(key, digest, kind, usable)
            if isinstance(found, Failed):
                raise RecordedFailure(found)
            if found is not None:
                return found
            if self._journal.look_only and key.step != "media":
                self._miss(key)
                raise Deferred(NOT_RUN)
            body = question() if self._batch is not None and question is not None else None
            if self._batch is not None and body is not None:
                self._ask_later(self._batch, key, digest, body)
            return self._do(key, digest, work, kind, failures)

    def found(self, step: str, digest: str) -> Record | None:
        """See ``Journal.found``."""
        last: Record | None = None
        for record in map(record_of, self.shelf(step).find(digest)):
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
            with self._purse.call(key.step) as call:
                call.usage = None
                batch.ask(key.step, digest, _subject_digest(key.subject), msgspec.json.encode(key), body)
            add(key.step, BATCHED, 1)
        raise Deferred(BATCH)

    def _recorded(self, key: Key, digest: str, kind: Any, usable: Callable[[T], bool] | None) -> T | Failed | None:
        """The first usable value, else the last failure if it stands, else None; what is found is counted."""
        failed: Failed | None = None
        for data in self.shelf(key.step).find(digest):
            try:
                record = msgspec.json.decode(data, type=Record)
                count_earlier(key.step, record.usage)  # also of failures before the value: they were asked for it too
                if record.failed is not None:
                    failed = record.failed
                    continue
                value: T = msgspec.json.decode(record.value, type=kind)
            except msgspec.DecodeError:
                continue  # written by another version
            if usable is None or usable(value):
                count(key.step, "cached")
                return value
        if failed is None or not self._stands(failed):
            return None
        count(key.step, "cached")
        return failed

    def _stands(self, failed: Failed) -> bool:
        retry = self._journal.retry
        return retry == "none" or (retry == "transient" and failed.permanent)

    def _miss(self, key: Key) -> None:
        data = self.shelf(key.step).last_of(_subject_digest(key.subject))
        before = record_of(data) if data is not None else None
        self.misses.append(Miss(key, before and replace(before, value=_NULL)))  # values would fill the memory

    def _do(self, key: Key, digest: str, work: Callable[[], T], kind: Any, failures: tuple[type[Exception], ...]) -> T:
        try:
            with self._purse.call(key.step) as call:
                start = time.monotonic()
                try:
                    value = work()
                except failures as error:
                    permanent = bool(getattr(error, "permanent", False))
                    failed = Failed(type(error).__name__, str(error), permanent)
                    usage = getattr(error, "usage", None)
                    if usage is not None and usage.input_tokens is not None:
                        call.usage = usage  # it was answered, and billed
                    self._append(key, digest, time.monotonic() - start, usage, failed=failed)
                    count(key.step, "failed", usage)
                    raise RecordedFailure(failed) from error
                usage = call.usage = getattr(value, "usage", None)
                encoded = msgspec.json.encode(value)
                self._append(key, digest, time.monotonic() - start, usage, msgspec.Raw(encoded))
        except Deferred:
            count(key.step, "deferred")
            if self._journal.look_only:
                self._miss(key)
            raise
        count(key.step, "run", usage)
        result: T = msgspec.json.decode(encoded, type=kind)
        return result

    def _append(
        self,
        key: Key,
        digest: str,
        seconds: float,
        usage: Usage | None = None,
        value: msgspec.Raw = _NULL,
        failed: Failed | None = None,
    ) -> None:
        record = Record(
            key.step,
            key.subject,
            key.engine,
            key.settings,
            key.inputs,
            round(time.time(), 3),
            round(seconds, 4),
            usage,
            value,
            failed,
        )
        subject = _subject_digest(key.subject)
        try:
            self.shelf(key.step).append(digest, subject, line_of(digest, subject, msgspec.json.encode(record)))
        except CannotJournal:
            if not self._journal.look_only:  # which needs no right to write
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


def record_of(data: bytes) -> Record | None:
    """The record of a line's JSON, None where another version wrote it."""
    try:
        return msgspec.json.decode(data, type=Record)
    except msgspec.DecodeError:
        return None


def _subject_digest(subject: str) -> str:
    return hashlib.sha256(subject.encode()).hexdigest()[:16]
