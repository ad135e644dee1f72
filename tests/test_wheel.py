"""The wheel: that nothing is left out of it, and that every command runs from it where there is no checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("hardquery", "runners", "pipeline", "transforms", "prompts", "schemas", "trainer")
DATA = {".txt", ".yaml", ".tsv", ".html", ".css", ".js", ".md", ".typed"}

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

BEAM = "apache_beam apache_beam.io.filesystems pyarrow.parquet"

# Commands in turn, each in a fork of a process that has imported what is not ours, which takes longer than the command.
IN_TURN = """
import importlib, json, os, sys
for library in sys.argv[1].split():
    importlib.import_module(library)
for number, arguments in enumerate(json.loads(sys.argv[2])):
    child = os.fork()
    if not child:
        for stream in (1, 2):
            os.dup2(os.open(f"{number}.{stream}", os.O_WRONLY | os.O_CREAT), stream)
        sys.argv = ["hardquery", *arguments]
        from runners.cli.main import entry
        entry()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
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


def run_in_turn(
    bin_folder: Path, cwd: Path, libraries: str, commands: list[list[str]]
) -> list[subprocess.CompletedProcess[str]]:
    """Run commands one after the other, as ``run`` does, with these libraries imported once."""
    ended = run(bin_folder, cwd, "python", "-c", IN_TURN, libraries, json.dumps(commands))
    assert ended.returncode == 0, ended.stderr
    said = [[(cwd / f"{number}.{stream}").read_text() for stream in (1, 2)] for number in range(len(commands))]
    codes = map(int, ended.stdout.split())
    return [
        subprocess.CompletedProcess(command, code, *texts)
        for command, code, texts in zip(commands, codes, said, strict=True)
    ]


def test_the_wheel_holds_every_module_and_every_file_that_modules_read(wheel):
    there = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    corpus = {name for name in there if name.startswith("runners/samples/")}

    product = {name for name in _files() if name.split("/")[0] in PACKAGES}
    assert there - corpus == {name for name in product if Path(name).suffix in DATA | {".py"}}
    assert there - corpus == product
    shipped = {name for name in _files() if name.startswith("samples/") and Path(name).suffix not in (".py", ".yaml")}
    assert corpus == {f"runners/{name}" for name in shipped}


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
    job += ["--set", "mine.first_stage={engine: bm25}"]

    def told(ended: subprocess.CompletedProcess[str]) -> str:
        assert ended.returncode == 0, ended.stderr
        assert "Traceback" not in ended.stderr
        return ended.stdout

    sampled = ["demo", "--dry-run"]
    recipes, planned, samples_planned = run_in_turn(installed, tmp_path, BEAM, [["recipes"], ["plan", *job], sampled])
    assert "demo" in told(recipes)
    told(planned)
    assert "demo: 30 videos" in told(samples_planned)
    told(run(installed, tmp_path, "hardquery", "run", *job))
    query = (tmp_path / "out/run.trec").read_text().split()[0]
    commands = [
        ["verify", "out"],
        ["explain", "out", query],
        ["diff", "out", "out"],
        ["export", "rankvideo", "out"],
        ["judge-audit", "out", "--sample", "2"],
        ["evaluate", "--qrels", "out/qrels.trec", "--run", "out/run.trec"],
        ["cache", "stats", "--output", "out"],
        ["cache", "verify", "--output", "out"],
        ["cache", "prune", "--output", "out", "--dry-run"],
    ]
    verified, explained, *others = run_in_turn(installed, tmp_path, BEAM, commands)
    assert "sound" in told(verified)
    assert query in told(explained)
    for ended in others:
        told(ended)


@pytest.fixture(scope="module")
def without_files(installed, tmp_path_factory) -> dict[str, subprocess.CompletedProcess[str]]:
    """What commands say whose files are missing, by command."""
    commands = [
        ["batch", "read", "none", "--output", "none"],
        ["train", "perception", "smoke", "--data", "none", "--output", "run"],
        ["rerank", "--model", "none", "--data", "none", "--run", "none", "--queries", "none", "--out", "new.trec"],
        ["export-model", "none", "--to", "model"],
    ]
    ended = run_in_turn(installed, tmp_path_factory.mktemp("empty"), f"{BEAM} torch transformers peft", commands)
    return {each.args[0]: each for each in ended}


@pytest.mark.parametrize("command", ["batch", "train", "rerank", "export-model"])
def test_a_command_whose_files_are_missing_says_so_in_one_line(command, without_files):
    ended = without_files[command]

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("hardquery: ")
    assert ended.stderr.count("\n") == 1
