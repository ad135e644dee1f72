"""Fixtures that several test files share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from transforms.journal import Journal

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
