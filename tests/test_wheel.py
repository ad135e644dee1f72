"""The wheel: that nothing is left out of it, and that every command runs from it where there is no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("runners", "pipeline", "transforms", "prompts", "schemas", "trainer")
DATA = {".txt", ".yaml", ".html", ".md"}

# Libraries of this environment, without the checkout that is installed in it: lines of a .pth are taken as they are.
LIBRARIES = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}

IMPORT_ALL = """
import importlib, pkgutil, sys
for package in sys.argv[1:]:
    module = importlib.import_module(package)
    for found in pkgutil.walk_packages(module.__path__, package + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
print(importlib.import_module(sys.argv[1]).__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from the files that git knows or would add."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for path in _files():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes((ROOT / path).read_bytes())
    command = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` folder of an environment of its own that has the wheel, and the libraries of this one."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    command = [
        "pip",
        "--python",
        str(folder / "bin/python"),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "libraries.pth").write_text("\n".join(sorted(LIBRARIES)))
    return folder / "bin"


def _files() -> list[str]:
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [
        name for name in names if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "benchmarks/"))
    ]


def run(bin_folder: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment in an empty folder, without the checkout on the path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program, *rest = arguments
    return subprocess.run(
        [str(bin_folder / program), *rest], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_the_wheel_holds_every_module_and_every_file_that_modules_read(wheel):
    there = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    product = {name for name in _files() if name.split("/")[0] in PACKAGES}
    assert there == {name for name in product if Path(name).suffix in DATA | {".py"}}
    assert there == product


def test_every_module_of_the_wheel_can_be_imported(installed, tmp_path):
    imported = run(installed, tmp_path, "python", "-c", IMPORT_ALL, *PACKAGES)

    assert imported.returncode == 0, imported.stderr
    assert str(installed.parent) in imported.stdout


def test_every_command_explains_itself_from_the_wheel(installed, tmp_path):
    top = run(installed, tmp_path, "hardquery", "--help").stdout
    listed = [line.split()[0] for line in top.splitlines() if line.startswith("    ") and line[4:5].strip()]

    assert {"run", "plan", "verify", "judge-audit", "train", "rerank", "cache"} <= set(listed)
    for command in listed:
        helped = run(installed, tmp_path, "hardquery", command, "--help")
        assert helped.returncode == 0, helped.stderr
        assert helped.stdout.startswith(f"usage: hardquery {command}")


def test_a_run_from_the_wheel_and_all_that_is_asked_of_its_output(installed, samples, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    for clip in sorted((samples / "videos").iterdir())[:3]:
        (clips / clip.name).symlink_to(clip)
    job = ["demo", "--input", "clips", "--output", "out", "--set", "extract.asr=null", "--set", "extract.ocr=null"]

    def told(code: int, *arguments: str) -> str:
        ended = run(installed, tmp_path, "hardquery", *arguments)
        assert ended.returncode == code, ended.stderr
        assert "Traceback" not in ended.stderr
        return ended.stdout

    assert "demo" in told(0, "recipes")
    told(0, "plan", *job)
    told(0, "run", *job)
    assert "sound" in told(0, "verify", "out")
    query = (tmp_path / "out/run.trec").read_text().split()[0]
    assert query in told(0, "explain", "out", query)
    told(0, "diff", "out", "out")
    told(0, "export", "rankvideo", "out")
    told(0, "judge-audit", "out", "--sample", "2")
    told(0, "evaluate", "--qrels", "out/qrels.trec", "--run", "out/run.trec")
    told(0, "cache", "stats", "--output", "out")
    told(0, "cache", "verify", "--output", "out")
    told(0, "cache", "prune", "--output", "out", "--dry-run")


@pytest.mark.parametrize(
    "arguments",
    [
        ["batch", "read", "none", "--output", "none"],
        ["train", "perception", "smoke", "--data", "none", "--output", "run"],
        ["rerank", "--model", "none", "--data", "none", "--run", "none", "--queries", "none", "--out", "new.trec"],
        ["export-model", "none", "--to", "model"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_command_whose_files_are_missing_says_so_in_one_line(arguments, installed, tmp_path):
    ended = run(installed, tmp_path, "hardquery", *arguments)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("hardquery: ")
    assert ended.stderr.count("\n") == 1
