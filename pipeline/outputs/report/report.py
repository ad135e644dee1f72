"""The report: one self-contained page that shows what a run made, what it lost, and examples with their frames."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import islice
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.outputs.manifest import Manifest, by_role
from pipeline.outputs.report.calls import calls_of, prompt_cache_warning
from pipeline.outputs.report.groups import show_groups, splits_hint
from pipeline.outputs.report.histogram import HEIGHT, WIDTH, histogram
from pipeline.outputs.report.pictures import strip
from pipeline.outputs.report.summary import MOST_DEMANDS, STAND_INS, Loss, Summary, duration, stratum_order
from pipeline.outputs.report.sureness import sureness_hint
from pipeline.outputs.staging import STAGING
from pipeline.outputs.tables import Row, Tables, VideoIndex, evidence_of
from pipeline.outputs.thresholds import fitted_texts, rules_of
from schemas.difficulty import DIMENSIONS, LENGTHS
from schemas.losses import STAGES
from schemas.video import MODALITIES
from schemas.visible import UNREADABLE, visible
from transforms.ledger import Line, by_stage

EXAMPLES = 6
_LISTED = 40  # rows of a table of failures; the tables folder holds all
_SNIPPET = 180  # characters
_LEVELS = range(MOST_DEMANDS + 1)


@dataclass(frozen=True, slots=True)
class Shown:
    """One candidate of an example as the page shows it; ``frames`` are data URLs."""

    candidate: Row
    title: str
    file: str
    frames: tuple[str, ...]
    evidence: tuple[tuple[str, str], ...]


def render_report(output: str, manifest: Manifest, summary: Summary) -> str:
    """The page as HTML. All text from outside is escaped, and the page forbids itself scripts and network."""
    tables = manifest.tables(output)
    curate = manifest.recipe.get("curate", {})
    index, near = _index(tables), summary.near
    rules = rules_of(manifest)
    thresholds = [("α1", rules.alpha1), ("α2", rules.alpha2)] if curate else []
    return (
        _environment()
        .get_template("report.html")
        .render(
            s=summary,
            m=manifest,
            name=output_name(output),
            palette=Markup(resources.files("pipeline.outputs").joinpath("palette.css").read_text("utf-8")),
            contents=_contents(summary),
            dropped=list(_dropped(tables)),
            recipe=manifest.recipe,
            curate=curate,
            engines=[(role, manifest.engines[role]) for role in by_role(manifest.engines)],
            stand_ins=[(role, STAND_INS[name]) for role, name in summary.stand_ins.items()],
            funnels=[summary.video_funnel(), summary.query_funnel(), summary.pair_funnel()],
            ledger=[
                (stage, [(line, _lost(line)) for line in lines]) for stage, lines in by_stage(summary.lines).items()
            ],
            asked=calls_of(manifest.work),
            warning=prompt_cache_warning(manifest),
            modalities=[(name, summary.modalities[name]) for name in MODALITIES],
            strata=sorted(summary.strata.items(), key=lambda item: stratum_order(item[0])),
            matrix=_matrix(summary),
            hard=_hard(summary),
            demands=_demands(summary),
            histogram=histogram(summary.margins, thresholds),
            hint=sureness_hint(tables, summary.lines, rules.alpha1) if curate else "",
            fitted=fitted_texts(manifest),
            unseen=summary.unseen_by_judge,
            canvas=(WIDTH, HEIGHT),
            failures=list(islice(tables.rows("failures"), _LISTED)),
            failed=tables.count("failures"),
            groups=[_group(row, index) for row in choose_examples(tables)],
            near=near,
            near_shown=show_groups(near, index),
            splits=splits_hint(near, summary.rows["videos"], manifest.recipe),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.outputs.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(number=_number, duration=duration, words=_words, nats=_nats)
    return environment


def _visible(value: Any) -> Any:
    """What an expression of the page shows: an address is kept as it is, and may hold what turns text around."""
    return visible(value, UNREADABLE) if type(value) is str else value  # Markup is the template's own


def choose_examples(tables: Tables, count: int = EXAMPLES) -> list[Row]:
    """The examples to show: one of each variant in turn, those first in which the judge is least sure, ties by id."""
    best: dict[str, list[tuple[float, str]]] = {}
    for row in tables.rows("ranking", ["query_id", "variant", "candidates.list.element.delta"]):
        margins = [abs(each["delta"]) for each in row["candidates"] if each["delta"] is not None]
        ranked = best.setdefault(row["variant"] or "", [])
        ranked.append((min(margins, default=0.0), row["query_id"]))
        ranked.sort()
        del ranked[count:]
    turns = sorted((place, *found) for ranked in best.values() for place, found in enumerate(ranked))
    chosen = [query_id for _, _, query_id in turns[:count]]
    rows = {row["query_id"]: row for row in tables.rows("ranking") if row["query_id"] in chosen}
    return [rows[query_id] for query_id in chosen]


def output_name(output: str) -> str:
    """The name of an output, given its folder or the one in which it is staged."""
    return posixpath.basename(output.rstrip("/").removesuffix(f"/{STAGING}")) or "hardquery"


def _contents(summary: Summary) -> list[tuple[str, str, bool]]:
    """The parts of the page: id, name, and whether this output has it."""
    return [
        ("from-files-to-examples", "From files to examples", True),
        ("margins", "Margins", True),
        ("panel", "Panel", summary.panel is not None),
        ("first-stages", "First stages", summary.first_stages is not None),
        ("evidence-and-queries", "Evidence and queries", True),
        ("measured", "Difficulty, measured", bool(summary.measured)),
        ("negative-queries", "Negative queries", summary.by_video is not None),
        ("labels-rest", "What labels rest on", summary.labels_rest is not None),
        ("examples", "Examples", True),
        ("left-out", "Left out", bool(summary.dropped)),
        ("test-sets", "Test sets", summary.contamination is not None),
        ("checked-by-people", "Checked by people", summary.manifest.agreement is not None),
        ("near-duplicates", "Near-duplicates", True),
        ("ledger", "Ledger", True),
        ("failures", "Failures", True),
        ("engines-and-prompts", "Engines and prompts", True),
    ]


@dataclass(slots=True)
class Dropped:
    """So many queries were left out for a reason, and one of them."""

    stage: str
    reason: str
    text: str
    detail: str
    count: int = 0


def _dropped(tables: Tables) -> Iterator[Dropped]:
    """The reasons for which queries are in no group, by stage, the most queries first."""
    found: dict[tuple[str, str], Dropped] = {}
    for row in tables.rows("queries", ["text", "verdict", "stage", "reason", "detail"]):
        if row["verdict"] != "kept":
            key = row["stage"] or "", row["reason"] or ""
            found.setdefault(key, Dropped(*key, row["text"], row["detail"] or "")).count += 1
    yield from sorted(found.values(), key=lambda each: (STAGES.index(each.stage), -each.count, each.reason))


def _index(tables: Tables) -> VideoIndex:
    return VideoIndex(tables, ["uri", "split", "metadata", "caption", "asr", "ocr", "frames"])


def _group(row: Row, index: VideoIndex) -> tuple[Row, list[Shown]]:
    return row, [_shown(candidate, index.get(candidate["video_id"])) for candidate in row["candidates"]]


def _shown(candidate: Row, video: Row | None) -> Shown:
    if video is None:
        return Shown(candidate, "", "", (), ())
    evidence = evidence_of(video)
    snippets = ((name, _snippet(evidence.text(name))) for name in MODALITIES)
    shown = tuple(pair for pair in snippets if pair[1])
    return Shown(candidate, evidence.metadata.title, posixpath.basename(video["uri"]), strip(video), shown)


def _matrix(summary: Summary) -> list[tuple[str, list[tuple[int, int]]]]:
    """(kept, written) by query type and variant."""
    return [
        (kind, [(summary.kept[kind, variant], summary.written[kind, variant]) for variant in summary.variants])
        for kind in summary.query_types
    ]


def _hard(summary: Summary) -> list[tuple[str, list[float | None]]]:
    """By dimension, the shares of the queries kept and of those dropped that hinge on it; None of no queries."""
    return [
        (name, [_share(summary.hinging[name, verdict], summary.rated[verdict]) for verdict in ("kept", "dropped")])
        for name in DIMENSIONS
        if summary.rated
    ]


def _demands(summary: Summary) -> list[tuple[str, list[tuple[int, int]]]]:
    """(kept, written) of the queries that their writer rated, by length and by how many dimensions they hinge on."""
    found = summary.demands
    return [
        (length, [(found[length, n, True], found[length, n, True] + found[length, n, False]) for n in _LEVELS])
        for length in LENGTHS
        if any(found[length, n, kept] for n in _LEVELS for kept in (True, False))
    ]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _lost(line: Line) -> list[tuple[str, list[Loss]]]:
    groups = (("rejected", line.rejected), ("failed", line.failed), ("deferred", line.deferred))
    return [(name, _by_count(group.items())) for name, group in groups if group]


def _by_count(counts: Iterable[tuple[str, int]]) -> list[Loss]:
    return [Loss(reason, n) for reason, n in sorted(counts, key=lambda item: (-item[1], item[0]))]


def _snippet(text: str) -> str:
    line = " · ".join(part.strip() for part in text.splitlines() if part.strip())
    return line if len(line) <= _SNIPPET else f"{line[: _SNIPPET - 1].rstrip()}…"


def _number(count: int) -> str:
    return f"{count:,}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _nats(value: Any) -> str:
    return "no margin" if value is None else f"{value:+.2f}".replace("-", "−")
