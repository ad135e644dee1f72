"""Several outputs side by side: what each kept, how its pairs were judged, what people say of them, what it took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from pipeline.outputs.manifest import Manifest, read_manifest
from schemas.example import STRATA
from transforms.ledger import read_ledger
from transforms.storage.files import join, read_bytes

Figures = Mapping[str, Any]  # by name, in the order of the page; None where an output does not tell


def figures_of(output: str) -> Figures:
    """What is to be compared of one output; memory grows with its judged pairs, by a number each.

    Raises:
        NotAnOutput: there is none.
    """
    return dict(_figures(output, read_manifest(output)))


def _figures(output: str, manifest: Manifest) -> Iterator[tuple[str, Any]]:
    tables = manifest.tables(output)
    yield "recipe", f"{manifest.recipe.get('name')} {manifest.recipe_fingerprint}"
    yield "began", manifest.created
    for name, prompt in sorted(manifest.prompts.items()):
        yield f"prompt {name}", prompt.version
    for role in ("writer", "judge"):
        stamp = manifest.engines.get(role)
        yield role, f"{stamp.name} {stamp.model}".strip() if stamp else None
    for line in read_ledger(read_bytes(join(output, "ledger.json"))):
        if line.stage != "emit" and line.entered:
            share = f"{line.left:,} of {line.entered:,} ({line.left / line.entered:.0%})"
            yield f"left by {line.stage}/{line.step}", share
    yield "groups", tables.count("ranking")
    for split in ("train", "validation"):
        yield f"groups, {split}", tables.count("ranking", split)
    margins: dict[str, list[float]] = {stratum: [] for stratum in STRATA}
    pairs = dict.fromkeys(STRATA, 0)
    yes = judged = 0
    for row in tables.rows("judgements", ["stratum", "label", "delta"]):
        pairs[row["stratum"]] = pairs.get(row["stratum"], 0) + 1
        judged, yes = judged + 1, yes + (row["label"] == "yes")
        if row["delta"] is not None:
            margins.setdefault(row["stratum"], []).append(row["delta"])
    yield "pairs judged", judged
    yield "of them yes", f"{yes / judged:.1%}" if judged else None
    for stratum, count in pairs.items():
        found = margins.get(stratum)
        middle = f", median margin {median(found):+.2f}" if found else ""
        yield (stratum or "no stratum").replace("_", " "), f"{count:,}{middle}"
    people = manifest.agreement
    yield "kappa with people", people.kappa.plain if people and people.kappa else None
    left = people.false_negatives if people else None
    yield "false negatives left", left.percent if left else None
    used = list(manifest.work.values())
    yield "results made", sum(each.get("run", 0) for each in used)
    for name in ("input_tokens", "output_tokens"):
        yield name.replace("_", " "), sum(each.get(name, 0) for each in used) or None
    yield "seconds", manifest.elapsed_s


def compare_text(outputs: Sequence[str], found: Sequence[Figures]) -> str:
    """A line a figure and a column an output; what differs has an asterisk."""
    names = dict.fromkeys(name for figures in found for name in figures)
    rows = [("", *outputs)]
    rows += [(name, *(_shown(figures.get(name)) for figures in found)) for name in names]
    widths = [max(len(row[at]) for row in rows) for at in range(len(outputs) + 1)]
    lines = []
    for row in rows:
        differs = "*" if row[0] and len(set(row[1:])) > 1 else " "
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=True))
        lines.append(f"{differs} {'  '.join(cells)}".rstrip())
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
