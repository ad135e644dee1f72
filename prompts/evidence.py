"""How evidence is laid out in a prompt: untrusted text as inert JSON strings in a delimited block, within a budget."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from schemas.check import require
from schemas.video import MODALITIES, Evidence, Metadata, Modality

CUT = "[cut]"

# Every chat template builds its control tokens and tags from angle brackets (<|im_end|>, </think>, <start_of_turn>,
# <s>, <<SYS>>) or from capitals in square brackets ([INST]); a tokenizer turns either into a real control token
# wherever it stands. Some tokenizers fold text to NFKC first, so what folds to brackets or capitals counts as such.
_BRACKETS = str.maketrans(dict.fromkeys("<＜﹤", "‹") | dict.fromkeys(">＞﹥", "›"))
_IN_SQUARES = re.compile(r"[\[［﹇]([^\[\]［］﹇﹈\s]+)[\]］﹈]")
_TAG = re.compile(r"/?[A-Z_]{2,}")
_SPACING = ("Cc", "Zl", "Zp")  # control characters and line separators: white space to a reader
_INVISIBLE = (
    "Cf",
    "Co",
    "Cs",
)  # zero-width, bidi and tag characters, private use, lone surrogates
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)]*(?=\s)|[。！？]")


@dataclass(frozen=True, slots=True)
class EvidenceBudgets:
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


DEFAULT_BUDGETS = EvidenceBudgets()


def neutralise(text: str) -> str:
    """``text`` on one line, without anything that a tokenizer, a chat template or a terminal could take for control.

    Invisible characters go first, or ``<|im_`` + zero-width space + ``end|>`` would become a tag by losing one.
    """
    kinds = ((character, unicodedata.category(character)) for character in text)
    visible = "".join(" " if kind in _SPACING else character for character, kind in kinds if kind not in _INVISIBLE)
    return " ".join(_IN_SQUARES.sub(_without_squares, visible.translate(_BRACKETS)).split())


def _without_squares(found: re.Match[str]) -> str:
    return f"({found[1]})" if _TAG.fullmatch(unicodedata.normalize("NFKC", found[1])) else found[0]


def quote(text: str) -> str:
    """Untrusted text as one inert JSON string; scripts are kept readable, not escaped."""
    return json.dumps(neutralise(text), ensure_ascii=False)


def only(evidence: Evidence, modalities: Collection[Modality]) -> Evidence:
    """The evidence with every other modality emptied; of the metadata, only the title and description are kept."""
    shown = evidence.metadata
    return Evidence(
        caption=evidence.caption if "caption" in modalities else "",
        asr=evidence.asr if "asr" in modalities else (),
        ocr=evidence.ocr if "ocr" in modalities else (),
        metadata=Metadata(shown.title, shown.description) if "metadata" in modalities else Metadata(),
    )


def render_evidence(
    evidence: Evidence, modalities: Collection[Modality], video_id: str, budgets: EvidenceBudgets = DEFAULT_BUDGETS
) -> str:
    """The evidence block of a prompt: one line of JSON a modality, in the order of MODALITIES, absent ones left out.

    The delimiters carry a nonce that text inside cannot know without knowing the video's id; it follows from the id, so
    that all prompts about a video share their prefix and a server's prefix cache serves them. Speech and on-screen text
    keep their time order. What exceeds its budget is cut at the end of a segment, else of a sentence, else of a word,
    and marked ``[cut]``.
    """
    nonce = hashlib.sha256(f"evidence of {video_id}".encode()).hexdigest()[:12]
    lines = [f"BEGIN EVIDENCE {nonce}"]
    for modality in MODALITIES:
        if modality in modalities and evidence.text(modality).strip():
            shown = cut_to_budget(_parts(evidence, modality), budgets.of(modality))
            lines.append(f"{modality}: {json.dumps(shown, ensure_ascii=False)}")
    return "\n".join([*lines, f"END EVIDENCE {nonce}"])


def cut_to_budget(parts: Iterable[str], budget: int) -> list[str]:
    """Neutralised parts (segments, lines, paragraphs) up to ``budget`` characters, ``[cut]`` where any is left out."""
    shown: list[str] = []
    left = budget
    for part in filter(None, map(neutralise, parts)):
        if len(part) > left:
            fitting = _cut_sentences(part, left) or ("" if shown else _cut_words(part, left))
            return [*shown, f"{fitting} {CUT}".strip()]
        shown.append(part)
        left -= len(part)
    return shown


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
