"""The second stage: a model learns to score the positives of a query above its negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, overload

import torch
from torch.utils.data import ConcatDataset, Dataset

from schemas.example import SPLITS
from trainer.config.config import LossConfig, TrainConfig
from trainer.data.clips import Clip, Clips
from trainer.data.columns import Examples
from trainer.data.examples import QueryExample, VideoExample, read_by_video, read_queries, with_frames
from trainer.data.plan import Plan, by_video_in_turn, plan_queries
from trainer.data.shards import Shards
from trainer.model.losses import Targets, ranking_loss
from trainer.model.metrics import ndcg
from trainer.model.prompt import Answers, Inputs, Prompt, frame_budget
from trainer.model.score import pair_scores
from trainer.stage import StageTrainer


@dataclass(frozen=True, slots=True)
class Group:
    """Pairs of queries and videos, of one query or of one video, and the frames of each pair's video."""

    example: QueryExample | VideoExample
    clips: tuple[Clip, ...]


@dataclass(frozen=True, slots=True)
class _Planned(Sequence[QueryExample | VideoExample]):
    """The examples of a plan, each with the videos or queries that were drawn for it, made when asked for."""

    queries: Examples[QueryExample]
    by_video: Examples[VideoExample]
    plan: Plan

    def __len__(self) -> int:
        return len(self.plan)

    @overload
    def __getitem__(self, at: int) -> QueryExample | VideoExample: ...
    @overload
    def __getitem__(self, at: slice) -> list[QueryExample | VideoExample]: ...
    def __getitem__(self, at: int | slice) -> QueryExample | VideoExample | list[QueryExample | VideoExample]:
        if isinstance(at, slice):
            return [self[index] for index in range(*at.indices(len(self)))]
        item = self.plan[at]
        if item.query_ids:
            return self.by_video.named(item.key).with_queries(item.query_ids)
        return self.queries.named(item.key).with_videos(item.video_ids)


class Groups(Dataset[Group]):
    """Groups with their frames, decoded when asked for."""

    def __init__(self, examples: Sequence[QueryExample | VideoExample], clips: Clips) -> None:
        self._examples = examples
        self._clips = clips

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Group:
        example = self._examples[index]
        clips = {video_id: self._clips[video_id] for video_id in dict.fromkeys(example.video_ids)}
        return Group(example, tuple(clips[video_id] for video_id in example.video_ids))


@dataclass(frozen=True)
class GroupCollator:
    """Groups to a batch: the inputs of all pairs, the ``targets`` of each group, and which are ``by_video``.

    Where there are more than ``pairs_at_once``, ``more`` holds the inputs of those that follow, as many at a time.
    """

    prompt: Prompt
    pairs_at_once: int | None = None

    def __call__(self, groups: Sequence[Group]) -> dict[str, Any]:
        pairs = [pair for group in groups for pair in zip(group.clips, group.example.queries, strict=True)]
        size = self.pairs_at_once or len(pairs)
        first, *more = (
            self.prompt.for_scoring(*zip(*pairs[start : start + size], strict=True))
            for start in range(0, len(pairs), size)
        )
        targets = [Targets.of(group.example.candidates) for group in groups]
        by_video = [isinstance(group.example, VideoExample) for group in groups]
        return {**first, "more": more, "targets": targets, "by_video": by_video}


class RankingTrainer(StageTrainer):
    """Fine-tunes on whole groups, of one query or of one video alike; see losses.ranking_loss."""

    # The loss is a mean over the groups at hand, to be divided by the accumulation steps. Trainer would believe it
    # to be divided already, because the model's forward takes any keyword.
    loss_is_scaled_for_ga = False

    def __init__(self, *, answers: Answers, losses: LossConfig, **rest: Any) -> None:
        super().__init__(**rest)
        self._answers = answers
        self._losses = losses

    def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> torch.Tensor:
        """The loss of a micro-batch of groups."""
        parts, targets = _unpacked(inputs)
        if len(parts) > 1:
            return self._loss_in_parts(model, parts, targets)
        return self._loss(pair_scores(model, parts[0], self._answers), targets)

    def _loss(self, scores: torch.Tensor, targets: Sequence[Targets]) -> torch.Tensor:
        groups = scores.split([len(one.labels) for one in targets])
        loss, terms = ranking_loss(groups, [one.to(scores.device) for one in targets], self._losses)
        self.note({f"loss_{name}": term for name, term in terms.items()})
        self.note({"teacher_known": torch.cat([~one.p_yes.isnan() for one in targets]).float().mean()})
        return loss

    def _loss_in_parts(self, model: Any, parts: Sequence[Inputs], targets: Sequence[Targets]) -> torch.Tensor:
        """The loss of pairs that do not fit at once (GradCache: Gao et al. 2021, arXiv 2101.06983).

        A pair's share in the loss is its score alone. So all scores are computed without activations, the loss's slope
        at each of them is taken, and then each part goes through the model again and backward, times its slopes.
        The last part is left to Trainer; with it, the devices' gradients are exchanged.
        """
        seeds = torch.randint(2**31, (len(parts),)).tolist()  # both passes draw the same dropout
        with torch.no_grad():
            scores = torch.cat([self._seeded_scores(model, *one) for one in zip(parts, seeds, strict=True)])
        scores.requires_grad_()
        loss = self._loss(scores, targets)
        (slopes,) = torch.autograd.grad(loss, scores)
        *before, last = zip(parts, seeds, slopes.split([len(part["input_ids"]) for part in parts]), strict=True)
        for part, seed, slope in before:
            with self.accelerator.no_sync(model):
                share = (self._seeded_scores(model, part, seed) * slope).sum()
                self.accelerator.backward(share / self.current_gradient_accumulation_steps)
        part, seed, slope = last
        share = (self._seeded_scores(model, part, seed) * slope).sum()
        return share + (loss - share).detach()  # the value is the loss, the gradient this part's

    def _seeded_scores(self, model: Any, inputs: Inputs, seed: int) -> torch.Tensor:
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            return pair_scores(model, inputs, self._answers)

    def measure(self, batch: dict[str, Any]) -> list[dict[str, float]]:
        parts, targets = _unpacked(batch)
        scores = torch.cat([pair_scores(self.model, part, self._answers) for part in parts])
        groups = scores.split([len(one.labels) for one in targets])
        return [
            {"by_video": float(group[0] > group[1:].max())}
            if is_by_video
            else {"ndcg_10": ndcg(group.tolist(), one.labels.int().tolist(), 10)}
            for group, one, is_by_video in zip(groups, targets, batch["by_video"], strict=True)
        ]

    def summarise(self, measured: list[dict[str, float]]) -> dict[str, float]:
        """nDCG@10 over the groups of a query; of those of a video the share whose true query scores best."""
        values = {name: [one[name] for one in measured if name in one] for name in ("ndcg_10", "by_video")}
        return {name: fmean(found) for name, found in values.items() if found}


def _unpacked(batch: dict[str, Any]) -> tuple[list[Inputs], list[Targets]]:
    """The inputs of a batch, part by part, and its targets."""
    first: Inputs = {name: value for name, value in batch.items() if name not in ("more", "targets", "by_video")}
    return [first, *batch["more"]], batch["targets"]


class RankingStage:
    """The plan of the second stage over an output's groups, and the trainer that carries it out."""

    def __init__(self, config: TrainConfig, shards: Shards, processor: Any) -> None:
        self._config = config.ranking
        self._prompt = Prompt(processor, self._config.prompt)
        self._answers = self._prompt.answers()
        self._clips = Clips(shards, frame_budget(processor, self._config.frames, config.max_pixels))
        found = [read_queries(shards, split) for split in SPLITS]
        self._examples, query_groups = with_frames(found, self._clips, config.missing_videos)
        self.left_out = sum(map(len, found)) - len(self._examples) - len(query_groups)
        read = [read_by_video(shards, split) for split in SPLITS]
        self._by_video, by_video_groups = with_frames(read, self._clips, config.missing_videos)
        self._validation = ConcatDataset([Groups(found, self._clips) for found in (query_groups, by_video_groups)])
        negatives, seed = self._config.negatives, config.seed
        plan = plan_queries(
            self._examples,
            epochs=self._config.epochs,
            batch=self._config.batch,
            positives=self._config.positives,
            negatives=negatives,
            seed=seed,
        )
        share = self._config.by_video
        self.plan = by_video_in_turn(plan, self._by_video, share=share, negatives=negatives, seed=seed)

    def trainer(self, **rest: Any) -> RankingTrainer:
        """The trainer; ``rest`` are model, arguments and metrics of a StageTrainer."""
        return RankingTrainer(
            items=Groups(_Planned(self._examples, self._by_video, self.plan), self._clips),
            validation=self._validation,
            collate=GroupCollator(self._prompt, self._config.pairs_at_once),
            answers=self._answers,
            losses=self._config.losses,
            **rest,
        )
