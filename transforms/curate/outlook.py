"""What thresholds will make of a run, by the queries that were judged first; a run that they leave nothing stops."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from schemas.example import Stratum
from schemas.fingerprint import unit_interval
from schemas.query import Judgement
from transforms.curate.curate_query import CurateRules, reject_reason
from transforms.curate.strata import stratum_of
from transforms.curate.thresholds import CurateConfig, Fitted, Margins, calibration_text

_ENOUGH = 10  # queries, below which a sample says little
_QUANTILES = (0.1, 0.3, 0.5)  # to try instead
_CALIBRATED = (0.02, 0.05, 0.1)  # shares of the known positives, where the recipe has one

_WORDS: Mapping[Stratum, str] = {
    "trusted_negative": "trusted",
    "hard_negative": "hard",
    "suspected_positive": "suspected positives",
}
Groups = Mapping[str, Sequence[Judgement]]  # by query


class ThresholdsReachNothing(ValueError):
    """No query that was judged first would become a group, by the thresholds alone; one line with the fix."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What thresholds made of the queries judged first: ``said`` in a line; ``stop`` is why to go no further, or ""."""

    said: str
    stop: str = ""


def is_judged_first(query_id: str, share: float, seed: int) -> bool:
    """Whether a query is one of the ``share`` that are judged first: by its id, whatever else there is."""
    return unit_interval(f"{seed}:judged first:{query_id}") < share


def without_words(judgement: Judgement) -> Judgement:
    """The judgement without its texts, of which thresholds make nothing."""
    return replace(judgement, rationale="", reply="")


def outlook_of(judgements: Iterable[Judgement], config: CurateConfig) -> Outlook:
    """What the thresholds make of whole queries, of those whose own video was judged.

    There is reason to stop where none of at least ``_ENOUGH`` queries has the trusted negatives that it needs.
    """
    found: defaultdict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        found[judgement.query_id].append(judgement)
    groups = {query_id: group for query_id, group in found.items() if any(one.is_positive for one in group)}
    others = [one for group in groups.values() for one in group if not one.is_positive]
    if not others:
        return Outlook("")
    margins = Margins().add(one for group in groups.values() for one in group)
    thresholds = config.thresholds(margins)
    rules = config.rules(thresholds)
    strata = Counter(stratum_of(one, rules.alpha1, rules.alpha2) for one in others)
    shares = ", ".join(f"{strata[stratum] / len(others):.0%} {word}" for stratum, word in _WORDS.items())
    judged = f"{len(groups):,} queries judged first"
    calibrated = _calibrated(config)
    known = f" ({calibration_text(calibrated, thresholds.positives)})" if calibrated and thresholds.positives else ""
    said = (
        f"curate.alpha1 = {rules.alpha1:.4g}{known}, alpha2 = {rules.alpha2:.4g}, by {judged}: of "
        f"{len(others):,} candidates {shares}; {_kept(groups, rules):,} of {len(groups):,} queries become groups"
    )
    if len(groups) < _ENOUGH or any(_reached(group, rules) for group in groups.values()):
        return Outlook(said)
    least = f"their margins are {min(margins.others):.2f} or more" if margins.others else "none of them has a margin"
    return Outlook(
        said,
        f"none of {judged} has the trusted negatives that it needs (curate.min_trusted = {rules.min_trusted}) at "
        f"curate.alpha1 = {rules.alpha1:.4g}{known}: of {len(others):,} candidates {shares}, and {least}. "
        f"{_fixes(config, groups, margins)}What was judged is not paid for again; --set judge.sample_queries=0 goes on",
    )


def _calibrated(config: CurateConfig) -> float | None:
    return config.alpha1.calibrated if isinstance(config.alpha1, Fitted) else None


def _fixes(config: CurateConfig, groups: Groups, margins: Margins) -> str:
    """What other fitted thresholds would keep of the same queries: shares like the recipe's own, and quantiles."""
    ways = {"quantile": [Fitted(quantile=share) for share in _QUANTILES]}
    if _calibrated(config) is not None:
        ways = {"calibrated": [Fitted(calibrated=share) for share in _CALIBRATED], **ways}
    found = {way: kept for way, others in ways.items() if (kept := _keeping(others, config, groups, margins))}
    if not found:
        return "No quantile keeps one, so that no threshold helps: `hardquery audit judge` looks into the judge. "
    told = "; of ".join(f"--set 'curate.alpha1={{{way}: Q}}', Q = {', '.join(kept)}" for way, kept in found.items())
    return f"Of {told} of the {len(groups):,}. "


def _keeping(others: Sequence[Fitted], config: CurateConfig, groups: Groups, margins: Margins) -> list[str]:
    """``0.3 (-3.00) keeps 12`` of each threshold that keeps any."""
    found = []
    for other in others:
        tried = CurateConfig(other, config.alpha2, config.min_trusted, config.max_negatives)
        rules = tried.rules(tried.thresholds(margins))
        if kept := _kept(groups, rules):
            found.append(f"{other.quantile or other.calibrated:g} ({rules.alpha1:.2f}) keeps {kept:,}")
    return found


def _reached(group: Iterable[Judgement], rules: CurateRules) -> bool:
    return _trusted(group, rules) >= rules.min_trusted


def _trusted(group: Iterable[Judgement], rules: CurateRules) -> int:
    return sum(stratum_of(one, rules.alpha1, rules.alpha2) == "trusted_negative" for one in group)


def _kept(groups: Groups, rules: CurateRules) -> int:
    return sum(reject_reason(group, _trusted(group, rules), rules) is None for group in groups.values())
