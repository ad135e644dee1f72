"""What is read of the reply to one embedding, whichever server sent it: nothing is believed but what it shows."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.check import read_json
from schemas.usage import Usage
from transforms.engines.openai.completion import NoAnswer
from transforms.engines.openai.usage import read_usage


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingReply:
    """The vector [dims], of any length, and what the server used for it; ``was_base64`` says how it was written."""

    vector: NDArray[np.float64]
    was_base64: bool
    usage: Usage | None = None


class _Item(msgspec.Struct):
    embedding: str | list[float]
    index: int = 0


class _Embeddings(msgspec.Struct):
    data: list[_Item] | None = None
    error: Any = None
    usage: Any = None


def read_embedding(body: bytes) -> EmbeddingReply:
    """The one vector of a reply to one text, or to one chat.

    Raises:
        NoAnswer: the server says that something went wrong.
        msgspec.DecodeError, UnicodeDecodeError: ``body`` holds not just one vector of numbers, or one of zeros.
    """
    try:
        said = read_json(body, _Embeddings)
    except RecursionError as error:
        raise msgspec.DecodeError("nested too deeply") from error
    if not said.data and said.error:
        raise NoAnswer(said.error)
    items = said.data or []
    if len(items) != 1:
        raise msgspec.ValidationError(f"{len(items)} vectors for one input")
    if items[0].index != 0:
        raise msgspec.ValidationError(f"the vector of input {items[0].index}, where there is only one")
    vector = _vector(items[0].embedding)
    if not np.isfinite(vector).all():
        raise msgspec.ValidationError("a vector with values that are no numbers")
    if not vector.any():
        raise msgspec.ValidationError("a vector of zeros" if len(vector) else "a vector without values")
    usage = read_usage(said.usage)
    if usage is not None and usage.output_tokens is None and usage.input_tokens is not None:
        usage = Usage(usage.input_tokens, 0, usage.cached_tokens, usage.cache_write_tokens)
    return EmbeddingReply(vector, isinstance(items[0].embedding, str), usage)


def _vector(written: str | list[float]) -> NDArray[np.float64]:
    """Little-endian float32 in base64, or numbers."""
    if isinstance(written, list):
        return np.array(written, np.float64)
    try:
        data = base64.b64decode(written, validate=True)
    except ValueError as error:  # binascii.Error is one, and what is not ASCII gives another
        raise msgspec.ValidationError(f"a vector that is no base64 ({error})") from error
    if len(data) % 4:
        raise msgspec.ValidationError(f"a vector of {len(data)} bytes, which are no float32")
    return np.frombuffer(data, "<f4").astype(np.float64)
