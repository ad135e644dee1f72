"""``transformers serve`` on loopback, in a child process: ``python -m tests.support.transformers_server PORT``.

It accepts schemas and log-probabilities, and ignores them.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.http_child import http_child

_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


@contextmanager
def serving() -> Iterator[str]:
    """The base URL of a server, which ends with the block or with this process; a model's name is its folder."""
    command = [sys.executable, "-m", "tests.support.transformers_server"]
    with http_child(lambda port: [*command, str(port)], _ENVIRONMENT) as url:
        yield f"{url}/v1"


def main() -> None:
    """Serve until standard input ends."""
    from transformers.cli.transformers import main as transformers

    threading.Thread(target=_end_with_input, daemon=True).start()
    _, port = sys.argv
    sys.argv = ["transformers", "serve", "--host", "127.0.0.1", "--port", port, "--device", "cpu"]
    transformers()


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)  # uvicorn would wait for connections that are kept alive


if __name__ == "__main__":
    main()
