"""The shape of the code: where modules lie, what may import what, and that docs/architecture.md says so."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("hardquery", "runners", "pipeline", "transforms", "prompts", "schemas", "trainer")
FOLDERS = sorted(path.parent for package in PACKAGES for path in (ROOT / package).rglob("__init__.py"))
MOST_MODULES = 12


def docstring(folder: Path) -> str:
    """The first paragraph of a folder's docstring."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def test_imports_point_down_only():
    checked = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout


def test_no_modules_import_each_other_in_a_circle():
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}

    assert set(TopologicalSorter(imports).static_order()) == graph.modules  # a CycleError names the circle


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_folder_is_read_at_one_glance(folder):
    modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]

    assert len(modules) <= MOST_MODULES


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_folder_is_introduced_by_a_sentence_and_nothing_else(folder):
    body = ast.parse((folder / "__init__.py").read_text("utf-8")).body

    # What people import from Python is named in one place.
    rest = [ast.ImportFrom] * 3 + [ast.Assign] if folder.name == "hardquery" else []
    assert [type(statement) for statement in body] == [ast.Expr, *rest]
    assert docstring(folder).endswith(".")


def test_every_folder_of_modules_is_a_package_that_a_wheel_takes_along():
    holding = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}

    assert holding == set(FOLDERS)


def test_the_architecture_page_introduces_every_folder_in_its_own_words():
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]

    told = Counter((name.strip("`"), what) for name, what in rows)

    assert told == Counter((f"{folder.relative_to(ROOT)}/", docstring(folder)) for folder in FOLDERS)


def test_the_command_line_starts_without_heavy_libraries():
    heavy = "torch whisper faster_whisper ctranslate2 easyocr decord openai av rapidocr datasets".split()
    code = f"import runners.cli.main, pipeline.run, sys; print([name for name in {heavy} if name in sys.modules])"

    started = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert started.stdout.strip() == "[]"


def test_python_starts_without_beam_or_torch_until_they_are_needed():
    heavy = ["apache_beam", "torch", "pyarrow", "numpy"]
    code = f"import hardquery, sys; print([name for name in {heavy} if name in sys.modules])"

    started = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert started.stdout.strip() == "[]"


def test_what_a_child_process_does_to_a_video_needs_neither_beam_nor_pandas(tmp_path):
    code = """
import importlib, os, sys
for module in ("extract.decode_file", "extract.recognize", "extract.headers", "workers.child_model"):
    importlib.import_module(f"transforms.{module}")
    print(module, [name for name in ("apache_beam", "pandas") if name in sys.modules])
from transforms.media.frame_pack import read_jpegs, write_frame_pack
write_frame_pack(sys.argv[1], [], 90)
read_jpegs(sys.argv[1])
print("frames", "pandas" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "pack")]

    started = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    *modules, frames = started.stdout.splitlines()
    assert [line.partition(" ")[2] for line in modules] == ["[]"] * 4
    assert frames == "frames False"


def test_an_output_is_opened_looked_at_exported_and_trained_on_without_beam():
    names = (
        "hardquery pipeline.outputs.view.server pipeline.outputs.view.offline pipeline.outputs.export.formats".split()
    )
    code = f"import {', '.join(names)}, trainer.data.examples, sys; print('apache_beam' in sys.modules)"

    started = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert started.stdout.strip() == "False"
