"""One output, and another to hold it against."""

import pytest

from tests.support.two_outputs import output


@pytest.fixture(scope="module")
def a(tmp_path_factory):
    return output(tmp_path_factory.mktemp("diff") / "a")


@pytest.fixture
def b(tmp_path):
    """Writes another output."""
    return lambda *args, **fields: output(tmp_path / "b", *args, **fields)
