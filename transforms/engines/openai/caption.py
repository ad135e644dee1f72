"""A captioner behind an OpenAI-compatible server with a vision-language model: frames go as JPEG data URLs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from prompts.reply import excerpt, split_thinking
from prompts.template import load_template
from schemas.check import require
from schemas.fingerprint import fingerprint
from schemas.video import EngineStamp
from transforms.engines.openai.chat import ChatClient
from transforms.engines.openai.options import ChatOptions
from transforms.engines.openai.probing.probe import probe_captioner
from transforms.protocols.caption import Caption
from transforms.protocols.frames import Frame, Image
from transforms.protocols.teacher import TeacherFailed

_JPEG_QUALITY = 90


@dataclass(frozen=True, kw_only=True)
class OpenAiCaption(ChatOptions):
    """Frames are scaled down to ``max_side`` pixels on their longer side: pictures are most of what a caption costs.

    Fewer calls are ``in_flight`` than of a teacher, because each holds the frames of its video in memory.
    """

    in_flight: int = 16
    max_side: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.max_side >= 16, "max_side must be at least 16 pixels", self.max_side)

    def check(self) -> None:
        """Ask a question of one token, so that a wrong address, key or option shows before any work starts.

        Raises:
            EngineError: there is no key, a server refuses it or the question, or none answers.
        """
        probe_captioner(self)

    def load(self) -> ServedCaptioner:
        return ServedCaptioner(self, ChatClient(self))

    def stamp(self) -> EngineStamp:
        """The captioner has its prompt to itself, so the prompt's version is part of its stamp."""
        stamp = self.stamp_as("openai")
        version = load_template("caption").version
        return EngineStamp(stamp.name, stamp.version, stamp.model, fingerprint([stamp.fingerprint, version]))


class ServedCaptioner:
    """Asks the server; one call a video."""

    def __init__(self, options: OpenAiCaption, client: ChatClient) -> None:
        self._options = options
        self._client = client

    def caption(self, frames: Sequence[Frame]) -> Caption:
        """The caption of the video that ``frames`` (time order, at least one) were sampled from; empty if the reply is.

        Raises:
            TeacherFailed: there is no reply, or it was refused or cut off.
            EngineError: the server answers no request (see ``ChatClient.complete``).
        """
        prompt = load_template("caption").render(count=str(len(frames)))
        pictures: list[dict[str, object]] = [
            {"type": "image_url", "image_url": {"url": jpeg_data_url(frame.image, self._options.max_side)}}
            for frame in frames
        ]
        messages: list[dict[str, object]] = [
            {"role": "system", "content": prompt.system},
            {"role": "user", "content": [*pictures, {"type": "text", "text": prompt.user}]},
        ]
        reply = self._client.complete(messages, seed=0)
        if reply.refused:
            refusal = excerpt(reply.text) or "no text"
            raise TeacherFailed(
                f"the model refused to describe the video: {refusal}", permanent=True, usage=reply.usage
            )
        if reply.truncated:
            raise TeacherFailed(
                "the caption was cut off at the token limit; raise the option max_tokens",
                permanent=True,
                usage=reply.usage,
            )
        text = split_thinking(reply.text)[1].strip() if reply.text.strip() else ""
        return Caption(text, reply.usage)


def jpeg_data_url(image: Image, max_side: int) -> str:
    """``data:image/jpeg;base64,…`` of an RGB image [height, width, 3], never enlarged."""
    from PIL import Image as PilImage

    picture = PilImage.fromarray(image)
    picture.thumbnail((max_side, max_side), PilImage.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
