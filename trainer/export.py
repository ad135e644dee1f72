"""Export: a trained model as one folder that transformers loads and vLLM serves, with a card."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

from trainer.config.config import load_config
from trainer.config.errors import TrainingError
from trainer.model.models import copy_processor, load_for_scoring

_CARD = """\
---
base_model: {base}
library_name: transformers
pipeline_tag: video-text-to-text
tags: [reranker, video-retrieval, hardquery]
---
# {title}, trained from {base}

{use}, with at most {frames} frames of {pixels} pixels. `config.yaml` holds every value.

```
system  {system}
user    (video) {user}
reply   {reply}
```

| | |
|---|---|
| data | `{data}`, manifest SHA-256 `{manifest}` |
| items | {items} |
| code | `{revision}` |
| versions | {versions} |
{metrics}
"""


_USES = {
    "perception": ("A video captioner", "It writes a video's caption where this prompt has one"),
    "ranking": (
        "A video reranker",
        'The score of a video and a query is logit("yes") - logit("no") right after this prompt; `hardquery rerank` '
        "computes it",
    ),
}
"""By stage: what the model is, and how it is asked."""


class ExportError(TrainingError):
    """A run that cannot be exported; one line that names the fix."""


def export_model(run: Path, to: Path) -> Path:
    """Write the model of a finished run to ``to``: adapters merged, the base's tokenizer and processor files unchanged.

    Raises:
        ExportError: the run is not finished, or ``to`` is not empty.
    """
    record_path = run / "run.json"
    if not record_path.is_file() or not (run / "model").is_dir():
        raise ExportError(f"{run} is not a finished run: run `hardquery train` to its end")
    if to.exists() and any(to.iterdir()):
        raise ExportError(f"{to} is not empty; name another folder")
    config = load_config(str(run / "config.yaml"), [f"model={json.dumps(str(run))}"])
    model = load_for_scoring(config)
    unfinished = to.with_name(f".{to.name}.{uuid.uuid4().hex}.tmp")  # nobody else's: what is there is not touched
    try:
        model.save_pretrained(unfinished)
        copy_processor(config, unfinished)
        shutil.copyfile(run / "config.yaml", unfinished / "config.yaml")
        record = json.loads(record_path.read_text("utf-8"))
        (unfinished / "README.md").write_text(_card(record, config.as_dict(), run / "metrics.jsonl"), "utf-8")
        if to.exists():
            to.rmdir()
        unfinished.rename(to)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return to


def _card(record: dict[str, Any], config: dict[str, Any], metrics: Path) -> str:
    stage = config[record["stage"]]
    title, use = _USES[record["stage"]]
    last: dict[str, float] = {}
    if metrics.is_file():
        for line in metrics.read_text("utf-8").splitlines():
            last |= {name: value for name, value in json.loads(line).items() if name.startswith(("validation", "loss"))}
    return _CARD.format(
        title=title,
        use=use,
        base=record["base"],
        frames=stage["frames"],
        pixels=config["max_pixels"],
        data=record["data"],
        manifest=record["manifest_sha256"],
        items=record["items"],
        revision=record["code_revision"] or "not in a checkout",
        versions=", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        metrics="\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(last.items())),
        **stage["prompt"],
    )
