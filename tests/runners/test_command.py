"""Errors that a command says in one line."""

import pytest

from runners.cli.errors import USAGE_ERROR, BrokenOff, UsageError, one_line
from runners.cli.main import as_meant, main


@pytest.mark.parametrize("into", [UsageError, BrokenOff])
def test_an_error_of_a_command_keeps_its_line_and_its_cause(into):
    with pytest.raises(into, match=r"no such folder") as said, one_line(ValueError, OSError, into=into):
        raise FileNotFoundError("no such folder")

    assert isinstance(said.value.__cause__, FileNotFoundError)


def test_a_reader_that_left_is_not_taken_for_a_file_that_cannot_be_read():
    with pytest.raises(BrokenPipeError), one_line(ValueError, OSError):
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["explain", "out", "-PQv"], ["explain", "out", "--", "-PQv"]),
        (["explain", "out", "-hQv"], ["explain", "out", "--", "-hQv"]),
        (["explain", "out", "--", "--help"], ["explain", "out", "--", "--help"]),
        (["explain", "out", "--help"], ["explain", "out", "--help"]),
        (["explain", "file:///my%20out", "v0"], ["explain", "/my out", "v0"]),
        (["run", "demo", "--input=file:///a%20b", "--set", "x=y"], ["run", "demo", "--input=/a b", "--set", "x=y"]),
    ],
)
def test_an_id_with_a_dash_is_an_id_and_a_file_url_is_a_path(typed, meant):
    assert as_meant(typed) == meant


def test_an_id_with_a_dash_reaches_its_command(tmp_path, capsys):
    assert main(["explain", str(tmp_path), "-PQv"]) == USAGE_ERROR
    assert "manifest" in capsys.readouterr().err
