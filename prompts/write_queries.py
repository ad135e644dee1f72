"""The prompts that ask for queries and long requests: what they are filled with, the schema of their replies, and how
these are read.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec

from prompts.echo import echoes
from prompts.evidence import DEFAULT_BUDGETS, EvidenceBudgets, neutralise, render_evidence
from prompts.queries_reply import list_schema, object_schema, read_queries, require_characters
from prompts.reply import UnparsableReply, excerpt, split_thinking
from prompts.template import Prompt, Template, load_template
from schemas.difficulty import DIMENSIONS, HIGHEST, Ratings
from schemas.query import QUERY_TYPES, SPANS, QueryType
from schemas.video import MODALITIES, Evidence, Modality
from schemas.visible import one_line

ASK_AGAIN = (
    "That reply cannot be used: {problem}. Reply again, with the whole JSON object in the form asked for, and nothing "
    "else."
)
"""What a teacher is told whose reply cannot be read."""


@dataclass(frozen=True, slots=True)
class Part:
    """A short query for one thing that a long request needs; see ``Draft``."""

    text: str
    query_type: QueryType
    modalities: tuple[Modality, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A query as the teacher wrote it, before it has an id; ``modalities`` are in the order of MODALITIES.

    ``cited`` is what it quotes from the evidence, ``rated`` how hard it thinks the query is, None where it does not
    say. ``parts`` are those of a request.
    """

    text: str
    rationale: str
    query_type: QueryType
    modalities: tuple[Modality, ...]
    cited: tuple[str, ...] = ()
    rated: Ratings | None = None
    parts: tuple[Part, ...] = ()


class _Part(msgspec.Struct, kw_only=True):
    query: str
    query_type: QueryType
    modalities: list[Modality]


class _Item(_Part, kw_only=True):
    evidence: list[str]
    rationale: str
    difficulty: Ratings | None = None
    parts: list[_Part] = []


# What each type asks for. Base and specific can be had from any modality, cross from any two.
_NEEDED: dict[QueryType, Modality] = {"ocr": "ocr", "speech": "asr", "text": "metadata", "visual": "caption"}
_CITED = 8  # pieces of evidence a query
MOST_PARTS = 3
"""Short queries that a request may be made of; and as many spans of an event."""
# Characters. Every string and list has an end, so that a model that would not stop is made to; far beyond what the
# prompt asks for, and below the 2,000 repetitions at which llama.cpp refuses a grammar.
_BOUNDS = ("maxLength", "minItems", "maxItems")
_LONGEST = {"evidence": 300, "rationale": 1000, "query": 500, "request": 1900}


def types_for(shown: Collection[Modality]) -> tuple[QueryType, ...]:
    """The query types that can be written from these modalities."""
    possible = (kind for kind in QUERY_TYPES if kind not in SPANS and _NEEDED.get(kind) in (None, *shown))
    return tuple(kind for kind in possible if kind != "cross" or len(set(shown)) >= 2)


def reply_schema(
    shown: Collection[Modality], count: int, requests: bool = False, events: bool = False
) -> dict[str, Any]:
    """JSON Schema of at most ``count`` queries from these modalities, or of ``requests`` or ``events`` with parts.

    It is written out flat, for not every server resolves ``$ref``, and keeps to what OpenAI's strict mode knows.
    """
    modalities = [modality for modality in MODALITIES if modality in shown]
    kind = {
        "query_type": {"type": "string", "enum": list(types_for(shown))},
        "modalities": list_schema({"type": "string", "enum": modalities}, len(modalities)),
    }
    of_part = {**kind, "query_type": {"type": "string", "enum": list(SPANS)}} if events else kind
    parts = {"parts": list_schema(object_schema({"query": _string("query"), **of_part}), MOST_PARTS)}
    # In this order: the model reasons before it writes the query, and a reply cut off in between lacks required fields.
    properties = {
        "evidence": list_schema(_string("evidence"), _CITED),
        "rationale": _string("rationale"),
        "query": _string("request" if requests else "query"),
        **(parts if requests or events else {}),
        **kind,
        "difficulty": object_schema({name: {"type": "integer", "enum": [*range(HIGHEST + 1)]} for name in DIMENSIONS}),
    }
    return object_schema({"queries": list_schema(object_schema(properties), count)})


def without_bounds(schema: Any) -> Any:
    """The schema without the ends of its strings and lists, for servers that do not know how to keep to them.

    >>> without_bounds({"type": "array", "items": {"type": "string", "maxLength": 9}, "minItems": 1})
    {'type': 'array', 'items': {'type': 'string'}}
    """
    if not isinstance(schema, dict):
        return schema
    return {name: without_bounds(value) for name, value in schema.items() if name not in _BOUNDS}


def _string(name: str) -> dict[str, Any]:
    return {"type": "string", "maxLength": _LONGEST[name]}


def queries_values(
    evidence: Evidence,
    modalities: Collection[Modality],
    video_id: str,
    count: int,
    budgets: EvidenceBudgets = DEFAULT_BUDGETS,
) -> dict[str, str]:
    """What the slots of the query-writing prompt are filled with."""
    return {
        "evidence": render_evidence(evidence, modalities, video_id, budgets),
        "modalities": ", ".join(modality for modality in MODALITIES if modality in modalities),
        "types": ", ".join(types_for(modalities)),
        "count": str(count),
    }


def queries_prompt(
    evidence: Evidence,
    modalities: Collection[Modality],
    video_id: str,
    count: int,
    budgets: EvidenceBudgets = DEFAULT_BUDGETS,
    template: Template | None = None,
) -> Prompt:
    """The prompt that asks for ``count`` queries from these modalities of one video.

    ``template`` takes the place of this package's own.
    """
    values = queries_values(evidence, modalities, video_id, count, budgets)
    return (template or load_template("write_queries")).render(**values)


def parse_queries(
    reply: str, shown: Collection[Modality], template: Template | None = None, events: bool = False
) -> list[Draft]:
    """The queries of a reply, in its order: bare JSON or fenced, after any thinking or introduction.

    Texts are put on one line, without invisible characters. An empty rationale is let through; a filter counts it. A
    query rests on no modality but those ``shown``: others that it names are left out, and where it names none of them
    it is taken to rest on all. A query type that the shown modalities do not allow is not mended, for the query itself
    would then be made up: it is the wrong schema. So is one across modalities ("cross") that needs a single one. A
    query or rationale that is taken from the prompt, which is ``template`` where it is not this package's own, is none.
    The parts of a request are queries, and held to the same; those of ``events`` are of a span each, and no two of one.

    Raises:
        UnparsableReply: "empty reply", "truncated", "not json", "wrong schema", "no queries", "echoes the prompt" or
            "two answers" (that differ: one of them may be quoted from the evidence); or whatever the template's parser
            says.
    """
    asked = template or load_template("write_queries")
    return [_draft(item, shown, asked, events) for item in read_queries(asked.ours(reply), _Item)]


def ask_again(error: UnparsableReply) -> str:
    """What to tell a teacher about a reply of its own that is in error."""
    return ASK_AGAIN.format(problem=neutralise(str(error)))


def quotable(reply: str) -> str:
    """What a reply says after its thinking, as it can be put back to its teacher; "" where there is no such thing.

    A model may be led to repeat control tokens or tags, and would obey them when they come back. Angle brackets are
    therefore escaped, as JSON has them.
    """
    try:
        _, answer = split_thinking(reply)
    except UnparsableReply:
        return ""
    return answer.strip().replace("<", "\\u003c")


def _draft(item: _Item, shown: Collection[Modality], template: Template, events: bool) -> Draft:
    require_characters(item.query, item.rationale, *item.evidence, *(part.query for part in item.parts))
    text, rationale = one_line(item.query), one_line(item.rationale)
    written = (text, rationale, *(one_line(part.query) for part in item.parts))
    if echo := next((said for said in written if echoes(said, template)), None):
        raise UnparsableReply("echoes the prompt", excerpt(echo))
    query = _part(item, shown)
    parts = [_part(part, shown, of_event=events) for part in item.parts]
    spans = [part.query_type for part in parts] if events else []
    if len(set(spans)) < len(spans):
        raise UnparsableReply("wrong schema", f"parts of an event that are {', '.join(spans)}")
    cited = tuple(filter(None, map(one_line, item.evidence)))
    return Draft(query.text, rationale, query.query_type, query.modalities, cited, item.difficulty, tuple(parts))


def _part(item: _Part, shown: Collection[Modality], of_event: bool = False) -> Part:
    text = one_line(item.query)
    if not text:
        raise UnparsableReply("wrong schema", "a query is empty")
    if (item.query_type in SPANS) != of_event:
        rule = f"is {', '.join(SPANS[:-1])} or {SPANS[-1]}, and no other query is"
        raise UnparsableReply("wrong schema", f"a part of an event {rule}, got {item.query_type}")
    if not of_event and item.query_type not in types_for(shown):
        raise UnparsableReply("wrong schema", f"a query of type {item.query_type} from {', '.join(shown)} alone")
    named = set(shown).intersection(item.modalities) or shown
    modalities = tuple(modality for modality in MODALITIES if modality in named)
    if item.query_type == "cross" and len(modalities) < 2:
        raise UnparsableReply("wrong schema", f"a query of type cross that needs {modalities[0]} alone")
    return Part(text, item.query_type, modalities)
