"""A language model on this machine's disk: where it lies, whether it is whole, how much it reads, and its identity."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from schemas.fingerprint import fingerprint, sha256_file

_CONTEXT_KEYS = ("max_position_embeddings", "n_positions")
_WEIGHTS = (".safetensors", ".bin")
# The files of a model's folder that decide what it says.
_DECISIVE = (*_WEIGHTS, ".json", ".jinja", ".model", ".txt", ".tiktoken")


@cache
def folder_of(model: str, revision: str) -> Path | None:
    """Where the model lies on this machine, None where it does not."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    if Path(model).is_dir():
        return Path(model)
    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def missing_from(folder: Path) -> str:
    """What a model's folder lacks, in words; empty where nothing is known to be missing."""
    names = {path.name for path in folder.iterdir()}
    if "config.json" not in names:
        return "config.json"
    if not any(name.startswith("tokenizer") for name in names):
        return "tokenizer"
    for index in sorted(folder.glob("*.index.json")):
        listed: set[str] = set(json.loads(index.read_text("utf-8")).get("weight_map", {}).values())
        if listed - names:
            return min(listed - names)
    return "" if any(name.endswith(_WEIGHTS) for name in names) else "weights (*.safetensors)"


@cache
def context_of(model: str, revision: str) -> int | None:
    """The most tokens that the model reads and writes together, None where its configuration does not tell."""
    folder = folder_of(model, revision)
    if folder is None or not (folder / "config.json").is_file():
        return None
    config = json.loads((folder / "config.json").read_text("utf-8"))
    text = {**config, **config.get("text_config", {})}
    return next((int(text[key]) for key in _CONTEXT_KEYS if text.get(key)), None)


@cache
def model_id(model: str, revision: str) -> str:
    """What tells one model from another: the bytes of a folder, wherever it lies, or a name and revision on the hub."""
    if not Path(model).is_dir():
        return f"{model}@{revision}"
    files = sorted(path for path in Path(model).iterdir() if path.suffix in _DECISIVE)
    return f"sha256:{fingerprint([[path.name, sha256_file(path)] for path in files])}"
