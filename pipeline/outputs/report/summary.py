"""What card and report say in numbers: one pass over each table of an output, in bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pipeline.outputs.held_against.contamination import Contamination, contamination
from pipeline.outputs.manifest import Manifest
from pipeline.outputs.measured.difficulty import Level, levels
from pipeline.outputs.measured.necessity import LabelsRest, count_necessities
from pipeline.outputs.report.by_video import ByVideo, count_by_video
from pipeline.outputs.report.first_stages import FirstStages, compare_first_stages
from pipeline.outputs.report.groups import GroupCounts, count_groups
from pipeline.outputs.report.panel import Panel, compare_judges
from pipeline.outputs.tables import Tables, written
from schemas.difficulty import HIGHEST
from schemas.example import SPLITS, STRATA, Split
from schemas.losses import STAGES
from schemas.query import QUERY_TYPES, VARIANTS
from schemas.video import MODALITIES, Modality
from transforms.ledger import Line, read_ledger
from transforms.storage.files import join, read_bytes

BIN_NATS = 0.5  # width of a bin of the margins' histogram
STAND_INS = {
    "pixels": "a describer of pixels (shots, colours, motion) that recognises no thing",
    "pocketsphinx": "a speech recogniser of an older kind, which mishears most free speech",
    "rules": "a set of rules that looks at words, not at meaning",
}
"""Embedded engines that need no model, and what they really are."""


@dataclass(frozen=True, slots=True)
class Loss:
    """So many items were lost for this reason ("stage: reason" where several stages share a bar)."""

    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the funnel: how many items are left, and why the others of the bar above are not among them."""

    name: str
    count: int
    losses: tuple[Loss, ...] = ()


MOST_REASONS = 4
"""Reasons that a language's queries were lost for which are told."""
MOST_DEMANDS = 3
"""Queries that hinge on so many dimensions of difficulty, or on more, are counted together."""


@dataclass(slots=True)
class Summary:
    """Counts of one output. Keys of the counters are as their names say; margins are counted in bins of BIN_NATS."""

    manifest: Manifest
    lines: list[Line]
    rows: dict[str, int]
    examples: dict[Split, int]
    perception: dict[Split, int]
    by_video: ByVideo | None
    near: GroupCounts
    duration_s: float = 0.0
    frames: int = 0
    events: set[str] = field(default_factory=set)
    languages: Counter[str] = field(default_factory=Counter)
    modalities: Counter[str] = field(default_factory=Counter)
    warnings: Counter[tuple[str, str]] = field(default_factory=Counter)  # part, reason
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)  # stage, reason of queries
    written: Counter[tuple[str, str]] = field(default_factory=Counter)  # query type, variant
    kept: Counter[tuple[str, str]] = field(default_factory=Counter)
    asked_in: Counter[tuple[str, str]] = field(default_factory=Counter)  # language, "kept" or the reason why not
    rated: Counter[str] = field(default_factory=Counter)  # verdict, of queries that their writer rated
    hinging: Counter[tuple[str, str]] = field(default_factory=Counter)  # dimension of difficulty, verdict
    demands: Counter[tuple[str, int, bool]] = field(default_factory=Counter)  # length, dimensions hinged on, kept
    strata: Counter[str] = field(default_factory=Counter)
    pairs_kept: int = 0
    pairs_dropped: Counter[str] = field(default_factory=Counter)
    confidence: Counter[str] = field(default_factory=Counter)
    margins: Counter[tuple[str, int]] = field(default_factory=Counter)  # label, bin
    cut: Counter[tuple[str, str]] = field(default_factory=Counter)  # table, modality of rows whose prompt cut it
    group_sizes: Counter[int] = field(default_factory=Counter)  # negatives of an example
    failures: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # stage, step, error class
    rejections: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # stage, step, reason
    first_stages: FirstStages | None = None  # of several
    contamination: Contamination | None = None
    panel: Panel | None = None
    labels_rest: LabelsRest | None = None
    measured: list[Level] = field(default_factory=list)

    @property
    def recipe_told(self) -> str:
        """What the recipe says of itself; and that values of it were changed, where the project ships it."""
        from pipeline.config import load_recipe, recipe_names

        name, told = self.manifest.recipe["name"], str(self.manifest.recipe["description"])
        changed = name in recipe_names() and load_recipe(name).fingerprint != self.manifest.recipe_fingerprint
        return f"{told}; some of its settings were changed" if changed else told

    @property
    def stand_ins(self) -> dict[str, str]:
        """Embedded engines that stand in for a model, by role."""
        used = {role: stamp.name for role, stamp in self.manifest.engines.items()}
        return {role: name for role, name in used.items() if name in STAND_INS}

    @property
    def deferred(self) -> dict[tuple[str, str, str], int]:
        """What a budget or a batch left for a later run, by stage, step and reason."""
        return {
            (line.stage, line.step, reason): count
            for line in self.lines
            if line.step != "pairs"  # which wait with their query
            for reason, count in line.deferred.items()
        }

    @property
    def unseen_by_judge(self) -> list[Modality]:
        """Modalities that queries were written from and the judge was not shown."""
        seen = self.manifest.recipe.get("judge", {}).get("modalities", MODALITIES)
        variants = {variant for _, variant in self.written}
        return [name for name in MODALITIES if name not in seen and variants & {name, "all"}]

    @property
    def yields(self) -> list[tuple[str, int, int, str]]:
        """Of each language that was asked for: queries kept, queries written, and why most of the others were lost."""
        found = []
        for language in sorted({language for language, _ in self.asked_in}):
            counts = Counter({said: count for (each, said), count in self.asked_in.items() if each == language})
            written, kept = counts.total(), counts.pop("kept", 0)
            why = ", ".join(
                f"{count} {reason}" for reason, count in sorted(counts.items(), key=_most_first)[:MOST_REASONS]
            )
            found.append((language, kept, written, why))
        return found

    @property
    def query_types(self) -> list[str]:
        """Query types that occur, in their fixed order; "" stands for queries without a type."""
        return [name for name in (*QUERY_TYPES, "") if any(key[0] == name for key in self.written)]

    @property
    def variants(self) -> list[str]:
        """Variants that occur, in their fixed order; "" stands for queries without one (human)."""
        return [name for name in (*VARIANTS, "") if any(key[1] == name for key in self.written)]

    def video_funnel(self) -> list[Bar]:
        """From files of the input to videos with evidence."""
        return [
            Bar("files", self.manifest.entries),
            Bar("videos", self.rows["videos"], _losses(self._lost_at("extract"))),
        ]

    def query_funnel(self) -> list[Bar]:
        """From queries written to examples; each bar but the first says what its stage dropped."""
        left = self.rows["queries"]
        bars = [Bar("queries written", left)]
        names = {"synthesize": "text filters passed", "mine": "mined", "curate": "in examples"}
        for stage, name in names.items():
            lost = Counter({reason: n for (where, reason), n in self.dropped.items() if where == stage})
            left -= lost.total()
            bars.append(Bar(name, left, _losses(lost)))
        return bars

    def pair_funnel(self) -> list[Bar]:
        """From the candidates that a judge may be asked about to those of examples."""
        lost = self._lost_at("judge", "judge")  # and not what its panel lost
        due = self.rows["judgements"] + lost.total()
        guarded = Counter({why: n for (*step, why), n in self.rejections.items() if step == ["mine", "guard"]})
        looked_at = [Bar("candidates", due + guarded.total())] if guarded else []
        return [
            *looked_at,
            Bar("pairs to judge", due, _losses(guarded)),
            Bar("judged", self.rows["judgements"], _losses(lost)),
            Bar("in examples", self.pairs_kept, _losses(self.pairs_dropped)),
        ]

    def _lost_at(self, stage: str, step: str | None = None) -> Counter[str]:
        """Rejections by reason, failures by error class and what was deferred of one stage, or of one step of it."""

        def here(where: str, what: str) -> bool:
            return where == stage and step in (None, what)

        lost = Counter({f"deferred: {why}": n for (*where, why), n in self.deferred.items() if here(*where)})
        for (*where, why), count in (*self.failures.items(), *self.rejections.items()):
            if here(*where):
                lost[why] += count
        return lost


def _losses(counts: Counter[str]) -> tuple[Loss, ...]:
    """Largest first, ties by name."""
    return tuple(Loss(reason, n) for reason, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n)


def summarize(output: str, manifest: Manifest) -> Summary:
    """Count what the tables of ``output`` hold; frames, replies and evidence texts are not kept in memory."""
    tables = manifest.tables(output)
    lines = read_ledger(read_bytes(join(output, "ledger.json")))
    summary = Summary(
        manifest=manifest,
        lines=lines,
        rows={table.name: tables.count(table.name) for table in written(manifest.recipe)},
        examples={split: tables.count("ranking", split) for split in SPLITS},
        perception={split: tables.count("perception", split) for split in SPLITS},
        by_video=count_by_video(tables, manifest.recipe),
        first_stages=compare_first_stages(tables, manifest.recipe),
        panel=compare_judges(tables, lines),
        labels_rest=count_necessities(tables, manifest.recipe),
        measured=levels(tables, manifest.recipe),
        near=count_groups(tables),
    )
    _count_videos(summary, tables)
    _count_queries(summary, tables)
    _count_judgements(summary, tables)
    summary.group_sizes.update(
        sum(not candidate["label"] for candidate in row["candidates"])
        for row in tables.rows("ranking", ["candidates.list.element.label"])
    )
    for row in tables.rows("failures", ["stage", "step", "error_class"]):
        summary.failures[row["stage"], row["step"], row["error_class"]] += 1
    for row in tables.rows("rejections", ["stage", "step", "reason"]):
        summary.rejections[row["stage"], row["step"], row["reason"]] += 1
    summary.contamination = contamination(manifest, tables)
    return summary


def _count_videos(summary: Summary, tables: Tables) -> None:
    columns = ["metadata", "media.duration_s", "caption", "asr", "ocr", "warnings", "frame_times_s"]
    for row in tables.rows("videos", columns):
        metadata: dict[str, Any] = row["metadata"]
        summary.duration_s += row["media"]["duration_s"] or 0.0
        summary.frames += len(row["frame_times_s"] or [])
        if metadata["event"]:
            summary.events.add(metadata["event"])
        if metadata["language"]:
            summary.languages[metadata["language"]] += 1
        present = {**row, "metadata": metadata["title"] or metadata["description"]}
        summary.modalities.update(modality for modality in MODALITIES if present[modality])
        summary.warnings.update((warning["part"], warning["reason"]) for warning in row["warnings"])


def _count_queries(summary: Summary, tables: Tables) -> None:
    for row in tables.rows(
        "queries",
        [
            "query_type",
            "variant",
            "difficulty.rated",
            "difficulty.length",
            "verdict",
            "stage",
            "reason",
            "evidence_cut",
            "language",
        ],
    ):
        if row["language"]:
            said = "kept" if row["verdict"] == "kept" else row["reason"] or "unknown"
            summary.asked_in[row["language"], said] += 1
        kind = (row["query_type"] or "", row["variant"] or "")
        summary.written[kind] += 1
        summary.cut.update(("queries", cut["modality"]) for cut in row["evidence_cut"] or ())
        if ratings := (row["difficulty"] or {}).get("rated"):
            summary.rated[row["verdict"]] += 1
            hinges = [name for name, rating in ratings.items() if rating == HIGHEST]
            summary.hinging.update((name, row["verdict"]) for name in hinges)
            length = row["difficulty"]["length"]
            summary.demands[length, min(len(hinges), MOST_DEMANDS), row["verdict"] == "kept"] += 1
        if row["verdict"] == "kept":
            summary.kept[kind] += 1
        else:
            deferred = "deferred: " if row["verdict"] == "deferred" else ""
            summary.dropped[row["stage"] or STAGES[-1], deferred + (row["reason"] or "unknown")] += 1


def _count_judgements(summary: Summary, tables: Tables) -> None:
    for row in tables.rows(
        "judgements", ["label", "delta", "confidence_source", "stratum", "kept", "reason", "evidence_cut"]
    ):
        summary.strata[row["stratum"] or "none"] += 1
        summary.confidence[row["confidence_source"]] += 1
        summary.cut.update(("judgements", cut["modality"]) for cut in row["evidence_cut"] or ())
        if row["delta"] is not None:
            summary.margins[row["label"], math.floor(row["delta"] / BIN_NATS)] += 1
        if row["kept"]:
            summary.pairs_kept += 1
        else:
            summary.pairs_dropped[row["reason"] or "not in an example"] += 1


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def stratum_order(name: str) -> int:
    """The place of a stratum in tables and legends; unknown ones last."""
    return STRATA.index(name) if name in STRATA else len(STRATA)


def duration(seconds: float) -> str:
    """A length of time as people say it: "42 s", "3 min 20 s", "5 h 7 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
