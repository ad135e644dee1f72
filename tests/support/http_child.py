"""A server on loopback in a child process, from when it answers to the end of the block."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

START_S = 900.0
_TELLS = 4000


@contextmanager
def http_child(command: Callable[[int], Sequence[str]], environment: Mapping[str, str]) -> Iterator[str]:
    """The URL of the server that ``command`` starts on a port; it answers at ``/health``.

    Its standard input ends when this process is killed, so that it can end then too.

    Raises:
        RuntimeError: it did not start; with the end of its log.
    """
    port = free_port()
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            command(port),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, **environment},
            cwd=Path(__file__).parents[2],
        ) as child,
    ):
        try:
            if not answers(lambda: child.poll() is None, port):
                log.seek(0)
                raise RuntimeError(f"{command(port)[0]} did not start a server: {log.read()[-_TELLS:]}")
            yield f"http://127.0.0.1:{port}"
        finally:
            child.terminate()  # a server with processes of its own ends those first


def free_port() -> int:
    """A port of loopback that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def answers(is_alive: Callable[[], bool], port: int) -> bool:
    """Whether a server came to answer at ``/health`` while its process was alive."""
    deadline = time.monotonic() + START_S
    while is_alive() and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60):
                return True
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    return False
