"""Dataflow: a run on Google's service, on machines that it starts and stops."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from urllib.parse import urlparse

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, WorkerOptions
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator

from pipeline.finish import Submitted
from runners.remote.room import AtWork, CannotRun, Request, Room, require_places, with_default
from transforms.storage import gcs

_SECRETS = re.compile(r"api_?key(?!_(file|secret|env))|password|token|s3_secret_access_key", re.IGNORECASE)


class Dataflow(Room):
    """Workers are machines of a project, started from an image that has hardquery in it."""

    name, runner = "dataflow", "DataflowRunner"
    has_kinds = True
    help = """\
Needs the extra: pip install 'hardquery[dataflow]', and credentials: gcloud auth application-default login.

  hardquery run demo --input 'gs://b/videos/*.mp4' --output gs://b/out --cache gs://b/cache --runner dataflow \\
      --project P --region R --temp_location gs://b/tmp --sdk_container_image R-docker.pkg.dev/P/images/hardquery

  --project, --region          where it runs
  --temp_location gs://…       where Beam puts the graph
  --sdk_container_image IMAGE  what workers start from: containers/ says how to build it; a step with a GPU needs
                               extract-gpu, others cpu will do
  --max_num_workers N          bounds what it costs
  --template_location gs://…   write a template and end; when it was launched, hardquery finish OUTPUT publishes
  --service_account_email, --subnetwork, --no_use_public_ips, … as Beam has them

GPUs and memory are asked for by step, in the recipe, such as
  --set 'extract.asr.resources={accelerator: "type:nvidia-l4;count:1;install-nvidia-driver", min_ram: 16GB}'
Keys of servers are read on the workers: api_key_secret=projects/P/secrets/S/versions/V, or api_key_file=gs://…; what
stands in options is shown to everybody who can see the job.

Every SDK process works on --workers videos at a time (default here: 1; a machine has a process a core) and asks a
server as often as in_flight says: the total is in_flight times processes, so lower it as --max_num_workers rises.
A job goes on without this process: the same command finds it and waits, and `hardquery finish OUTPUT` publishes.
"""

    def complete(self, flags: Sequence[str]) -> list[str]:
        return with_default(flags, "--sdk_location", "container")

    def require(self, request: Request) -> None:
        google = request.options.view_as(GoogleCloudOptions)
        for option, what in (
            ("project", "the project that pays"),
            ("region", "where machines start, such as europe-west4"),
            ("temp_location", "a folder such as gs://BUCKET/tmp"),
        ):
            if not getattr(google, option):
                raise CannotRun(f"dataflow: --{option} is missing: {what}")
        if not request.options.view_as(WorkerOptions).sdk_container_image:
            raise CannotRun(
                "dataflow: --sdk_container_image is missing: Beam's own image has no hardquery; containers/ says how "
                "to build one"
            )
        require_places(request, self)
        _require_shape(request.options)
        if not _has_google():
            raise CannotRun("dataflow: google's libraries are missing: pip install 'hardquery[dataflow]'")
        bucket = google.temp_location.removeprefix("gs://").partition("/")[0]
        if reason := gcs.why_unreachable(bucket, request.options):
            raise CannotRun(f"dataflow: {google.temp_location} cannot be reached: {reason}")

    def outlives_driver(self, request: Request) -> bool:
        return True

    def page(self, submitted: Submitted, options: PipelineOptions) -> str:
        google = options.view_as(GoogleCloudOptions)
        place = f"{google.region}/{submitted.job}?project={google.project}"
        return f"https://console.cloud.google.com/dataflow/jobs/{place}" if submitted.job else ""

    def find(self, submitted: Submitted, options: PipelineOptions) -> AtWork | None:
        from apache_beam.runners.dataflow.dataflow_runner import DataflowPipelineResult, DataflowRunner
        from apache_beam.runners.dataflow.internal.apiclient import DataflowApplicationClient

        if not submitted.job:
            return None
        runner = DataflowRunner()
        runner.dataflow_client = DataflowApplicationClient(options)
        job = runner.dataflow_client.get_job(submitted.job)
        found: AtWork = DataflowPipelineResult(job, runner, options)
        return found


def secrets_in(flags: Sequence[str]) -> list[str]:
    """The names of options whose values nobody should see, but everybody who sees a job does."""
    names = (flag.partition("=")[0] for flag in flags if flag.startswith("--"))
    return [name for name in names if _SECRETS.search(name)]


def _has_google() -> bool:
    try:
        return importlib.util.find_spec("google.cloud.dataflow_v1beta3") is not None
    except ModuleNotFoundError:
        return False


def _require_shape(options: PipelineOptions) -> None:
    """Refuse names that the service would refuse, as Beam knows them."""
    from apache_beam.runners.runner import PipelineRunner

    validator = PipelineOptionsValidator(options, PipelineRunner())
    google = options.view_as(GoogleCloudOptions)
    if urlparse(google.dataflow_endpoint).netloc.startswith("localhost"):  # a double of the service, as Beam takes it
        return
    problems = [*validator.validate_cloud_options(google), *validator.validate_gcs_path(google, "temp_location")]
    if problems:
        raise CannotRun(f"dataflow: {str(problems[0]).rstrip('.')}")


ROOM = Dataflow()
