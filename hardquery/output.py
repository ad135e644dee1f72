"""An output folder, opened: its tables as Arrow, its groups one by one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from hardquery.groups import Groups
from hardquery.ready import ready

if TYPE_CHECKING:  # heavy, and imported where used
    import pyarrow as pa

    from pipeline.outputs.manifest import Manifest
    from pipeline.outputs.tables import Tables


def open(path: str | PathLike[str]) -> Output:
    """A finished output, from this machine or an object store.

    Raises:
        NotAnOutput: there is none, or it is of another version.
    """
    output = Output(fspath(path).rstrip("/"))
    output.manifest  # noqa: B018 - so that what is no output is refused here
    return output


@dataclass(frozen=True)
class Output:
    """What a run published at ``path``; nothing is read before it is asked for."""

    path: str

    @cached_property
    def manifest(self) -> Manifest:
        """What the run was given, what it used, and every file that it wrote."""
        ready()
        from pipeline.outputs.manifest import read_manifest

        return read_manifest(self.path)

    @property
    def tables(self) -> Tables:
        """The tables, to be read row by row: ``out.tables.rows("queries")``."""
        return self.manifest.tables(self.path)

    def table(self, name: str, split: str | None = None, columns: list[str] | None = None) -> pa.Table:
        """A whole table as Arrow; ``.to_pandas()`` makes a frame of it.

        ``name`` is one of videos, queries, judgements, ranking, perception, rejections and failures; ``split`` is train
        or validation, of those that have splits.

        Raises:
            ValueError: there is no such table.
        """
        return self.tables.arrow(name, split, columns)

    def groups(self, stratum: str | None = None, split: str | None = None) -> Groups:
        """The ranking groups in the order of the shards; with ``stratum`` those that have a candidate of it."""
        return Groups(self.tables, stratum, split)

    def explain(self, wanted: str) -> str:
        """The story of a query, a video or a pair, as ``hardquery explain`` tells it.

        Raises:
            UnknownId: the output knows no such thing.
        """
        ready()
        from pipeline.outputs.explain.explain import explain

        return explain(self.path, wanted)

    def verify(self) -> list[Any]:
        """What breaks a rule of ``hardquery verify``; empty where the output is sound."""
        ready()
        from pipeline.outputs.verify.verify import verify

        return list(verify(self.path))

    def _repr_html_(self) -> str:
        counts = {name: self.tables.count(name) for name in ("videos", "queries", "judgements", "ranking")}
        cells = "".join(
            f"<tr><td>{name}</td><td style='text-align:right'>{n:,}</td></tr>" for name, n in counts.items()
        )
        from html import escape

        return f"<b>{escape(self.path)}</b><table>{cells}</table>"
