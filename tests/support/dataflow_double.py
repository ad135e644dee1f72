"""A double of Dataflow's service: it takes a job over HTTP, and has Prism run the graph that was staged for it.

Workers are processes of this environment in the place of the image's containers, whatever a step asks for.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PortableOptions
from apache_beam.portability.api import beam_runner_api_pb2 as beam_api
from apache_beam.runners.portability.prism_runner import PrismRunner
from apache_beam.transforms.environments import ProcessEnvironment

from runners.remote.rooms import choose
from runners.remote.submit import job_servers_stopped


class Double(ThreadingHTTPServer):
    """The service: ``jobs`` are those that it was given, as JSON."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("localhost", 0), _Handler)
        self.jobs: dict[str, dict[str, Any]] = {}

    @property
    def address(self) -> str:
        """What ``--dataflow_endpoint`` is; "localhost" has the client speak REST."""
        return f"http://localhost:{self.server_port}"

    def begin(self, job: dict[str, Any]) -> dict[str, Any]:
        """Take a job, and have it run beside."""
        name = f"2026-11-29_00_00_00-{len(self.jobs) + 1}"
        self.jobs[name] = {**job, "id": name, "currentState": "JOB_STATE_RUNNING"}
        threading.Thread(target=self._run, args=(self.jobs[name],), daemon=True).start()
        return self.jobs[name]

    def _run(self, job: dict[str, Any]) -> None:
        staged = job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
        ended = subprocess.run([sys.executable, __file__, staged], check=False)  # Beam's job servers want a main thread
        job["currentState"] = "JOB_STATE_FAILED" if ended.returncode else "JOB_STATE_DONE"


class _Handler(BaseHTTPRequestHandler):
    server: Double

    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._reply(self.server.begin(job))

    def do_GET(self) -> None:
        found = re.search(r"/jobs/([^/?]+)(/\w+)?", self.path)
        assert found, self.path
        self._reply({} if found[2] else self.server.jobs[found[1]])

    def _reply(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Double]:
    """The service, until the block ends."""
    with Double() as double:
        threading.Thread(target=double.serve_forever, daemon=True).start()
        yield double
        double.shutdown()


def run_on_prism(staged: str) -> None:
    """Run the graph that lies at an address. Raises what stopped it."""
    with FileSystems.open(staged) as stream:
        graph = beam_api.Pipeline.FromString(stream.read())
    options = choose(("--runner=prism", "--environment_type=PROCESS")).options
    worker = ProcessEnvironment.from_options(options.view_as(PortableOptions)).to_runner_api(None)
    for environment in graph.components.environments.values():
        environment.CopyFrom(worker)
    with job_servers_stopped():
        PrismRunner().run_portable_pipeline(graph, options).wait_until_finish()


if __name__ == "__main__":
    run_on_prism(sys.argv[1])
