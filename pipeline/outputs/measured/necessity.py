"""Which modalities labels rest on, counted: of each, and of queries by what they were written from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from pipeline.outputs.tables import Row, Tables
from schemas.check import read_plain
from schemas.example import Necessity
from schemas.query import VARIANTS
from schemas.video import MODALITIES, Modality


@dataclass(slots=True)
class OfModality:
    """One modality: positives that were judged without it, those of them whose label rests on it, and on it first.

    ``drop`` is the mean of its necessity scores (nats), None where no margin is known. It is ``unseen`` where a video
    has it and the judge was not shown it.
    """

    modality: Modality
    asked: int = 0
    needed: int = 0
    target: int = 0
    drop: float | None = None
    unseen: int = 0


@dataclass(slots=True)
class LabelsRest:
    """What the labels of so many ``positives`` rest on: by modality, and ``nowhere`` where several tell the same.

    ``by_variant`` has of each variant that queries were written from (None: by people) how many positives were asked
    about, and how many labels rest on each modality.
    """

    positives: int = 0
    nowhere: int = 0
    modalities: dict[Modality, OfModality] = field(default_factory=dict)
    by_variant: dict[str | None, tuple[int, Counter[Modality]]] = field(default_factory=dict)

    @property
    def variants(self) -> list[tuple[str, int, list[float]]]:
        """A variant, its positives, and the share of them whose label rests on each of the ``modalities``."""
        order = [name for name in (*VARIANTS, None) if name in self.by_variant]
        return [
            (name or "human", total, [needed[modality] / total for modality in self.modalities])
            for name, (total, needed) in ((name, self.by_variant[name]) for name in order)
        ]


def necessities(tables: Tables) -> Iterator[Necessity]:
    """All that the output holds."""
    for row in tables.rows("necessity"):
        yield necessity_of(row)


def necessity_of(row: Row) -> Necessity:
    """A row of the table as the record."""
    return read_plain(row, Necessity)


def count_necessities(tables: Tables, recipe: Mapping[str, Any]) -> LabelsRest | None:
    """The counts of an output whose recipe asks what its labels rest on, else None."""
    if (recipe.get("judge") or {}).get("necessity") is None:
        return None
    found = LabelsRest(modalities={name: OfModality(name) for name in MODALITIES})
    drops: defaultdict[Modality, list[float]] = defaultdict(list)
    of_query: defaultdict[str, list[tuple[Modality, ...]]] = defaultdict(list)
    for one in necessities(tables):
        found.positives += 1
        found.nowhere += not one.rests_on
        of_query[one.query_id].append(one.rests_on)
        for without in one.without:
            found.modalities[without.modality].asked += 1
            if without.drop is not None:
                drops[without.modality].append(without.drop)
        for modality in one.rests_on:
            found.modalities[modality].needed += 1
        for modality in one.unseen:
            found.modalities[modality].unseen += 1
        if one.target_modality is not None:
            found.modalities[one.target_modality].target += 1
    for modality, known in drops.items():
        found.modalities[modality].drop = fmean(known)
    found.modalities = {name: one for name, one in found.modalities.items() if one.asked or one.needed or one.unseen}
    for row in tables.rows("ranking", ["query_id", "variant"]):
        for rests_on in of_query.get(row["query_id"], ()):
            total, needed = found.by_variant.get(row["variant"], (0, Counter()))
            found.by_variant[row["variant"]] = (total + 1, needed + Counter(rests_on))
    return found
