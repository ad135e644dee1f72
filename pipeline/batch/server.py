"""Batches of an OpenAI-compatible server: submit a folder's questions, see how far they are, fetch the replies."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from schemas.check import read_json
from schemas.visible import one_line
from transforms.engines.openai.options import require_address
from transforms.engines.server.api_key import KeyKeeper, refuse_secrets
from transforms.journal.batch_files import URL, having_alone, reply_files, request_files
from transforms.storage.files import write_bytes

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

T = TypeVar("T")
STATE = "batches.json"

_ENDED = ("completed", "failed", "expired", "cancelled")
_LIBRARIES = ("openai", "httpx2", "httpcore2")
_ERRORS_SHOWN = 3


class BatchServerError(RuntimeError):
    """The server did not do what it was asked; one line without the key."""


class Submission(msgspec.Struct):
    """One file of questions at the server: uploaded, in a batch once there is an id of one, and perhaps ``ended``."""

    file_id: str
    batch_id: str = ""
    ended: bool = False


class BatchServer:
    """The batches of one folder. Every step is written down in ``batches.json``, so that any can be cut short.

    Raises ``ValueError`` for an address that is none, or holds what must not be printed.
    """

    def __init__(self, folder: str, base_url: str, key: str, tell: Callable[[str], object]) -> None:
        from openai import OpenAI

        require_address(base_url)
        refuse_secrets({"base_url": base_url}, key)
        for library in _LIBRARIES:
            logging.getLogger(library).setLevel(logging.WARNING)  # below that they log headers
        self._folder, self._base_url, self._tell = folder, base_url, tell
        self._keeper = KeyKeeper(key)
        self._client: OpenAI = OpenAI(api_key=key, base_url=base_url)

    def submit(self) -> int:
        """Submit every file of questions that is not under way; how many batches were begun.

        A file goes a second time where its batch has ended without a reply. One whose replies lie unread does not.

        Raises:
            BatchServerError: the server refuses or does not answer; what was submitted before stays so.
            BatchInUse, OSError: another process is at work on the folder, or it cannot be written to.
        """
        begun = 0
        with having_alone(self._folder):
            state = self._state()
            for path in request_files(self._folder):
                known = state.get(path.name)
                if reply_files(self._folder, to=path):
                    self._tell(f"{path.name}: its replies lie unread; `hardquery batch read` comes first")
                elif known and known.batch_id and not known.ended:
                    self._tell(f"{path.name}: under way as {known.batch_id}")
                else:
                    self._submit(path, state)
                    begun += 1
        return begun

    def _submit(self, path: Path, state: dict[str, Submission]) -> None:
        known, batch_id = state.get(path.name), ""
        if known is None or known.ended:
            self._tell(f"{path.name}: uploading {path.stat().st_size / 1e6:,.1f} MB")
            file = self._asked(lambda: self._client.files.create(file=path, purpose="batch"))
            known = state[path.name] = Submission(file.id)
            self._save(state)
        else:  # cut short after the upload: perhaps the batch was begun, and is to be paid for once
            batch_id = self._asked(lambda: self._batch_of(known.file_id))
        if not batch_id:
            # Not tried again by the library: a lost answer may mean a batch.
            once = self._client.with_options(max_retries=0)
            batch = self._asked(
                lambda: once.batches.create(input_file_id=known.file_id, endpoint=URL, completion_window="24h")
            )
            batch_id = batch.id
        known.batch_id = batch_id
        self._save(state)
        self._tell(f"{path.name}: submitted as {batch_id}")

    def _batch_of(self, file_id: str) -> str:
        return next((batch.id for batch in self._client.batches.list(limit=100) if batch.input_file_id == file_id), "")

    def fetch(self) -> tuple[int, int]:
        """Look once at every batch under way, and download the files of those that have ended.

        Returns how many are still under way, and how many have failed. Raises as ``submit``.
        """
        under_way = failed = 0
        with having_alone(self._folder):
            state = self._state()
            for name, known in state.items():
                if known.ended or not known.batch_id:
                    continue
                batch = self._asked(partial(self._client.batches.retrieve, known.batch_id))
                self._tell(f"{name}: {_progress(batch)}")
                if batch.status not in _ENDED:
                    under_way += 1
                    continue
                self._download(batch.error_file_id, "errors", name)
                self._download(batch.output_file_id, "replies", name)
                failed += batch.status == "failed"
                for error in ((batch.errors and batch.errors.data) or ())[:_ERRORS_SHOWN]:
                    where = f"line {error.line}: " if error.line is not None else ""
                    self._tell(f"{name}: {where}{self._line(error.message or error.code)}")
                known.ended = True
                self._save(state)
        return under_way, failed

    def _download(self, file_id: str | None, kind: str, name: str) -> None:
        if not file_id:
            return
        path = Path(self._folder) / name.replace("requests", kind, 1)
        part = path.with_name(f".{path.name}")

        def download() -> None:
            with self._client.files.with_streaming_response.content(file_id) as content:
                content.stream_to_file(part)

        self._asked(download)
        part.replace(path)
        self._tell(f"{path.name}: {path.stat().st_size / 1e6:,.1f} MB")

    def _asked(self, call: Callable[[], T]) -> T:
        """What a call returns; its error is raised outside of the handler, for the library's own quotes the server."""
        import httpx2
        from openai import APIConnectionError, APIStatusError, OpenAIError

        try:
            return call()
        except APIStatusError as error:
            body = error.body if isinstance(error.body, dict) else {}
            problem = f"HTTP {error.status_code}: {self._line(body.get('message') or error.message)}"
        except APIConnectionError as error:
            problem = f"no answer ({self._line(error.__cause__ or error.message)})"
        except (OpenAIError, httpx2.HTTPError) as error:  # the latter in the middle of a download
            problem = self._line(error)
        raise BatchServerError(f"{self._base_url}: {problem}; the same command continues")

    def _line(self, said: object) -> str:
        return one_line(self._keeper.hide(str(said)))[:300]

    def _state(self) -> dict[str, Submission]:
        path = Path(self._folder) / STATE
        try:
            return read_json(path.read_bytes(), dict[str, Submission]) if path.exists() else {}
        except msgspec.DecodeError as error:
            raise BatchServerError(f"{path} is damaged: restore it, or see at the server what runs") from error

    def _save(self, state: dict[str, Submission]) -> None:
        data = msgspec.json.format(msgspec.json.encode(state), indent=1)
        write_bytes(str(Path(self._folder) / STATE), data)


def _progress(batch: Batch) -> str:
    counts = batch.request_counts
    if counts is None:
        return batch.status
    return f"{batch.status}, {counts.completed:,} of {counts.total:,} answered, {counts.failed:,} failed"
