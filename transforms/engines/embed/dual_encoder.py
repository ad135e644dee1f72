"""An embedder of CLIP's kind in this process: a text, and the mean of the frames of a video, in one space."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from schemas.check import require, require_text
from schemas.fingerprint import fingerprint
from schemas.video import EngineStamp, spread
from transforms.engines.local.model_folder import model_id, require_model
from transforms.protocols.embed import Embedding
from transforms.protocols.engine import EngineError, version_of
from transforms.protocols.frames import Frame

_NAME = "dual_encoder"
_KNOWN = ("clip", "siglip", "siglip2")


@dataclass(frozen=True, kw_only=True)
class DualEncoder:
    """CLIP, SigLIP or SigLIP 2 of transformers: at most ``frames`` of the frame pack, evenly spread, seen one by one.

    A video's vector is the mean of the unit vectors of its frames (mean pooling of CLIP4Clip, Luo et al. 2021, arXiv
    2104.08860): neither their order nor their times count. ``model`` and ``revision`` are as in
    ``SentenceTransformers``.
    """

    requires: ClassVar[tuple[str, ...]] = ("torch", "transformers", "torchvision")
    extra: ClassVar[str] = "embed"
    reads: ClassVar[Literal["frames"]] = "frames"

    model: str
    revision: str = "main"
    query_prompt: str = ""
    frames: int = 32
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    licence: str = ""

    def __post_init__(self) -> None:
        require_text("model", self.model)
        known = re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device) is not None
        require(known, "device must be auto, cpu, cuda, cuda:N or mps", self.device)
        require(self.frames >= 1, "frames must be at least 1", self.frames)

    def check(self) -> None:
        """Make sure that the model lies on this machine. Raises ``EngineError`` where it does not."""
        require_model(_NAME, self.model, self.revision)

    def load(self) -> DualEncoderEmbedder:
        """The model on its device. Raises ``EngineError`` where it cannot be loaded, or is none of these."""
        import torch
        from transformers import AutoModel, AutoProcessor
        from transformers.utils import logging

        logging.disable_progress_bar()
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        folder = str(require_model(_NAME, self.model, self.revision))
        try:
            processor = AutoProcessor.from_pretrained(folder)
            model = AutoModel.from_pretrained(folder, dtype=self.dtype).to(device).eval()
        except Exception as error:  # whatever a checkpoint's files make the library raise
            reason = str(error).strip().partition("\n")[0]
            raise EngineError(f"engine {_NAME!r}: model {self.model!r} cannot be loaded: {reason}") from error
        if model.config.model_type not in _KNOWN:
            raise EngineError(
                f"engine {_NAME!r}: {self.model!r} is a {model.config.model_type}; it takes {', '.join(_KNOWN)}"
            )
        return DualEncoderEmbedder(model, processor, self.query_prompt, self.frames)

    def stamp(self) -> EngineStamp:
        """Both sides."""
        return self._stamp(self.query_prompt, self.frames)

    def query_stamp(self) -> EngineStamp:
        """See ``EmbedEngine``."""
        return self._stamp("query", self.query_prompt)

    def document_stamp(self) -> EngineStamp:
        """See ``EmbedEngine``."""
        return self._stamp("document", self.frames)

    def _stamp(self, *options: object) -> EngineStamp:
        release, model = version_of("transformers"), model_id(self.model, self.revision)
        return EngineStamp(_NAME, release, model, fingerprint([_NAME, release, model, self.dtype, *options]))


class DualEncoderEmbedder:
    """A model and its processor; one item at a time."""

    def __init__(self, model: Any, processor: Any, query_prompt: str, frames: int) -> None:
        self._model, self._processor = model, processor
        self._query_prompt, self._frames = query_prompt, frames
        self._computing = threading.Lock()

    def embed_query(self, text: str) -> Embedding:
        """One vector; of a text above the model's length, its start."""
        import torch

        asked = self._query_prompt + text
        options: dict[str, Any] = {"truncation": True, "return_tensors": "pt"}
        if self._model.config.model_type != "clip":
            # SigLIP was trained on texts in lower case that fill up its whole length, without a mask.
            asked = asked.lower()
            options.update(padding="max_length", max_length=self._model.config.text_config.max_position_embeddings)
        with self._computing, torch.inference_mode():
            tokens = self._processor.tokenizer([asked], **options).to(self._model.device)
            names = ("input_ids", "attention_mask") if self._model.config.model_type == "clip" else ("input_ids",)
            found = self._model.get_text_features(**{name: tokens[name] for name in names})
        return Embedding.of(_vectors(found))

    def embed_text(self, text: str) -> Embedding:
        """It reads frames. Raises ``TypeError``."""
        raise TypeError(f"{_NAME} reads the frames of a video, and no text of it")

    def embed_frames(self, frames: Sequence[Frame]) -> Embedding:
        """One vector; each frame counts the same."""
        import torch

        images = [frames[index].image for index in spread(len(frames), self._frames)]
        with self._computing, torch.inference_mode():
            seen = self._processor.image_processor(images=images, return_tensors="pt").to(self._model.device)
            seen["pixel_values"] = seen["pixel_values"].to(self._model.dtype)
            found = self._model.get_image_features(**seen)
        return Embedding.of(Embedding.of(_vectors(found)).vectors.astype(np.float64).mean(axis=0))


def _vectors(found: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The vectors that transformers 5 gives as the ``pooler_output`` of an object, [n, dims]."""
    vectors: np.ndarray[Any, np.dtype[np.float64]] = found.pooler_output.double().cpu().numpy()
    return vectors
