"""A configuration of a retriever that fits the tiny output of ``tiny_training`` and a tiny CLIP; its first step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests.support import tiny_clip
from tests.support.tiny_training import COLOURS
from trainer.config.retriever import RetrieverConfig, load_retriever_config
from trainer.data.shards import Shards
from trainer.retriever.stage import RetrieverStage
from trainer.stage import training_arguments


def tiny_base(folder: Path, family: str = "clip") -> Path:
    """A model whose tokenizer knows the words of ``tiny_tables``."""
    return tiny_clip.build(folder, family, [f"a {colour} ball moves right" for colour in COLOURS])


def tiny_config(model: Path, *settings: str) -> RetrieverConfig:
    """The preset ``video-colbert`` with a tiny model on a CPU; ``settings`` as with --set."""
    small = [
        f"model={json.dumps(str(model))}",
        "revision=null",
        "precision=fp32",
        "loader_workers=0",
        "retriever.epochs=4",
        "retriever.batch=4",
        "retriever.micro_batch=4",
        "retriever.frames=4",
        "retriever.query_tokens=8",
        "retriever.learning_rate=2e-3",
        "retriever.backbone_learning_rate=2e-3",
        "retriever.log_steps=1",
        "retriever.temporal={layers: 1, heads: 4, dropout: 0}",
    ]
    return load_retriever_config("video-colbert", [*small, *settings])


def first_gradient(config: RetrieverConfig, data: Path, folder: Path) -> dict[str, Any]:
    """Of one step: its ``loss`` and its ``gradient`` before it is clipped, and what ``validation`` found before it."""
    folder.mkdir(parents=True, exist_ok=True)
    work = RetrieverStage(config, Shards(str(data)))
    arguments = training_arguments(config, config.retriever, folder, remote=False, whole=True)
    arguments.max_steps = 1
    torch.manual_seed(config.seed)
    trainer = work.trainer(model=work.model().eval(), arguments=arguments, metrics=folder / "metrics.jsonl")
    found: dict[str, Any] = {"validation": trainer.evaluate(), "rank": arguments.process_index}
    clip, compute = trainer._clip_grad_norm, trainer.compute_loss

    def clipping(model: Any) -> Any:
        named = trainer.model.named_parameters()
        found.setdefault("gradient", {name: p.grad.clone() for name, p in named if p.grad is not None})
        return clip(model)

    def computing(*given: Any, **named: Any) -> Any:
        loss = compute(*given, **named)
        found.setdefault("loss", loss.item())
        return loss

    trainer._clip_grad_norm, trainer.compute_loss, trainer.eval_dataset = clipping, computing, ()
    trainer.train()
    return found


def write_first_gradients(model: Path, data: Path, folder: Path) -> None:
    """The first step of this of two ranks, in one part and in two, as ``folder/CASE-RANK.pt``."""
    for case, at_once in {"at once": 2, "in parts": 1}.items():
        found = first_gradient(tiny_config(model, f"retriever.micro_batch={at_once}"), data, folder / case)
        torch.save(found, folder / f"{case}-{found['rank']}.pt")
