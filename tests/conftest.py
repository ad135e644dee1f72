"""Fixtures that several test files share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.tiny_llm import TinyLlm, make_tiny_llm, verdict_lessons
from transforms.journal.journal import Journal

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def samples() -> Path:
    """The sample corpus that the project ships."""
    return ROOT / "samples"


@pytest.fixture(scope="session")
def extra_media() -> Path:
    """Real clips that the project does not ship; tests that need them are skipped where they are absent."""
    folder = Path(os.environ.get("HARDQUERY_TEST_MEDIA", ROOT.parent / "shared" / "media"))
    if not folder.is_dir():
        pytest.skip(f"no extra media at {folder}; set HARDQUERY_TEST_MEDIA to a folder of real clips")
    return folder


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal, in the same place as a cache at ``tmp_path / "cache"``."""
    with closing(Journal(str(tmp_path / "cache"))) as journal:
        yield journal


@pytest.fixture(scope="session")
def random_llm(tmp_path_factory: pytest.TempPathFactory) -> TinyLlm:
    """A language model with random weights, on disk."""
    return make_tiny_llm(tmp_path_factory.mktemp("random_llm") / "tiny")


@pytest.fixture(scope="session")
def taught_llm(tmp_path_factory: pytest.TempPathFactory) -> TinyLlm:
    """One that gives verdicts, and says how sure it is, when it is asked by this project's prompts."""
    return make_tiny_llm(tmp_path_factory.mktemp("taught_llm") / "tiny", verdict_lessons())
