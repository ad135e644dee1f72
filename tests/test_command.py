"""Errors that a command says in one line."""

import pytest

from runners.cli.errors import BrokenOff, UsageError, one_line


@pytest.mark.parametrize("into", [UsageError, BrokenOff])
def test_an_error_of_a_command_keeps_its_line_and_its_cause(into):
    with pytest.raises(into, match=r"no such folder") as said, one_line(ValueError, OSError, into=into):
        raise FileNotFoundError("no such folder")

    assert isinstance(said.value.__cause__, FileNotFoundError)


def test_a_reader_that_left_is_not_taken_for_a_file_that_cannot_be_read():
    with pytest.raises(BrokenPipeError), one_line(ValueError, OSError):
        raise BrokenPipeError(32, "Broken pipe")
