"""How the rules write: they join distinctive words of the evidence by templates, and rate what these ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from schemas.difficulty import DIMENSIONS, HIGHEST
from schemas.query import SPANS, QueryType, Variant
from schemas.video import MODALITIES, Evidence, Metadata, Modality
from transforms.engines.stand_ins.rules_words import SENTENCE_ENDS, TOKEN, is_generic, names_in, weight
from transforms.protocols.teacher import TeacherReply, TeacherRequest
from transforms.text.language import foreign
from transforms.text.words import stem, words

# What each variant is asked for, in turn.
_TYPES: dict[Variant, tuple[QueryType, ...]] = {
    "caption": ("visual", "base"),
    "asr": ("speech", "specific"),
    "ocr": ("ocr", "specific"),
    "metadata": ("base", "text"),
    "all": ("cross", "base"),
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
    "visual": (
        "a place where {a} is seen together with {b} and then {c}",
        "what happened when {a} was first seen between {b} and {c}",
    ),
    "cross": (
        "how did {a} come to be linked with {b} and with {c}",
        "what did {a} have to do with {b} once {c} had come into play",
    ),
}

_REQUESTS = (
    "I want to know more about {a} because people around me have often said that it was connected with {b} and that "
    "someone was involved who is hardly ever named. Until now I have seen what is said about the two, and that was "
    "less than they know. What I want is the part of the story in which {c} came into it, what happened before, and "
    "who said so at the time. Something that is just about {a}, or about another person or place, is not what I have "
    "use for.",
    "For some time now I have followed what people say about {a}, and three of them have asked me how {b} came to play "
    "a role in it. I know who was involved and what came after, but not why it happened or what everyone said about it "
    "then. I now want the story in which these two came together with {c}, and which shows what was first and what "
    "came later. It should not be about something else that is only like it.",
)

# The words by which a template asks for more than a topic.
_ASKS: dict[str, frozenset[str]] = {
    "temporal": frozenset({"after", "first", "once", "then"}),
    "causal": frozenset({"happened", "lead", "why"}),
    "counting": frozenset({"compare"}),
}

_SAYS_VIDEO = re.compile(r"\b(?:this|the) (?:video|clip)\b", re.IGNORECASE)


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
    parts: tuple[_Draft, ...] = ()

    def as_json(self) -> dict[str, object]:
        cited = [f'"{phrase.text}" ({phrase.modality}: {phrase.sentence[:80]})' for phrase in self.joined]
        return {
            "evidence": [f"{phrase.modality}: {phrase.text}" for phrase in self.joined],
            "rationale": f"Joins {' with '.join(cited)}; none alone tells what is meant." if len(cited) > 1 else "",
            **self._as_query(),
            **({"parts": [part._as_query() for part in self.parts]} if self.parts else {}),
            "difficulty": {name: self._rating(name) for name in DIMENSIONS},
        }

    def _as_query(self) -> dict[str, object]:
        named = {phrase.modality for phrase in self.joined}
        modalities = [modality for modality in MODALITIES if modality in named]
        return {"query": self.query, "query_type": self.query_type, "modalities": modalities}

    def _rating(self, dimension: str) -> int:
        """What a rule can tell of a query that it made itself; it makes none that are hard in another way."""
        if dimension == "multi_hop":
            return max(0, min(HIGHEST, len(self.joined) - 1))
        return HIGHEST if _ASKS.get(dimension, frozenset()).intersection(words(self.query)) else 0


def write(request: TeacherRequest) -> TeacherReply:
    """As many queries as the request asks for, in the format of a real teacher."""
    evidence = request.evidence
    if request.task == "write_requests":
        return _reply([_request(evidence, turn) for turn in range(request.count)])
    if request.task == "write_events":
        return _reply([_event(evidence, turn) for turn in range(request.count)])
    variant: Variant = evidence.present[0] if len(evidence.present) == 1 else "all"
    drafts = [_draft(evidence, _TYPES[variant][turn % 2], turn) for turn in range(request.count)]
    longest = max((sentence for _, sentence in _sentences(evidence)), key=lambda s: len(words(s)), default="")
    length = len(words(longest))
    if len(drafts) > 1 and (length > 40 or (length >= 12 and request.seed % 4 == 0)):
        drafts[-1] = replace(drafts[-1], query=longest)
    return _reply(drafts)


def _reply(drafts: list[_Draft]) -> TeacherReply:
    reply = json.dumps({"queries": [draft.as_json() for draft in drafts]}, ensure_ascii=False, indent=1)
    return TeacherReply(reply.replace("<", "\\u003c"))  # a tag in the evidence must not read as one of the reply's


def _request(evidence: Evidence, turn: int) -> _Draft:
    """A long request that joins three phrases, and a part for each two of them; short where there are fewer."""
    joined = _join(_phrases(_sentences(evidence)), turn)
    if len(joined) < 3:
        return _Draft(_fill("specific", joined), "specific", joined)
    text = _REQUESTS[len(joined[0].text) % len(_REQUESTS)]
    text = text.format(a=joined[0].text, b=joined[1].text, c=joined[2].text)
    pairs = (joined[0], joined[1]), (joined[0], joined[2])
    parts = tuple(_Draft(_fill("specific", pair), "specific", pair) for pair in pairs)
    return _Draft(text, "cross" if len({phrase.modality for phrase in joined}) > 1 else "specific", joined, parts)


def _event(evidence: Evidence, turn: int) -> _Draft:
    """A query that joins up to three phrases, and a part for each two of them: the spans go by rank, not by time."""
    joined = _join(_phrases(_sentences(evidence)), turn)
    pairs = zip(SPANS, combinations(joined, 2), strict=False)
    parts = tuple(_Draft(_fill("specific", pair), span, pair) for span, pair in pairs)
    return _Draft(_fill("specific", joined), "specific", joined, parts)


def _draft(evidence: Evidence, query_type: QueryType, turn: int) -> _Draft:
    title, description = evidence.metadata.title, evidence.metadata.description
    from_description = query_type == "text" and bool(description)
    source = Evidence(metadata=Metadata(description=description)) if from_description else evidence
    joined = _join(_phrases(_sentences(source)), turn)
    if query_type == "cross" and len({phrase.modality for phrase in joined}) < 2:
        query_type = "specific"
    query = _fill(query_type, joined)
    if query_type == "base" and len(TOKEN.findall(title)) == 1:
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
        names = names_in(sentence)
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
    for token in TOKEN.finditer(sentence):
        generic = is_generic(token[0].casefold())
        if run and (generic or len(run) == 3 or sentence[end : token.start()] != " "):
            yield run
            run = []
        if not generic and (len(token[0]) > 1 or run):
            run.append(token[0])
        end = token.end()
    if run:
        yield run


def _sentences(evidence: Evidence) -> Iterator[tuple[Modality, str]]:
    for modality in evidence.present:
        for sentence in SENTENCE_ENDS.split(evidence.text(modality)):
            if sentence.strip():
                yield modality, sentence.strip()


def _swap_halves(text: str) -> str:
    """The first dozen words, second half first: the text's language without a long run of its words."""
    tokens = TOKEN.findall(text)[:12]
    middle = len(tokens) // 2
    return " ".join([*tokens[middle:], *tokens[:middle]])
