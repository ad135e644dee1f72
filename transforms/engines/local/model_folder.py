"""A model on this machine's disk: where it lies, whether it is whole, how much it reads, and its identity."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from schemas.fingerprint import fingerprint, sha256_file
from transforms.protocols.engine import EngineError

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
    folder = modules_of(folder)[0]
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if "config.json" not in names:
        return "config.json"
    if not any(name.startswith("tokenizer") for name in names):
        return "tokenizer"
    for index in sorted(folder.glob("*.index.json")):
        listed: set[str] = set(json.loads(index.read_text("utf-8")).get("weight_map", {}).values())
        if listed - names:
            return min(listed - names)
    return "" if any(name.endswith(_WEIGHTS) for name in names) else "weights (*.safetensors)"


def require_model(engine: str, model: str, revision: str) -> Path:
    """The folder of an engine's model, as far as its list of files tells a whole one.

    Raises:
        EngineError: it does not lie on this machine, or not whole.
    """
    folder = folder_of(model, revision)
    if folder is None:
        raise EngineError(
            f"engine {engine!r}: {model!r} is neither a folder nor in this machine's Hugging Face cache; give the path "
            f"of a model's folder, or run: hf download {model} --revision {revision}"
        )
    missing = missing_from(folder)
    if missing:
        raise EngineError(f"engine {engine!r}: the model in {folder} has no {missing}; copy or download it again")
    return folder


def modules_of(folder: Path) -> list[Path]:
    """The folders of the modules of a sentence-transformers checkpoint, in their order; of others the folder itself."""
    listed = folder / "modules.json"
    if not listed.is_file():
        return [folder]
    return [folder / str(module.get("path", "")) for module in json.loads(listed.read_text("utf-8"))]


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
def model_id(model: str, revision: str, runs_code: bool = False) -> str:
    """What tells one model from another: the bytes of a folder, wherever it lies, or a name and revision on the hub.

    Of a folder whose own code is run, that counts as well.
    """
    if not Path(model).is_dir():
        return f"{model}@{revision}"
    folder = Path(model)
    within = {folder, *modules_of(folder)}
    # A module without files of its own has no folder in a copy of a repository, which keeps no empty ones.
    decisive = (*_DECISIVE, ".py") if runs_code else _DECISIVE
    files = sorted(path for each in within if each.is_dir() for path in each.iterdir() if path.suffix in decisive)
    return f"sha256:{fingerprint([[path.relative_to(folder).as_posix(), sha256_file(path)] for path in files])}"
