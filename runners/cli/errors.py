"""What all commands share: exit codes, and errors that are said in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

USAGE_ERROR, RUN_ERROR, PROBLEMS, DEFERRED, LOST, INTERRUPTED = 2, 1, 3, 4, 5, 130


class UsageError(ValueError):
    """What was asked for cannot be done; one line that names the fix."""


class BrokenOff(RuntimeError):
    """What was begun could not be finished; one line that says why."""


@contextmanager
def one_line(*errors: type[Exception], into: type[Exception] = UsageError) -> Iterator[None]:
    """Turn these errors, whose messages are one line each, into one that the command line says and ends with.

    A reader of our output that left is no such error, though it is an ``OSError``.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except errors as error:
        raise into(str(error)) from error


@contextmanager
def needs_extra(name: str) -> Iterator[None]:
    """Say which of the project's extras to install where a library is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"{error}; pip install 'hardquery[{name}]'") from error


def sentence(text: str) -> str:
    """What the list of commands says of one, as the first sentence of its own help."""
    return f"{text[0].upper()}{text[1:]}."


def connect_stores(*places: str | None) -> None:
    """Make object stores reachable for a command that takes no Beam options: the environment says how."""
    from transforms.storage.address import is_remote

    if not any(place and is_remote(place) for place in places):
        return
    from apache_beam.options.pipeline_options import PipelineOptions

    from transforms.storage.files import StoreError, connect

    with one_line(StoreError):
        connect(PipelineOptions([]), *places)
