"""A video that kills the process that works on it costs that video only, through the whole command."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.outputs.verify.verify import verify
from runners.cli.main import main
from tests.support.make_clips import draw_barcode, make_clip
from tests.support.poisons import COLOURS, POISONS, PoisonedDecoder, PoisonedReader
from transforms.engines.registry import find_engine
from transforms.ledger import read_ledger

ASLEEP_LIMIT_S = 3


def paint(colour: tuple[int, int, int]):
    return lambda number, width, height: draw_barcode(
        np.tile(np.array(colour, np.uint8), (height, width, 1)), number + sum(colour)
    )


@pytest.fixture
def videos(tmp_path) -> Path:
    """Four that are poison to decode, three that are poison to read, and two that are none, with titles."""
    folder = tmp_path / "videos"
    folder.mkdir()
    good = {"tram": (200, 200, 200), "boat": (120, 90, 60)}
    colours = {**good, **dict.fromkeys(POISONS, (9, 9, 9)), **{f"reads-{name}": COLOURS[name] for name in COLOURS}}
    for number, (name, colour) in enumerate(colours.items()):
        make_clip(folder / f"{name}.mp4", frames=24 + number, draw=paint(colour))
        title = {"title": f"The {name} of the harbour", "description": f"How the {name} came to be repaired in spring."}
        (folder / f"{name}.json").write_text(json.dumps(title))
    return folder


def test_a_poison_video_costs_that_video_only(videos, tmp_path, monkeypatch, capfd):
    poisoned = {"decode": PoisonedDecoder(), "ocr": PoisonedReader()}

    def find(modality, options):
        return poisoned[modality] if options.get("engine") == "poisoned" else find_engine(modality, options)

    monkeypatch.setattr("pipeline.engines.find_engine", find)
    output = tmp_path / "out"
    settings = [
        "extract.decode={engine: poisoned}",
        "extract.ocr={engine: poisoned}",
        "extract.asr=null",
        "mine.first_stage={engine: bm25}",
        "extract.frames.max_frames=2",
        f"extract.limits.asleep_limit_s={ASLEEP_LIMIT_S}",
        "emit.frames=null",
    ]
    command = ["run", "demo", "--input", str(videos), "--output", str(output), "--workers", "2"]

    assert main([*command, *(f"--set={setting}" for setting in settings)]) == 0, capfd.readouterr().err

    failures = pq.read_table(output / "failures").to_pylist()
    assert {(Path(row["uri"]).stem, row["error_class"]) for row in failures} == {
        ("crash", "WorkerDied"),
        ("memory", "MemoryError"),
        ("hang", "TimeLimitExceeded"),
        ("unreachable", "TimeLimitExceeded"),
    }
    assert len(failures) == len(POISONS)
    assert all(row["message"][0].isalnum() for row in failures)
    rows = {Path(row["uri"]).stem: row for row in pq.read_table(output / "videos").to_pylist()}
    assert rows.keys() == {"tram", "boat", "reads-crash", "reads-memory", "reads-hang"}
    assert all(row["caption"] for row in rows.values())
    assert {name: [w["reason"] for w in row["warnings"] if w["part"] == "ocr"] for name, row in rows.items()} == {
        "tram": [],
        "boat": [],
        "reads-crash": ["worker died"],
        "reads-memory": ["out of memory"],
        "reads-hang": ["time limit"],
    }
    lines = {f"{line.stage}/{line.step}": line for line in read_ledger((output / "ledger.json").read_bytes())}
    assert lines["extract/decode"].entered == 9
    assert lines["extract/decode"].failed == {"MemoryError": 1, "TimeLimitExceeded": 2, "WorkerDied": 1}
    assert not [name for name, line in lines.items() if line.missing]
    assert verify(str(output)) == []
