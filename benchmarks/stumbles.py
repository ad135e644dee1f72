"""Forty stumbles of new users, each tried again: what the command says now, and whether that is what was missed.

    python -m benchmarks.stumbles [OUT] [--only 1,19]

A stumble is a command, and what its reply must say (a pattern) for whoever stumbled to go on. OUT is a finished output;
without one a small made-up one is written. Prints a table, and ends with 1 where any reply still misleads. Runs start
nothing that takes minutes: what only a whole run shows is not tried here, and the test that holds it is named.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
CLIP = ROOT / "samples" / "videos" / "aquarium.mp4"
LIGHT = ("--set=extract.asr=null", "--set=extract.ocr=null", "--set=mine.first_stage={engine: bm25}")


@dataclass(frozen=True)
class Stumble:
    """What was tried: ``typed`` on the command line, or a function of the place; ``says`` must be in the reply.

    No echo of what was typed may do for it. ``held_by`` are the tests of what a command alone does not show.
    """

    number: int
    missed: str
    typed: tuple[str, ...] | Callable[[Path], str] = ()
    says: str = ""
    held_by: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", nargs="?")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    only = {int(number) for number in arguments.only.split(",") if number}
    print("| # | missed | tried again | says now | |\n|---|---|---|---|---|")
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        place = made(Path(folder), arguments.output)
        for stumble in STUMBLES:
            if only and stumble.number not in only:
                continue
            tried, said, good = try_again(stumble, place)
            bad += not good
            print(
                "|",
                " | ".join(map(cell, (str(stumble.number), stumble.missed, tried, said, verdict(stumble, good)))),
                "|",
            )
    return min(bad, 1)


def made(place: Path, output: str | None = None) -> Path:
    """A folder to try things in: a finished output, a video, and files with mistakes."""
    if output:
        (place / "out").symlink_to(Path(output).absolute())
    else:
        from tests.support.tiny_output import write_tiny

        write_tiny(place / "out")
    (place / "my videos").mkdir()
    shutil.copy(CLIP, place / "my videos" / "aquarium.mp4")
    (place / "mine.yaml").write_text("extends: demo\nname: mine\n")
    (place / "bad.jsonl").write_text('{"uri": "a.mp4"}\n{"uri": \n')
    (place / "schemas").mkdir()
    return place


def try_again(stumble: Stumble, place: Path) -> tuple[str, str, bool]:
    """What was tried, the line of the reply that tells, and whether it does."""
    if not stumble.typed:
        return "-", "-", all((ROOT / name).is_file() for name in stumble.held_by.split(", "))
    if callable(stumble.typed):
        tried, said = (stumble.typed.__doc__ or "").strip(), stumble.typed(place)
    else:
        tried, said = f"hardquery {' '.join(stumble.typed)}", command(place, stumble.typed)
    found = re.search(stumble.says, said)
    line = next((each for each in said.splitlines() if found and found[0].splitlines()[0] in each), said.strip()[:200])
    return tried, line.strip(), found is not None


def command(place: Path, typed: Sequence[str]) -> str:
    """Everything that a command prints, in a folder of its own, 80 columns wide."""
    from runners.cli.main import main as hardquery

    said = io.StringIO()
    before, columns = os.getcwd(), os.environ.get("COLUMNS")
    os.chdir(place)
    os.environ["COLUMNS"] = "80"
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
            code = hardquery(list(typed))
            print(f"exit code {code}")
    finally:
        os.chdir(before)
        os.environ.pop("COLUMNS") if columns is None else os.environ.update(COLUMNS=columns)
    return said.getvalue()


def verdict(stumble: Stumble, good: bool) -> str:
    if not good:
        return "STILL MISLEADS" if stumble.typed else f"NO SUCH TEST: {stumble.held_by}"
    return "mended" if stumble.typed else f"held by {stumble.held_by}"


def cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())[:300]


def names_in_report(place: Path) -> str:
    """report.html of an output"""
    return (place / "out" / "report.html").read_text("utf-8")


def card(place: Path) -> str:
    """README.md of an output"""
    return (place / "out" / "README.md").read_text("utf-8")


def queries(place: Path) -> str:
    """the files beside run.trec"""
    return " ".join(sorted(path.name for path in (place / "out").iterdir()))


def python(place: Path) -> str:
    """import hardquery as hq; hq.open("out").groups()[0]"""
    import hardquery as hq

    return f"{hq.run.__doc__} {type(hq.open(place / 'out').groups()[0]).__name__}"


def shadowed(place: Path) -> str:
    """python -m hardquery recipes, beside a folder schemas/"""
    (place / "schemas" / "__init__.py").touch()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-m", "hardquery", "recipes"],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.stderr


def inside(place: Path) -> str:
    """hardquery plan demo -i "my videos" -o "my videos/out", after a run of that"""
    shutil.copytree(place / "out", place / "my videos" / "out")
    frames = place / "my videos" / ".hardquery" / "frames"
    frames.mkdir(parents=True)
    shutil.copy(CLIP, frames)
    said = command(place, ("plan", "demo", "-i", "my videos", "-o", "my videos/out", *LIGHT))
    shutil.rmtree(place / "my videos" / "out")
    return said


def variants(place: Path) -> str:
    """two outputs of one cache, with equal shards of videos/"""
    from pipeline.outputs.manifest import read_manifest
    from transforms.storage.shared_files import share_files

    names = ("one", "other")
    for name in names:
        shutil.copytree(place / "out", place / name)
        files = read_manifest(str(place / name)).files
        hashes = {file.path: file.sha256 for file in files if file.path.startswith("videos/")}
        share_files(str(place / name), hashes, str(place / "outputs"))
    one, other = (
        {path.name: (path.stat().st_dev, path.stat().st_ino) for path in (place / name / "videos").iterdir()}
        for name in names
    )
    return f"shards of videos/: {len(one.items() & other.items())} of {len(one)} are one file"


def train_demo(_: Path) -> str:
    """make train-demo, its last lines"""
    from benchmarks.learn import ending

    return ending(0.447, 0.682)


def text_of(*names: str) -> Callable[[Path], str]:
    """A function that reads files of the project."""

    def read(_: Path) -> str:
        return "\n".join((ROOT / name).read_text("utf-8") for name in names)

    read.__doc__ = ", ".join(names)
    return read


JOB = ("-i", "my videos", "-o", "new")
STUMBLES = (
    Stumble(
        1, "--dry-run led into Beam's, which ran everything", ("run", "demo", *JOB, *LIGHT, "--dry-run"), r"to run"
    ),
    Stumble(2, "no way to try a few", ("run", "demo", *JOB, "--limit", "0"), r"--limit must be at least 1"),
    Stumble(3, "no recipe between the toy and two 30B servers", ("recipes",), r"one-gpu"),
    Stumble(
        4,
        "keys of a recipe",
        ("run", "demo", *JOB, "--set", "synthesize.queries=1"),
        r"did you mean '?queries_per_variant",
    ),
    Stumble(5, "no Python", python, r"Group$"),
    Stumble(6, "a schemas folder stands in the way", shadowed, r"rename that"),
    Stumble(7, "no extension point", ("engines", "--help"), r"entry points"),
    Stumble(8, "the report names no file", names_in_report, r"\w\.(mp4|webm|mkv)"),
    Stumble(9, "a bad label cannot be found", ("view", "out", "--export", "part.html", "--n", "2"), r"part\.html: "),
    Stumble(10, "one export", ("export", "tevatorn", "out"), r"did you mean 'tevatron'"),
    Stumble(
        11,
        "Dataflow without a region: a trace, exit 1",
        ("run", "demo", *JOB, "--runner=DataflowRunner", "--project=p"),
        r"--region is missing",
    ),
    Stumble(12, "no ETA, counts that end at 67/175", held_by="tests/run/test_progress.py, tests/run/test_status.py"),
    Stumble(13, "plan at 80 columns", ("plan", "demo", *JOB, *LIGHT), r"(?m)^decode +0 +(about )?1 .*\n(.{0,80}\n)+"),
    Stumble(14, "explain knows no file", ("explain", "out", "cut.mp4"), r"(?m)^FAILED .*cut\.mp4$"),
    Stumble(15, "two counts of damaged packets", held_by="tests/outputs/test_report.py"),
    Stumble(16, "missing packages one after the other", held_by="tests/run/test_config.py"),
    Stumble(
        17,
        "swap an engine",
        ("plan", "one-gpu", *JOB, "--set", "extract.asr.engine=pocketsphinx"),
        r"pocketsphinx in place of faster-whisper(.|\n)*\nexit code 0",
    ),
    Stumble(18, "an output inside the input", inside, r"demo: 1 videos, (?!(.|\n)*ignored)"),
    Stumble(19, "slips of the finger", ("run", "demo", "--outptu", "x"), r"did you mean --output\?"),
    Stumble(20, "a spent budget is not said", held_by="tests/run/test_summary.py"),
    Stumble(21, "make demo begins with pip's warnings", text_of("Makefile"), r"pip install --quiet"),
    Stumble(22, "recipes cannot inherit", ("recipes", "mine.yaml"), r"extends: demo"),
    Stumble(23, "diff has no results", ("compare", "out", "out"), r"(?m)^. groups "),
    Stumble(24, "each variant copies all frames", variants, r"([1-9]\d*) of \1 are one file"),
    Stumble(25, "tables that datasets cannot load", card, r"config_name: judgements"),
    Stumble(
        26,
        "TensorBoard is not mentioned, and there is no switch for wandb or mlflow",
        text_of("docs/train.md"),
        r"tensorboard --logdir(.|\n)*--report-to wandb",
        held_by="tests/trainer/test_trackers.py",
    ),
    Stumble(27, "train-demo ends in a row without header", train_demo, r"It worked: (.|\n)*hardquery train perception"),
    Stumble(
        28,
        "train: unknown field",
        ("train", "ranking", "paper", "--data", "out", "--output", "x", "--set", "modle=x"),
        r"did you mean '?model",
    ),
    Stumble(
        29,
        "training brings Beam",
        text_of("pyproject.toml"),
        r"\ndependencies = \[(?![^\]]*beam)",
        held_by="tests/house/test_python.py",
    ),
    Stumble(30, "no samples in the wheel", ("demo", "--help"), r"sample"),
    Stumble(31, "Python 3.14", text_of("pyproject.toml"), r"pocketsphinx.*python_version < '3.14'"),
    Stumble(32, "no texts of the queries beside run.trec", queries, r"queries\.tsv"),
    Stumble(
        33, "export-model of what is not there", ("export-model", "nowhere", "--to", "x"), r"there is no folder nowhere"
    ),
    Stumble(34, "offline: waits before the error", held_by="tests/trainer/test_trainer_models.py"),
    Stumble(
        35, "bad JSON line", ("run", "demo", "-i", "bad.jsonl", "-o", "new", *LIGHT), r"bad\.jsonl, line 2: .*JSON"
    ),
    Stumble(36, "explain is wider than 80 columns", ("explain", "out", "cut.mp4"), r"\A(.{0,100}\n)+\Z"),
    Stumble(37, "a vocabulary of flags", ("help",), r"hardquery audit judge"),
    Stumble(38, "--workers took 4 of 64 cores", ("run", "--help"), r"one a\s+core"),
    Stumble(39, "plots run together", held_by="tests/trainer/test_trainer_evaluate.py"),
    Stumble(40, "no BibTeX", card, r"@software\{hardquery"),
)


if __name__ == "__main__":
    sys.exit(main())
