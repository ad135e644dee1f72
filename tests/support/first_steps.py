"""Runs both stages for a few steps and writes down what each rank trained on, and with which first gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.support.tiny_training import tiny_config
from trainer.config.config import Stage, TrainConfig
from trainer.data.shards import Shards
from trainer.model.models import load_model, load_processor
from trainer.perception import PerceptionStage
from trainer.ranking import RankingStage
from trainer.stage import training_arguments

STAGES: dict[Stage, Any] = {"perception": PerceptionStage, "ranking": RankingStage}
CASES: dict[str, tuple[Stage, tuple[str, ...]]] = {
    "perception": ("perception", ()),
    "ranking": ("ranking", ()),
    "ranking in parts": ("ranking", ("ranking.pairs_at_once=2",)),
}


def first_steps(stage: Stage, config: TrainConfig, data: Path, folder: Path) -> dict[str, Any]:
    """Train a stage: the ``items`` of every micro-batch, the ``gradient`` of the first step before it is clipped,
    and what ``validation`` found before it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    work = STAGES[stage](config, Shards(str(data)), load_processor(config))
    arguments = training_arguments(config, config.stage(stage), folder, remote=False)
    torch.manual_seed(config.seed)
    trainer = work.trainer(model=load_model(config, folder), arguments=arguments, metrics=folder / "metrics.jsonl")
    seen: list[tuple[str, ...]] = []
    gradient: dict[str, torch.Tensor] = {}
    collate, clip = trainer.data_collator, trainer._clip_grad_norm

    def noting(items: Any) -> Any:
        seen.append(tuple(getattr(item, "caption", None) or item.example.query_id for item in items))
        return collate(items)

    def clipping(model: Any) -> Any:
        if not gradient:
            named = trainer.model.named_parameters()
            gradient.update({name: p.grad.clone() for name, p in named if p.grad is not None})
        return clip(model)

    measure, batches = trainer.measure, []

    def counting(batch: Any) -> Any:
        batches.append(batch)
        return measure(batch)

    trainer.measure = counting
    validation = trainer.evaluate()
    trainer.data_collator, trainer._clip_grad_norm, trainer.eval_dataset = noting, clipping, ()
    trainer.train()
    return {
        "items": seen,
        "gradient": gradient,
        "validation": validation,
        "validated": len(batches),
        "rank": arguments.process_index,
        "steps": trainer.state.global_step,
    }


def write_first_steps(model: Path, data: Path, folder: Path) -> None:
    """What this rank trains on in every case, as ``folder/CASE-RANK.pt``."""
    for case, (stage, settings) in CASES.items():
        found = first_steps(stage, tiny_config(model, f"{stage}.epochs=2", *settings), data, folder / case)
        torch.save(found, folder / f"{case}-{found['rank']}.pt")
