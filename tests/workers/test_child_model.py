from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from schemas.video import EngineStamp
from transforms.protocols.engine import EngineError, loaded
from transforms.workers.child_model import run_with_model
from transforms.workers.sandbox import shut_down
from transforms.workers.watchdog import Limit


@dataclass(frozen=True)
class Diary:
    """Writes down in ``path`` when loading begins and ends, with the process that did it."""

    path: str

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def load(self) -> int:
        for word in ("begin", "end"):
            with open(self.path, "a") as diary:
                diary.write(f"{word} {os.getpid()}\n")
            time.sleep(0.3)
        return os.getpid()

    def stamp(self) -> EngineStamp:
        return EngineStamp("diary", "1", "", "f")


def who_loaded(engine: Diary) -> tuple[int, int]:
    model = loaded(engine)
    time.sleep(0.5)
    return model, os.getpid()


@pytest.fixture(autouse=True)
def _no_child_outlives_a_test():
    yield
    shut_down()


def test_each_child_loads_once_and_one_at_a_time(tmp_path: Path):
    engine = Diary(str(tmp_path / "diary"))

    def ask(_: int) -> tuple[int, int]:
        return run_with_model(who_loaded, engine, limit=Limit(30.0), workers=2)

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(ask, range(4)))
    assert all(model == child for model, child in answers)
    words = [line.split() for line in (tmp_path / "diary").read_text().splitlines()]
    assert [word for word, _ in words] == ["begin", "end"] * (len(words) // 2)
    assert [pid for _, pid in words[::2]] == [pid for _, pid in words[1::2]]
    assert {int(pid) for _, pid in words} == {child for _, child in answers}
    assert len(words) == 2 * len({child for _, child in answers})


def test_a_model_that_cannot_be_loaded_is_an_error_in_one_line(tmp_path: Path):
    with pytest.raises(EngineError, match="the engine 'diary' cannot be loaded: FileNotFoundError") as raised:
        run_with_model(who_loaded, Diary(str(tmp_path / "no" / "diary")), limit=Limit(30.0))
    assert "\n" not in str(raised.value)
