"""A video and what is known of it: where it lies, its media facts, its evidence, and which of its frames are taken."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from schemas.check import pickled_by_fields, require, require_fraction, require_span, require_text
from schemas.visible import is_blank

Modality = Literal["caption", "asr", "ocr", "metadata"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Metadata:
    """What the publisher said of a video; absent fields are empty. ``event`` groups videos of one happening."""

    title: str = ""
    description: str = ""
    language: str = ""
    published: str = ""
    event: str = ""

    @property
    def text(self) -> str:
        """Title and description, one a line: the part a reader would call text."""
        return "\n".join(part for part in (self.title, self.description) if part)


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class EvidenceWarning:
    """Why one part of the evidence ("decode" or a modality) is partial; ``reason`` is one to three words, counted."""

    part: str
    reason: str
    message: str

    def __post_init__(self) -> None:
        require_text("reason", self.reason)
        require(len(self.reason.split()) <= 3, "a reason is one to three words", self.reason)


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One video of the input before anything is read: its address and what the manifest or side-car says of it.

    ``video_id`` is None where the manifest gives none; the id is then made from the file's bytes. ``warnings`` (such
    as an unreadable side-car) are handed on to the Video.
    """

    uri: str
    video_id: str | None = None
    metadata: Metadata = field(default_factory=Metadata)
    warnings: tuple[EvidenceWarning, ...] = ()

    def __post_init__(self) -> None:
        require_text("uri", self.uri)
        require(
            self.video_id is None or (bool(self.video_id) and not any(map(is_blank, self.video_id))),
            "video_id must hold no white space, because TREC files are split there, and no invisible character",
            self.video_id,
        )


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class EngineStamp:
    """Which engine produced a value: name, package version, model (name or checkpoint hash), options' fingerprint."""

    name: str
    version: str
    model: str
    fingerprint: str

    def __post_init__(self) -> None:
        require_text("engine name", self.name)


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class EngineUse:
    """An engine stamp and the part of the evidence it made ("decode" or a modality)."""

    part: str
    engine: EngineStamp


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class MediaFacts:
    """What the container and streams of a file say, after decoding; None where the stream is absent or silent on it.

    ``duration_s`` is seconds; ``width`` and ``height`` are pixels as shown (after rotation).
    """

    sha256: str
    size_bytes: int
    container: str = ""
    duration_s: float | None = None
    video_codec: str | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    audio_codec: str | None = None
    audio_s: float | None = None

    def __post_init__(self) -> None:
        require(len(self.sha256) == 64, "sha256 must have 64 hex digits", self.sha256)
        require(self.size_bytes >= 0, "size_bytes must not be negative", self.size_bytes)
        for name in ("duration_s", "fps", "audio_s"):
            value = getattr(self, name)
            require(value is None or (math.isfinite(value) and value >= 0), f"{name} must be finite and >= 0", value)


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class AsrSegment:
    """A stretch of recognised speech; times in seconds from the first video frame, confidence in [0, 1]."""

    start_s: float
    end_s: float
    text: str
    confidence: float

    def __post_init__(self) -> None:
        require_span(self.start_s, self.end_s)
        require_text("speech segment", self.text)
        require_fraction("confidence", self.confidence)


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in fractions of the frame's width and height, origin at the top left."""

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        for name in ("left", "top", "right", "bottom"):
            require_fraction(f"box {name}", getattr(self, name))
        require(self.left <= self.right and self.top <= self.bottom, "a box needs left <= right, top <= bottom", self)


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class OcrLine:
    """One line of on-screen text, merged over the frames that show it.

    ``time_s`` is when it is first seen, ``last_s`` when last; ``box`` and ``confidence`` are those of the best reading.
    """

    time_s: float
    last_s: float
    text: str
    box: Box
    confidence: float

    def __post_init__(self) -> None:
        require_span(self.time_s, self.last_s)
        require_text("on-screen line", self.text)
        require_fraction("confidence", self.confidence)


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the text side knows of one video, by modality."""

    caption: str = ""
    asr: tuple[AsrSegment, ...] = ()
    ocr: tuple[OcrLine, ...] = ()
    metadata: Metadata = field(default_factory=Metadata)

    def text(self, modality: Modality) -> str:
        """The evidence of one modality as plain text; segments and lines are joined by newlines, in time order."""
        match modality:
            case "caption":
                return self.caption
            case "asr":
                return "\n".join(segment.text for segment in self.asr)
            case "ocr":
                return "\n".join(line.text for line in self.ocr)
            case "metadata":
                return self.metadata.text

    @property
    def present(self) -> tuple[Modality, ...]:
        """The modalities that have any text, in the fixed order of MODALITIES."""
        return tuple(modality for modality in MODALITIES if self.text(modality).strip())


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Video:
    """A video on its way through extraction; every step returns a copy with its part filled in.

    ``frame_pack`` and ``audio`` are keys in the cache (never paths, pixels or samples); None where there is no such
    stream. ``warnings`` say which evidence is partial and why. ``deferred`` is why some evidence is left for a later
    run; such a video leaves the flow at the end of extraction.
    """

    video_id: str
    uri: str
    media: MediaFacts
    evidence: Evidence
    frame_pack: str | None = None
    frame_count: int = 0
    audio: str | None = None
    engines: tuple[EngineUse, ...] = ()
    warnings: tuple[EvidenceWarning, ...] = ()
    deferred: str = ""

    def __post_init__(self) -> None:
        require_text("video_id", self.video_id)
        require((self.frame_pack is not None) == (self.frame_count > 0), "a frame pack needs frames", self.frame_count)

    @property
    def split_key(self) -> str:
        """What decides the split: the event where one is given, else the video itself."""
        event = self.evidence.metadata.event
        return f"event:{event}" if event else f"video:{self.video_id}"

    def with_part(self, part: str, engine: EngineStamp, evidence: Evidence) -> Video:
        """A copy with new evidence and the stamp of the engine that made it."""
        return replace(self, evidence=evidence, engines=(*self.engines, EngineUse(part, engine)))

    def warned(self, part: str, reason: str, message: str) -> Video:
        """A copy that carries one more warning."""
        return replace(self, warnings=(*self.warnings, EvidenceWarning(part, reason, message)))


def spread(count: int, wanted: int) -> list[int]:
    """Indices of at most ``wanted`` of ``count`` items, evenly spread over the whole, in order."""
    kept = min(count, wanted)
    return [(2 * i + 1) * count // (2 * kept) for i in range(kept)]


def grid_size(width: int, height: int, max_pixels: int, multiple: int) -> tuple[int, int]:
    """The size in pixels, on the grid, that is nearest in shape to (width, height); frames are never enlarged much.

    Each side is a multiple of ``multiple``, at least once; the area is at most ``max_pixels`` where one square of the
    grid is.
    """
    scale = min(1.0, math.sqrt(max_pixels / (width * height)))
    columns = max(1, round(width * scale / multiple))
    rows = max(1, round(height * scale / multiple))
    while columns * rows * multiple**2 > max_pixels and max(columns, rows) > 1:
        # Rounding up overshot the budget: give up one square on the side that loses less shape.
        if columns >= rows:
            columns -= 1
        else:
            rows -= 1
    return columns * multiple, rows * multiple
