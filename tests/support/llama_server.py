"""llama.cpp's own server on loopback, in a child process.

Which is ``python -m tests.support.llama_server MODEL.gguf MIB TASK``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.support.tiny_llm import CONTEXT

Task = Literal["chat", "embed"]
SLOTS = 4
# What a random model is made to say. Log-probabilities of llama.cpp are those from before the grammar.
VERDICT_GRAMMAR = 'root ::= "<think>" [a-z ]{1,80} "</think><answer>" ("yes"|"no") "</answer>"'


@dataclass(frozen=True)
class LlamaServer:
    """A server that runs, at ``url``."""

    url: str

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def call(self, path: str, body: dict[str, Any]) -> Any:
        """The answer of one of the server's own endpoints."""
        request = urllib.request.Request(
            f"{self.url}/{path}", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as reply:
            return json.load(reply)

    def metrics(self) -> dict[str, float]:
        """The server's counters since it started, by name without their prefix."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=600) as reply:
            lines = reply.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name.removeprefix("llamacpp:"): float(value) for name, value in pairs}


@contextmanager
def serving(model: Path, kept_mib: int = 8192, task: Task = "chat") -> Iterator[LlamaServer]:
    """A server that ends with the block, or with this process; ``kept_mib`` is for prompts that no slot holds."""
    command = [sys.executable, "-m", "tests.support.llama_server", str(model), str(kept_mib), task]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=log, text=True, cwd=Path(__file__).parents[2]
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            url = child.stdout.readline().strip()
            if not url:
                child.wait()
                log.seek(0)
                raise RuntimeError(f"llama.cpp's server did not start: {log.read()[-2000:]}")
            yield LlamaServer(url)
        finally:
            child.kill()  # where this process is killed itself, the child ends at the end of its input


def main() -> None:
    """Serve until standard input ends; the first line of the output is the server's URL."""
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = sys.argv[1]
    options.cache_ram_mib = int(sys.argv[2])
    options.port = 0
    options.n_ctx, options.n_parallel = CONTEXT * SLOTS, SLOTS
    options.use_jinja = True
    if sys.argv[3] == "embed":
        options.embedding = True
        options.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    # Both would compute in 16 bits, transformers in 32.
    options.cache_type_k = options.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    options.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    options.endpoint_metrics = True
    options.warmup = False
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1  # threads that spin starve each other
    server = xllamacpp.Server(options)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
