"""Runners beyond this process: what each lacks is one line before any work, and what is not said has a default."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.runners.runner import PipelineState

from pipeline.finish import Submitted
from runners.cli.main import main
from runners.remote import dataflow, flink, prism, room
from runners.remote.room import CannotRun, is_at_work, value_of
from runners.remote.rooms import ROOMS, as_local, choose, request_of, room_of
from transforms.storage import gcs

STORE = ("gs://bucket/in", "gs://bucket/out", "gs://bucket/cache")
HERE = ("/videos", "/out", "/cache")
GOOGLE = ("--project=some-project", "--region=europe-west4", "--temp_location=gs://bucket/tmp")
IMAGE = "--sdk_container_image=europe-docker.pkg.dev/some-project/images/hardquery"


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """Nothing was built, and no jar is named by the environment."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(flink.JAR, raising=False)
    return tmp_path / "home"


def program(folder, name="prism"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def lacks(*flags, places=STORE) -> str:
    chosen = choose(flags)
    with pytest.raises(CannotRun) as refused:
        chosen.room.require(request_of(chosen, "demo", places))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def passes(*flags, places=STORE) -> PipelineOptions:
    chosen = choose(flags)
    chosen.room.require(request_of(chosen, "demo", places))
    return chosen.options


@pytest.mark.parametrize("runner", ["prism", "PrismRunner", "prismrunner"])
def test_a_runner_has_our_name_and_beams(runner):
    assert choose([f"--runner={runner}"]).room.name == "prism"
    assert choose(["--runner", runner]).options.get_all_options()["runner"] == "PrismRunner"


@pytest.mark.parametrize("flags", [[], ["--runner=FnApiRunner"], ["--runner=local"], ["--s3_verify=x"]])
def test_without_such_a_runner_a_run_happens_here(flags):
    assert choose(flags) is None
    assert value_of(as_local(flags), "--runner") in (None, "FnApiRunner")


def test_prism_needs_its_program_and_finds_the_one_that_was_built(home, tmp_path):
    assert "there is no program prism; build it" in lacks("--runner=prism", places=HERE)
    assert "no program that can be run" in lacks("--runner=prism", "--prism_location=/none", places=HERE)
    passes("--runner=prism", "--job_endpoint=localhost:8073", places=HERE)

    built = program(home / "hardquery" / "bin")
    options = passes("--runner=prism", places=HERE)
    assert options.get_all_options()["prism_location"] == built
    assert options.view_as(PortableOptions).environment_type == "LOOPBACK"


def test_prism_waits_for_as_long_as_a_job_takes_unless_it_is_told_otherwise():
    def timeout(*flags):
        return choose(["--runner=prism", *flags]).options.view_as(PortableOptions).job_server_timeout

    assert timeout() == prism._NEVER_S
    assert timeout("--job_server_timeout=10") == timeout("--job_server_timeout", "10") == 10


def test_a_process_of_prism_is_started_by_a_script_that_is_made_for_it(home):
    program(home / "hardquery" / "bin")
    process = ("--runner=prism", "--environment_type=PROCESS")
    assert "PROCESS needs --environment_option process_command=PATH" in lacks(*process, places=HERE)
    assert "'/none' is no program" in lacks(*process, "--environment_option=process_command=/none", places=HERE)

    boot = program(home / "hardquery" / "bin", "container")
    (option,) = passes(*process, places=HERE).view_as(PortableOptions).environment_options
    with open(option.partition("=")[2]) as script:
        assert boot in script.read()


def test_a_cluster_does_not_see_folders_of_this_machine(home):
    cluster = ("--runner=flink", "--flink_master=jm:8081", "--job_endpoint=localhost:1", "--environment_type=EXTERNAL")
    cluster = (*cluster, "--environment_config=localhost:50000")
    assert "--input '/videos' is of this machine" in lacks(*cluster, places=HERE)
    assert "--cache '/cache' is of this machine" in lacks(*cluster, places=(*STORE[:2], "/cache"))
    passes(*cluster, places=STORE)
    passes(*cluster, "--shared_disk", places=HERE)


def test_flink_needs_java_a_jar_and_workers(monkeypatch):
    monkeypatch.setattr(room.shutil, "which", lambda name: None)
    assert "needs java" in lacks("--runner=flink", places=HERE)
    monkeypatch.setattr(room.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert "'/none.jar' is not there" in lacks("--runner=flink", "--flink_job_server_jar=/none.jar", places=HERE)
    monkeypatch.setenv(flink.JAR, "/unset.jar")
    assert "'/unset.jar' is not there" in lacks("--runner=flink", places=HERE)
    monkeypatch.delenv(flink.JAR)
    assert "--environment_config IMAGE" in lacks("--runner=flink", "--flink_master=jm:8081")

    alone = passes("--runner=flink", places=HERE).get_all_options()
    assert (alone["environment_type"], alone["environment_cache_millis"]) == ("LOOPBACK", "600000")
    assert passes("--runner=spark", places=HERE).view_as(PortableOptions).environment_type == "LOOPBACK"


def test_options_that_only_a_job_server_knows_are_passed_on_and_dataflow_has_none():
    assert choose(["--runner=flink", "--execution_mode_for_batch=PIPELINED"]).flags[1] == (
        "--execution_mode_for_batch=PIPELINED"
    )
    with pytest.raises(ValueError, match="--execution_mode_for_batch is no option of Beam"):
        choose(["--runner=dataflow", "--execution_mode_for_batch=PIPELINED"])


def test_a_value_that_a_flag_does_not_take_is_one_line():
    with pytest.raises(ValueError, match=r"^an option of Beam: argument --no_auth: .*") as refused:
        choose(["--runner=dataflow", "--no_auth=True"])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--project is missing"),
        (GOOGLE[:1], "--region is missing"),
        (GOOGLE[:2], "--temp_location is missing"),
        (GOOGLE, "--sdk_container_image is missing: Beam's own image has no hardquery"),
        ((*GOOGLE[:2], "--temp_location=/tmp", IMAGE), "Invalid GCS path"),
        (("--project=No Project", *GOOGLE[1:], IMAGE), "Invalid Project ID"),
    ],
)
def test_what_dataflow_lacks_is_one_line_and_asks_nobody(flags, said):
    assert said in lacks("--runner=dataflow", *flags)


def test_dataflow_does_not_see_folders_of_this_machine():
    assert "workers of dataflow run elsewhere" in lacks("--runner=dataflow", *GOOGLE, IMAGE, places=HERE)


def test_google_is_waited_for_no_longer_than_is_said():
    asked = threading.Event()
    assert "did not answer within 0 s" in gcs.within(0.01, lambda: str(asked.wait(300)))
    asked.set()
    assert gcs.within(300, lambda: "there is no bucket") == "there is no bucket"
    assert gcs.within(300, lambda: None) is None
    assert gcs.within(300, lambda: 1 // 0) == "ZeroDivisionError: integer division or modulo by zero"


@pytest.mark.parametrize("flag", ["--api_key=sk-1", "--s3_secret_access_key=x", "--openai_apikey=x", "--db_password=x"])
def test_a_secret_never_becomes_an_option_of_a_job(flag):
    with pytest.raises(CannotRun, match=f"{flag.partition('=')[0]} would be shown to everybody") as refused:
        choose(["--runner=dataflow", flag])
    assert flag.partition("=")[2] not in str(refused.value).replace(flag.partition("=")[0], "")
    assert dataflow.secrets_in(["--api_key_file=gs://b/key", "--project=p"]) == []


@pytest.mark.parametrize("each", ROOMS, ids=lambda each: each.name)
def test_every_room_has_a_help_of_its_own_with_a_command_to_copy(each, capsys):
    assert main(["run", "demo", "--runner", each.name, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"--runner {each.name}" in said
    assert max(map(len, said.splitlines())) <= 120


def test_what_is_missing_ends_the_command_with_exit_code_2_before_anything_is_done(tmp_path, capsys):
    place = ["--input", str(tmp_path), "--output", str(tmp_path / "out")]
    assert main(["run", "demo", *place, "--runner", "dataflow"]) == 2
    assert main(["run", "demo", *place, "--runner", "prism"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2].partition(":")[0] for line in said] == ["dataflow", "prism"]
    assert list(tmp_path.iterdir()) == []


def test_the_same_run_has_the_same_name_wherever_it_is_started_from():
    chosen = choose(["--runner=flink"])
    name = request_of(chosen, "my_Recipe", STORE).name
    assert name == request_of(chosen, "my_Recipe", STORE).name
    assert name.startswith("hardquery-my-recipe-")
    assert name != request_of(chosen, "my_Recipe", HERE).name


class Cluster(BaseHTTPRequestHandler):
    """Flink's REST service, as far as we ask it."""

    state = "RUNNING"

    def answer(self):
        answers = {
            "/jobs/overview": {
                "jobs": [
                    {"jid": "old", "name": "ours", "start-time": 1},
                    {"jid": "new", "name": "ours", "start-time": 2},
                    {"jid": "other", "name": "theirs", "start-time": 3},
                ]
            },
            "/jobs/new": {"state": self.state},
            "/jobs/new/exceptions": {"root-exception": "java.lang.Oops: no disk\n\tat somewhere"},
            "/jobs/new?mode=cancel": {},
        }
        if self.command == "PATCH":
            Cluster.state = "CANCELED"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answers[self.path]).encode())

    do_GET = do_PATCH = answer

    def log_message(self, *_):
        pass


def test_a_job_of_a_cluster_is_found_by_its_name_and_can_be_cancelled():
    server = HTTPServer(("localhost", 0), Cluster)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        options = choose(["--runner=flink", f"--flink_master=localhost:{server.server_port}"]).options
        submitted = Submitted(info=None, steps=(), parts=1, job="ours")
        found = room_of("FlinkRunner").find(submitted, options)
        assert is_at_work(found)
        found.cancel()
        assert found.state == PipelineState.CANCELLED
        with pytest.raises(RuntimeError, match=r"^java.lang.Oops: no disk$"):
            found.wait_until_finish()
        assert room_of("flink").find(Submitted(info=None, steps=(), parts=1, job="nobody's"), options) is None
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(OSError, match="cannot be reached"):
        _ = found.state
