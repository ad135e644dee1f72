"""Files of an output's input, by what people call them."""

from __future__ import annotations

from pipeline.outputs.tables import Tables


def files_named(tables: Tables, name: str) -> list[str]:
    """The addresses that end in this file name or end of a path, of videos and of files that failed; in order."""
    rows = (row for table in ("videos", "failures") for row in tables.rows(table, ["uri"]))
    return sorted({row["uri"] for row in rows if row["uri"] and row["uri"].endswith(f"/{name}")})
