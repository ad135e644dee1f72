"""The training configuration of a retriever, a Video-ColBERT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from schemas.configuration.section import Section, converted
from trainer.config.config import (
    Above0,
    Below1,
    ConfigError,
    Count,
    NonNegative,
    Positive,
    RunConfig,
    StepsConfig,
    read_values,
)

PRESETS = "trainer.retriever.presets"


class TemporalConfig(Section, frozen=True):
    """The transformer over a video's frames, and the learnt tokens that it is given after them."""

    layers: Positive = 4
    heads: Positive = 8
    expansions: Count = 2
    dropout: Below1 = 0.1


class LevelsConfig(Section, frozen=True):
    """The weight of each level's loss: single frames, and frames in their order. 0 leaves a level out of the model."""

    frames: NonNegative = 1.0
    video: NonNegative = 1.0

    def __post_init__(self) -> None:
        if not self.frames + self.video:
            raise ValueError("one of levels must have a weight above 0")


class RetrieverStageConfig(StepsConfig, frozen=True, kw_only=True):
    """How a Video-ColBERT (arXiv 2503.19009) is trained, on query groups.

    Every video of a batch is a column for each of its queries: ``batch`` decides how many negatives a query meets,
    beside its own ``negatives``; of its positives it has up to ``positives``. ``micro_batch`` groups go through the
    model at a time; that bounds memory, costs a second forward pass, and changes no gradient. ``learning_rate`` is of
    what is new, ``backbone_learning_rate`` of the CLIP or SigLIP. A query has ``query_tokens`` tokens, padded, and its
    padding counts. ``targets`` are 1 and 0, or, of candidates that the teacher judged, its p_yes.
    """

    frames: Positive = 12
    positives: Positive = 2
    negatives: Count = 2
    query_tokens: Positive = 32
    backbone_learning_rate: Above0 = 1e-6
    targets: Literal["labels", "teacher"] = "labels"
    levels: LevelsConfig = LevelsConfig()
    temporal: TemporalConfig = TemporalConfig()


class RetrieverConfig(RunConfig, frozen=True, kw_only=True):
    """The whole configuration of a retriever; ``model`` is a CLIP, SigLIP or SigLIP 2, or an earlier run's folder."""

    retriever: RetrieverStageConfig


def load_retriever_config(name: str, settings: Sequence[str] = ()) -> RetrieverConfig:
    """As ``load_config``, of a retriever: a preset such as ``video-colbert``, or a YAML file.

    Raises:
        ConfigError: no such preset or file, or a key or value that it does not know.
    """
    return converted(read_values(name, settings, PRESETS), RetrieverConfig, "training configuration, key", ConfigError)
