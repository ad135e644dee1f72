"""What a recogniser hears in sounds that hold no speech: what the gate lets through to it, and what it then invents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from schemas.video import AsrSegment
from transforms.media.vad import speech_spans
from transforms.protocols.engine import Engine, loaded
from transforms.protocols.speech import SAMPLE_RATE_HZ, Samples, SpeechRecognizer
from transforms.speech.plausible import Dropped, SpeechRules, parted

_WINDOW = 30 * SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of one sound. ``passed_s`` seconds of its ``seconds`` pass for speech, and ``evidence`` is what of that
    a run would take for said. ``invented`` is all that the recogniser hears where no gate keeps the sound from it,
    ``dropped`` what of that the rules drop.
    """

    name: str
    seconds: float
    passed_s: float
    evidence: tuple[AsrSegment, ...]
    invented: tuple[AsrSegment, ...]
    dropped: tuple[Dropped, ...]


def hear(engine: Engine, sounds: Mapping[str, Samples], rules: SpeechRules | None) -> Iterator[Heard]:
    """What the engine makes of each sound, in order; the model is loaded into this process."""
    recognizer: SpeechRecognizer = loaded(engine)
    for name, samples in sounds.items():
        spans = list(speech_spans([samples]))
        gated = _recognized(recognizer, [span.samples for span in spans])
        windows = [samples[start : start + _WINDOW] for start in range(0, len(samples), _WINDOW)]
        ungated = _recognized(recognizer, windows)
        yield Heard(
            name=name,
            seconds=len(samples) / SAMPLE_RATE_HZ,
            passed_s=sum(len(span.samples) for span in spans) / SAMPLE_RATE_HZ,
            evidence=parted(gated, rules)[0] if rules else gated,
            invented=ungated,
            dropped=tuple(parted(ungated, rules)[1]) if rules else (),
        )


def _recognized(recognizer: SpeechRecognizer, windows: Sequence[Samples]) -> tuple[AsrSegment, ...]:
    return tuple(segment for found in recognizer.recognize(windows) for segment in found) if windows else ()


def table(found: Sequence[Heard]) -> Iterator[str]:
    """One line a sound, and below it what the engine invents, with the reason why a run would not take it."""
    yield f"{'sound':<20}  {'s':>5}  {'passes the gate':>15}  {'invented without it':>19}  {'rules drop':>10}  evidence"
    for one in found:
        counts = f"{len(one.invented):>19}  {len(one.dropped):>10}  {len(one.evidence):>8}"
        yield f"{one.name:<20.20}  {one.seconds:>5.1f}  {one.passed_s:>13.1f} s  {counts}"
        reasons = {each.segment: each.reason for each in one.dropped}
        for segment in one.invented:
            why = reasons.get(segment, "plausible: the gate alone keeps it out")
            yield f"  {segment.text!r} ({segment.confidence:.2f}): {why}"
        for segment in one.evidence:
            yield f"  {segment.text!r} ({segment.confidence:.2f}): would be EVIDENCE"
