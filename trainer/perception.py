"""The first stage: a model learns to write the teacher's caption of a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset

from schemas.example import SPLITS
from trainer.config.config import TrainConfig
from trainer.data.clips import Clip, Clips
from trainer.data.examples import CaptionExample, read_captions, with_frames
from trainer.data.plan import plan_captions
from trainer.data.shards import Shards
from trainer.model.prompt import IGNORED, Prompt, frame_budget
from trainer.model.score import caption_loss
from trainer.stage import StageTrainer


@dataclass(frozen=True, slots=True)
class Captioned:
    """A caption and the frames of its video."""

    caption: str
    clip: Clip


class Captions(Dataset[Captioned]):
    """Captioned videos, decoded when asked for."""

    def __init__(self, examples: Sequence[CaptionExample], clips: Clips) -> None:
        self._examples = examples
        self._clips = clips

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Captioned:
        example = self._examples[index]
        return Captioned(example.caption, self._clips[example.video_id])


@dataclass(frozen=True)
class CaptionCollator:
    """Captioned videos to a batch."""

    prompt: Prompt

    def __call__(self, items: Sequence[Captioned]) -> dict[str, Any]:
        return self.prompt.for_captions([item.clip for item in items], [item.caption for item in items])


class PerceptionTrainer(StageTrainer):
    """Fine-tunes on captions: the mean over all caption tokens of a step, on whatever device they are."""

    loss_is_scaled_for_ga = True  # it is divided by the tokens of all accumulation steps of all devices

    def __init__(self, **rest: Any) -> None:
        super().__init__(**rest)
        self.model_accepts_loss_kwargs = True  # makes Trainer count those tokens

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], *_: Any, num_items_in_batch: torch.Tensor, **__: Any
    ) -> torch.Tensor:
        """The micro-batch's share of the step's loss; gradients are averaged over devices, hence their number."""
        share: torch.Tensor = caption_loss(model, inputs) / num_items_in_batch * self.accelerator.num_processes
        return share

    def measure(self, batch: dict[str, Any]) -> list[dict[str, float]]:
        tokens = int((batch["labels"] != IGNORED).sum())
        return [{"loss": float(caption_loss(self.model, batch)), "tokens": tokens}]

    def summarise(self, measured: list[dict[str, float]]) -> dict[str, float]:
        tokens = sum(one["tokens"] for one in measured)
        return {"token_loss": sum(one["loss"] for one in measured) / tokens} if tokens else {}


class PerceptionStage:
    """The plan of the first stage over an output's captions, and the trainer that carries it out."""

    def __init__(self, config: TrainConfig, shards: Shards, processor: Any) -> None:
        self._config = config.perception
        self._prompt = Prompt(processor, self._config.prompt)
        self._clips = Clips(shards, frame_budget(processor, self._config.frames, config.max_pixels))
        found = [read_captions(shards, split) for split in SPLITS]
        self._examples, self._validation = with_frames(found, self._clips, config.missing_videos)
        self.left_out = sum(map(len, found)) - len(self._examples) - len(self._validation)
        self.plan = plan_captions(
            self._examples, epochs=self._config.epochs, batch=self._config.batch, seed=config.seed
        )

    def trainer(self, **rest: Any) -> PerceptionTrainer:
        """The trainer; ``rest`` are model, arguments and metrics of a StageTrainer."""
        by_id = {example.video_id: example for example in self._examples}
        return PerceptionTrainer(
            items=Captions([by_id[item.key] for item in self.plan], self._clips),
            validation=Captions(self._validation, self._clips),
            collate=CaptionCollator(self._prompt),
            **rest,
        )
