"""The embedded teacher: an honest, rule-based stand-in that writes and judges offline, for trying out and for tests.

It answers in the format of a real teacher (JSON; think and answer tags with token log-probabilities), so that parsers,
margin and filters do their whole work on it. It is deliberately plain and makes the mistakes that the filters are for:

- the last query of a reply may quote the longest sentence of the evidence ("copies evidence"; "too long");
- where the evidence says "this video …", so does a query ("mentions video");
- a description in another language yields a query in that language ("wrong language");
- a title of one word is taken for an event's name ("too short");
- with fewer than two distinctive words to join there is nothing to explain ("empty rationale");
- like descriptions, and evidence that says the same in two modalities, yield like queries ("near duplicate").
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from schemas.query import QueryType, Variant
from schemas.video import MODALITIES, EngineStamp, Evidence, Metadata, Modality
from transforms.engines import stamp_of
from transforms.engines.protocols import Ladder, TeacherReply, TeacherRequest, Token
from transforms.language import foreign
from transforms.text import STOPWORDS, content_words, stem, words

REVISION = "1"
"""Part of the stamp; raised whenever the same request may get another reply."""

STRONGEST = 12.0
"""The margin, in nats, of a video that holds every word of the query."""

# Words that questions are made of, and small words beyond the stop list: they say nothing of a topic, so that they
# neither enter a query as its subject nor count in its judgement. Every word of a template is one of these.
GENERIC = frozenset(
    "about account action affect after again all almost along already also although always among another any "
    "around asked away back because before behind below between both bring brought called came caption clip come "
    "comes compare compared connect connected connection connects describe described display during each else "
    "event events ever every everyone explain explained few first five follow followed four frame frames happen "
    "happened hardly here however include included inside involve involved just know known last late later lead "
    "led less like link linked long make many matter meet mention mentioned met much name named near never new "
    "next nobody nothing notice now often old one outside part people person picture place play played point read "
    "reads role said say says scene second see seen several shot shots show shown shows sign since six someone "
    "something soon speaker still story take taken tell thing things third three time together turn turned twice "
    "two until use used video want way well without words year years yet".split()
)

# What a describer of pixels says of every picture: how much, where, how large.
LAYOUT = frozenset(
    "background band bottom bright centre dark detailed finely horizontal left light lower medium mixture moderate "
    "moderately mostly movement patch right slight still strip strong top upper vertical".split()
)

MONTHS = frozenset("january february march april may june july august september october november december".split())

# What each variant is asked for, in turn.
_TYPES: dict[Variant, tuple[QueryType, ...]] = {
    "caption": ("specific", "base"),
    "asr": ("speech", "specific"),
    "ocr": ("ocr", "specific"),
    "metadata": ("base", "text"),
    "all": ("specific", "base"),
}

_TEMPLATES: dict[QueryType, tuple[str, ...]] = {
    "base": (
        "the events around {a} and {b} that also involved {c}",
        "the story of {a} and {b} and its connection with {c}",
    ),
    "specific": (
        "who was involved when {a} came together with {b} and {c}",
        "why did {a} matter to {b} in the story of {c}",
        "what happened to {a} after {b} and {c} had come into play",
        "how does the part of {a} compare with that of {b} when it comes to {c}",
    ),
    "speech": (
        "which speaker explained what {a} had to do with {b} and {c}",
        "what was said about {a} by someone who also mentioned {b} and {c}",
    ),
    "ocr": (
        "where would people read about {a} together with {b} and {c}",
        "which place has a sign that connects {a} with {b} and {c}",
    ),
    "text": (
        "where did {a} lead once {b} and {c} had been brought together",
        "what was the role of {a} in an event known for {b} and {c}",
    ),
}

_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)?")
_SENTENCES = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
_SAYS_VIDEO = re.compile(r"\b(?:this|the) (?:video|clip)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Rules:
    """The rule-based teacher. It has no options."""

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = "embedded"
    ladder: ClassVar[Ladder] = Ladder(("rules",))

    def load(self) -> RuleTeacher:
        return RuleTeacher()

    def stamp(self) -> EngineStamp:
        return stamp_of(self, "rules", "", model=f"rules-{REVISION}")


class RuleTeacher:
    """Writes by joining distinctive words of the evidence, judges by how many of a query's words the evidence holds.

    It reads the records of a request, not its prose, and the same request always gets the same reply.
    """

    ladder: ClassVar[Ladder] = Rules.ladder

    def reply(self, request: TeacherRequest) -> TeacherReply:
        """The reply to one request; never fails."""
        return _judge(request) if request.task == "judge" else _write(request)


def weight(word: str, is_name: bool) -> float:
    """How much a word says of a topic, without any corpus: names, numbers and long words look rare."""
    if word in MONTHS:
        return 0.5
    if is_name:
        return 2.5
    if any(c.isdigit() for c in word):
        return 2.0 if len(word) > 2 else 0.5
    return 2.0 if len(word) >= 9 else 1.5 if len(word) >= 6 else 1.0


def is_generic(word: str) -> bool:
    """Whether a folded word says nothing of a topic."""
    return word in STOPWORDS or word in GENERIC or word in LAYOUT


# Judging


def coverage(query: str, evidence: Evidence) -> tuple[float, list[str], list[str]]:
    """The share in [0, 1] of the query's weight that the evidence holds, and the words that match and that are missing.

    Words are compared by stem. Adding a word of the query to the evidence never lowers the share.
    """
    held = {stem(word) for modality in MODALITIES for word in words(evidence.text(modality))}
    names = {word for sentence in _SENTENCES.split(query) for word in _names(sentence)}
    weights = {word: weight(word, word in names) for word in content_words(query) if not is_generic(word)}
    matched = [word for word in weights if stem(word) in held]
    missing = [word for word in weights if stem(word) not in held]
    total = sum(weights.values())
    return (sum(weights[word] for word in matched) / total if total else 0.0), matched, missing


def _judge(request: TeacherRequest) -> TeacherReply:
    share, matched, missing = coverage(request.query, request.evidence)
    # A quarter of the weight is chance between topics (delta -6), half of it is a coin's toss (delta 0).
    delta = STRONGEST * (2.0 * share - 1.0)
    answer, other = (b"yes", b"no") if delta > 0 else (b"no", b"yes")
    likely, unlikely = -math.log1p(math.exp(-abs(delta))), -math.log1p(math.exp(abs(delta)))
    rationale = f"The evidence holds {_listed(matched)} of the query; {_listed(missing)} of it is missing."
    start, end = f"<think>{rationale}</think><answer>", "</answer>"
    decision = Token(answer, likely, ((answer, likely), (other, unlikely)))
    tokens = (Token(start.encode(), 0.0), decision, Token(end.encode(), 0.0))
    return TeacherReply(f"{start}{answer.decode()}{end}", tokens)


def _listed(found: Sequence[str]) -> str:
    return ", ".join(found) if found else "nothing"


# Writing


@dataclass(frozen=True, slots=True)
class _Phrase:
    """A run of up to three words between stop words, as RAKE finds them, and the sentence it stands in."""

    text: str
    weight: float
    heaviest: str
    modality: Modality
    sentence: str


@dataclass(frozen=True, slots=True)
class _Draft:
    query: str
    query_type: QueryType
    joined: tuple[_Phrase, ...]

    def as_json(self) -> dict[str, object]:
        named = {phrase.modality for phrase in self.joined}
        cited = [f'"{phrase.text}" ({phrase.modality}: {phrase.sentence[:80]})' for phrase in self.joined]
        return {
            "evidence": [f"{phrase.modality}: {phrase.text}" for phrase in self.joined],
            "rationale": f"Joins {' with '.join(cited)}; none alone tells what is meant." if len(cited) > 1 else "",
            "query": self.query,
            "query_type": self.query_type,
            "modalities": [modality for modality in MODALITIES if modality in named],
        }


def _write(request: TeacherRequest) -> TeacherReply:
    evidence = request.evidence
    variant: Variant = evidence.present[0] if len(evidence.present) == 1 else "all"
    drafts = [_draft(evidence, _TYPES[variant][turn % 2], turn) for turn in range(request.count)]
    longest = max((sentence for _, sentence in _sentences(evidence)), key=lambda s: len(words(s)), default="")
    length = len(words(longest))
    if len(drafts) > 1 and (length > 40 or (length >= 12 and request.seed % 4 == 0)):
        drafts[-1] = replace(drafts[-1], query=longest)
    reply = json.dumps({"queries": [draft.as_json() for draft in drafts]}, ensure_ascii=False, indent=1)
    return TeacherReply(reply.replace("<", "\\u003c"))  # a tag in the evidence must not read as one of the reply's


def _draft(evidence: Evidence, query_type: QueryType, turn: int) -> _Draft:
    title, description = evidence.metadata.title, evidence.metadata.description
    from_description = query_type == "text" and bool(description)
    source = Evidence(metadata=Metadata(description=description)) if from_description else evidence
    joined = _join(_phrases(_sentences(source)), turn)
    query = _fill(query_type, joined)
    if query_type == "base" and len(_TOKEN.findall(title)) == 1:
        query = title.strip()
    elif from_description and foreign(description, ("en",), 0.004):
        query = _swap_halves(description)
    elif from_description and _SAYS_VIDEO.search(description) and joined:
        query = f"what this video says about {joined[0].text}"
    return _Draft(query, query_type, joined)


def _fill(query_type: QueryType, joined: tuple[_Phrase, ...]) -> str:
    """A template of the type, chosen by the first phrase alone, so that like evidence yields like queries."""
    texts = [phrase.text for phrase in joined]
    if len(texts) < 2:
        return f"what is known about {texts[0] if texts else 'it all'} and who was involved"
    template = _TEMPLATES[query_type][len(texts[0]) % len(_TEMPLATES[query_type])]
    return template.format(a=texts[0], b=texts[1], c=texts[2] if len(texts) > 2 else "all of it")


def _join(ranked: list[_Phrase], turn: int) -> tuple[_Phrase, ...]:
    """Up to three phrases: one by rank, then the best from elsewhere, another modality before another sentence."""
    if not ranked:
        return ()
    first = ranked[2 * turn % len(ranked)]
    others = [phrase for phrase in ranked if phrase is not first]
    others.sort(key=lambda p: (p.modality == "caption", p.modality == first.modality, p.sentence == first.sentence))
    return (first, *others[:2])


def _phrases(sentences: Iterable[tuple[Modality, str]]) -> list[_Phrase]:
    """What says something of a topic, weightiest first, ties by position, no heaviest word twice; captions last."""
    found: dict[str, _Phrase] = {}
    for modality, sentence in sentences:
        names = _names(sentence)
        for run in _runs(sentence):
            weights = {word.casefold(): weight(word.casefold(), word.casefold() in names) for word in run}
            heaviest = max(weights, key=weights.__getitem__)
            text = " ".join(word if word.casefold() in names else word.casefold() for word in run)
            phrase = _Phrase(text[:40], weights[heaviest], stem(heaviest), modality, sentence)
            if weights[heaviest] >= 1.0 and found.setdefault(phrase.heaviest, phrase).weight < phrase.weight:
                found[phrase.heaviest] = phrase
    # The embedded captioner names colours and no things, so its words serve only where there are no others.
    return sorted(found.values(), key=lambda phrase: (phrase.modality == "caption", -phrase.weight))


def _runs(sentence: str) -> Iterator[list[str]]:
    """Runs of up to three words that no stop word, generic word or punctuation interrupts; no lone character."""
    run: list[str] = []
    end = 0
    for token in _TOKEN.finditer(sentence):
        generic = is_generic(token[0].casefold())
        if run and (generic or len(run) == 3 or sentence[end : token.start()] != " "):
            yield run
            run = []
        if not generic and (len(token[0]) > 1 or run):
            run.append(token[0])
        end = token.end()
    if run:
        yield run


def _names(sentence: str) -> set[str]:
    """The folded words that are capitalised inside the sentence, or start it before such a word."""
    found = _TOKEN.findall(sentence)
    if sentence.isupper():
        return set()
    starts = 0 if len(found) > 1 and found[1][0].isupper() else 1
    return {word.casefold() for word in found[starts:] if word[0].isupper()}


def _sentences(evidence: Evidence) -> Iterator[tuple[Modality, str]]:
    for modality in evidence.present:
        for sentence in _SENTENCES.split(evidence.text(modality)):
            if sentence.strip():
                yield modality, sentence.strip()


def _swap_halves(text: str) -> str:
    """The first dozen words, second half first: the text's language without a long run of its words."""
    tokens = _TOKEN.findall(text)[:12]
    middle = len(tokens) // 2
    return " ".join([*tokens[middle:], *tokens[:middle]])
