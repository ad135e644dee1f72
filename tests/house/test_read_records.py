"""Reading records: from many threads at once, and in one place."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from schemas.check import read_json, read_plain
from schemas.video import AsrSegment

ROOT = Path(__file__).parents[2]
PACKAGES = ("runners", "pipeline", "transforms", "prompts", "schemas", "trainer")

# A class that no thread has read before, for four threads that read it at the same moment, a thousand times.
AT_ONCE = """
import sys, threading
from dataclasses import make_dataclass
from schemas.check import read_plain

sys.setswitchinterval(1e-6)
for _ in range(1000):
    kind = make_dataclass("Inner", [("a", int), ("b", str), ("c", tuple[str, ...])], frozen=True, slots=True)
    start = threading.Barrier(4)

    def read():
        start.wait()
        assert read_plain([{"a": 1, "b": "x", "c": ["y"]}], list[kind]) == [kind(1, "x", ("y",))]

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_threads_may_read_a_record_for_the_first_time_at_once():
    read = subprocess.run([sys.executable, "-c", AT_ONCE], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (read.returncode, read.stderr) == (0, "")


def test_records_are_read_in_one_place():
    reading = re.compile(r"msgspec\.convert\(|json\.decode\([^\n]*\btype=|json\.Decoder\(")
    places = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if reading.search(path.read_text("utf-8"))
    }

    assert places == {"schemas/check.py"}


def test_values_are_checked_by_the_types_and_rules_of_the_record():
    segment = {"start_s": 0.5, "end_s": 1, "text": "hm", "confidence": 0.9}

    assert read_plain([segment], tuple[AsrSegment, ...]) == (AsrSegment(0.5, 1.0, "hm", 0.9),)
    assert read_json(json.dumps(segment), AsrSegment) == AsrSegment(0.5, 1.0, "hm", 0.9)
    with pytest.raises(msgspec.ValidationError, match="a span needs"):
        read_plain(segment | {"start_s": 2}, AsrSegment)
    with pytest.raises(msgspec.ValidationError, match="Expected `float`, got `null`"):
        read_json(json.dumps(segment | {"start_s": None}), AsrSegment)
