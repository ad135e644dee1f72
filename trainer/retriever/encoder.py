"""A trained Video-ColBERT at work: the vectors of one query or one video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from schemas.video import spread
from trainer.retriever.folder import model_folder
from trainer.retriever.inputs import Preparation
from trainer.retriever.model import VideoColbert, load_video_colbert

Vectors = NDArray[np.float32]


class Encoder:
    """A model and its processor; one item a forward pass, so that none depends on those beside it."""

    def __init__(self, model: VideoColbert, preparation: Preparation, device: str | None = None) -> None:
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.to(self._device).eval()
        self._preparation = preparation
        self.frames = model.shape.frames

    def query(self, text: str) -> Vectors:
        """The vectors of a query's tokens, its padding included: [tokens, dims], of unit length."""
        with torch.inference_mode():
            found = self._model.queries(self._preparation.ids([text]).to(self._device))
        return _array(found[0])

    def video(self, frames: Sequence[NDArray[np.uint8]]) -> list[Vectors]:
        """The vectors of each level of a video, [vectors, dims] of unit length.

        ``frames`` are [height, width, 3] in RGB, in time order, at least one; of more than the model takes, those that
        are evenly spread.
        """
        chosen = [frames[i] for i in spread(len(frames), self.frames)]
        pixels = {name: value.to(self._device) for name, value in self._preparation.pixels(chosen).items()}
        counts = torch.tensor([len(chosen)], device=self._device)
        with torch.inference_mode():
            levels = self._model.videos(pixels, counts)
        return [_array(level[0][mask[0]]) for level, mask in zip(levels, self._model.masks(counts), strict=True)]


def load_encoder(folder: str | Path, device: str | None = None) -> Encoder:
    """The model of a run folder, or of an exported one.

    Raises:
        RetrieverError: there is none.
    """
    model = model_folder(folder)
    loaded = load_video_colbert(model)
    return Encoder(loaded, Preparation.of(str(model), None, loaded.shape.query_tokens), device)


def _array(vectors: torch.Tensor) -> Vectors:
    found: Vectors = vectors.float().cpu().numpy()
    return found
