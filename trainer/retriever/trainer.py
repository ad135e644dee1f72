"""Training of a Video-ColBERT: every video of a batch, on all devices, is a column for each of its queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from accelerate.utils import gather_object
from torch import Tensor

from trainer.config.retriever import RetrieverStageConfig
from trainer.data.clips import Clip
from trainer.data.examples import QueryExample
from trainer.model.metrics import ndcg
from trainer.retriever.inputs import Preparation
from trainer.retriever.losses import dual_loss, mean_max_sim
from trainer.retriever.model import Encoded, VideoColbert
from trainer.retriever.relevance import Relevance
from trainer.stage import StageTrainer

Part = dict[str, Any]
"""What goes through the model at once: ``ids`` of queries, ``images`` of videos, and ``counts`` of their frames."""


@dataclass(frozen=True, slots=True)
class Item:
    """Queries, and videos with their frames. In training a query and its videos, in validation a video."""

    queries: tuple[QueryExample, ...]
    video_ids: tuple[str, ...]
    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class Collator:
    """Items to a batch in ``parts`` of ``at_once`` items; the ``items`` are there without their frames."""

    preparation: Preparation
    at_once: int

    def __call__(self, items: Sequence[Item]) -> dict[str, Any]:
        parts = [self._part(items[start : start + self.at_once]) for start in range(0, len(items), self.at_once)]
        return {"parts": parts, "items": [(item.queries, item.video_ids) for item in items]}

    def _part(self, items: Sequence[Item]) -> Part:
        clips = [clip for item in items for clip in item.clips]
        texts = [query.query for item in items for query in item.queries]
        return {
            "ids": self.preparation.ids(texts)
            if texts
            else torch.empty(0, self.preparation.query_tokens, dtype=torch.long),
            "images": self.preparation.pixels([frame for clip in clips for frame in clip.frames]),
            "counts": torch.tensor([len(clip.frames) for clip in clips]),
        }


class RetrieverTrainer(StageTrainer):
    """Trains on whole batches of query groups; see losses.dual_loss."""

    loss_is_scaled_for_ga = False

    def __init__(self, *, config: RetrieverStageConfig, relevance: Relevance, **rest: Any) -> None:
        super().__init__(**rest)
        self._config = config
        self._relevance = relevance
        self._weights: dict[str, float] = {level: getattr(config.levels, level) for level in self._colbert.shape.levels}

    @property
    def _colbert(self) -> VideoColbert:
        found: VideoColbert = self.accelerator.unwrap_model(self.model)
        return found

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Two rates: the backbone's, and that of what is new. Vectors and numbers are not decayed."""
        groups: dict[tuple[float, float], list[Any]] = {}
        for name, parameter in self._colbert.named_parameters():
            if parameter.requires_grad:
                old, decayed = name.startswith("backbone."), parameter.ndim > 1
                rate = self._config.backbone_learning_rate if old else self._config.learning_rate
                groups.setdefault((rate, self.args.weight_decay if decayed else 0.0), []).append(parameter)
        cls, options = self.get_optimizer_cls_and_kwargs(self.args, self._colbert)
        self.optimizer = cls([{"params": g, "lr": r, "weight_decay": d} for (r, d), g in groups.items()], **options)
        return self.optimizer

    def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> Tensor:
        """The loss of a device's share of a batch, among the videos of all devices."""
        parts: list[Part] = inputs["parts"]
        if len(parts) == 1:
            return self._loss([model(**parts[0])], inputs)
        return self._loss_in_parts(model, inputs)

    def _loss(self, encoded: Sequence[Encoded], inputs: dict[str, Any]) -> Tensor:
        queries = [query for asked, _ in inputs["items"] for query in asked]
        video_ids: list[str | None] = [video_id for _, named in inputs["items"] for video_id in named]
        counts = torch.cat([part["counts"] for part in inputs["parts"]])
        asked = torch.cat([one.query for one in encoded])
        levels = [torch.cat(level) for level in zip(*(one.levels for one in encoded), strict=True)]
        scale, bias = torch.stack([one.logit for one in encoded]).mean(0)
        if self.args.world_size > 1:
            room = self.args.per_device_train_batch_size * (1 + self._config.negatives) - len(counts)
            counts = self.accelerator.gather(F.pad(counts, (0, room)))
            levels = [self._of_all_devices(F.pad(level, (0, 0, 0, 0, 0, room))) for level in levels]
            video_ids, queries = gather_object([*video_ids, *[None] * room]), gather_object(queries)
            asked = self._of_all_devices(asked)
            scale, bias = (_scaled(one, 1 / self.args.world_size) for one in (scale, bias))
        targets, known = self._relevance.matrices(queries, video_ids, soft=self._config.targets == "teacher")
        scores = {
            level: mean_max_sim(asked, vectors, mask)
            for level, vectors, mask in zip(self._weights, levels, self._colbert.masks(counts), strict=True)
        }
        device = asked.device
        loss, terms = dual_loss(scores, targets.to(device), known.to(device), scale, bias, self._weights)
        self.note({f"loss_{level}": term for level, term in terms.items()})
        self.note({"scale": scale.detach(), "bias": bias.detach(), "known": known.float().mean()})
        return _scaled(loss, self.args.world_size)  # gradients are averaged over devices, each of which has a share

    def _of_all_devices(self, mine: Tensor) -> Tensor:
        """The vectors of all devices; the gradient goes to one's own. Each device computes the whole batch's loss."""
        everyone = list(self.accelerator.gather(mine.detach()).split(len(mine)))
        everyone[self.args.process_index] = mine
        return torch.cat(everyone)

    def _loss_in_parts(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """The loss of a batch whose activations do not fit at once (GradCache: Gao et al. 2021, arXiv 2101.06983).

        A part's share in the loss is its vectors alone. So all are computed without activations, the loss's slope at
        each of them is taken, and then each part goes through the model again and backward, times its slopes. The last
        part is left to Trainer; with it, the devices' gradients are exchanged.
        """
        parts: list[Part] = inputs["parts"]
        seeds = torch.randint(2**31, (len(parts),)).tolist()  # both passes draw the same dropout
        with torch.no_grad():
            encoded = [self._seeded(model, *one) for one in zip(parts, seeds, strict=True)]
        vectors = [tensor.requires_grad_() for one in encoded for tensor in _tensors(one)]
        loss = self._loss(encoded, inputs)
        slopes = torch.autograd.grad(loss, vectors)
        each = len(slopes) // len(parts)
        *before, last = zip(parts, seeds, (slopes[i : i + each] for i in range(0, len(slopes), each)), strict=True)
        for one in before:
            with self.accelerator.no_sync(model):
                self.accelerator.backward(self._share(model, *one))
        share = self._share(model, *last)
        return share + (loss - share).detach()  # the value is the loss, the gradient this part's

    def _share(self, model: Any, part: Part, seed: int, slopes: Sequence[Tensor]) -> Tensor:
        tensors = _tensors(self._seeded(model, part, seed))
        return torch.stack([(tensor * slope).sum() for tensor, slope in zip(tensors, slopes, strict=True)]).sum()

    def _seeded(self, model: Any, part: Part, seed: int) -> Encoded:
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            found: Encoded = model(**part)
        return found

    def measure(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        """The vectors of each video, and of the queries that it answers."""
        measured: list[dict[str, Any]] = []
        rest = iter(batch["items"])
        for part in batch["parts"]:
            asked = self._colbert.queries(part["ids"]).cpu() if len(part["ids"]) else part["ids"].cpu()
            levels = [level.cpu() for level in self._colbert.videos(part["images"], part["counts"])]
            start = 0
            for place, count in enumerate(part["counts"].cpu()):
                queries, (video_id,) = next(rest)
                stop = start + len(queries)
                measured.append(
                    {
                        "video_id": video_id,
                        "levels": [level[place] for level in levels],
                        "count": count,
                        "queries": list(zip(queries, asked[start:stop], strict=True)),
                    }
                )
                start = stop
        return measured

    def summarise(self, measured: list[dict[str, Any]]) -> dict[str, float]:
        """nDCG@10 of each query's positives among all validation videos that are known not to answer it, and R@1 (1
        where any of them comes first)."""
        video_ids = [one["video_id"] for one in measured]
        masks = self._colbert.masks(torch.stack([one["count"] for one in measured]))
        levels = [torch.stack(level) for level in zip(*(one["levels"] for one in measured), strict=True)]
        found: dict[str, list[float]] = {"ndcg_10": [], "r_1": []}
        for query, vectors in (pair for one in measured for pair in one["queries"]):
            pairs = zip(levels, masks, strict=True)
            scores = torch.stack([mean_max_sim(vectors[None], level, mask)[0] for level, mask in pairs]).sum(0)
            targets, known = (matrix[0] for matrix in self._relevance.matrices([query], video_ids))
            for values, depth in zip(found.values(), (10, 1), strict=True):
                values.append(ndcg(scores[known].tolist(), targets[known].int().tolist(), depth))
        return {name: fmean(values) for name, values in found.items()}

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            self._colbert.save_config(Path(output_dir or self.args.output_dir))


def _scaled(value: Tensor, factor: float) -> Tensor:
    """The same value, with ``factor`` times its gradient."""
    return value.detach() + factor * (value - value.detach())


def _tensors(encoded: Encoded) -> tuple[Tensor, ...]:
    return encoded.query, *encoded.levels, encoded.logit
