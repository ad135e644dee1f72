"""How the rules write queries that look like another: they exchange a year, number, order or name, or most words.

They know neither the video nor what its words mean, so that some of what they write is answered all the same, and some
is nothing that anybody would ask. What they put in comes from short lists of their own, which a real writer has not.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator

from prompts.evidence import neutralise
from schemas.example import Edit
from transforms.engines.stand_ins.rules_words import TOKEN, is_generic, names_in, weight
from transforms.protocols.teacher import TeacherReply, TeacherRequest

_YEAR = re.compile(r"\b(?:1[5-9]|20)\d\d\b")
_NUMBER = re.compile(r"\b\d+\b")
_OTHER_ORDER = {
    one: other
    for left, right in (("before", "after"), ("first", "last"), ("began", "ended"), ("early", "late"))
    for one, other in ((left, right), (right, left))
}
_ORDER = re.compile(rf"\b(?:{'|'.join(_OTHER_ORDER)})\b", re.IGNORECASE)
_JOINT = re.compile(r"(.+) (after|at|before|by|from|in|of|on|with) (.+)")
_NEGATED = re.compile(r"\b(?:was|were|is|are|did|does|do|had|has|can|could|would)\b(?! not\b)", re.IGNORECASE)
_NAMES = (
    "Aldermoor Brackwater Calverton Dunmere Eskholm Farrowdale Garnock Hexworth Ingleby Jorvale Kestrel Larkfield "
    "Marstow Netherby Ottervale Pendrith Quillan Ravensby Selworth Thornby Ulverton Varnholt Wexcombe Yarrowby Zelden"
).split()
_THINGS = (
    "anchor apricot avalanche barley basket beehive bicycle blanket boiler brewery cactus candle canyon carpet "
    "cathedral cellar chestnut chimney circus cliff clockwork coal compass copper cotton cradle crane cricket crystal "
    "cyclone dairy dolphin dormitory drought eclipse elevator emerald factory falcon fern fiddle fjord flute fossil "
    "fountain furnace gallery garlic geyser ginger glacier granite greenhouse gull hammock harp hedgehog helicopter "
    "honey iceberg ivory jasmine kayak kettle lacquer lagoon lantern lemon library lizard loom magnet mammoth "
    "marble meadow meteor mill monastery moss mushroom nutmeg oak obelisk observatory olive opera orchard orchid "
    "otter oven paddock palace parachute peat pebble penguin piano pigeon pilgrim plough pottery prairie quarry quilt "
    "raft reindeer reservoir ribbon saddle saffron sail salmon sawmill scarf sculpture seaweed shepherd shrine silk "
    "sleigh spruce squirrel stable stadium submarine sulphur sundial swamp tannery tapestry telescope theatre thistle "
    "timber tobacco trumpet tunnel turbine tweed vault velvet vineyard violin volcano walnut waltz waterfall weaver "
    "wharf windmill wolf yacht zinc"
).split()


def write_negatives(request: TeacherRequest) -> TeacherReply:
    """As many queries that look like the one given as the rules can make of it, in the format of a real teacher."""
    chance = random.Random(request.seed)
    drafts: dict[str, Edit] = {}
    for edit, text in _edited(neutralise(request.query), request.count, chance):
        if text != request.query and len(drafts) < request.count:
            drafts.setdefault(text, edit)
    queries = [{"change": "by rule", "edit": edit, "query": text} for text, edit in drafts.items()]
    reply = {"reworded": _reworded(request.query), "queries": queries}
    return TeacherReply(json.dumps(reply, ensure_ascii=False, indent=1))


def _reworded(query: str) -> str:
    """The same words in another order: what follows the last preposition comes first."""
    head, joint, tail = ((found := _JOINT.match(query)) and found.groups()) or ("", "", "")
    return f"{joint} {tail}, {head}" if found else f"looking for {query}"


def _edited(query: str, most: int, chance: random.Random) -> Iterator[tuple[Edit, str]]:
    """One of each kind that the query has something for, then others with most of its words exchanged."""
    if year := _YEAR.search(query):
        yield "year", _replaced(query, year, str(int(year[0]) + chance.choice((-9, -7, -4, -2, 2, 3, 5, 8))))
    if number := next((each for each in _NUMBER.finditer(query) if not _YEAR.fullmatch(each[0])), None):
        yield "number", _replaced(query, number, str(int(number[0][:9]) + chance.randint(1, 7)))
    if order := _ORDER.search(query):
        yield "order", _replaced(query, order, _OTHER_ORDER[order[0].casefold()])
    if verb := _NEGATED.search(query):
        yield "negation", _replaced(query, verb, f"{verb[0]} not")
    names = names_in(query)
    if name := next((each for each in TOKEN.finditer(query) if each[0].casefold() in names), None):
        yield "place", _replaced(query, name, chance.choice(_NAMES))
    for _ in range(most):
        yield "information", _exchanged(query, names, lambda: chance.choice(_THINGS))


def _replaced(query: str, found: re.Match[str], other: str) -> str:
    return f"{query[: found.start()]}{other}{query[found.end() :]}"


def _exchanged(query: str, names: set[str], other: Callable[[], str]) -> str:
    """The query with other words for those that say most, all but the weakest: its form, and little of its topic."""
    found = [each for each in TOKEN.finditer(query) if not is_generic(each[0].casefold())]
    found.sort(key=lambda each: -weight(each[0].casefold(), each[0].casefold() in names))
    for each in sorted(found[: max(1, len(found) - 1)], key=lambda each: -each.start()):
        query = _replaced(query, each, other())
    return query
