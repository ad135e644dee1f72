"""The thresholds that a run mined and curated by: the numbers of its recipe, or what those that are fitted came to."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Literal, get_args

import pyarrow.compute as pc

from pipeline.outputs.manifest import RunInfo
from pipeline.outputs.problem import Problem
from pipeline.outputs.tables import Tables
from schemas.check import read_plain
from transforms.curate.curate_query import CurateRules
from transforms.curate.thresholds import CurateConfig, Margins, calibration_text
from transforms.teacher.panel import PanelRules

Alpha = Literal["alpha1", "alpha2"]
ALPHAS: tuple[Alpha, ...] = get_args(Alpha)


def rules_of(run: RunInfo) -> CurateRules:
    """The rules by which a run told its pairs apart.

    Raises:
        msgspec.ValidationError, InvalidRecord: its manifest does not hold them.
    """
    judge = run.recipe.get("judge", {})
    panel = read_plain(judge.get("panel_rules", {}), PanelRules) if judge.get("panel") else None
    return config_of(run).rules(run.thresholds, panel)


def config_of(run: RunInfo) -> CurateConfig:
    """The rules as the recipe has them; raises ``msgspec.ValidationError``."""
    return read_plain(run.recipe.get("curate", {}), CurateConfig)


def fitted_text(run: RunInfo, name: Alpha) -> str:
    """``quantile 0.3 = -4.12 nats over 3,804 pairs``; "" where the threshold is a number of the recipe.

    ``calibrated 0.02 = -3.07 nats, at or below which at most 6 of 330 known positives lie``.
    """
    given: Any = run.recipe.get("curate", {}).get(name)
    if not isinstance(given, dict) or run.thresholds is None:
        return ""
    came_to = getattr(run.thresholds, name)
    if (share := given.get("calibrated")) is not None:
        return f"calibrated {share:g} = {came_to:.2f} nats, {calibration_text(share, run.thresholds.positives)}"
    return f"quantile {given['quantile']:g} = {came_to:.2f} nats over {run.thresholds.pairs:,} pairs"


def fitted_texts(run: RunInfo, stages: Collection[str] = ("mine", "curate")) -> list[str]:
    """What each fitted threshold of these stages' rules came to.

    ``alpha1 = quantile 0.3 = -4.12 nats over 3,804 pairs``;
    ``mine.margin = quantile 0.1 = a spread of 0.0412 over 1,203 queries``.
    """
    texts = []
    if "mine" in stages and run.margin is not None:
        share = run.recipe["mine"]["margin"]["quantile"]
        came_to = f"a spread of {run.margin.spread:.4g} over {run.margin.queries:,} queries"
        texts.append(f"mine.margin = quantile {share:g} = {came_to}")
    if "curate" in stages:
        texts += [f"{name} = {text}" for name in ALPHAS if (text := fitted_text(run, name))]
    return texts


def check_thresholds(tables: Tables, run: RunInfo) -> Iterator[Problem]:
    """Whether fitted thresholds are what the judgements say; memory grows by 8 bytes a pair where there are some."""
    config = config_of(run)
    if not config.follows_margins:
        return
    margins = Margins()
    for rows in tables.batches("judgements", ["is_positive", "delta"]):
        told, positive = pc.is_valid(rows.column("delta")), rows.column("is_positive")
        for kind, chosen in (
            (margins.others, pc.and_not(told, positive)),
            (margins.positives, pc.and_(told, positive)),
        ):
            kind.frombytes(rows.column("delta").filter(chosen).to_numpy().tobytes())
    due = config.thresholds(margins)
    if run.thresholds != due:
        yield Problem("manifest.json", f"the judgements make its thresholds {due}, got {run.thresholds}")
