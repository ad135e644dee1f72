"""How evidence is laid out in a prompt: untrusted text as inert JSON strings in a delimited block, within a budget."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import count
from typing import TypeVar

from prompts.remembered import remembered
from schemas.check import require
from schemas.configuration.section import Section
from schemas.query import EvidenceCut
from schemas.video import MODALITIES, AsrSegment, Evidence, Metadata, Modality, OcrLine
from schemas.visible import is_invisible

Part = TypeVar("Part", AsrSegment, OcrLine)

CUT = "[cut]"
_LAID_OUT = 256  # videos whose evidence is laid out once for all queries that it is judged against

# Every chat template builds its control tokens and tags from angle brackets (<|im_end|>, </think>, <start_of_turn>,
# <s>, <<SYS>>) or square ones ([INST], [gMASK], [unused7]); a tokenizer turns either into a real control token wherever
# it stands. Some tokenizers fold text to NFKC first, so what folds to one of them counts as one. Without straight
# quotes no text holds a JSON object, so none can pass for a reply; and without square brackets none can forge CUT.
_INERT = str.maketrans(
    {"<": "‹", "＜": "‹", "﹤": "‹", ">": "›", "＞": "›", "﹥": "›", '"': "”", "＂": "”"}
    | dict.fromkeys("[［﹇", "(")
    | dict.fromkeys("]］﹈", ")")
)
_SPACING = ("Cc", "Zl", "Zp")  # control characters and line separators: white space to a reader
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)]*(?=\s)|[。！？]")


class EvidenceBudgets(Section, frozen=True):
    """The most characters of each modality that a prompt shows (about four to an English token)."""

    caption: int = 2400
    asr: int = 4800
    ocr: int = 1600
    metadata: int = 1200

    def __post_init__(self) -> None:
        for modality in MODALITIES:
            require(getattr(self, modality) > 0, f"the {modality} budget must be positive", getattr(self, modality))

    def of(self, modality: Modality) -> int:
        """The budget of one modality, in characters."""
        budget: int = getattr(self, modality)
        return budget

    def share(self, percent: int) -> EvidenceBudgets:
        """So many per cent of each budget, and at least a character."""
        return EvidenceBudgets(**{modality: max(1, self.of(modality) * percent // 100) for modality in MODALITIES})

    @classmethod
    def that_cut(cls, cuts: Iterable[EvidenceCut]) -> EvidenceBudgets:
        """Budgets that cut the same evidence in the same places again, and nothing else of it."""
        return cls(**{**dict.fromkeys(MODALITIES, sys.maxsize), **{cut.modality: max(1, cut.shown) for cut in cuts}})


DEFAULT_BUDGETS = EvidenceBudgets()


def neutralise(text: str) -> str:
    """``text`` on one line, without anything that a tokenizer, a chat template, a parser or a terminal obeys.

    Joiners and variation selectors go too: a prompt reads the same without them, and text can hide in them.
    """
    return " ".join(text.translate(_NEUTRAL).split())


class _Neutral(dict[int, str]):
    """What stands in for a character, worked out when it is first met: prompts are long, and alphabets short."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if unicodedata.category(character) in _SPACING:
            character = " "
        self[code] = "" if is_invisible(character) else character.translate(_INERT)
        return self[code]


_NEUTRAL = _Neutral()


def quote(text: str) -> str:
    """Untrusted text as one inert JSON string; scripts are kept readable, not escaped."""
    return json.dumps(neutralise(text), ensure_ascii=False)


def only(evidence: Evidence, modalities: Collection[Modality]) -> Evidence:
    """The evidence with every other modality emptied and the rest neutralised, as the prompt shows it.

    Of the metadata, only the title and description are kept; line breaks stay.
    """
    return _only(evidence, frozenset(modalities))


@remembered(_LAID_OUT)
def _only(evidence: Evidence, modalities: frozenset[Modality]) -> Evidence:
    shown = evidence.metadata
    title, description = (_neutral_lines(text) for text in (shown.title, shown.description))
    asr = (_saying(*said) for said in zip(evidence.asr, _neutral_parts(evidence, "asr"), strict=True) if said[1])
    ocr = (_saying(*read) for read in zip(evidence.ocr, _neutral_parts(evidence, "ocr"), strict=True) if read[1])
    return Evidence(
        caption=_neutral_lines(evidence.caption) if "caption" in modalities else "",
        asr=tuple(asr) if "asr" in modalities else (),
        ocr=tuple(ocr) if "ocr" in modalities else (),
        metadata=Metadata(title, description) if "metadata" in modalities else Metadata(),
    )


def _saying(part: Part, text: str) -> Part:
    return part if part.text == text else replace(part, text=text)  # as nearly always


def _neutral_lines(text: str) -> str:
    return "\n".join(filter(None, map(neutralise, text.splitlines())))


def render_evidence(
    evidence: Evidence,
    modalities: Collection[Modality],
    video_id: str,
    budgets: EvidenceBudgets = DEFAULT_BUDGETS,
    beside: str = "",
) -> str:
    """The evidence block of a prompt: one line of JSON a modality, in the order of MODALITIES, absent ones left out.

    The delimiters carry a code that occurs neither in the evidence nor in ``beside``, the prompt's other untrusted
    text. It follows from the video's id and the lines, so that text cannot foresee it, and prompts that show the same
    of a video share their prefix, which a server's prefix cache then serves. Speech and on-screen text keep their time
    order. What exceeds its budget is cut at the end of a segment, else of a sentence, else of a word, and marked
    ``[cut]``.
    """
    shown, code = _laid_out(evidence, frozenset(modalities), video_id, budgets)
    if code in beside.casefold():
        code = _code(video_id, shown, beside)
    return "\n".join(filter(None, (f"BEGIN EVIDENCE {code}", shown, f"END EVIDENCE {code}")))


@remembered(_LAID_OUT)
def _laid_out(
    evidence: Evidence, modalities: frozenset[Modality], video_id: str, budgets: EvidenceBudgets
) -> tuple[str, str]:
    """The lines of the block, and the code that delimits them unless it occurs beside them."""
    lines = []
    for modality in MODALITIES:
        if modality in modalities and (shown := _cut(_neutral_parts(evidence, modality), budgets.of(modality))):
            lines.append(f"{modality}: {json.dumps(shown, ensure_ascii=False)}")
    text = "\n".join(lines)
    return text, _code(video_id, text)


def _code(video_id: str, shown: str, beside: str = "") -> str:
    """Twelve hex digits from ``video_id`` and ``shown`` that occur in neither ``shown`` nor ``beside``."""
    data = f"{shown}\n{beside}".casefold()
    subject = f"evidence of {video_id}"
    codes = (hashlib.sha256(f"{subject}\n{attempt}\n{shown}".encode()).hexdigest()[:12] for attempt in count())
    return next(code for code in codes if code not in data)


def cut_to_budget(parts: Iterable[str], budget: int) -> list[str]:
    """Neutralised parts (segments, lines, paragraphs) up to ``budget`` characters, ``[cut]`` where any is left out."""
    return _cut(map(neutralise, parts), budget)


def _cut(parts: Iterable[str], budget: int) -> list[str]:
    whole, start = _within(parts, budget)
    return whole if start is None else [*whole, f"{start} {CUT}".strip()]


def evidence_cut(
    evidence: Evidence, modalities: Collection[Modality], budgets: EvidenceBudgets = DEFAULT_BUDGETS
) -> tuple[EvidenceCut, ...]:
    """What ``render_evidence`` leaves out of these modalities under these budgets, in neutralised characters."""
    return _cut_from(evidence, frozenset(modalities), budgets)


@remembered(_LAID_OUT)
def _cut_from(evidence: Evidence, modalities: frozenset[Modality], budgets: EvidenceBudgets) -> tuple[EvidenceCut, ...]:
    cuts = []
    for modality in MODALITIES:
        parts = _neutral_parts(evidence, modality) if modality in modalities else []
        whole, start = _within(parts, budgets.of(modality))
        if start is not None:
            shown = sum(map(len, whole)) + len(start)
            cuts.append(EvidenceCut(modality, shown, sum(map(len, parts))))
    return tuple(cuts)


def tighten(evidence: Evidence, budgets: EvidenceBudgets) -> EvidenceBudgets:
    """The same budgets where the evidence fills them, else its length, so that any share of them is a cut."""
    held = {modality: sum(map(len, _neutral_parts(evidence, modality))) for modality in MODALITIES}
    return EvidenceBudgets(**{modality: max(1, min(budgets.of(modality), held[modality])) for modality in MODALITIES})


def _within(parts: Iterable[str], budget: int) -> tuple[list[str], str | None]:
    """The parts, neutralised before, that fit, and what fits of the first that does not; None where all do."""
    shown: list[str] = []
    left = budget
    for part in filter(None, parts):
        if len(part) > left:
            return shown, _cut_sentences(part, left) or ("" if shown else _cut_words(part, left))
        shown.append(part)
        left -= len(part)
    return shown, None


@remembered(len(MODALITIES) * _LAID_OUT)
def _neutral_parts(evidence: Evidence, modality: Modality) -> list[str]:
    """Each part neutralised, though it be empty then: what is shown, cut and kept of evidence all begins with them."""
    return [neutralise(part) for part in _parts(evidence, modality)]


def _parts(evidence: Evidence, modality: Modality) -> list[str]:
    match modality:
        case "asr":
            return [segment.text for segment in evidence.asr]
        case "ocr":
            return [line.text for line in evidence.ocr]
        case "metadata":
            named = (("title", evidence.metadata.title), ("description", evidence.metadata.description))
            return [f"{name}: {value}" for name, value in named if value.strip()]
        case "caption":
            return [evidence.caption]


def _cut_sentences(text: str, budget: int) -> str:
    ends = [end.end() for end in _SENTENCE_END.finditer(text) if end.end() <= budget]
    return text[: ends[-1]] if ends else ""


def _cut_words(text: str, budget: int) -> str:
    # Scripts without spaces are cut between characters.
    whole, space, _ = text[: budget + 1].rpartition(" ")
    return whole if space else text[:budget]
