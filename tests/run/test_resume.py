"""Running again: what is found done, what is done again and why, and what a damaged cache or a second run can spoil."""

import json
import os
import subprocess
from pathlib import Path
from shutil import copyfile

import pytest

from benchmarks.kill import copy_cache
from pipeline.outputs.explain.explain import explain
from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.verify.verify import verify
from runners.cli.errors import DEFERRED
from runners.cli.main import main
from tests.support.attempts import every_bundle_twice
from tests.support.forks import Fork, hardquery
from transforms.ledger import read_ledger

CLIPS = ("launch_ostara_1", "launch_ostara_2", "launch_kestrel_1", "flood_riverton_1")
FAST = (
    "extract.asr=null extract.ocr=null extract.frames.max_frames=2 emit.frames=null emit.validation_fraction=0 "
    "synthesize.variants=[caption,metadata] mine.ambiguity.ratio=1000 curate.alpha1=-0.5"
).split()
FAST += ["synthesize.negative_queries={queries: 4, kept: 2}", "judge.necessity={share: 1}"]
PAID = ("caption", "write", "judge", "negatives", "verify", "necessity")


def command(folder: Path, output: str = "out") -> list[str]:
    given = ["--input", str(folder / "list.jsonl"), "--output", str(folder / output), "--workers", "1"]
    return ["run", "demo", "--force", *given, *(f"--set={setting}" for setting in FAST)]


def run(folder: Path, *options: str, output: str = "out", expect: int = 0) -> dict[str, int]:
    """Run, and return the results by step that were not found in the journal; steps without any are left out."""
    assert main([*command(folder, output), *options]) == expect
    assert verify(str(folder / output)) == []
    work = read_manifest(str(folder / output)).work
    made = {step: counts.get("run", 0) + counts.get("failed", 0) for step, counts in work.items()}
    return {step: count for step, count in made.items() if count}


def hashes(folder: Path, output: str = "out") -> dict[str, str]:
    return {file.path: file.sha256 for file in read_manifest(str(folder / output)).files if file.rows is not None}


def segment(folder: Path, step: str) -> Path:
    (path,) = (folder / ".hardquery" / "journal" / step).iterdir()
    return path


@pytest.fixture(scope="module")
def original(short_clips, tmp_path_factory):
    """A folder with a finished run: its list, its output and its cache."""
    folder = tmp_path_factory.mktemp("original")
    rows = [{"uri": str(short_clips / f"{clip}.mp4"), "title": f"Day {clip} of the news"} for clip in CLIPS]
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = {
        "media",
        "decode",
        "frame_hashes",
        "caption",
        "write",
        "embed_video",
        "embed_query",
        "judge",
        "negatives",
        "verify",
        "necessity",
    }
    assert set(run(folder)) == made
    return folder


@pytest.fixture
def folder(original, tmp_path):
    """A copy of the finished run."""
    subprocess.run(["cp", "-a", f"{original}/.", str(tmp_path)], check=True)
    return tmp_path


def test_what_is_damaged_costs_itself_alone_and_is_told_and_the_run_after_does_nothing(folder, capfd):
    before = hashes(folder)
    removed, cut, *_ = (folder / ".hardquery" / "frames").rglob("*.parquet")
    removed.unlink()
    os.truncate(cut, 100)
    torn, flipped = segment(folder, "judge"), segment(folder, "write")
    torn.write_bytes(torn.read_bytes()[:-20])
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 4
    flipped.write_bytes(content)

    # Frames that are gone or cut, a torn last line, and a flipped byte.
    assert run(folder) == {"decode": 2, "judge": 1, "write": 1}
    assert hashes(folder) == before
    assert removed.exists()
    assert cut.stat().st_size > 100
    told = " ".join(capfd.readouterr().err.split())
    assert "damaged" in told
    assert "done again" in told
    assert run(folder) == {}
    assert hashes(folder) == before
    assert sum(file.rows for file in read_manifest(str(folder / "out")).files if file.path.startswith("ranking/"))


def test_a_moved_file_is_hashed_and_not_decoded(folder, short_clips):
    (folder / "moved").mkdir()
    lines = (folder / "list.jsonl").read_text()
    for clip in CLIPS:
        copyfile(short_clips / f"{clip}.mp4", folder / "moved" / f"{clip}.mp4")
    (folder / "list.jsonl").write_text(lines.replace(str(short_clips), str(folder / "moved")))

    assert run(folder) == {"media": len(CLIPS)}


def test_a_budget_of_some_calls_defers_the_rest_and_continuing_ends_in_the_same_bytes(folder, capsys):
    work = read_manifest(str(folder / "out")).work
    calls = sum(work[step]["run"] for step in PAID)
    cache, budget = ["--cache", str(folder / "other")], ["--max-calls", str(calls // 4)]
    free = {path.name for path in (folder / ".hardquery" / "journal").iterdir()} - {*PAID}
    copy_cache(str(folder / ".hardquery"), str(folder / "other"), [*free])

    for cut in ("judge", "verify"):  # first within the judge's calls, and then within those about negative queries
        made = run(folder, *budget, *cache, output="part", expect=DEFERRED)
        lines = read_ledger((folder / "part" / "ledger.json").read_bytes())
        assert sum(made.get(step, 0) for step in PAID) == calls // 4
        assert ("judge", cut) in {(line.stage, line.step) for line in lines if line.deferred}
        assert "work was left for later" in capsys.readouterr().out
        assert "left work for a later one" in (folder / "part" / "README.md").read_text()

    rest = run(folder, *cache, output="part")
    assert sum(rest.get(step, 0) for step in PAID) == calls - 2 * (calls // 4)
    assert hashes(folder, "part") == hashes(folder)


def test_a_budget_of_nothing_leaves_a_sound_and_empty_set(folder):
    made = run(folder, "--max-calls", "0", "--cache", str(folder / "other"), output="none", expect=DEFERRED)

    assert made == {"media": len(CLIPS), "decode": len(CLIPS)}
    assert sum(file.rows or 0 for file in read_manifest(str(folder / "none")).files) == 0


def test_two_runs_at_once_share_a_cache(folder):
    before = hashes(folder)
    cache = ["--cache", str(folder / "shared")]
    both = [
        Fork(hardquery, [*command(folder, name), *cache], os.devnull, str(folder / f"{name}.txt"))
        for name in ("left", "right")
    ]

    assert [process.wait() for process in both] == [0, 0]
    assert hashes(folder, "left") == hashes(folder, "right") == before
    assert run(folder, *cache, output="third") == {}


def test_a_budget_in_dollars_needs_prices(folder, capsys):
    assert main([*command(folder), "--max-cost", "1"]) == 2
    assert "costs.judge.input_price" in capsys.readouterr().err


def test_bundles_that_are_attempted_twice_change_no_row_and_no_count_and_pay_nothing_twice(folder):
    before, work = hashes(folder), read_manifest(str(folder / "out")).work

    with every_bundle_twice() as went:
        made = run(folder, "--workers", "1", "--cache", str(folder / "other"), output="twice")

    assert {*went} == {"killed", "discarded", "zombie"}
    assert hashes(folder, "twice") == before
    assert (folder / "twice" / "ledger.json").read_bytes() == (folder / "out" / "ledger.json").read_bytes()
    assert read_manifest(str(folder / "twice")).work == work
    journal = folder / "other" / "journal"
    kept = {step: sum(len(path.read_bytes().splitlines()) for path in (journal / step).iterdir()) for step in made}
    assert kept == made
    assert run(folder, "--cache", str(folder / "other"), output="twice") == {}


def test_without_what_is_asked_of_groups_there_is_no_such_table_and_every_other_has_the_same_bytes(folder):
    with_them = hashes(folder)
    settings = ("--set", "synthesize.negative_queries=null", "--set", "judge.necessity=null")
    assert run(folder, *settings, output="without") == {}

    tables = ("ranking_by_video/", "necessity/")
    of_them = {path for path in with_them if path.startswith((*tables, "rejections/"))}
    assert hashes(folder, "without").keys() == {path for path in with_them if not path.startswith(tables)}
    same = {path: digest for path, digest in with_them.items() if path not in of_them}
    assert same.items() <= hashes(folder, "without").items()


def test_thresholds_that_are_quantiles_ask_nothing_again_and_say_what_they_came_to(folder):
    settings = ["curate.alpha1={quantile: 0.6}", "judge.sample_queries=4"]

    assert not run(folder, *(f"--set={setting}" for setting in settings), output="quantile")

    output = str(folder / "quantile")
    rows = [row for row in read_manifest(output).tables(output).rows("judgements") if not row["is_positive"]]
    margins = sorted(row["delta"] for row in rows)
    found = read_manifest(output).thresholds
    assert found.alpha1 == margins[-(-6 * len(margins) // 10) - 1]
    assert found.pairs == len(margins)
    said = f"alpha1 = quantile 0.6 = {found.alpha1:.2f} nats over {found.pairs} pairs"
    assert said in (folder / "quantile" / "README.md").read_text()
    assert said in (folder / "quantile" / "report.html").read_text()
    assert said in " ".join(explain(output, f"{rows[0]['query_id']}:{rows[0]['video_id']}").split())
