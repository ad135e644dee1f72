"""The prompt for negative queries: what it is filled with, the schema of its reply, and how the reply is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from prompts.echo import echoes
from prompts.evidence import quote
from prompts.reply import UnparsableReply, excerpt, split_thinking
from prompts.template import Prompt, Template, load_template
from prompts.write_queries import find_reply
from schemas.check import read_plain
from schemas.example import EDITS, Edit
from schemas.visible import one_line

_LONGEST = {"change": 200, "query": 500}  # characters, see prompts.write_queries


@dataclass(frozen=True, slots=True)
class NegativeDraft:
    """A query that looks like another one, as its writer wrote it; ``edit`` is what it says it changed."""

    text: str
    edit: Edit


class _Item(msgspec.Struct):
    edit: Edit
    query: str


class _Reply(msgspec.Struct):
    queries: list[_Item]


def negatives_schema(count: int) -> dict[str, Any]:
    """JSON Schema of a reply of at most ``count`` negative queries; it keeps to what OpenAI's strict mode knows."""
    change, query = ({"type": "string", "maxLength": _LONGEST[name]} for name in ("change", "query"))
    # In this order: the model settles what it changes before it writes the query.
    item = _object({"change": change, "edit": {"type": "string", "enum": list(EDITS)}, "query": query})
    return _object({"queries": {"type": "array", "items": item, "minItems": 1, "maxItems": count}})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def negatives_prompt(query: str, count: int, template: Template | None = None) -> Prompt:
    """The prompt that asks for ``count`` negative queries of a query; it shows nothing of the video."""
    return (template or load_template("negative_queries")).render(query=quote(query), count=str(count))


def parse_negatives(reply: str, template: Template | None = None) -> list[NegativeDraft]:
    """The negative queries of a reply, in its order: bare JSON or fenced, after any thinking or introduction.

    Raises:
        UnparsableReply: "empty reply", "truncated", "not json", "wrong schema", "no queries", "two answers" or "echoes
            the prompt".
    """
    _, answer = split_thinking(reply)
    try:
        found = read_plain(find_reply(answer), _Reply)
    except msgspec.ValidationError as error:
        raise UnparsableReply("wrong schema", str(error)) from error
    if not found.queries:
        raise UnparsableReply("no queries")
    return [_draft(item, template or load_template("negative_queries")) for item in found.queries]


def _draft(item: _Item, template: Template) -> NegativeDraft:
    try:
        item.query.encode()
    except UnicodeEncodeError as error:  # JSON can spell half a surrogate pair, which no file can hold
        raise UnparsableReply("not json", "half a surrogate pair in a string") from error
    text = one_line(item.query)
    if not text:
        raise UnparsableReply("wrong schema", "a query is empty")
    if echoes(text, template):
        raise UnparsableReply("echoes the prompt", excerpt(text))
    return NegativeDraft(text, item.edit)
