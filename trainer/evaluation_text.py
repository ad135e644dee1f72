"""What an evaluation says: tables for people, JSON for programs, plots of the scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from trainer.evaluate import (
    JUDGED_AT,
    MEASURES,
    Corpus,
    Group,
    PerQuery,
    Priors,
    Qrels,
    Run,
    ScoreCurves,
    Ties,
    breakdown,
    by_positives,
    judged,
    mean,
    per_query,
    permutation_p,
    priors,
    score_curves,
)

UNKNOWN = Corpus()
SHOWN = ("nDCG@10", "R@10", "R@100")  # in breakdowns
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that is measured of a run, and of its baseline where there is one."""

    queries: int
    unretrieved: int
    ties: Ties
    measures: Mapping[str, PerQuery]
    baseline: Mapping[str, PerQuery] | None
    p_values: Mapping[str, float]
    groups: Sequence[Group]
    curves: ScoreCurves
    priors: Priors | None
    judged: Mapping[str, PerQuery]
    retrieved: int
    corpus: Corpus


def evaluate(
    qrels: Qrels,
    run: Run,
    baseline: Run | None = None,
    values: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    ties: Ties = "trec_eval",
    corpus: Corpus = UNKNOWN,
) -> Evaluation:
    """Measure a run; see ``per_query``, ``permutation_p``, ``breakdown``, ``score_curves``, ``priors`` and ``judged``.

    The measures are broken down by the number of relevant videos, and by ``values``.

    Raises:
        ValueError: there is no query to measure.
    """
    if not qrels:
        raise ValueError("the qrels hold no query")
    measures = per_query(qrels, run, ties)
    before = per_query(qrels, baseline, ties) if baseline is not None else None
    p_values = {name: permutation_p(measures[name], before[name]) for name in MEASURES} if before else {}
    return Evaluation(
        queries=len(qrels),
        unretrieved=sum(not run.get(query_id) for query_id in qrels),
        ties=ties,
        measures=measures,
        baseline=before,
        p_values=p_values,
        groups=breakdown(measures, {"positives": by_positives(qrels), **(values or {})}),
        curves=score_curves(qrels, run),
        priors=priors(run),
        judged=judged(qrels, run),
        retrieved=len({candidate.video_id for query_id in qrels for candidate in run.get(query_id, ())}),
        corpus=corpus,
    )


def as_text(found: Evaluation) -> str:
    """Tables for a terminal."""
    return "\n".join(_lines(found)) + "\n"


def as_json(found: Evaluation) -> str:
    """One JSON object; measures by name, with the value of every query."""
    values = {
        "queries": found.queries,
        "unretrieved": found.unretrieved,
        "ties": found.ties,
        "mean": {name: mean(per) for name, per in found.measures.items()},
        "baseline": {name: mean(per) for name, per in found.baseline.items()} if found.baseline else None,
        "p_values": found.p_values,
        "judged": {name: mean(per) for name, per in found.judged.items()},
        "retrieved": found.retrieved,
        "corpus": found.corpus,
        "groups": found.groups,
        "priors": found.priors,
        "per_query": found.measures,
    }
    return msgspec.json.format(msgspec.json.encode(values), indent=2).decode()


def write_plots(found: Evaluation, folder: Path) -> list[Path]:
    """The distributions of relevant and other scores, and the measures with their baseline, as PNG files."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    curves, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, scores, style in (("relevant", found.curves.relevant, "-"), ("other", found.curves.other, "--")):
        if len(scores):
            axes.step(scores, np.arange(1, len(scores) + 1) / len(scores), style, where="post", label=name)
    axes.set(xlabel="score", ylabel="share of pairs at or below", ylim=(0, 1), title="Scores of retrieved pairs")
    if axes.has_data():
        axes.legend()
    bars, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    places = np.arange(len(MEASURES))
    both = [("run", found.measures)] + ([("baseline", found.baseline)] if found.baseline else [])
    width = 0.8 / len(both)
    for number, (name, measures) in enumerate(both):
        axes.bar(places + number * width, [mean(measures[m]) for m in MEASURES], width, label=name)
    axes.set_xticks(places + width * (len(both) - 1) / 2, MEASURES)
    axes.set(ylim=(0, 1), title=f"Means over {found.queries:,} queries")
    axes.legend()
    paths = [folder / "scores.png", folder / "measures.png"]
    for figure, path in zip((curves, bars), paths, strict=True):
        figure.savefig(path, dpi=120)
        pyplot.close(figure)
    return paths


def _corpus(found: Evaluation) -> str:
    """What was searched, and whether what publishers wrote was an oracle in it."""
    size = "not known" if found.corpus.videos is None else f"{found.corpus.videos:,} videos"
    begin = f"corpus: {size}, {found.retrieved:,} of them retrieved; metadata: "
    if found.corpus.reads is None:
        return f"{begin}not known whether it was read (--data says)"
    reading = [name for name, fields in found.corpus.reads.items() if "metadata" in fields]
    if not reading:
        return f"{begin}read by no first stage"
    return f"{begin}read by {', '.join(reading)}: an oracle beside systems that only see and hear the videos"


def _lines(found: Evaluation) -> Iterator[str]:
    missing = f", {found.unretrieved:,} of them not retrieved (0)" if found.unretrieved else ""
    yield f"{found.queries:,} queries{missing}; ties by {found.ties}"
    yield _corpus(found)
    told = ", ".join(f"{mean(found.judged[f'Judged@{k}']):.1%} of the first {k}" for k in JUDGED_AT)
    yield f"judged: {told}; what nobody judged counts as not relevant"
    yield ""
    yield f"{'measure':<9}  {'run':>7}" + (f"  {'baseline':>8}  {'change':>7}  {'p':>7}" if found.baseline else "")
    for name in MEASURES:
        row = f"{name:<9}  {mean(found.measures[name]):>7.4f}"
        if found.baseline:
            before = mean(found.baseline[name])
            change = mean(found.measures[name]) - before
            row += f"  {before:>8.4f}  {change:>+7.4f}  {found.p_values[name]:>7.4f}"
        yield row
    if found.groups:
        yield from ("", f"{'':<28}  {'queries':>7}  " + "  ".join(f"{name:>8}" for name in SHOWN))
        for group in found.groups:
            name = f"{group.property} {group.value}"
            yield f"{name:<28}  {group.queries:>7,}  " + "  ".join(f"{group.means[m]:>8.4f}" for m in SHOWN)
    yield from ("", f"{'scores':<9}  {'pairs':>8}  " + "  ".join(f"{f'{q:.0%}':>8}" for q in _QUANTILES))
    for name, scores in (("relevant", found.curves.relevant), ("other", found.curves.other)):
        cells = np.quantile(scores, _QUANTILES).tolist() if len(scores) else list[float]()
        yield f"{name:<9}  {len(scores):>8,}  " + "  ".join(f"{value:>8.3f}" for value in cells)
    if found.priors is not None:
        query, video, both = found.priors.query, found.priors.video, found.priors.both
        yield from ("", f"variance of scores explained by query {query:.1%}, by video {video:.1%}, by both {both:.1%}")
