"""What the towers are given: token ids of queries with their padding, and the pixels of frames."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer

from trainer.data.clips import Clips, FrameBudget
from trainer.data.shards import Shards
from trainer.model.hub import require_in_reach
from trainer.retriever.folder import RetrieverError


@dataclass(frozen=True)
class Preparation:
    """Tokenizer and image processor of a CLIP or SigLIP; a query is cut or padded to ``query_tokens``."""

    tokenizer: Any
    images: Any
    query_tokens: int

    @staticmethod
    def of(model: str, revision: str | None, query_tokens: int) -> Preparation:
        """Those of a model's folder, or of a name on the Hub at a revision.

        Raises:
            RetrieverError: they cannot be loaded, or the tokenizer does not pad.
        """
        require_in_reach(model, revision)
        try:
            tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
            images = AutoImageProcessor.from_pretrained(model, revision=revision)
        except (OSError, ValueError) as error:
            raise RetrieverError(f"processor of {model!r} cannot be loaded: {' '.join(str(error).split())}") from error
        if tokenizer.pad_token is None:
            raise RetrieverError(f"the tokenizer of {model!r} has no padding token, which expands queries")
        return Preparation(tokenizer, images, query_tokens)

    def ids(self, queries: Sequence[str]) -> Tensor:
        """Token ids [queries, query_tokens]."""
        found = self.tokenizer(
            list(queries), padding="max_length", truncation=True, max_length=self.query_tokens, return_tensors="pt"
        )
        ids: Tensor = found["input_ids"]
        return ids

    def pixels(self, frames: Sequence[NDArray[np.uint8]]) -> dict[str, Tensor]:
        """The inputs of the image tower for frames [height, width, 3] in RGB, one row a frame."""
        return dict(self.images(images=list(frames), return_tensors="pt", input_data_format="channels_last"))


def clips_of(shards: Shards, frames: int) -> Clips:
    """An output's videos, of each at most ``frames`` frames, as they are stored: they get their size in ``pixels``."""
    return Clips(shards, FrameBudget(frames, sys.maxsize))
