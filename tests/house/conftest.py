"""Fixtures of the house: distributions with plug-ins, installed as far as an interpreter can tell."""

import shutil
import tomllib
from pathlib import Path

import pytest

from tests.support.plugins_again import forget_plugins

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"


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
        forget_plugins()

    yield put
    forget_plugins()


@pytest.fixture
def example(install, tmp_path):
    """Installs the example, as its pyproject.toml has it, in a version."""
    parts = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    for name in parts["tool"]["setuptools"]["py-modules"]:
        shutil.copy(EXAMPLE / f"{name}.py", tmp_path)
    project = parts["project"]
    points = project["entry-points"]["hardquery.engines"]
    return lambda version: install(project["name"], version, points)
