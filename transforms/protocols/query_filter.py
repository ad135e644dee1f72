"""Filters of queries: what one of another distribution can do; this project's own are transforms of synthesize."""

from __future__ import annotations

from typing import Protocol

from schemas.query import Query
from schemas.video import Evidence
from transforms.protocols.engine import Engine


class QueryFilterEngine(Engine, Protocol):
    """Options of a filter; its stamp decides, with the query and its evidence, what it says."""

    def load(self) -> QueryFilter:
        """The filter itself; called once a process."""


class QueryFilter(Protocol):
    """Whether a written query is fit to search with."""

    def objection(self, query: Query, evidence: Evidence) -> str | None:
        """What speaks against ``query``, in a line; None where it is kept. Nothing else may decide it.

        ``evidence`` is the whole evidence of the query's own video, whichever modalities the query was written from.
        """
