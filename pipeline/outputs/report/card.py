"""The dataset card README.md: what the data is, how to load it, what made it, and what it is not good for."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.outputs.manifest import by_role
from pipeline.outputs.report.calls import calls_of
from pipeline.outputs.report.summary import STAND_INS, Summary, duration, stratum_order
from pipeline.outputs.thresholds import fitted_texts, rules_of
from schemas.example import SPLITS
from schemas.tables import TABLES

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_LANGUAGE = re.compile(r"([a-z]{2,3})(?:[-_]\w+)?", re.IGNORECASE)


def render_card(summary: Summary) -> str:
    """The card as Markdown with YAML front matter; it depends on the data and the recipe, never on the clock."""
    engines = summary.manifest.engines
    return (
        _environment()
        .get_template("card.md")
        .render(
            front_matter=yaml.safe_dump(front_matter(summary), sort_keys=False, allow_unicode=True, width=120),
            s=summary,
            recipe=summary.manifest.recipe,
            rules=rules_of(summary.manifest),
            fitted=fitted_texts(summary.manifest),
            title=_title(summary),
            engines=[(role, engines[role]) for role in by_role(engines)],
            stand_ins=[(role, STAND_INS[name]) for role, name in summary.stand_ins.items()],
            strata=sorted(summary.strata.items(), key=lambda item: stratum_order(item[0])),
            funnels=(summary.video_funnel(), summary.query_funnel(), summary.pair_funnel()),
            asked=calls_of(summary.manifest.work, all_runs=True),
            first_config=next((each["config_name"] for each in configs(summary) if "default" in each), "videos"),
            duration=duration(summary.duration_s),
            empty=[split for split in SPLITS if not summary.examples[split]],
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.outputs.report", "."),
        autoescape=False,  # Markdown; what comes from outside is put through the filter `cell`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = table_cell
    return environment


def front_matter(summary: Summary) -> dict[str, Any]:
    """The metadata that the Hugging Face Hub and `datasets` read; features come from the shards themselves."""
    return {
        "pretty_name": _title(summary),
        "license": "unknown",
        "language": languages(summary),
        "task_categories": ["text-ranking", "video-text-to-text"],
        "size_categories": [size_category(sum(summary.examples.values()))],
        "annotations_creators": ["machine-generated"],
        "tags": ["video", "reranking", "text-to-video-retrieval", "hard-negatives", "distillation", "hardquery"],
        "configs": configs(summary),
    }


def configs(summary: Summary) -> list[dict[str, Any]]:
    """A config for every table, with the files of its splits; the first one that has rows is the default.

    `datasets` cannot load an empty split, and would not load the others beside it: one without rows is left out where
    another has some. An empty table has all its splits, of no rows each, which can be streamed.
    """
    rows: dict[str, dict[str, int]] = {
        "ranking": {str(split): count for split, count in summary.examples.items()},
        "perception": {str(split): count for split, count in summary.perception.items()},
        **{name: {"train": count} for name, count in summary.rows.items() if not TABLES[name].split},
    }
    if summary.by_video is not None:
        rows["ranking_by_video"] = {str(split): count for split, count in summary.by_video.groups.items()}
    present = [name for name, splits in rows.items() if any(splits.values())]
    return [
        {
            "config_name": name,
            **({"default": True} if name in present[:1] else {}),
            "data_files": [
                {"split": split, "path": f"{name}/{split if TABLES[name].split else 'part'}-*.parquet"}
                for split, count in splits.items()
                if count or name not in present
            ],
        }
        for name, splits in rows.items()
    ]


def _title(summary: Summary) -> str:
    return f"Video reranking data ({summary.manifest.recipe['name']})"


def languages(summary: Summary) -> list[str]:
    """ISO 639 codes: those that queries may be in, and those that the input declares for its videos."""
    writing = summary.manifest.recipe.get("synthesize", {})
    asked = writing.get("languages") or writing.get("filters", {}).get("languages", ())
    declared = (_LANGUAGE.fullmatch(language.strip()) for language in summary.languages)
    return sorted({*asked, *(found[1].lower() for found in declared if found)})


def size_category(rows: int) -> str:
    """The Hub's name for a number of rows."""
    return next((name for limit, name in _SIZES if rows < limit), "n>10M")


def table_cell(text: object) -> str:
    """Text of unknown origin as the content of one Markdown table cell."""
    plain = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>|~])", r"\\\1", plain)
