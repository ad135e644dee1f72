"""vLLM on a CPU, on loopback, from the environment of its own that ``make test-vllm`` installs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.http_child import http_child
from tests.support.tiny_llm import CONTEXT

PYTHON = Path(os.environ.get("HARDQUERY_VLLM_PYTHON", Path(__file__).parents[2] / ".venv-vllm" / "bin" / "python"))
VERDICT = r"<think>[a-z ]{1,80}</think><answer>(yes|no)</answer>"
"""A form that replies can be held to; what it forbids has no log-probability."""

_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}


@contextmanager
def serving(model: Path) -> Iterator[str]:
    """The base URL of a server of a model that is called "tiny", in 32 bits."""
    options = ["--served-model-name", "tiny", "--dtype", "float32", "--max-model-len", str(CONTEXT), "--enforce-eager"]
    # Not by its command, which asks for the version of a distribution of another name than the CPUs' one has.
    server = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server"]
    command = [*server, "--model", str(model), *options, "--host", "127.0.0.1"]
    with http_child(lambda port: [*command, "--port", str(port)], _ENVIRONMENT) as url:
        yield f"{url}/v1"
