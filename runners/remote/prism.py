"""Prism: Beam's own portable runner, on one machine; each step as a cluster would run it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PrismRunnerOptions
from apache_beam.version import __version__ as beam_version

from runners.remote.room import (
    LOOPBACK,
    PROCESS,
    CannotRun,
    Request,
    Room,
    endpoint_of,
    own_binary,
    require_environment,
    require_places,
    value_of,
    with_default,
)
from schemas.fingerprint import fingerprint
from transforms.storage.local_file import own_folder

# Beam gives up on a job after this time, whatever it does, where its runner knows the job before it runs.
_NEVER_S = 1_000_000
# It gives a worker's process one minute to start, which no option changes; Python may take longer on a busy machine.
_TOO_LATE = "didn't get control connection"
# Prism puts quotes around the id of a worker, which boot does not find then; and boot's files would be in the same
# place for all workers of a machine, but for one that it leaves in the current folder.
_WORKER = """\
#!/bin/bash
export PATH={path}:$PATH RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
q="'"; args=(); for a in "$@"; do args+=("${{a//$q/}}"); done
folder="$(mktemp -d)"; cd "$folder"; exec {boot} --semi_persist_dir="$folder" "${{args[@]}}"
"""


class Prism(Room):
    """Workers are threads of this process (LOOPBACK, the default) or one process (PROCESS)."""

    name, runner = "prism", "PrismRunner"
    help = f"""\
Prism is a single program, and everything happens on this machine: a trial of what a cluster does, for tests and for
runs of moderate size. It keeps what flows between steps in memory.

  hardquery run demo --input videos --output out --runner prism

  --prism_location PATH      the program (default: ~/.cache/hardquery/bin/prism); build it once with
                             GOBIN=~/.cache/hardquery/bin go install \\
                                 github.com/apache/beam/sdks/v2/go/cmd/prism@v{beam_version}
  --environment_type TYPE    LOOPBACK (default): workers are threads of this process; an error ends the run.
                             PROCESS: one process, started by Beam's boot program. Build that with
                             GOBIN=~/.cache/hardquery/bin go install \\
                                 github.com/apache/beam/sdks/v2/python/container@v{beam_version}
  --job_endpoint HOST:PORT   a Prism that runs already

Any other option of Beam may follow. A run ends with this process: the same command continues it from the cache.
"""

    def complete(self, flags: Sequence[str]) -> list[str]:
        flags = with_default(flags, "--environment_type", LOOPBACK)
        flags = with_default(flags, "--job_server_timeout", str(_NEVER_S))
        if value_of(flags, "--job_endpoint") is None:
            flags = with_default(flags, "--prism_location", own_binary("prism"))
        boot = own_binary("container")
        said = any("process_command" in flag for flag in flags) or value_of(flags, "--environment_config")
        if (value_of(flags, "--environment_type") or "").upper() == PROCESS and boot and not said:
            flags = [*flags, f"--environment_option=process_command={_worker_script(boot)}"]
        return flags

    def require(self, request: Request) -> None:
        prism = request.options.view_as(PrismRunnerOptions)
        location, endpoint = prism.prism_location, endpoint_of(request.options)
        if not endpoint and location is None:
            raise CannotRun(
                "prism: there is no program prism; build it (hardquery run --runner prism --help says how), or name it "
                "with --prism_location PATH"
            )
        if location is not None and "://" not in location and not os.access(location, os.X_OK):
            raise CannotRun(f"prism: --prism_location {location!r} is no program that can be run")
        if not (request.environment == PROCESS and not endpoint):  # which is a process of this machine
            require_places(request, self)
        require_environment(request, self)

    def is_worth_another_try(self, error: Exception) -> bool:
        return _TOO_LATE in str(error)


def _worker_script(boot: str) -> str:
    """A script that starts a worker with this process's Python."""
    text = _WORKER.format(path=os.path.dirname(sys.executable), boot=boot)
    path = os.path.join(own_folder(), "bin", f"worker-{fingerprint(text)}.sh")
    if not os.path.exists(path):
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o755)
        os.rename(temporary, path)
    return path


ROOM = Prism()
