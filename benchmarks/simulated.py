"""A corpus of any size that costs nothing: made-up files, and engines that return made-up frames, text and verdicts.

What each says follows from the file's name or from the text it is given, so that every run is told the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import random
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import ClassVar

import numpy as np

from schemas.token import Token
from schemas.video import EngineStamp
from transforms.engines.registry import ENGINES
from transforms.protocols.caption import Caption
from transforms.protocols.engine import stamp_of
from transforms.protocols.frames import Frame, FramePolicy, SampledFrames
from transforms.protocols.teacher import Ladder, Teacher, TeacherEngine, TeacherReply, TeacherRequest

QUERIES, JUDGED = 5, 10
"""Queries a video, and pairs judged a query."""

SETTINGS = (
    "extract.decode={engine: simulated}",
    "extract.asr=null",
    "extract.ocr=null",
    "extract.caption={engine: simulated}",
    "synthesize.teacher={engine: simulated}",
    "synthesize.variants=[caption]",
    f"synthesize.queries_per_variant={QUERIES}",
    "synthesize.filters={min_language_probability: 0.0, max_overlap: 1.0}",  # the words are of no language
    "mine.first_stage={engine: bm25}",
    "mine.retrievable_at=100",
    f"mine.candidates={JUDGED - 1}",
    "judge.teacher={engine: simulated}",
    "judge.modalities=[caption]",
)
"""What makes the recipe ``demo`` one of these engines."""

_WORDS = 40_000
_A_CAPTION, _A_DESCRIPTION, _A_QUERY = 120, 120, 8


def register() -> None:
    """Have recipes know the engines by the name ``simulated``, in this process."""
    sys.modules["transforms.engines.simulated"] = sys.modules[__name__]
    for modality, kind in (("decode", Decoder), ("caption", Describer), ("teacher", Oracle)):
        ENGINES[modality]["simulated"] = f"simulated:{kind.__name__}"


def make_corpus(folder: Path, videos: int) -> Path:
    """Put so many files, each its own bytes, and a manifest of them into the folder; returns the manifest."""
    files, manifest = folder / "videos", folder / "manifest.jsonl"
    files.mkdir(parents=True)
    clip = _clip()
    with manifest.open("w") as lines:
        for number in range(videos):
            path = files / f"{number:07d}.mp4"
            named = path.name.encode()
            path.write_bytes(clip + struct.pack(">I4s", 8 + len(named), b"free") + named)
            draw = random.Random(f"about {number}")
            about = {"video_id": path.stem, "uri": f"videos/{path.name}"}
            about |= {"title": " ".join(_said(draw, 6)), "description": " ".join(_said(draw, _A_DESCRIPTION))}
            lines.write(json.dumps(about) + "\n")
    return manifest


def _clip() -> bytes:
    """A video of two black frames, with headers that a plan can read."""
    import av

    made = io.BytesIO()
    with av.open(made, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width = stream.height = 32
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        container.mux(stream.encode())
    return made.getvalue()


@cache
def _vocabulary() -> tuple[str, ...]:
    syllables = [a + b for a, b in product("bdfgklmnprstvz", "aeiou")]
    draw = random.Random("words")
    words = {"".join(draw.choices(syllables, k=draw.randint(2, 4))) for _ in range(2 * _WORDS)}
    return tuple(sorted(words)[:_WORDS])


def _said(draw: random.Random, count: int) -> list[str]:
    """Words of which few are common and most are rare, as they are in any language."""
    words = _vocabulary()
    return [words[int(len(words) * draw.random() ** 4)] for _ in range(count)]


@dataclass(frozen=True)
class Decoder:
    """Two small frames a file, of noise."""

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def load(self) -> Decoder:
        """It is its own model."""
        return self

    def stamp(self) -> EngineStamp:
        """Of this project."""
        return stamp_of(self, "simulated", "")

    def sample(self, path: str, policy: FramePolicy) -> SampledFrames:
        """Other files have other frames."""
        noise = np.random.default_rng(int(Path(path).stem))
        images = noise.integers(0, 256, (2, 28, 28, 3), np.uint8)
        frames = tuple(Frame(float(second), image) for second, image in enumerate(images))
        return SampledFrames(frames, "mp4", "simulated", 28, 28, 1.0, 2.0)


@dataclass(frozen=True)
class Describer:
    """A caption of made-up words, from the first frame's pixels."""

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def load(self) -> Describer:
        """It is its own model."""
        return self

    def stamp(self) -> EngineStamp:
        """Of this project."""
        return stamp_of(self, "simulated", "")

    def caption(self, frames: Sequence[Frame]) -> Caption:
        """Other frames have other words."""
        draw = random.Random(hashlib.sha256(frames[0].image.tobytes()).digest())
        return Caption(" ".join(_said(draw, _A_CAPTION)))


@dataclass(frozen=True)
class Oracle(TeacherEngine, Teacher):
    """A teacher that asks for words of the caption, and says yes where a caption holds them all."""

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    ladder: ClassVar[Ladder] = Ladder(("logprobs",))

    def load(self) -> Oracle:
        """It is its own model."""
        return self

    def stamp(self) -> EngineStamp:
        """Of this project."""
        return stamp_of(self, "simulated", "")

    def reply(self, request: TeacherRequest) -> TeacherReply:
        """Never fails."""
        words = request.evidence.text("caption").split()
        return _judged(request, words) if request.task == "judge" else _written(request, words)


def _written(request: TeacherRequest, words: Sequence[str]) -> TeacherReply:
    draw = random.Random(request.seed)
    queries = []
    for _ in range(request.count):
        asked = draw.sample(sorted(set(words)), _A_QUERY)
        rationale = f"What is asked for needs {asked[0]} and {asked[1]} to come together, as nowhere else."
        about = {"evidence": [asked[0]], "rationale": rationale, "query": " ".join(asked)}
        queries.append({**about, "query_type": "visual", "modalities": ["caption"]})
    return TeacherReply(json.dumps({"queries": queries}))


def _judged(request: TeacherRequest, words: Sequence[str]) -> TeacherReply:
    held = set(words)
    found = [word for word in request.query.split() if word in held]
    is_answer = len(found) == len(request.query.split())
    delta = 9.0 if is_answer else -4.0 - 10.0 * random.Random(request.seed).random()
    answer, other = (b"yes", b"no") if is_answer else (b"no", b"yes")
    likely, unlikely = -math.log1p(math.exp(-abs(delta))), -math.log1p(math.exp(abs(delta)))
    start, end = f"<think>Of what is asked for, the caption tells {', '.join(found)}.</think><answer>", "</answer>"
    decision = Token(answer, likely, ((answer, likely), (other, unlikely)))
    tokens = (Token(start.encode(), 0.0), decision, Token(end.encode(), 0.0))
    return TeacherReply(f"{start}{answer.decode()}{end}", tokens)
