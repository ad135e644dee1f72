"""Images and the template: what they install is what this project has, and nothing in them floats."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline.config import load_recipe
from runners.cli.main import _parser
from runners.remote.flex import command_of, specification

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = sorted((ROOT / "containers").glob("*.Dockerfile"))
INSTRUCTION = re.compile(r"^(ARG|FROM|COPY|RUN|ENV|ENTRYPOINT)\s+(.+)$")


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", path.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = [INSTRUCTION.match(line) for line in lines]
    assert all(found), lines
    return [(match[1], match[2]) for match in found]


def arguments(path: Path) -> dict[str, str]:
    return dict(value.partition("=")[::2] for name, value in instructions(path) if name == "ARG")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_image_installs_extras_that_there_are_from_this_folder_and_starts_boot(path):
    extras = arguments(path)["EXTRAS"].split(",")
    assert {"dataflow", "teacher", "embedded"} <= {*extras} <= {*PROJECT["optional-dependencies"]}
    (run,) = (value for name, value in instructions(path) if name == "RUN")
    assert '"/src[${EXTRAS}]"' in run
    assert "pip check" in run
    last = dict(instructions(path))
    assert last.get("ENTRYPOINT") == '["/opt/apache/beam/boot"]' or "launch.py" in last["ENV"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_base_image_is_pinned_and_beam_is_the_one_that_the_project_pins(path):
    given = arguments(path)
    for name, value in instructions(path):
        if name == "FROM":
            image = re.sub(r"\$\{(\w+)\}", lambda match: given[match[1]], value.split(" ")[0])
            if not image:  # whoever builds it must say
                continue
            assert re.search(r":[\w.-]*\d[\w.-]*$", image), image
            assert not image.endswith(":latest")
    if "BEAM" in given:
        assert f"apache-beam=={given['BEAM']}" in PROJECT["optional-dependencies"]["run"]
        assert given["PYTHON"] == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_a_template_has_a_parameter_for_every_plain_key_of_a_recipe_and_the_places():
    parameters = {each["name"]: each for each in specification("image")["metadata"]["parameters"]}
    assert {"recipe", "input", "output", "cache"} == {
        name for name, each in parameters.items() if "isOptional" not in each
    }
    assert {"curate__alpha1", "seed", "mine__candidates", "emit__videos_per_shard"} <= {*parameters}
    assert all(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) for name in parameters)
    assert re.fullmatch(parameters["curate__alpha1"]["regexes"][0], "-4.5")
    assert not re.fullmatch(parameters["curate__alpha1"]["regexes"][0], "very")
    assert not re.fullmatch(parameters["output"]["regexes"][0], "/out")


def test_a_template_that_is_launched_is_a_run_with_these_settings():
    given = ["--recipe=demo", "--input=gs://b/in", "--output=gs://b/out", "--curate__alpha1=-4", "--project=p"]
    command = command_of(given)
    at = command.index("--")
    parsed, rest = _parser().parse_known_args(command[:at])
    assert (parsed.recipe, parsed.input, parsed.output, rest) == ("demo", "gs://b/in", "gs://b/out", [])
    assert load_recipe(parsed.recipe, parsed.settings).curate.alpha1 == -4
    assert command[at + 1 :] == ["--runner=DataflowRunner", "--project=p"]
