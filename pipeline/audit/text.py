"""An audit as plain text and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from pipeline.audit.audit import Audit
from pipeline.audit.coverage import LITTLE_MASS, WIDTHS, Coverage
from pipeline.audit.figures import Calibration, Shift
from pipeline.outputs.manifest import Manifest
from pipeline.outputs.plain_text import Lines, field, heading, page
from pipeline.outputs.report.summary import BIN_NATS

FLIPS, NATS = 0.02, 0.5
"""What planted texts may do to a judge that is to be trusted: so many labels flipped, so far a mean margin moved."""

_BAR = 40
_MOST_ROWS = 24


def audit_text(output: str, manifest: Manifest, audit: Audit) -> str:
    """What people read."""
    return page(_lines(output, manifest, audit))


def audit_json(audit: Audit) -> str:
    """One JSON object; margins are a list of bins, and of the known positives' margins only the number is told."""
    found = audit.coverage
    counted = {name: getattr(found, name) for name in found.__slots__}
    counted["positives"] = len(found.positives)
    counted["widths"] = {f"{bound:g}": n for bound, n in sorted(found.widths.items())}
    counted["margins"] = [
        {"label": label, "from": at * BIN_NATS, "to": (at + 1) * BIN_NATS, "pairs": n}
        for (label, at), n in sorted(found.margins.items())
    ]
    values = {name: getattr(audit, name) for name in audit.__slots__} | {"coverage": counted}
    return msgspec.json.format(msgspec.json.encode(values), indent=2).decode()


def _lines(output: str, manifest: Manifest, audit: Audit) -> Lines:
    stamp, found = manifest.engines["judge"], audit.coverage
    model = f" {stamp.model}" if stamp.model else ""
    yield f"JUDGE {stamp.name}{model} of {output}"
    yield from heading("Labels")
    yield from field(
        "judged",
        f"{found.pairs:,} pairs: {_counts(found.labels)}; {_counts(found.positive_labels)} of their known positives",
    )
    yield from field("rationale", f"{found.without_rationale:,} pairs have none")
    if found.unread or found.failed:
        yield from field("not judged", _counts(found.unread + found.failed))
    yield from heading("Confidence")
    yield from _confidence(found)
    if found.margins:
        yield from heading(f"Margins (nats; alpha1 {audit.alpha1:g}, alpha2 {audit.alpha2:g})")
        yield from _histogram(found, {"alpha1": audit.alpha1, "alpha2": audit.alpha2})
    if not audit.sample:
        yield from ("", "Calibration, biases and gullibility are measured by asking: --sample 25 (see --help).")
        return
    yield from heading("Asked again")
    yield from field("questions", f"{audit.asked:,} asked, {audit.cached:,} answered from the cache")
    if audit.problems:
        yield from field("no answer", _counts(audit.problems))
    yield from heading("Known positives against unrelated pairs (both kinds weigh the same)")
    yield from field("unrelated", f"{audit.unrelated_yes} of {audit.unrelated} called relevant")
    yield from _calibration(audit.calibration, audit.alpha1)
    if audit.left_out:
        yield from heading("Pairs that mining left out before they were judged")
        yield from field("left out", f"{audit.left_out_yes} of {audit.left_out} called relevant")
    yield from heading("The same pairs, asked in another way")
    yield from _shifts(audit.biases)
    yield from heading(f"Planted texts (unrelated pairs; at most {FLIPS:.0%} flipped and {NATS:g} nats to yes)")
    yield from _shifts(audit.planted, limits=True)


def _confidence(found: Coverage) -> Lines:
    shares = ", ".join(f"{name} {n:,} ({n / found.pairs:.1%})" for name, n in found.sources.most_common())
    yield from field("sources", shares or "none")
    widths = ", ".join(f"<= {bound:g}: {found.widths[bound]:,}" for bound in WIDTHS if found.widths[bound])
    if wide := found.widths[float("inf")]:
        widths += f"{', ' if widths else ''}wider: {wide:,}"
    yield from field("intervals", f"{widths} (nats)" if widths else "none")
    if found.censored:
        yield from field("censored", f"one side was not reported: {_counts(found.censored)}")
    yield from field("against", f"{found.against_label:,} margins have another sign than their label")
    yield from field("little mass", f"{found.little_mass:,} pairs have yes and no below {LITTLE_MASS:.0%} together")


def _histogram(found: Coverage, thresholds: Mapping[str, float]) -> Lines:
    first, last = min(at for _, at in found.margins), max(at for _, at in found.margins) + 1
    merged = 1
    while (last - first) / merged > _MOST_ROWS:
        merged *= 2
    rows: Counter[int] = Counter()
    of_yes: Counter[int] = Counter()
    for (label, at), n in found.margins.items():
        rows[at // merged] += n
        of_yes[at // merged] += n if label == "yes" else 0
    tallest = max(rows.values())
    for row in range(first // merged, (last - 1) // merged + 1):
        low, high = row * merged * BIN_NATS, (row + 1) * merged * BIN_NATS
        bar = "#" * round(_BAR * rows[row] / tallest)
        marks = "".join(f"  <- {name}" for name, at in thresholds.items() if low <= at < high)
        said = f"{rows[row]:,}" + (f" ({of_yes[row]:,} yes)" if of_yes[row] else "")
        yield f"  {low:>+6.1f} to {high:>+6.1f}  {bar:<{_BAR}}  {said}{marks}".rstrip()


def _calibration(found: Calibration | None, alpha1: float) -> Lines:
    if found is None:
        yield from field("calibration", "none: there are no margins of both kinds")
        return
    yield from field(
        "AUC", f"{found.auc:.3f} over {found.relevant:,} known positives and {found.others:,} unrelated pairs"
    )
    yield from field("Brier score", f"{found.brier:.3f} (0.25 is a coin)")
    sure = (
        "too sure of itself"
        if found.temperature > 1.1
        else "too unsure"
        if found.temperature < 0.9
        else "as sure as it should be"
    )
    yield from field("temperature", f"{found.temperature:.2f}: {sure}")
    below = f"{found.others_below:.1%} of unrelated pairs and {found.relevant_below:.1%} of known positives"
    yield from field("alpha1", f"{below} lie at or below {alpha1:g}")
    for share, fit, others in found.fits:
        yield from field(
            f"calibrated {share:g}", f"alpha1 would be {fit:.2f}, with {others:.1%} of unrelated pairs trusted"
        )
    yield f"  {'p_yes':>12}  {'pairs':>7}  {'mean p_yes':>10}  relevant"
    for part in found.bins:
        span = f"{part.low:.2f} - {part.high:.2f}"
        yield f"  {span:>12}  {part.pairs:>7,}  {part.mean_p_yes:>10.3f}  {part.relevant:>8.3f}"


def _shifts(shifts: Mapping[str, Shift], limits: bool = False) -> Lines:
    if not shifts:
        yield "  nothing to compare"
        return
    width = max(map(len, shifts))
    yield f"  {'':<{width}}  {'pairs':>5}  {'flipped':>7}  {'to yes':>6}  {'mean shift':>10}  {'mean size':>9}"
    for way, found in shifts.items():
        share = found.flips / found.compared if found.compared else None
        flipped = "-" if share is None else f"{share:.0%}"
        mean = "-" if found.mean is None else f"{found.mean:+.2f}"
        size = "-" if found.size is None else f"{found.size:.2f}"
        over = limits and ((share or 0) > FLIPS or (found.mean or 0) > NATS)
        row = f"  {way:<{width}}  {found.compared:>5}  {flipped:>7}  {found.to_yes:>6}  {mean:>10}  {size:>9}"
        yield row + ("  over the limit" if over else "")


def _counts(counts: Mapping[str, int]) -> str:
    named: dict[str, Any] = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return ", ".join(f"{n:,} {name}" for name, n in named.items()) or "none"
