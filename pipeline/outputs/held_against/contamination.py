"""What an output says of the test sets that it was held against: which files, by which rule, and what was left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pipeline.outputs.manifest import Manifest
from pipeline.outputs.tables import Tables
from transforms.decontaminate.decontaminate import IN_TEST_SET
from transforms.decontaminate.test_sets import TestFile

MOST_EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class Match:
    """Something that was left out: a query or video by its id, and what of which test set it shares."""

    left_out: str
    shares: str


@dataclass(slots=True)
class Contamination:
    """The files that were looked at, what counts, what was left out by test set, and examples.

    ``runs`` are words in a row, ``alike`` cosines and of which first stage, of test sets whose vectors are compared.
    """

    files: tuple[TestFile, ...]
    runs: dict[str, int]
    alike: dict[str, str]
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)  # test set, "queries" or "videos"
    examples: list[Match] = field(default_factory=list)


def contamination(manifest: Manifest, tables: Tables) -> Contamination | None:
    """What was found of the test sets; None where the recipe names none."""
    if not manifest.test_files:
        return None
    runs = {each["name"]: each["run"] for each in manifest.recipe["decontaminate"]}
    alike = {
        each["name"]: f"{rule['cosine']:g} by {rule['run']}"
        for each in manifest.recipe["decontaminate"]
        if (rule := each.get("vectors")) is not None
    }
    found = Contamination(manifest.test_files, runs, alike)
    for row in tables.rows("rejections", ["reason", "detail", "video_id", "query_id"]):
        if row["reason"] == IN_TEST_SET:
            test_set, _, shares = row["detail"].partition(": ")
            found.dropped[test_set, "queries" if row["query_id"] else "videos"] += 1
            if len(found.examples) < MOST_EXAMPLES:
                found.examples.append(Match(row["query_id"] or row["video_id"], f"{test_set}, {shares}"))
    return found
