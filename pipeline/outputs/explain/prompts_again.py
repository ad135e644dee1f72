"""The prompts that made a row, rendered again from the manifest's prompt texts and the evidence in the videos table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.outputs.manifest import Manifest
from pipeline.outputs.tables import Row, evidence_of
from prompts.evidence import EvidenceBudgets
from prompts.judge import judge_values
from prompts.template import Prompt, Template
from prompts.write_queries import queries_values
from schemas.query import EvidenceCut
from schemas.video import MODALITIES
from transforms.synthesize.write_queries import shown_modalities, task_of


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt, or why it cannot be rendered, and whether it is word for word what was sent (by the row's hash)."""

    prompt: Prompt | None
    same: bool
    problem: str = ""


def writing_prompt(manifest: Manifest, query: Row, video: Row) -> Rendered:
    """The prompt that a row of the queries table answers; ``video`` is the row that it was written for."""
    evidence = evidence_of(video)
    shown = shown_modalities(evidence, query["variant"])
    count = _section(manifest, "synthesize").get("queries_per_variant", 0)
    values = queries_values(evidence, shown, video["video_id"], count, _budgets(query))
    return _render(manifest, task_of(query["variant"]), query["prompt_sha256"], values)


def judging_prompt(manifest: Manifest, judgement: Row, text: str, video: Row) -> Rendered:
    """The prompt that a row of the judgements table answers, on the query ``text`` and the row of its video."""
    shown = _section(manifest, "judge").get("modalities", MODALITIES)
    values = judge_values(evidence_of(video), shown, video["video_id"], text, _budgets(judgement))
    return _render(manifest, "judge", judgement["prompt_sha256"], values)


def _section(manifest: Manifest, name: str) -> dict[str, Any]:
    section: dict[str, Any] = manifest.recipe.get(name, {})
    return section


def _budgets(row: Row) -> EvidenceBudgets:
    """Those that cut the evidence as it was cut for the prompt of a row."""
    return EvidenceBudgets.that_cut(EvidenceCut(**cut) for cut in row["evidence_cut"] or ())


def _render(manifest: Manifest, name: str, sha256: str, values: dict[str, str]) -> Rendered:
    if name not in manifest.prompts:
        return Rendered(None, False, f"the manifest holds no prompt {name!r}")
    try:
        prompt = Template(name, manifest.prompts[name].text).render(**values)
    except KeyError as error:  # the prompt file is of another version of this project
        return Rendered(None, False, str(error.args[0]))
    return Rendered(prompt, prompt.sha256 == sha256)
