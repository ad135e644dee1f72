"""Replies that hold queries: their JSON schema, in the form that servers take, and how the one object is read."""

from __future__ import annotations

import json
from typing import Any, Generic, TypeVar

import msgspec

from prompts.reply import UnparsableReply, excerpt, split_thinking
from schemas.check import read_plain

T = TypeVar("T")


class ListReply(msgspec.Struct, Generic[T]):
    """The one object of a reply, which may hold more than its list."""

    queries: list[T]


R = TypeVar("R", bound=ListReply[Any])


def list_schema(items: dict[str, Any], most: int) -> dict[str, Any]:
    """JSON Schema of a list of one to ``most`` items."""
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


def object_schema(properties: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of an object with all of these properties and no other, in their order."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def read_queries(reply: str, item: type[T]) -> list[T]:
    """The queries of a reply as records of a kind, in its order; see ``read_reply``."""
    return read_reply(reply, ListReply[item]).queries  # type: ignore[valid-type]


def read_reply(reply: str, kind: type[R]) -> R:
    """The object of a reply as a record of a kind: bare JSON or fenced, after thinking or introduction.

    Raises:
        UnparsableReply: "empty reply", "truncated", "not json", "wrong schema", "no queries" or "two answers" (that
            differ: one of them may be quoted from the evidence).
    """
    _, answer = split_thinking(reply)
    try:
        found = read_plain(_find(answer), kind)
    except msgspec.ValidationError as error:
        raise UnparsableReply("wrong schema", str(error)) from error
    if not found.queries:
        raise UnparsableReply("no queries")
    return found


def require_characters(*texts: str) -> None:
    """Refuse half a surrogate pair, which JSON can spell and no file can hold; raises ``UnparsableReply``."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise UnparsableReply("not json", "half a surrogate pair in a string") from error


def _find(answer: str) -> object:
    """The one JSON object with a "queries" key; what stands before it may hold braces of its own."""
    decoder = json.JSONDecoder(strict=False)  # raw line breaks inside strings are common and harmless
    replies: list[object] = []
    failure: UnparsableReply | None = None
    start = answer.find("{")
    while start >= 0:
        try:
            found, end = decoder.raw_decode(answer, start)
        except json.JSONDecodeError as error:
            if error.msg.startswith("Unterminated string") or error.pos >= len(answer.rstrip()):
                cut_off = UnparsableReply("truncated", excerpt(answer, end=True))
                if replies and '"queries"' in answer[start:]:
                    raise cut_off from error  # it was the last word
                failure = failure or cut_off
                break
            failure = failure or UnparsableReply("not json", f"{error.msg} at character {error.pos}")
            end = start + 1
        except (RecursionError, ValueError) as error:  # nested too deeply; a number of thousands of digits
            raise UnparsableReply("not json", str(error)) from error
        else:
            if isinstance(found, dict) and "queries" in found:
                replies.append(found)
            else:
                failure = failure or UnparsableReply("wrong schema", "the object has no key 'queries'")
        start = answer.find("{", end)
    if any(reply != replies[0] for reply in replies[1:]):
        raise UnparsableReply("two answers", excerpt(answer))
    if replies:
        return replies[0]
    raise failure or UnparsableReply("not json", excerpt(answer))
