"""``transformers serve`` on loopback, in a child process: ``python -m tests.transformers_server FOLDER PORT``.

It accepts schemas and log-probabilities, and ignores them.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_S = 900.0
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


@contextmanager
def serving(model: Path) -> Iterator[str]:
    """The base URL of a server, which ends with the block or with this process; its model's name is the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [sys.executable, "-m", "tests.transformers_server", str(model), str(port)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, **_ENVIRONMENT},
            cwd=Path(__file__).parent.parent,
        ) as child,
    ):
        try:
            if not _answers(child, f"http://127.0.0.1:{port}/health"):
                log.seek(0)
                raise RuntimeError(f"transformers serve did not start: {log.read()[-2000:]}")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            child.kill()  # where this process is killed itself, the child ends at the end of its input


def _answers(child: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + START_S
    while child.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=60):
                return True
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    return False


def main() -> None:
    """Serve until standard input ends."""
    from transformers.cli.transformers import main as transformers

    threading.Thread(target=_end_with_input, daemon=True).start()
    _, model, port = sys.argv
    sys.argv = ["transformers", "serve", model, "--host", "127.0.0.1", "--port", port, "--device", "cpu"]
    transformers()


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)  # uvicorn would wait for connections that are kept alive


if __name__ == "__main__":
    main()
