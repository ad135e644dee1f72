"""What makes a query hard: the dimensions that its writer rates, and those that are computed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from schemas.check import pickled_by_fields, require, require_fraction, require_one_of

Length = Literal["keyword", "sentence", "paragraph"]
LENGTHS: tuple[Length, ...] = get_args(Length)

HIGHEST = 2


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Ratings:
    """What makes a query hard in its writer's own eyes: 0 not at all, 1 somewhat, 2 it hinges on it.

    Things are described instead of named (``indirection``), pieces of evidence must be joined (``multi_hop``), it asks
    for an order of events (``temporal``), a reason or consequence (``causal``), a number or comparison (``counting``),
    the absence of something (``negation``), has a word that only its context settles (``ambiguity``), or asks for a
    principle of which the video is an instance (``abstraction``).
    """

    indirection: int
    multi_hop: int
    temporal: int
    causal: int
    counting: int
    negation: int
    ambiguity: int
    abstraction: int

    def __post_init__(self) -> None:
        for name in DIMENSIONS:
            rating = getattr(self, name)
            require(0 <= rating <= HIGHEST, f"{name} must be rated from 0 to {HIGHEST}", rating)


DIMENSIONS: tuple[str, ...] = tuple(field.name for field in fields(Ratings))


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Difficulty:
    """How hard a written query is: ``rated`` by its writer (None where it does not rate), the rest computed.

    ``cross_modal`` is the number of modalities that the query needs, ``lexical_gap`` the share of its content words
    that the modalities shown to the writer do not hold.
    """

    rated: Ratings | None
    cross_modal: int
    lexical_gap: float
    length: Length

    def __post_init__(self) -> None:
        require(self.cross_modal >= 1, "a query needs at least one modality", self.cross_modal)
        require_fraction("lexical_gap", self.lexical_gap)
        require_one_of("length", self.length, LENGTHS)
