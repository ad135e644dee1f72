"""Engines of other distributions: the example package, installed as far as an interpreter can tell."""

import json
import shutil
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import RecipeError, load_recipe
from pipeline.engines import find_engines
from runners.cli.main import main
from transforms.engines.registry import find_engine, known_engines
from transforms.journal.deciding import step_key
from transforms.protocols.engine import EngineError, loaded
from transforms.protocols.frames import Frame
from transforms.protocols.plugins import origin_of, plugins

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"
NAMED = {"engine": "brightness", "dark_below": 100.0}


def forget() -> None:
    plugins.cache_clear()
    origin_of.cache_clear()
    for name in [name for name in sys.modules if name.startswith("hardquery_")]:
        del sys.modules[name]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a distribution: puts its metadata and its module where Python looks for them."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(name: str, version: str, points: dict[str, str], source: str = "") -> None:
        for old in tmp_path.glob(f"{name.replace('-', '_')}-*.dist-info"):
            shutil.rmtree(old)
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = "".join(f"{point} = {where}\n" for point, where in points.items())
        (info / "entry_points.txt").write_text(f"[hardquery.engines]\n{lines}")
        if source:
            (tmp_path / f"{name.replace('-', '_')}.py").write_text(source)
        forget()

    yield put
    forget()


@pytest.fixture
def example(install):
    """Installs the example, as its pyproject.toml has it, in a version."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["hardquery.engines"]
    source = (EXAMPLE / "hardquery_brightness.py").read_text()
    return lambda version: install(project["name"], version, points, source)


def test_a_recipe_names_an_engine_of_another_distribution_with_its_options(example):
    example("0.1.0")

    captioner = find_engines(load_recipe("demo", ["extract.caption={engine: brightness, dark_below: 100}"])).caption

    frames = [Frame(float(at), np.full((4, 4, 3), grey, np.uint8)) for at, grey in enumerate((20, 99, 200))]
    assert loaded(captioner).caption(frames).text == "At 0 s it is dark; at 1 s it is dark; at 2 s it is bright."


def test_its_stamp_and_so_every_key_changes_with_the_version_of_its_distribution(example):
    keys = []
    for version in ("0.1.0", "0.2.0"):
        example(version)
        stamp = find_engine("caption", NAMED).stamp()
        assert (stamp.name, stamp.version) == ("brightness", f"hardquery-brightness {version}")
        keys.append(step_key("caption", "v", stamp, {}, {}).digest)

    assert keys[0] != keys[1]


def test_it_is_listed_with_where_it_comes_from_and_a_wrong_name_finds_it(example, capsys):
    example("0.1.0")

    assert main(["engines", "caption"]) == 0
    assert "brightness             hardquery-brightness 0.1.0; ready (needs numpy)" in capsys.readouterr().out
    with pytest.raises(EngineError, match="did you mean 'brightness'"):
        find_engine("caption", {"engine": "brightnes"})
    with pytest.raises(EngineError, match="no option 'dark_belo'; did you mean 'dark_below'"):
        find_engine("caption", {"engine": "brightness", "dark_belo": 1})


def test_its_options_are_kept_or_left_behind_as_those_of_any_engine(example):
    example("0.1.0")
    notes: list[str] = []

    recipe = load_recipe("rankvideo", ["extract.caption.engine=brightness"], notes.append)

    assert recipe.extract.caption == {"engine": "brightness"}
    assert any("brightness in place of openai" in note for note in notes)


def test_what_cannot_be_used_is_listed_with_the_reason_and_stops_nobody_else(install):
    engine = "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass E:\n"
    lacking = f"{engine}    requires = ('no_such_module',)\n    extra = ''\n    load = stamp = None\n"
    install("hardquery-lacking", "1", {"asr.lacking": "hardquery_lacking:E"}, lacking)
    install("hardquery-broken", "1", {"asr.broken": "hardquery_broken:E"}, "1 / 0")
    install("hardquery-empty", "1", {"asr.empty": "hardquery_empty:E"}, "E = 7")
    install("hardquery-own", "1", {"asr.whisper": "hardquery_own:E", "ocr.one": "hardquery_own:E"}, lacking)
    install("hardquery-one", "1", {"ocr.one": "hardquery_one:E", "asrr.x": "hardquery_one:E"}, lacking)

    told = {(one.name, one.origin): one.trouble for one in known_engines()}

    assert "needs the package 'no_such_module'" in told["lacking", "hardquery-lacking 1"]
    assert "cannot be imported: ZeroDivisionError" in told["broken", "hardquery-broken 1"]
    assert "is no engine" in told["empty", "hardquery-empty 1"]
    assert "an engine 'whisper' of its own" in told["whisper", "hardquery-own 1"]
    assert "hardquery-one 1 and hardquery-own 1 both have it" in told["one", "hardquery-one 1"]
    assert "did you mean 'asr'" in told["x", "hardquery-one 1"]
    assert told["pocketsphinx", "hardquery"] == ""
    for name in ("lacking", "broken", "empty"):
        with pytest.raises(RecipeError, match=f"extract.asr.*hardquery-{name} 1"):
            find_engines(load_recipe("demo", [f"extract.asr={{engine: {name}}}"]))


def test_a_stamp_without_its_distribution_is_refused_for_results_would_outlive_their_version(install):
    source = """
from dataclasses import dataclass
from schemas.video import EngineStamp
@dataclass(frozen=True)
class Careless:
    requires = ()
    extra = ""
    def load(self): return self
    def stamp(self): return EngineStamp("careless", "1", "", "f")
"""
    install("hardquery-careless", "1", {"caption.careless": "hardquery_careless:Careless"}, source)

    with pytest.raises(EngineError, match="its stamp must be made by"):
        find_engine("caption", {"engine": "careless"})


def test_without_plug_ins_all_engines_are_of_this_project(capsys):
    forget()

    assert main(["engines", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {one["modality"] for one in listed} == {"decode", "asr", "ocr", "caption", "teacher", "embed", "first_stage"}
    assert main(["engines", "ars"]) == 2
    assert "did you mean 'asr'" in capsys.readouterr().err
