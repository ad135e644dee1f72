"""A problem that verification found: one line that names the file, the row and the rule."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.visible import one_line


@dataclass(frozen=True, slots=True)
class Problem:
    """``row`` is the id of the row (or the ledger line) concerned, empty where the whole file is."""

    file: str
    rule: str
    row: str = ""

    def __str__(self) -> str:
        where = f"{self.file}, {self.row}" if self.row else self.file
        return one_line(f"{where}: {self.rule}")  # it may quote a file that somebody tampered with
