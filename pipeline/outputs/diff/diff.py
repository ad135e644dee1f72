"""What changed between two outputs: the differences of what went in, and every row that differs, with its causes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.outputs.diff.causes import DECIDING, Attribution
from pipeline.outputs.diff.compare import Change, Kind, Slice, compare
from pipeline.outputs.diff.given import Cause, Causes, Given
from pipeline.outputs.diff.lost import read_lost
from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.run_lines import run_files, runs_of
from pipeline.outputs.tables import Row
from schemas.tables import TABLES

# Each table after those that its rows are made from; queries come back with their verdicts once judgements are known.
_ORDER = (
    "videos",
    "judgements",
    "queries",
    "ranking",
    "ranking_by_video",
    "necessity",
    "perception",
    "rejections",
    "failures",
)

# What identifies a row that is in one output only to a reader.
SHOWN: Mapping[str, tuple[str, ...]] = {
    "videos": ("uri",),
    "queries": ("text", "verdict", "reason"),
    "judgements": ("label", "delta", "stratum"),
    "ranking": ("query",),
    "ranking_by_video": ("candidates",),
    "necessity": ("rests_on",),
    "perception": ("caption",),
    "rejections": ("detail",),
    "failures": ("error_class", "message"),
}


@dataclass(frozen=True, slots=True)
class RowChange:
    """A row that differs, why, and its values in A and in B in the columns that differ (frames apart)."""

    change: Change
    causes: tuple[Cause, ...]
    before: Row | None
    after: Row | None


Wanted = Callable[[Change, tuple[Cause, ...]], bool]
Taken = Callable[[RowChange], None]


@dataclass
class Diff:
    """What differs between the outputs A and B.

    ``same`` counts rows by table, ``changed`` by table, kind of change and causes; ``files`` are those that differ and
    are no table. ``given`` holds what the manifests say.
    """

    outputs: tuple[str, str]
    given: Given
    files: list[str]
    same: Counter[str] = field(default_factory=Counter)
    changed: Counter[tuple[str, Kind, tuple[Cause, ...]]] = field(default_factory=Counter)

    @property
    def rows_differ(self) -> bool:
        """Whether any table has a row that is not in both outputs alike."""
        return bool(self.changed)

    def count(self, table: str, kind: Kind) -> int:
        """Rows of a table with this kind of change."""
        return sum(count for (name, what, _), count in self.changed.items() if (name, what) == (table, kind))


def diff(output_a: str, output_b: str, wanted: Wanted, taken: Taken) -> Diff:
    """Compare two finished outputs; rows of which ``wanted`` says so are handed to ``taken`` with their values.

    Memory grows with the number of videos and queries that differ, and with one shard of each table, never with
    frames. Shards with the same bytes are not read.

    Raises:
        NotAnOutput: one of them is not finished, or a file of it cannot be read.
    """
    outputs = (output_a, output_b)
    a, b = (read_manifest(output) for output in outputs)
    sides = a.tables(output_a), b.tables(output_b)
    hashes = [{file.path: file.sha256 for file in manifest.files} for manifest in (a, b)]
    files = ("ledger.json", "qrels.trec", *run_files([*dict.fromkeys((*runs_of(a.recipe), *runs_of(b.recipe)))]))
    found = Diff(outputs, Given(a, b), [path for path in files if hashes[0].get(path) != hashes[1].get(path)])
    slices: dict[str, Iterable[Slice]] = {name: compare(TABLES[name], *sides, DECIDING[name]) for name in _ORDER}
    for name in ("videos", "queries"):
        slices[name] = list(slices[name])
    lost = read_lost(sides[0], "A"), read_lost(sides[1], "B")
    why = Attribution(found.given, lost, _changes(slices["videos"]), _changes(slices["queries"]))
    for name in _ORDER:
        for part in slices[name]:
            _count(found, name, part, why.causes(name, part.changes), wanted, taken)
    return found


def _changes(slices: Iterable[Slice]) -> Iterator[Change]:
    for part in slices:
        yield from part.changes


def _count(found: Diff, table: str, part: Slice, causes: Sequence[Causes], wanted: Wanted, taken: Taken) -> None:
    found.same[table] += part.same
    chosen: dict[int, tuple[Cause, ...]] = {}
    for at, (change, why) in enumerate(zip(part.changes, causes, strict=True)):
        ordered = tuple(sorted(why, key=_unknown_first))
        found.changed[table, change.kind, ordered] += 1
        if wanted(change, ordered):
            chosen[at] = ordered
    changes = [part.changes[at] for at in chosen]
    for change, ordered, values in zip(changes, chosen.values(), part.values(changes, SHOWN[table]), strict=True):
        taken(RowChange(change, ordered, *values))


def _unknown_first(cause: Cause) -> tuple[bool, Cause]:
    return cause.kind != "unknown", cause
