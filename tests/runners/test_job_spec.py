"""The graph as it is handed to a service: what each step asks for, and what nobody is to see in it."""

import base64
from dataclasses import replace
from types import SimpleNamespace

import apache_beam as beam
import pytest
from apache_beam.internal import cloudpickle_pickler
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.transforms.environments import DockerEnvironment

from pipeline.config import RecipeError, load_recipe
from pipeline.engines import find_engines
from pipeline.run import Job, build
from tests.support.object_store import ObjectStore
from transforms.extract.list_input import list_input
from transforms.journal.journal import Journal
from transforms.storage.cache import Cache

IMAGE = "europe-docker.pkg.dev/some-project/images/hardquery:extract-gpu"
GPU = "type:nvidia-l4;count:1;install-nvidia-driver"
SETTINGS = [
    f'extract.asr.resources={{accelerator: "{GPU}", min_ram: 16GB}}',
    "judge.teacher={engine: openai, model: m, api_key_env: WORKERS_KEY, confidence: [sampling], samples: 500, "
    "resources: {min_ram: 4GB}}",
]
assert ObjectStore.scheme() == "objects"  # Google's filesystem is not installed for tests
CANARY = "sk-canary-7d41f0aa93c2"
ACCELERATOR, RAM = common_urns.resource_hints.ACCELERATOR.urn, common_urns.resource_hints.MIN_RAM_BYTES.urn


def job_of(folder, settings=SETTINGS) -> Job:
    recipe = load_recipe("demo", settings)
    root = "objects://bucket/cache"
    (folder / "a.mp4").touch()
    listing = list_input(str(folder))
    engines = find_engines(recipe)
    places = ("objects://bucket/in", listing, "objects://bucket/out", Cache(root), Journal(root), 1)
    return Job(recipe, engines, *places, recipe.templates())


def graph_of(job: Job, monkeypatch) -> beam_runner_api_pb2.Pipeline:
    plain = SimpleNamespace(compress=lambda data, compresslevel: data, decompress=lambda data: data)
    monkeypatch.setattr(cloudpickle_pickler, "bz2", plain)
    pipeline = beam.Pipeline()
    build(pipeline, job, "objects://bucket/cache/inputs/list.jsonl")
    return pipeline.to_runner_api(default_environment=DockerEnvironment.from_container_image(IMAGE))


def hints_of(graph: beam_runner_api_pb2.Pipeline) -> dict[str, dict[str, bytes]]:
    """The hints of every step that runs code of ours, by its name."""
    components = graph.components
    found = {}
    for transform in components.transforms.values():
        if transform.environment_id and transform.spec.urn == common_urns.primitives.PAR_DO.urn:
            environment = components.environments[transform.environment_id]
            found[transform.unique_name] = dict(environment.resource_hints)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("here")


@pytest.fixture(scope="module")
def graph(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKERS_KEY", CANARY)
        return graph_of(job_of(folder), patch)


def test_a_gpu_is_asked_for_where_the_recipe_says_and_nowhere_else(graph):
    hints = hints_of(graph)
    with_gpu = {name for name, each in hints.items() if ACCELERATOR in each}
    assert with_gpu
    assert all(name.startswith("Extract/asr/") for name in with_gpu)
    assert {hints[name][ACCELERATOR] for name in with_gpu} == {GPU.encode()}
    assert {hints[name][RAM] for name in with_gpu} == {str(16 * 10**9).encode()}
    with_ram = {name for name, each in hints.items() if RAM in each} - with_gpu
    assert {name.split("/")[0] for name in with_ram} == {"Judge"}
    assert {hints[name][RAM] for name in with_ram} == {str(4 * 10**9).encode()}


def test_a_step_on_its_own_machines_is_parted_from_the_one_before(graph):
    spread = {each.unique_name for each in graph.components.transforms.values() if "Spread to" in each.unique_name}
    assert {name.split("/Spread to ")[0] for name in spread} == {"Extract", "Judge"}
    assert "Extract/Spread to asr" in spread


def test_every_step_runs_in_the_image(graph):
    images = {
        beam_runner_api_pb2.DockerPayload.FromString(environment.payload).container_image
        for environment in graph.components.environments.values()
    }
    assert images == {IMAGE}


def test_no_key_and_no_folder_of_this_machine_is_in_the_graph(graph, folder):
    everything = graph.SerializeToString()
    for transform in graph.components.transforms.values():
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn:
            payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            everything += base64.b64decode(payload.do_fn.payload)
    found = {text: text.encode() in everything for text in ("objects://bucket/cache", "WORKERS_KEY")}
    hidden = {text: text.encode() in everything for text in (CANARY, str(folder))}
    assert all(found.values()), found
    assert not any(hidden.values()), hidden


def test_without_resources_all_steps_share_one_environment(tmp_path, monkeypatch):
    job = job_of(tmp_path)
    graph = graph_of(replace(job, engines=replace(job.engines, resources={})), monkeypatch)
    assert len(graph.components.environments) == 1
    assert not any("Spread to" in each.unique_name for each in graph.components.transforms.values())


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ("{accelerator: nvidia-l4}", "accelerator must be such as"),
        ("{min_ram: lots}", "min_ram must be a size such as 16GB"),
        ("{cpu_count: 0}", "cpu_count must be at least 1"),
        ("{gpu: 1}", "gpu"),
    ],
)
def test_resources_that_are_none_are_refused_with_their_key(tmp_path, resources, said):
    with pytest.raises(RecipeError, match=rf"extract\.asr\.resources.*{said}"):
        find_engines(load_recipe("demo", [f"extract.asr.resources={resources}"]))
