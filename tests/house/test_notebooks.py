"""The notebooks of examples/: their code, cell by cell, on an output that is made for tests."""

import json
import os
from pathlib import Path

import pytest

import hardquery as hq
from tests.support.tiny_output import write_tiny

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def code_of(notebook: Path) -> list[str]:
    cells = json.loads(notebook.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_a_notebook_is_kept_without_what_it_printed():
    assert [each.stem for each in NOTEBOOKS] == ["look", "train"]
    for notebook in NOTEBOOKS:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
        assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if "outputs" in cell)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_of_a_notebook_runs(notebook, made_once, samples, tmp_path, monkeypatch, capsys):
    """An output that was made before takes the place of a run; what is asked of it, and of a plan, is real."""
    output = made_once("of_notebooks", write_tiny)
    asked = []

    def run(recipe, **options):
        asked.append((recipe, options))
        return hq.Finished(str(output), 0, ())

    (tmp_path / "examples").mkdir()
    (tmp_path / "samples").symlink_to(samples)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notebook").symlink_to(output)
    monkeypatch.chdir(tmp_path / "examples")
    monkeypatch.setattr(hq, "run", run)
    names: dict[str, object] = {"__name__": "__main__"}

    for number, cell in enumerate(code_of(notebook)):
        exec(compile(cell, f"{notebook.name}[{number}]", "exec"), names)

    [(recipe, options)] = asked
    assert (recipe, options["output"], options["limit"]) == ("demo", "../out/notebook", 6)  # of both, which share it
    assert os.listdir(tmp_path / "out") == ["notebook"]
    assert capsys.readouterr().out
