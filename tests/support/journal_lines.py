"""Lines of the journal for tests, and processes that write them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from transforms.journal.segments import line_of

ROOT = Path(__file__).parents[2]


def digest(n: int) -> str:
    """The n-th key."""
    return hashlib.sha256(str(n).encode()).hexdigest()[:32]


def line(n: int, data: bytes = b'{"value": 1}') -> bytes:
    """A line of the n-th key, whose subject is its first half."""
    return line_of(digest(n), digest(n)[:16], data)


def in_a_child(script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A Python process at work on ``script``, with the project's modules at hand."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
