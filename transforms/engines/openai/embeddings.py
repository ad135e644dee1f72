"""An embedder behind an OpenAI-compatible server's ``/v1/embeddings``: texts, or frames where the server reads them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from schemas.check import require
from schemas.video import EngineStamp, spread
from transforms.engines.openai.caption import jpeg_data_url
from transforms.engines.openai.chat import Client
from transforms.engines.openai.embedding_reply import EmbeddingReply, read_embedding
from transforms.engines.openai.options import ServedOptions
from transforms.protocols.embed import Embedding, Reads
from transforms.protocols.engine import EngineError
from transforms.protocols.frames import Frame
from transforms.protocols.teacher import TeacherFailed

_OF_A_QUERY = ("query_prompt",)
_OF_A_DOCUMENT = ("document_prompt", "frames", "max_side", "frames_as", "max_chars")
_TEXTS = ("A dog barks at a passing train.", "The election was won by a narrow margin.")
_PROBED_SIDE = 64  # pixels
_ALIKE = 1e-6  # of cosines: nearer to 1 than that are two things that an embedder cannot tell apart
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class OpenAiEmbeddings(ServedOptions):
    """Options of an embedder; how the server is reached as for a teacher.

    ``reads: frames`` is for servers that embed chats (vLLM): a query is a message of the user, and so are at most
    ``frames`` of the frame pack, evenly spread, scaled down to ``max_side`` pixels: as one video of JPEG files
    (``data:video/jpeg``) or, with ``frames_as: images``, as pictures. Their times are not told, nor is sound given.
    ``query_prompt`` and ``document_prompt`` are put before a text, or are the system's message of a chat.

    ``dimensions`` is asked of the server, which must obey; ``truncate_dim`` cuts vectors here. Both suit models that
    were trained for it. ``max_chars`` cuts a document's text, for servers that refuse long ones. ``encoding_format`` is
    how vectors travel.

    A server that works on several requests at once may give a vector that differs in its last digits with the company
    that it keeps; the journal keeps the first.
    """

    in_flight: int = 16
    reads: Reads = "text"
    query_prompt: str = ""
    document_prompt: str = ""
    dimensions: int | None = None
    truncate_dim: int | None = None
    max_chars: int | None = None
    frames: int = 16
    max_side: int = 512
    frames_as: Literal["video", "images"] = "video"
    encoding_format: Literal["base64", "float"] = "base64"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("dimensions", "truncate_dim", "max_chars", "frames"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name} must be at least 1", value)
        require(self.max_side >= 16, "max_side must be at least 16 pixels", self.max_side)

    def check(self) -> None:
        """Embed two short texts, and two videos of two frames where it reads frames, before any work starts.

        Raises:
            EngineError: there is no key, a server refuses it or what it is asked, or none answers; or a reply is not
                what was asked for; or two things that have nothing in common have the same vector.
        """
        url = Client(self).check()[0]
        embedder = ServedEmbedder(self, Client(replace(self, attempts=min(self.attempts, 2))))
        try:
            _require_apart(url, "text", *map(embedder.embed_query, _TEXTS))
            if self.reads == "frames":
                _require_apart(
                    url, "video", *map(embedder.embed_frames, (_plain_frames(220, 30), _plain_frames(20, 90)))
                )
        except TeacherFailed as error:
            hint = "; set encoding_format: float" if "encoding_format" in str(error) else ""
            raise EngineError(f"{url} does not embed as it is asked to: {error}{hint}") from error
        if embedder.base64_is_ignored:
            _log.warning(
                "%s writes vectors out as numbers where base64 was asked for: replies are four times as long", url
            )

    def load(self) -> ServedEmbedder:
        return ServedEmbedder(self, Client(self))

    def stamp(self) -> EngineStamp:
        """Both sides."""
        return self.stamp_as("openai", apart_from=("encoding_format",))

    def query_stamp(self) -> EngineStamp:
        """See ``EmbedEngine``."""
        return self.stamp_as("openai", apart_from=("encoding_format", *_OF_A_DOCUMENT))

    def document_stamp(self) -> EngineStamp:
        """See ``EmbedEngine``."""
        return self.stamp_as("openai", apart_from=("encoding_format", *_OF_A_QUERY))


class ServedEmbedder:
    """Asks the server; one call an item, so that no item waits for another, or fails with it."""

    def __init__(self, options: OpenAiEmbeddings, client: Client) -> None:
        self._options, self._client = options, client
        self._dims: int | None = options.dimensions
        self._learning = threading.Lock()
        self.base64_is_ignored = False

    def embed_query(self, text: str) -> Embedding:
        """One vector. Raises ``TeacherFailed`` and ``EngineError``, see ``Client.post``."""
        return self._embed(self._text(self._options.query_prompt, text))

    def embed_text(self, text: str) -> Embedding:
        """One vector; raises as for a query."""
        return self._embed(self._text(self._options.document_prompt, text[: self._options.max_chars]))

    def embed_frames(self, frames: Sequence[Frame]) -> Embedding:
        """One vector; raises as for a query."""
        options = self._options
        shown = [frames[index] for index in spread(len(frames), options.frames)]
        urls = [jpeg_data_url(frame.image, options.max_side) for frame in shown]
        if options.frames_as == "video":
            files = ",".join(url.partition(",")[2] for url in urls)
            urls = [f"data:video/jpeg;base64,{files}"]
        kind = f"{options.frames_as.removesuffix('s')}_url"
        return self._embed(_chat(options.document_prompt, [{"type": kind, kind: {"url": url}} for url in urls]))

    def _text(self, prompt: str, text: str) -> dict[str, Any]:
        if self._options.reads == "text":
            return {"input": prompt + text}
        return _chat(prompt, [{"type": "text", "text": text}])

    def _embed(self, what: Mapping[str, Any]) -> Embedding:
        options = self._options
        asked: dict[str, Any] = {"model": options.model, **what, "encoding_format": options.encoding_format}
        if options.dimensions is not None:
            asked["dimensions"] = options.dimensions
        reply = self._client.post("/embeddings", {**asked, **options.extra_body}, read_embedding, "embedding")
        self._require_dims(reply)
        self.base64_is_ignored |= options.encoding_format == "base64" and not reply.was_base64
        return Embedding.of(reply.vector[: options.truncate_dim], usage=reply.usage)

    def _require_dims(self, reply: EmbeddingReply) -> None:
        dims = len(reply.vector)
        with self._learning:
            wanted = self._dims = self._dims or dims
        if dims == wanted:
            return
        if self._options.dimensions is not None:
            raise EngineError(
                f"model {self._options.model}: vectors of {dims} dimensions where {wanted} were asked for; its server "
                f"ignores the option dimensions: set truncate_dim: {wanted} instead, if the model was trained for it"
            )
        raise EngineError(f"model {self._options.model}: a vector of {dims} dimensions after some of {wanted}")


def _chat(system: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    told = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    return {"messages": [*told, {"role": "user", "content": content}]}


def _plain_frames(*greys: int) -> list[Frame]:
    side = _PROBED_SIDE
    return [Frame(float(n), np.full((side, side, 3), grey, np.uint8)) for n, grey in enumerate(greys)]


def _require_apart(url: str, kind: str, one: Embedding, other: Embedding) -> None:
    if float((one.vectors @ other.vectors.T).max()) > 1 - _ALIKE:
        raise EngineError(f"{url} gives every {kind} the same vector: it does not read what it is sent")
