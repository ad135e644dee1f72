"""Export: a trained model as one folder that transformers loads and vLLM serves, with a card."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

from trainer.config.config import load_config
from trainer.config.errors import TrainingError
from trainer.config.retriever import load_retriever_config
from trainer.model.models import copy_processor, load_for_scoring

_CARD = """\
---
base_model: {base}
library_name: transformers
{tags}
---
# {title}, trained from {base}

{use}. `config.yaml` holds every value.
{prompt}
| | |
|---|---|
| data | `{data}`, manifest SHA-256 `{manifest}` |
| items | {items} |
| code | `{revision}` |
| versions | {versions} |
{metrics}
"""


_PROMPT = """
```
system  {system}
user    (video) {user}
reply   {reply}
```
"""

_RERANKER = "pipeline_tag: video-text-to-text\ntags: [reranker, video-retrieval, hardquery]"

_KINDS = {
    "perception": (
        "A video captioner",
        "It writes a video's caption where this prompt has one, with at most {frames} frames of {pixels} pixels",
        _RERANKER,
    ),
    "ranking": (
        "A video reranker",
        'The score of a video and a query is logit("yes") - logit("no") right after this prompt; `hardquery rerank` '
        "computes it, with at most {frames} frames of {pixels} pixels",
        _RERANKER,
    ),
    "retriever": (
        "A Video-ColBERT",
        "The score of a video and a query is the sum over {levels} of MeanMaxSim, the mean over the query's "
        "{query_tokens} tokens of the best cosine with a vector of the video, of at most {frames} frames; "
        "`hardquery embed` and `hardquery retrieve` compute it. `config.json` is that of the CLIP or SigLIP, with our "
        "own values under `video_colbert`",
        "pipeline_tag: feature-extraction\ntags: [retriever, video-retrieval, late-interaction, hardquery]",
    ),
}
"""By stage: what the model is, how it is asked, and what a hub is told."""


class ExportError(TrainingError):
    """A run that cannot be exported; one line that names the fix."""


def export_model(run: Path, to: Path) -> Path:
    """Write the model of a finished run to ``to``: adapters merged, the base's tokenizer and processor files unchanged.

    Raises:
        ExportError: the run is not finished, or ``to`` is not empty.
    """
    record_path = run / "run.json"
    if not run.is_dir():
        raise ExportError(f"there is no folder {run}")
    if not record_path.is_file() or not (run / "model").is_dir():
        raise ExportError(f"{run} is not a finished run: run `hardquery train` to its end")
    if to.exists() and any(to.iterdir()):
        raise ExportError(f"{to} is not empty; name another folder")
    record = json.loads(record_path.read_text("utf-8"))
    unfinished = to.with_name(f".{to.name}.{uuid.uuid4().hex}.tmp")  # nobody else's: what is there is not touched
    try:
        values = (_write_retriever if record["stage"] == "retriever" else _write_reranker)(run, unfinished)
        shutil.copyfile(run / "config.yaml", unfinished / "config.yaml")
        (unfinished / "README.md").write_text(_card(record, values, run / "metrics.jsonl"), "utf-8")
        if to.exists():
            to.rmdir()
        unfinished.rename(to)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return to


def _write_reranker(run: Path, to: Path) -> dict[str, Any]:
    """Write the model as it scores, and return its configuration."""
    config = load_config(str(run / "config.yaml"), [f"model={json.dumps(str(run))}"])
    load_for_scoring(config).save_pretrained(to)
    copy_processor(config, to)
    return config.as_dict()


def _write_retriever(run: Path, to: Path) -> dict[str, Any]:
    """Write the model, whose folder is whole but for what training alone needs, and return its configuration."""
    shutil.copytree(run / "model", to, ignore=shutil.ignore_patterns("training_args.bin"))
    return load_retriever_config(str(run / "config.yaml")).as_dict()


def _card(record: dict[str, Any], config: dict[str, Any], metrics: Path) -> str:
    stage = config[record["stage"]]
    title, use, tags = _KINDS[record["stage"]]
    levels = " and ".join(name for name, weight in stage.get("levels", {}).items() if weight)
    values = stage | {"pixels": config.get("max_pixels"), "levels": levels}
    last: dict[str, float] = {}
    if metrics.is_file():
        for line in metrics.read_text("utf-8").splitlines():
            last |= {name: value for name, value in json.loads(line).items() if name.startswith(("validation", "loss"))}
    return _CARD.format(
        title=title,
        tags=tags,
        use=use.format(**values),
        prompt=_PROMPT.format(**stage["prompt"]) if "prompt" in stage else "",
        base=record["base"],
        data=record["data"],
        manifest=record["manifest_sha256"],
        items=record["items"],
        revision=record["code_revision"] or "not in a checkout",
        versions=", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        metrics="\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(last.items())),
    )
