"""Whether the judge is too sure, or not sure enough, for ``curate.alpha1`` to tell negatives apart, and what to try."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from pipeline.outputs.report.summary import BIN_NATS
from pipeline.outputs.tables import Tables
from schemas.example import POSITIVES
from transforms.ledger import Line

_ENOUGH = 50  # judged negatives, below which shares say little
_NEARLY_ALL = 0.95
_MANY = 0.5
_UNTRUSTED = "no trusted negative"  # why curation drops a query


def sureness_hint(tables: Tables, lines: Iterable[Line], alpha1: float) -> str:
    """A few sentences where nearly all negatives are trusted, or queries are lost for want of a trusted one; else "".

    Of the negatives, those count that the judge calls no. ``alpha1`` is that of the run, in nats.
    """
    strata: Counter[str] = Counter()
    bins: Counter[int] = Counter()  # of margins of a no, each BIN_NATS wide and counted by its upper end
    for row in tables.rows("judgements", ["label", "delta", "stratum"]):
        strata[row["stratum"]] += 1
        if row["label"] == "no" and row["stratum"] not in POSITIVES and row["delta"] is not None:
            bins[math.ceil(row["delta"] / BIN_NATS)] += 1
    trusted, suspected = strata["trusted_negative"], strata["suspected_positive"]
    negatives = trusted + strata["hard_negative"]
    if negatives >= _ENOUGH and trusted >= _NEARLY_ALL * negatives:
        return (
            f"The judge is sure of nearly every negative: {trusted:,} of {negatives:,} that it calls no are trusted at "
            f"curate.alpha1 = {alpha1:g}, and few are left to be hard. {_try(bins)}"
        )
    queries = next((line for line in lines if (line.stage, line.step) == ("curate", "queries")), None)
    lost = queries.rejected.get(_UNTRUSTED, 0) if queries else 0
    if queries and lost >= _MANY * queries.entered and negatives + suspected:
        said = f"{lost:,} of {queries.entered:,} queries have no negative with a margin of at most curate.alpha1 = "
        if trusted >= _MANY * negatives:
            why = f"it says yes of {suspected:,} of {negatives + suspected:,}, and no threshold makes those negatives."
            return f"The judge finds too few negatives: {said}{alpha1:g}; {why} `hardquery audit judge` looks into it."
        return f"The judge is not sure enough: {said}{alpha1:g}. {_try(bins)}"
    return ""


def _try(bins: Counter[int]) -> str:
    """The next command: with the threshold that trusts the surer half of the negatives, which asks nothing again."""
    if not bins:
        return (
            "No margin is known, so that no threshold helps: `hardquery audit judge` says where the confidence comes "
            "from; a judge that gives log-probabilities is needed."
        )
    half, below = bins.total() / 2, 0
    for upper in sorted(bins):
        below += bins[upper]
        if below >= half:
            break
    if below == bins.total():
        return "Their margins are all alike, so that no threshold tells them apart: try another judge, or its audit."
    return (
        f"The same command with --set curate.alpha1={upper * BIN_NATS:g} trusts the surer half of them, and asks "
        f"nothing again; `hardquery audit judge` says whether the judge deserves it."
    )
