"""Spark: a run on a cluster, or on a small one of the job server's own."""

from __future__ import annotations

import os
from collections.abc import Sequence

from apache_beam.options.pipeline_options import SparkRunnerOptions

from runners.remote.room import (
    LOOPBACK,
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

JAR = "HARDQUERY_SPARK_JOB_SERVER_JAR"
_OWN = "local"


class Spark(Room):
    """Without a master, workers are threads of this process."""

    name, runner = "spark", "SparkRunner"
    help = f"""\
Beam's job server for Spark is a jar, which Beam fetches unless it is named; it needs java.

  hardquery run demo --input videos --output out --runner spark

  --spark_master_url URL        spark://HOST:PORT (default: local[4], inside of the job server)
  --spark_job_server_jar PATH   the job server (default: ${JAR})
  --environment_type TYPE       as with flink

Spark computes anew what it has not kept: results that were paid for are found in the journal, which is why its workers
must reach the cache. A run on a cluster ends with this process: the same command continues it from the cache.
"""

    def complete(self, flags: Sequence[str]) -> list[str]:
        if (value_of(flags, "--spark_master_url") or _OWN).startswith(_OWN):
            flags = with_default(flags, "--environment_type", LOOPBACK)
        return with_default(flags, "--spark_job_server_jar", os.environ.get(JAR))

    def require(self, request: Request) -> None:
        if endpoint_of(request.options) is None:
            jar = request.options.view_as(SparkRunnerOptions).spark_job_server_jar
            require_jar(self, "--spark_job_server_jar", jar)
            require_java(self)
        require_places(request, self)
        require_environment(request, self)


ROOM = Spark()
