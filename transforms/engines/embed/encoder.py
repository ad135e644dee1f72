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
from transforms.protocols.speech import SAMPLE_RATE_HZ, Samples
from transforms.search.pooling import pooled_by_ward

_TICKS_A_SECOND = 1000  # as finely as times are told
_FULL_SCALE = 32768.0  # of 16-bit samples
_FEWEST_FRAMES = 2  # of video processors: one frame is shown twice, as they themselves fill up the last pair
_ALONE: dict[str, Any] = {
    "batch_size": 1,
    "show_progress_bar": False,
    "processing_kwargs": {"video": {"do_sample_frames": False}},
}
_CONTENT_TOKENS = ("video_token_id", "image_token_id", "audio_token_id")


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
        prompts_in_text: bool = False,
    ) -> None:
        """For the options see ``SentenceTransformers``."""
        self._model, self._prompts_in_text = model, prompts_in_text
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
        return self._pooled(self._encode(self._model.encode_document, self._shown(frames), self._document_prompt))

    def embed_frames_and_sound(self, frames: Sequence[Frame], sound: Samples) -> Embedding:
        """See ``HearingEmbedder``; the sound comes before or behind the frames, as the chat template has it."""
        heard = {"array": sound.astype(np.float32) / _FULL_SCALE, "sampling_rate": SAMPLE_RATE_HZ}
        item = {**self._shown(frames), "audio": heard}
        return self._pooled(self._encode(self._model.encode_document, item, self._document_prompt))

    def _shown(self, frames: Sequence[Frame]) -> dict[str, Any]:
        return {"video": as_video([frames[index] for index in spread(len(frames), self._frames)])}

    def _encode(self, encode: Any, item: Any, prompt: str | None) -> NDArray[np.float32]:
        """The vector of one item, [1, dims]."""
        with self._computing:
            found = encode(convert_to_numpy=True, **self._asked(item, prompt))
        return np.asarray(found[0], np.float32).reshape(1, -1)

    def _asked(self, item: Any, prompt: str | None) -> dict[str, Any]:
        """How one item is given to the library, and where its prompt goes."""
        if self._prompts_in_text and prompt is not None:
            with_prompt = prompt + item if isinstance(item, str) else {**item, **({"text": prompt} if prompt else {})}
            return {"inputs": [with_prompt], "prompt": "", **_ALONE}
        return {"inputs": [item], "prompt": prompt, **_ALONE}

    def _embedded(self, vectors: NDArray[np.float32]) -> Embedding:
        return Embedding.of(vectors[:, : self._truncate_dim])

    def _pooled(self, vectors: NDArray[np.float32]) -> Embedding:
        embedding = self._embedded(vectors)
        if self._vectors is None or len(vectors) <= self._vectors:
            return embedding
        return Embedding.of(pooled_by_ward(embedding.vectors, self._vectors))


class LateEncoder(Encoder):
    """A vector for each token of what is said, seen and heard: words, patches of frames, stretches of sound.

    What the template writes is the same in every query and document: its vectors would find each other in all of them.
    A model without a chat template masks its tokens itself.
    """

    def _encode(self, encode: Any, item: Any, prompt: str | None) -> NDArray[np.float32]:
        """The vectors of one item, [n, dims]."""
        with self._computing:
            [features] = encode(output_value=None, **self._asked(item, prompt))
            kept = features["attention_mask"].bool().cpu().numpy()
            if features.get("modality") == "message":
                tokens = features["input_ids"].cpu().numpy()
                is_text = isinstance(item, str)
                kept &= self._is_word(tokens, encode, prompt) if is_text else self._is_seen_or_heard(tokens)
            vectors: NDArray[np.float32] = features["token_embeddings"].float().cpu().numpy()[kept]
        return vectors

    def _is_seen_or_heard(self, tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
        known = [getattr(self._model.config, name, None) for name in _CONTENT_TOKENS]
        return np.isin(tokens, [token for token in known if token is not None])

    def _is_word(self, tokens: NDArray[np.int64], encode: Any, prompt: str | None) -> NDArray[np.bool_]:
        """Which tokens two other texts do not begin and end with as well."""
        before, after = _around(*(self._tokens_of(text, encode, prompt) for text in ("a", "0")))
        places = np.arange(len(tokens))
        return (places >= before) & (places < len(tokens) - after)

    def _tokens_of(self, text: str, encode: Any, prompt: str | None) -> list[int]:
        [features] = encode(output_value=None, **self._asked(text, prompt))
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
