"""The prompt for negative queries: what it is filled with, the schema of its reply, and how the reply is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from prompts.echo import echoes
from prompts.evidence import quote
from prompts.queries_reply import list_schema, object_schema, read_queries, require_characters
from prompts.reply import UnparsableReply, excerpt
from prompts.template import Prompt, Template, load_template
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


def negatives_schema(count: int) -> dict[str, Any]:
    """JSON Schema of a reply of at most ``count`` negative queries; it keeps to what OpenAI's strict mode knows."""
    change, query = ({"type": "string", "maxLength": _LONGEST[name]} for name in ("change", "query"))
    # In this order: the model settles what it changes before it writes the query.
    item = object_schema({"change": change, "edit": {"type": "string", "enum": list(EDITS)}, "query": query})
    return object_schema({"queries": list_schema(item, count)})


def negatives_prompt(query: str, count: int, template: Template | None = None) -> Prompt:
    """The prompt that asks for ``count`` negative queries of a query; it shows nothing of the video."""
    return (template or load_template("negative_queries")).render(query=quote(query), count=str(count))


def parse_negatives(reply: str, template: Template | None = None) -> list[NegativeDraft]:
    """The negative queries of a reply, in its order: bare JSON or fenced, after any thinking or introduction.

    Raises:
        UnparsableReply: "empty reply", "truncated", "not json", "wrong schema", "no queries", "two answers" or "echoes
            the prompt".
    """
    return [_draft(item, template or load_template("negative_queries")) for item in read_queries(reply, _Item)]


def _draft(item: _Item, template: Template) -> NegativeDraft:
    require_characters(item.query)
    text = one_line(item.query)
    if not text:
        raise UnparsableReply("wrong schema", "a query is empty")
    if echoes(text, template):
        raise UnparsableReply("echoes the prompt", excerpt(text))
    return NegativeDraft(text, item.edit)
