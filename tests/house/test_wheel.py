"""The wheel: that nothing is left out of it, and that every command runs from it where there is no checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("hardquery", "runners", "pipeline", "transforms", "prompts", "schemas", "trainer")
DATA = {".txt", ".yaml", ".tsv", ".html", ".css", ".js", ".md", ".typed"}

# Libraries of this environment, without the checkout that is installed in it: lines of a .pth are taken as they are.
LIBRARIES = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}

BEAM = "apache_beam apache_beam.io.filesystems pyarrow.parquet"
RUN = "runners.job pipeline.run"  # what commands that make an output or read one import of ours, beside Beam
TORCH = "torch transformers peft"  # what commands that train or rank import beside
OURS = "runners.cli.main"  # knows every command, of which it imports what it takes when it acts

# Commands in turn, each in a fork of a process that has imported the libraries so far, which takes longer than the
# command. "@FILE" stands for the first word of a file. Then every module of these packages is imported, and where they
# lie said.
IN_TURN = """
import importlib, json, os, pkgutil, sys
commands, packages = map(json.loads, sys.argv[1:])
for number, (libraries, arguments) in enumerate(commands):
    for library in libraries.split():
        importlib.import_module(library)
    child = os.fork()
    if not child:
        for stream in (1, 2):
            os.dup2(os.open(f"{number}.{stream}", os.O_WRONLY | os.O_CREAT), stream)
        words = [open(word[1:]).read().split()[0] if word.startswith("@") else word for word in arguments]
        sys.argv = ["hardquery", *words]
        from runners.cli.main import entry
        entry()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
for package in packages:
    module = importlib.import_module(package)
    for found in pkgutil.walk_packages(module.__path__, package + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    print(module.__file__, flush=True)
os._exit(0)  # libraries take seconds to take themselves apart
"""

JOB = ["demo", "--input", "clips", "--output", "out", "--set", "extract.asr=null", "--set", "extract.ocr=null"]
JOB += ["--set", "extract.frames.max_frames=2", "--set", "emit.frames.frames=2"]
JOB += ["--set", "synthesize.variants=[caption,metadata]", "--set", "mine.first_stage={engine: bm25}"]
ASKED = {
    "recipes": ["recipes"],
    "plan": ["plan", *JOB],
    "demo": ["demo", "--dry-run"],
    "run": ["run", *JOB],
    "verify": ["verify", "out"],
    "explain": ["explain", "out", "@out/run.trec"],
    "diff": ["diff", "out", "out"],
    "export": ["export", "rankvideo", "out"],
    "judge-audit": ["judge-audit", "out", "--sample", "2"],
    "evaluate": ["evaluate", "--qrels", "out/qrels.trec", "--run", "out/run.trec"],
    "cache stats": ["cache", "stats", "--output", "out"],
    "cache verify": ["cache", "verify", "--output", "out"],
    "cache prune": ["cache", "prune", "--output", "out", "--dry-run"],
}
WITHOUT_FILES = {
    "batch": ["batch", "read", "none", "--output", "none"],
    "train": ["train", "perception", "smoke", "--data", "none", "--output", "run"],
    "rerank": [
        "rerank",
        "--model",
        "none",
        "--data",
        "none",
        "--run",
        "none",
        "--queries",
        "none",
        "--out",
        "new.trec",
    ],
    "export-model": ["export-model", "none", "--to", "model"],
}


@dataclass(frozen=True)
class Told:
    """What commands said in a folder, by name, and where the packages lie that were imported after them."""

    folder: Path
    ended: dict[str, subprocess.CompletedProcess[str]]
    packages: list[str]


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
    # What PYTHONPATH holds would count as installed: a checkout with its metadata, too.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True, env=environment)
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
    bin_folder: Path, cwd: Path, by_libraries: dict[str, dict[str, list[str]]], packages: Sequence[str] = ()
) -> Told:
    """Run commands one after the other, as ``run`` does, with libraries imported once, before the first command that
    wants them; then import packages."""
    commands = {name: command for named in by_libraries.values() for name, command in named.items()}
    wanted = [(libraries, command) for libraries, named in by_libraries.items() for command in named.values()]
    given = map(json.dumps, (wanted, packages))
    ended = run(bin_folder, cwd, "python", "-c", IN_TURN, *given)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    said = [[(cwd / f"{number}.{stream}").read_text() for stream in (1, 2)] for number in range(len(commands))]
    by_name = {
        name: subprocess.CompletedProcess(command, int(code), *texts)
        for (name, command), code, texts in zip(commands.items(), lines, said, strict=False)
    }
    return Told(cwd, by_name, lines[len(commands) :])


@pytest.fixture(scope="module")
def told(installed: Path, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What a run says, all that is asked of its output, and commands whose files are missing; then every module."""
    folder = tmp_path_factory.mktemp("told")
    clips = folder / "clips"
    clips.mkdir()
    for clip in sorted((samples / "videos").iterdir())[:3]:
        (clips / clip.name).symlink_to(clip)
    return run_in_turn(installed, folder, {f"{BEAM} {RUN}": ASKED, TORCH: WITHOUT_FILES}, PACKAGES)


def test_the_wheel_holds_every_module_and_every_file_that_modules_read(wheel):
    there = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    corpus = {name for name in there if name.startswith("runners/samples/")}

    product = {name for name in _files() if name.split("/")[0] in PACKAGES}
    assert there - corpus == {name for name in product if Path(name).suffix in DATA | {".py"}}
    assert there - corpus == product
    shipped = {name for name in _files() if name.startswith("samples/") and Path(name).suffix not in (".py", ".yaml")}
    assert corpus == {f"runners/{name}" for name in shipped}


def test_every_module_of_the_wheel_can_be_imported(installed, told):
    assert len(told.packages) == len(PACKAGES)
    assert all(path.startswith(str(installed.parent)) for path in told.packages)


def test_every_command_explains_itself_from_the_wheel(installed, tmp_path):
    top = run(installed, tmp_path, "hardquery", "--help").stdout
    listed = [line.split()[0] for line in top.splitlines() if line.startswith("    ") and line[4:5].strip()]
    helps = run_in_turn(installed, tmp_path, {OURS: {command: [command, "--help"] for command in listed}}).ended

    assert {"run", "plan", "verify", "judge-audit", "train", "rerank", "cache"} <= helps.keys()
    for command, helped in helps.items():
        assert helped.returncode == 0, helped.stderr
        assert helped.stdout.startswith(f"usage: hardquery {command}")


def test_a_run_from_the_wheel_and_all_that_is_asked_of_its_output(told):
    for ended in (told.ended[name] for name in ASKED):
        assert ended.returncode == 0, ended.stderr
        assert "Traceback" not in ended.stderr
    assert "demo" in told.ended["recipes"].stdout
    assert "demo: 30 videos" in told.ended["demo"].stdout
    assert "sound" in told.ended["verify"].stdout
    assert (told.folder / "out/run.trec").read_text().split()[0] in told.ended["explain"].stdout


@pytest.mark.parametrize("command", WITHOUT_FILES)
def test_a_command_whose_files_are_missing_says_so_in_one_line(command, told):
    ended = told.ended[command]

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("hardquery: ")
    assert ended.stderr.count("\n") == 1
