"""The prompt for negative queries: what it is filled with, the schema of its reply, and how the reply is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from prompts.echo import echoes
from prompts.evidence import quote
from prompts.queries_reply import ListReply, list_schema, object_schema, read_reply, require_characters
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


@dataclass(frozen=True, slots=True)
class NegativesReply:
    """What a writer makes of a query: others that look like it, and the same in other words, "" where it gives none."""

    drafts: tuple[NegativeDraft, ...]
    reworded: str = ""


class _Item(msgspec.Struct):
    edit: Edit
    query: str


class _Reply(ListReply[_Item]):
    reworded: str = ""


def negatives_schema(count: int) -> dict[str, Any]:
    """JSON Schema of a reply of at most ``count`` negative queries; it keeps to what OpenAI's strict mode knows.

    The query comes first in other words: who has put it so knows what it asks for.
    """
    change, query = ({"type": "string", "maxLength": _LONGEST[name]} for name in ("change", "query"))
    # In this order: the model settles what it changes before it writes the query.
    item = object_schema({"change": change, "edit": {"type": "string", "enum": list(EDITS)}, "query": query})
    return object_schema({"reworded": query, "queries": list_schema(item, count)})


def negatives_prompt(query: str, count: int, template: Template | None = None) -> Prompt:
    """The prompt that asks for ``count`` negative queries of a query; it shows nothing of the video."""
    return (template or load_template("negative_queries")).render(query=quote(query), count=str(count))


def parse_negatives(reply: str, template: Template | None = None) -> NegativesReply:
    """The negative queries of a reply, in its order: bare JSON or fenced, after any thinking or introduction.

    One that echoes the prompt where it should put the query in other words does not put it so.

    Raises:
        UnparsableReply: "empty reply", "truncated", "not json", "wrong schema", "no queries", "two answers" or "echoes
            the prompt".
    """
    template = template or load_template("negative_queries")
    found = read_reply(reply, _Reply)
    require_characters(found.reworded)
    reworded = one_line(found.reworded)
    drafts = tuple(_draft(item, template) for item in found.queries)
    return NegativesReply(drafts, "" if echoes(reworded, template) else reworded)


def _draft(item: _Item, template: Template) -> NegativeDraft:
    require_characters(item.query)
    text = one_line(item.query)
    if not text:
        raise UnparsableReply("wrong schema", "a query is empty")
    if echoes(text, template):
        raise UnparsableReply("echoes the prompt", excerpt(text))
    return NegativeDraft(text, item.edit)
