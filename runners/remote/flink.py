"""Flink: a run on a cluster, or on a small one of the job server's own."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.error import URLError

from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions
from apache_beam.runners.runner import PipelineState

from pipeline.finish import Submitted
from runners.remote.room import (
    LOOPBACK,
    AtWork,
    Request,
    Room,
    endpoint_of,
    require_environment,
    require_jar,
    require_java,
    require_places,
    value_of,
    with_default,
)

JAR = "HARDQUERY_FLINK_JOB_SERVER_JAR"
OWN = ("[local]", "[auto]")  # a cluster inside of the job server
_CACHE_MS = 600_000  # an SDK process that no step needs any more would be started anew for the next
_ANSWER_S = 10.0
_POLL_S = 10.0
_STATES = {
    "FINISHED": PipelineState.DONE,
    "FAILED": PipelineState.FAILED,
    "CANCELED": PipelineState.CANCELLED,
    "SUSPENDED": PipelineState.STOPPED,
}


class Flink(Room):
    """Without a master, workers are threads of this process; on a cluster, they come from an image or a script."""

    name, runner = "flink", "FlinkRunner"
    help = f"""\
Beam's job server for Flink is a jar, which Beam fetches unless it is named; it needs java 17.

  hardquery run demo --input videos --output out --runner flink                      a small Flink on this machine
  hardquery run demo --input s3://b/videos --output s3://b/out --cache s3://b/cache --runner flink \\
      --flink_master HOST:8081 --environment_type DOCKER --environment_config IMAGE --parallelism 16

  --flink_master HOST:PORT        the cluster (default: {OWN[0]})
  --flink_version X.Y             its version
  --flink_job_server_jar PATH     the job server (default: ${JAR})
  --environment_type TYPE         DOCKER, PROCESS or EXTERNAL on a cluster; LOOPBACK, threads of this process, without
  --parallelism N                 tasks at a time (default: the cluster's)
  --shared_disk                   --input, --output and --cache are folders that every machine sees

The cluster needs, in its configuration:
  taskmanager.network.sort-shuffle.min-parallelism: 1000   or its network buffers do not suffice
  classloader.resolve-order: parent-first                  and Beam's classes in Flink's lib/, or workers are started
                                                           anew for every step
  restart-strategy.type: fixed-delay                       or a lost task manager ends the run
  pekko.ask.timeout: 180 s, heartbeat.timeout: 40000, web.timeout: 180000   on busy machines
In PROCESS mode, keep task managers in containers: what they started outlives them.

Options that the job server alone knows are passed on. A job on a cluster goes on without this process: the same
command finds it and waits, and `hardquery finish OUTPUT` publishes what it made.
"""

    def complete(self, flags: Sequence[str]) -> list[str]:
        flags = with_default(flags, "--environment_cache_millis", str(_CACHE_MS))
        flags = with_default(flags, "--flink_master", OWN[0])
        if value_of(flags, "--flink_master") in OWN:
            flags = with_default(flags, "--environment_type", LOOPBACK)
        return with_default(flags, "--flink_job_server_jar", os.environ.get(JAR))

    def require(self, request: Request) -> None:
        if endpoint_of(request.options) is None:
            require_jar(self, "--flink_job_server_jar", _flink(request.options).flink_job_server_jar)
            require_java(self)
        require_places(request, self)
        require_environment(request, self)

    def outlives_driver(self, request: Request) -> bool:
        return _flink(request.options).flink_master not in OWN and request.environment != LOOPBACK

    def page(self, submitted: Submitted, options: PipelineOptions) -> str:
        return "" if _flink(options).flink_master in OWN else _url(options)

    def find(self, submitted: Submitted, options: PipelineOptions) -> AtWork | None:
        if _flink(options).flink_master in OWN:
            return None
        jobs = _ask(f"{_url(options)}/jobs/overview")["jobs"]
        named = [job for job in jobs if job["name"] == submitted.job]
        last = max(named, key=lambda job: job["start-time"], default=None)
        return FlinkJob(_url(options), last["jid"]) if last else None


class FlinkJob:
    """A job of a cluster, by way of its REST service. Raises ``OSError`` where that is out of reach."""

    def __init__(self, url: str, job: str) -> None:
        self._url = f"{url}/jobs/{job}"

    @property
    def state(self) -> str:
        """See ``AtWork``."""
        state: str = _STATES.get(_ask(self._url)["state"], PipelineState.RUNNING)
        return state

    def wait_until_finish(self, duration: int | None = None) -> str:
        """See ``AtWork``."""
        while not PipelineState.is_terminal(state := self.state):
            time.sleep(_POLL_S)
        if state != PipelineState.DONE:
            found = _ask(f"{self._url}/exceptions").get("root-exception") or state
            raise RuntimeError(str(found).partition("\n")[0])
        return state

    def cancel(self) -> None:
        """See ``AtWork``."""
        _ask(f"{self._url}?mode=cancel", "PATCH")


def _flink(options: PipelineOptions) -> Any:
    return options.view_as(FlinkRunnerOptions)


def _url(options: PipelineOptions) -> str:
    master: str = _flink(options).flink_master.strip().rstrip("/")
    return master if master.startswith(("http://", "https://")) else f"http://{master}"


def _ask(url: str, method: str = "GET") -> Any:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=_ANSWER_S) as answer:
            return json.loads(answer.read() or b"{}")
    except URLError as error:
        raise OSError(f"Flink at {url} cannot be reached: {error.reason}") from error


ROOM = Flink()
