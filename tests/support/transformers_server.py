"""``transformers serve`` on loopback, in a child process that begins with transformers imported.

It accepts schemas and log-probabilities, and ignores them.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.http_child import answers, free_port
from tests.support.suite_process import start_child


@contextmanager
def serving() -> Iterator[str]:
    """The base URL of a server, which ends with the block or with this process; a model's name is its folder.

    Raises:
        RuntimeError: it did not start; with the end of its log.
    """
    port = free_port()
    with tempfile.NamedTemporaryFile("r") as log:
        child = start_child(["transformers", "torch"], _serve, port, log.name)
        try:
            if not answers(child.is_alive, port):
                raise RuntimeError(f"transformers serve did not start: {Path(log.name).read_text()[-4000:]}")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            child.kill()  # uvicorn would wait for connections that are kept alive
            child.join()


def _serve(port: int, log: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    multiprocessing.set_start_method(None, force=True)  # or tqdm's lock would outlive a server that is killed
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch
    from huggingface_hub import constants
    from transformers.cli.transformers import app

    constants.HF_HUB_OFFLINE = True
    torch.set_num_threads(1)
    app(["serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"])


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(0)
