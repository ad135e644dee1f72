"""The rooms by name: which runner a command line names, and what Beam makes of its options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions

from runners import local
from runners.remote import dataflow, flink, prism, spark
from runners.remote.dataflow import secrets_in
from runners.remote.room import LOOPBACK, SHARED_DISK, CannotRun, Request, Room, value_of
from schemas.fingerprint import fingerprint

ROOMS: tuple[Room, ...] = (prism.ROOM, flink.ROOM, spark.ROOM, dataflow.ROOM)
_LOCAL = {"local": "FnApiRunner"}


@dataclass(frozen=True)
class Chosen:
    """A room and the options of Beam for it; ``shared_disk`` where all workers see the folders of this machine."""

    room: Room
    options: PipelineOptions
    flags: tuple[str, ...]
    shared_disk: bool

    @property
    def is_here(self) -> bool:
        """Whether workers are threads of this process."""
        return (self.options.view_as(PortableOptions).environment_type or "").upper() == LOOPBACK


@dataclass(frozen=True)
class Remote:
    """Where a run goes, and what its room was asked to check."""

    chosen: Chosen
    request: Request


def room_of(runner: str | None) -> Room | None:
    """The room of a runner by our name for it or Beam's, None of one that has none."""
    named = (runner or "").lower()
    return next((room for room in ROOMS if named in (room.name, room.runner.lower())), None)


def choose(flags: Sequence[str]) -> Chosen | None:
    """The room that the flags name, with its defaults; None where the run is to happen in this process.

    Options that Beam does not know are left to the job server.

    Raises:
        ValueError: a value that is none, or a secret where everybody sees it.
    """
    room = room_of(value_of(flags, "--runner"))
    if room is None:
        return None
    shared, flags = SHARED_DISK in flags, [flag for flag in flags if flag != SHARED_DISK]
    if room is dataflow.ROOM and (secrets := secrets_in(flags)):
        raise CannotRun(
            f"dataflow: {secrets[0]} would be shown to everybody who sees the job: keys are read on the workers, from "
            "their environment, api_key_secret or api_key_file"
        )
    completed = room.complete(_with_runner(flags, room.runner))
    local.require_known(completed, all_of_them=room is dataflow.ROOM)
    return Chosen(room, PipelineOptions(completed), tuple(completed), shared)


def as_local(flags: Sequence[str]) -> list[str]:
    """The flags with Beam's name for a run in this process, where ours is given."""
    runner = (value_of(flags, "--runner") or "").lower()
    return _with_runner(flags, _LOCAL[runner]) if runner in _LOCAL else list(flags)


def request_of(chosen: Chosen, recipe: str, places: tuple[str, str, str]) -> Request:
    """What a room is asked to check; the name is the same for the same recipe and output."""
    name = f"hardquery-{''.join(c if c.isalnum() else '-' for c in recipe.lower())}-{fingerprint(places[1])[:8]}"
    return Request(name, *places, chosen.options, chosen.shared_disk)


def _with_runner(flags: Sequence[str], runner: str) -> list[str]:
    left, waiting = [], list(flags)
    while waiting:
        word = waiting.pop(0)
        if word == "--runner":
            waiting = waiting[1:]
        elif not word.startswith("--runner="):
            left.append(word)
    return [f"--runner={runner}", *left]
