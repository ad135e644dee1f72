"""The stage of the retriever: its plan over an output's query groups, and the trainer that carries it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from schemas.example import SPLITS
from trainer.config.retriever import RetrieverConfig
from trainer.data.clips import Clip, Clips
from trainer.data.examples import QueryExample, read_queries, with_frames
from trainer.data.plan import plan_queries
from trainer.data.shards import Shards
from trainer.model.models import Source
from trainer.retriever.folder import RetrieverError, is_video_colbert
from trainer.retriever.inputs import Preparation, clips_of
from trainer.retriever.model import (
    LEVELS,
    Shape,
    VideoColbert,
    load_video_colbert,
    start_video_colbert,
)
from trainer.retriever.relevance import read_relevance
from trainer.retriever.trainer import Collator, Item, RetrieverTrainer


@dataclass(frozen=True)
class Items(Dataset[Item]):
    """Queries and videos with their frames, decoded when asked for."""

    planned: Sequence[tuple[tuple[QueryExample, ...], tuple[str, ...]]]
    clips: Clips

    def __len__(self) -> int:
        return len(self.planned)

    def __getitem__(self, index: int) -> Item:
        queries, video_ids = self.planned[index]
        clips: tuple[Clip, ...] = tuple(self.clips[video_id] for video_id in video_ids)
        return Item(queries, video_ids, clips)


class RetrieverStage:
    """The plan over an output's query groups, and the trainer that carries it out."""

    def __init__(self, config: RetrieverConfig, shards: Shards) -> None:
        self._run = config
        self._config = config.retriever
        self._source = Source.of(config.model, config.revision)
        self._preparation = Preparation.of(self._source.base, self._source.revision, self._config.query_tokens)
        self._clips = clips_of(shards, self._config.frames)
        found = [read_queries(shards, split) for split in SPLITS]
        self._examples, self._validation = with_frames(found, self._clips, config.missing_videos)
        self.left_out = sum(map(len, found)) - len(self._examples) - len(self._validation)
        self._relevance = read_relevance(shards, [*self._examples, *self._validation])
        self.plan = plan_queries(
            self._examples,
            epochs=self._config.epochs,
            batch=self._config.batch,
            positives=self._config.positives,
            negatives=self._config.negatives,
            seed=config.seed,
        )

    def model(self) -> VideoColbert:
        """The model that training begins with: an earlier run's, or a CLIP's or SigLIP's with new parts.

        Raises:
            RetrieverError: it cannot be loaded, or an earlier run's has another shape.
        """
        shape = self._shape()
        if not is_video_colbert(self._source.base):
            return start_video_colbert(self._source.base, self._source.revision, shape)
        model = load_video_colbert(Path(self._source.base))
        has, wanted = asdict(model.shape), asdict(shape)
        if other := [name for name in wanted.keys() - {"base", "revision"} if has[name] != wanted[name]]:
            told = ", ".join(f"{name} {has[name]}" for name in sorted(other))
            raise RetrieverError(f"{self._source.base} was trained with other values: give the same ({told})")
        return model

    def trainer(self, **rest: Any) -> RetrieverTrainer:
        """The trainer; ``rest`` are model, arguments and metrics of a StageTrainer."""
        by_id = {example.query_id: example for example in self._examples}
        planned = [((by_id[item.key],), item.video_ids) for item in self.plan]
        return RetrieverTrainer(
            items=Items(planned, self._clips),
            validation=Items(_by_video(self._validation), self._clips),
            collate=Collator(self._preparation, self._config.micro_batch),
            config=self._config,
            relevance=self._relevance,
            **rest,
        )

    def _shape(self) -> Shape:
        config, temporal = self._config, self._config.temporal
        return Shape(
            frames=config.frames,
            query_tokens=config.query_tokens,
            levels=tuple(level for level in LEVELS if getattr(config.levels, level) > 0),
            layers=temporal.layers,
            heads=temporal.heads,
            expansions=temporal.expansions,
            dropout=temporal.dropout,
            base=self._source.base,
            revision=self._source.revision,
        )


def _by_video(examples: Sequence[QueryExample]) -> list[tuple[tuple[QueryExample, ...], tuple[str, ...]]]:
    """Every video that the examples name, by id, with the queries that were written for it."""
    asking: Mapping[str, list[QueryExample]] = {
        video_id: [] for video_id in sorted({v for example in examples for v in example.video_ids})
    }
    for example in examples:
        asking[example.positive.video_id].append(example)
    return [(tuple(queries), (video_id,)) for video_id, queries in asking.items()]
