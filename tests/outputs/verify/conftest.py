"""A sound output, and a copy of it to be broken."""

import shutil

import pytest

from tests.support.tiny_output import write_tiny


@pytest.fixture(scope="session")
def sound(made_once):
    return made_once("sound", lambda folder: write_tiny(folder / "out")) / "out"


@pytest.fixture(scope="session")
def whole(made_once):
    """The same with one shard a table and split, which is read in half the time."""
    return made_once("whole", lambda folder: write_tiny(folder / "out", shards=1)) / "out"


@pytest.fixture
def output(sound, tmp_path):
    """A fresh copy of a sound output, to be broken in one place."""
    return shutil.copytree(sound, tmp_path / "out")
