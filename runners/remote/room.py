"""What a runner beyond this process must have before a run begins, and how its jobs are found again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.runners.runner import PipelineState

from pipeline.finish import Submitted
from transforms.storage.address import is_remote
from transforms.storage.local_file import own_folder

SHARED_DISK = "--shared_disk"  # ours: all workers see the folders of this machine under the same names
LOOPBACK, PROCESS, DOCKER, EXTERNAL = "LOOPBACK", "PROCESS", "DOCKER", "EXTERNAL"


class CannotRun(ValueError):
    """A runner that lacks something; one line that names it and the fix."""


class AtWork(Protocol):
    """A job that was submitted; Beam's own results are such."""

    @property
    def state(self) -> str:
        """One of Beam's ``PipelineState``."""

    def wait_until_finish(self, duration: int | None = None) -> Any:
        """Wait for its end. Raises what stopped it."""

    def cancel(self) -> Any:
        """End it."""


@dataclass(frozen=True)
class Request:
    """A run as a room sees it: its places, options of Beam, and a name that the same run always has."""

    name: str
    input: str
    output: str
    cache: str
    options: PipelineOptions
    shared_disk: bool = False

    @property
    def environment(self) -> str:
        """Where workers come from: one of the four, "" where nothing was said."""
        return (self.options.view_as(PortableOptions).environment_type or "").upper()


class Room:
    """A runner: its names, here and in Beam, and its help. A room of its own says what it lacks, and adds defaults."""

    name = ""
    runner = ""
    help = ""
    has_kinds = False  # whether it has machines of several kinds, and each step runs on those that it asks for

    def complete(self, flags: Sequence[str]) -> list[str]:
        """The flags, with those that work where nothing was said."""
        return list(flags)

    def require(self, request: Request) -> None:
        """Refuse a run that lacks something, before anything is done. Raises ``CannotRun``."""
        raise NotImplementedError

    def outlives_driver(self, request: Request) -> bool:
        """Whether a job goes on when this process ends."""
        return False

    def is_worth_another_try(self, error: Exception) -> bool:
        """Whether it gave up on a job by a limit of its own before anything of it had begun."""
        return False

    def page(self, submitted: Submitted, options: PipelineOptions) -> str:
        """Where a job can be watched, "" where it cannot."""
        return ""

    def find(self, submitted: Submitted, options: PipelineOptions) -> AtWork | None:
        """A job that was submitted earlier, None where its runner does not know it any more."""
        return None


def is_at_work(job: AtWork | None) -> bool:
    """Whether a job is yet to come to its end."""
    return job is not None and not PipelineState.is_terminal(job.state)


def endpoint_of(options: PipelineOptions) -> str | None:
    """The address of a job service that runs already, if one was named."""
    endpoint: str | None = options.view_as(PortableOptions).job_endpoint
    return endpoint


def value_of(flags: Sequence[str], name: str) -> str | None:
    """The value of a flag, typed with or without "="; the last one, None where it is not there."""
    found = None
    for word, following in zip(flags, [*flags[1:], ""], strict=False):
        if word == name:
            found = following
        elif word.startswith(f"{name}="):
            found = word.partition("=")[2]
    return found


def with_default(flags: Sequence[str], name: str, value: str | None) -> list[str]:
    """The flags, with one of this value unless it is there already, or there is no value."""
    if value is None or value_of(flags, name) is not None:
        return list(flags)
    return [*flags, f"{name}={value}"]


def require_places(request: Request, room: Room) -> None:
    """Refuse folders of this machine that no worker sees. Raises ``CannotRun``."""
    if request.environment == LOOPBACK or request.shared_disk:
        return
    places = {"--input": request.input, "--output": request.output, "--cache": request.cache}
    for option, place in places.items():
        if not is_remote(place):
            raise CannotRun(
                f"{option} {place!r} is of this machine, and workers of {room.name} run elsewhere: name an object "
                f"store (gs://…, s3://…), or say {SHARED_DISK} if all of them see this folder"
            )


def require_environment(request: Request, room: Room) -> None:
    """Refuse workers that cannot start. Raises ``CannotRun``."""
    portable = request.options.view_as(PortableOptions)
    given = dict(option.partition("=")[::2] for option in portable.environment_options or ())
    if request.environment == PROCESS and not (portable.environment_config or given.get("process_command")):
        raise CannotRun(
            f"{room.name}: PROCESS needs --environment_option process_command=PATH, a script that starts Beam's boot "
            "program in an environment where hardquery is installed"
        )
    if request.environment == PROCESS and (command := given.get("process_command")) and not shutil.which(command):
        raise CannotRun(f"{room.name}: process_command {command!r} is no program that can be run")
    image = portable.environment_config or given.get("docker_container_image")
    if request.environment in ("", DOCKER) and not image:
        raise CannotRun(
            f"{room.name}: workers need --environment_type DOCKER --environment_config IMAGE, an image with hardquery "
            "(see containers/), or PROCESS, or LOOPBACK where workers are to be threads of this process"
        )
    if request.environment == EXTERNAL and not (portable.environment_config or given.get("external_service_address")):
        raise CannotRun(f"{room.name}: EXTERNAL needs --environment_config HOST:PORT, that of a worker pool")


def require_java(room: Room) -> None:
    """Refuse where no job server can be started. Raises ``CannotRun``."""
    if shutil.which("java") is None:
        raise CannotRun(f"{room.name}: its job server needs java 17, or --job_endpoint HOST:PORT of one that runs")


def require_jar(room: Room, flag: str, path: str | None) -> None:
    """Refuse a job server's jar that is not there. Raises ``CannotRun``."""
    if path is not None and "://" not in path and not os.path.isfile(path):
        raise CannotRun(f"{room.name}: {flag} {path!r} is not there")


def own_binary(name: str) -> str | None:
    """A program that was built into this user's cache, as ``make test-runners`` does; None where there is none."""
    path = os.path.join(own_folder(), "bin", name)
    return path if os.access(path, os.X_OK) else None
