"""A loaded encoder of sentence-transformers: one vector an item, or one for each token of what the item says."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.video import spread
from transforms.protocols.embed import Embedding
from transforms.protocols.frames import Frame
from transforms.search.pooling import pooled_by_ward

_TICKS_A_SECOND = 1000  # as finely as times are told
_FEWEST_FRAMES = 2  # of video processors: one frame is shown twice, as they themselves fill up the last pair
_ALONE: dict[str, Any] = {
    "batch_size": 1,
    "show_progress_bar": False,
    "processing_kwargs": {"video": {"do_sample_frames": False}},
}
_VISUAL_TOKENS = ("video_token_id", "image_token_id")


class Encoder:
    """Embeds one item a forward pass, for the company that it keeps would change its vector; one at a time."""

    def __init__(
        self,
        model: Any,
        query_prompt: str | None,
        document_prompt: str | None,
        frames: int,
        truncate_dim: int | None,
        vectors: int | None,
    ) -> None:
        """For the options see ``SentenceTransformers``."""
        self._model = model
        self._query_prompt, self._document_prompt = query_prompt, document_prompt
        self._frames, self._truncate_dim, self._vectors = frames, truncate_dim, vectors
        self._computing = threading.Lock()

    def embed_query(self, text: str) -> Embedding:
        """See ``Embedder``."""
        return self._embedded(self._encode(self._model.encode_query, text, self._query_prompt))

    def embed_text(self, text: str) -> Embedding:
        """See ``Embedder``."""
        return self._pooled(self._encode(self._model.encode_document, text, self._document_prompt))

    def embed_frames(self, frames: Sequence[Frame]) -> Embedding:
        """See ``Embedder``; where the model has no place for a video, it fails."""
        shown = {"video": as_video([frames[index] for index in spread(len(frames), self._frames)])}
        return self._pooled(self._encode(self._model.encode_document, shown, self._document_prompt))

    def _encode(self, encode: Any, item: Any, prompt: str | None) -> NDArray[np.float32]:
        """The vector of one item, [1, dims]."""
        with self._computing:
            found = encode([item], prompt=prompt, convert_to_numpy=True, **_ALONE)
        return np.asarray(found[0], np.float32).reshape(1, -1)

    def _embedded(self, vectors: NDArray[np.float32]) -> Embedding:
        return Embedding.of(vectors[:, : self._truncate_dim])

    def _pooled(self, vectors: NDArray[np.float32]) -> Embedding:
        embedding = self._embedded(vectors)
        if self._vectors is None or len(vectors) <= self._vectors:
            return embedding
        return Embedding.of(pooled_by_ward(embedding.vectors, self._vectors))


class LateEncoder(Encoder):
    """A vector for each token: of a text between what the chat template puts around it, of frames for each patch.

    What the template writes is the same in every query and document: its vectors would find each other in all of them.
    A model without a chat template masks its tokens itself.
    """

    def _encode(self, encode: Any, item: Any, prompt: str | None) -> NDArray[np.float32]:
        """The vectors of one item, [n, dims]."""
        with self._computing:
            [features] = encode([item], prompt=prompt, output_value=None, **_ALONE)
            kept = features["attention_mask"].bool().cpu().numpy()
            if features.get("modality") == "message":
                tokens = features["input_ids"].cpu().numpy()
                is_content = self._is_patch(tokens) if isinstance(item, dict) else self._is_word(tokens, encode, prompt)
                kept &= is_content
            vectors: NDArray[np.float32] = features["token_embeddings"].float().cpu().numpy()[kept]
        return vectors

    def _is_patch(self, tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
        known = [getattr(self._model.config, name, None) for name in _VISUAL_TOKENS]
        return np.isin(tokens, [token for token in known if token is not None])

    def _is_word(self, tokens: NDArray[np.int64], encode: Any, prompt: str | None) -> NDArray[np.bool_]:
        """Which tokens two other texts do not begin and end with as well."""
        before, after = _around(*(self._tokens_of(text, encode, prompt) for text in ("a", "0")))
        places = np.arange(len(tokens))
        return (places >= before) & (places < len(tokens) - after)

    def _tokens_of(self, text: str, encode: Any, prompt: str | None) -> list[int]:
        [features] = encode([text], prompt=prompt, output_value=None, **_ALONE)
        tokens: list[int] = features["input_ids"].tolist()
        return tokens


def as_video(frames: Sequence[Frame]) -> dict[str, Any]:
    """Frames as sentence-transformers takes a video: pixels [n, height, width, 3], and at which times they were taken.

    Times are words of the prompt of many models, which take frames without any to be evenly spaced.
    """
    shown = [*frames, *[frames[-1]] * (_FEWEST_FRAMES - len(frames))]
    ticks = [round(frame.time_s * _TICKS_A_SECOND) for frame in shown]
    told = {"fps": float(_TICKS_A_SECOND), "total_num_frames": ticks[-1] + 1, "frames_indices": ticks}
    return {"array": np.stack([frame.image for frame in shown]), "video_metadata": told}


def _around(one: Sequence[int], other: Sequence[int]) -> tuple[int, int]:
    """How many tokens two texts have in common at their beginning, and at their end."""
    shorter = min(len(one), len(other))
    before = next((n for n in range(shorter) if one[n] != other[n]), shorter)
    after = next((n for n in range(shorter - before) if one[-1 - n] != other[-1 - n]), shorter - before)
    return before, after
