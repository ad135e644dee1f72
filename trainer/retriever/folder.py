"""The folder of a trained Video-ColBERT: whether it is one, and what decides its vectors, without its libraries."""

from __future__ import annotations

import json
from pathlib import Path

from schemas.fingerprint import fingerprint, sha256_file
from trainer.config.errors import TrainingError

WEIGHTS, CONFIG = "model.safetensors", "config.json"
OURS = "video_colbert"
"""The key of our own values in config.json, whose other keys are those of the CLIP or SigLIP."""

_DECIDE = (".json", ".jinja", ".model", ".safetensors", ".txt")
"""What files of weights, configuration, tokenizer and image processor end with."""


class RetrieverError(TrainingError):
    """A model that cannot serve as a Video-ColBERT; one line that names the fix."""


def is_video_colbert(folder: str | Path) -> bool:
    """Whether a folder holds what ``VideoColbert.save`` writes."""
    path = Path(folder) / CONFIG
    return path.is_file() and OURS in json.loads(path.read_text("utf-8"))


def model_folder(folder: str | Path) -> Path:
    """The folder of the model itself, where a run's is given.

    Raises:
        RetrieverError: the folder holds no Video-ColBERT.
    """
    for path in (Path(folder) / "model", Path(folder)):
        if is_video_colbert(path):
            return path
    raise RetrieverError(f"{folder} holds no Video-ColBERT: give the folder of a finished `hardquery train retriever`")


def content_hash(folder: str | Path) -> str:
    """What decides a model's vectors, wherever its folder lies: the hash of its files.

    Raises:
        RetrieverError: the folder holds no Video-ColBERT.
    """
    files = [path for path in model_folder(folder).iterdir() if path.suffix in _DECIDE]
    return fingerprint({path.name: sha256_file(path) for path in files})
