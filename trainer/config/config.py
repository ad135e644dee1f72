"""Training configurations: presets and YAML files, checked key by key before any work starts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from schemas.configuration.section import Section, converted
from schemas.configuration.values import read_yaml, with_settings
from trainer.config.errors import TrainingError

Stage = Literal["perception", "ranking", "retriever"]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Above0 = Annotated[float, msgspec.Meta(gt=0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
Below1 = Annotated[float, msgspec.Meta(ge=0, lt=1)]


class ConfigError(TrainingError):
    """A configuration that cannot be used; one line that names the key and the fix."""


class LoraConfig(Section, frozen=True):
    """Low-rank adapters on the linear layers of the language model; the vision tower keeps its weights."""

    rank: Positive = 16
    alpha: Positive = 32
    dropout: Below1 = 0.05


class PromptConfig(Section, frozen=True):
    """What the model is told, in training, scoring and evaluation alike: the video comes first, then ``user``.

    ``reply`` starts the model's turn: in ranking the score is read right after it, in perception it holds the caption.
    """

    system: str
    user: str
    reply: str


class Term(Section, frozen=True):
    """One term of the ranking loss: its weight in the sum, and the temperature that divides the scores."""

    weight: NonNegative
    temperature: Above0


class PointwiseTerm(Term, frozen=True):
    """The pointwise term: soft targets, and how much a candidate of each label counts."""

    positive_target: Fraction = 1.0
    negative_target: Fraction = 0.1
    positive_weight: NonNegative = 1.0
    negative_weight: NonNegative = 0.5


class LossConfig(Section, frozen=True):
    """The terms of the ranking loss (RankVideo, arXiv 2602.02444, section 4.3); a weight of 0 leaves one out."""

    pairwise: Term = Term(weight=1.0, temperature=10.0)
    teacher: Term = Term(weight=5.0, temperature=5.0)
    pointwise: PointwiseTerm = PointwiseTerm(weight=0.5, temperature=1.0)
    listwise: Term = Term(weight=0.0, temperature=1.0)

    def __post_init__(self) -> None:
        if not any(term.weight for term in (self.pairwise, self.teacher, self.pointwise, self.listwise)):
            raise ValueError("one term of losses must have a weight above 0")


class StepsConfig(Section, frozen=True):
    """How many steps are made, of what, and how large.

    ``batch`` items make one optimizer step, whatever the number of devices; each device takes ``micro_batch`` of them
    at a time. ``frames`` is the most a video has. ``warmup`` is a share of all steps. A smaller ``adam_beta2``, such as
    0.98, suits runs of a few hundred steps.
    """

    epochs: Positive
    batch: Positive
    frames: Positive
    micro_batch: Positive = 1
    learning_rate: Above0 = 1e-5
    warmup: Below1 = 0.03
    adam_beta2: Below1 = 0.999
    weight_decay: NonNegative = 0.0
    max_grad_norm: Above0 = 1.0
    log_steps: Positive = 10
    save_steps: Positive = 200
    validate_steps: Positive = 200

    def __post_init__(self) -> None:
        if self.batch % self.micro_batch:
            raise ValueError(f"micro_batch must divide batch, got {self.micro_batch} and {self.batch}")


class StageConfig(StepsConfig, frozen=True, kw_only=True):
    """How one stage of the reranker is trained: on items that are captions, or query groups."""

    prompt: PromptConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames % 2:
            raise ValueError(f"frames must be even, since models merge two frames into one, got {self.frames}")


class RankingConfig(StageConfig, frozen=True, kw_only=True):
    """The second stage: groups of up to ``positives`` positives and up to ``negatives`` negatives of a query.

    Where the output has groups of one video as well, a query is trained on in that of its video ``by_video`` of the
    times: with its video alone, and up to ``negatives`` queries that look like it.

    ``pairs_at_once`` bounds the pairs whose activations are in memory (GradCache), for groups that would not fit as a
    whole. Where a micro-batch has more, that costs a forward pass more, and changes no gradient. Without it, a
    micro-batch goes through the model at once. Not for FSDP: ranks would call the model unequally often.
    """

    positives: Positive = 2
    negatives: Positive = 2
    by_video: Fraction = 0.5
    pairs_at_once: Positive | None = None
    losses: LossConfig = LossConfig()


class RunConfig(Section, frozen=True):
    """What every training run is told: where the model comes from, and how it is run.

    ``model`` is a name on the Hub, at a ``revision``, or a folder: of a model, or the run folder of an earlier stage.
    ``missing_videos`` is how many videos that examples name may lack frames; the groups that need them are left out of
    the plan, and counted.
    """

    description: str
    model: str
    revision: str | None = None
    precision: Literal["bf16", "fp32"] = "bf16"
    missing_videos: Count = 0
    loader_workers: Count = 2
    seed: int = 0

    def stage(self, stage: Stage) -> StepsConfig:
        """The section of a stage."""
        found: StepsConfig = getattr(self, stage)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Every value, defaults filled in, as plain values."""
        resolved: dict[str, Any] = msgspec.to_builtins(self)
        return resolved


class TrainConfig(RunConfig, frozen=True, kw_only=True):
    """The whole configuration of a reranker; its two stages share model, frames and precision.

    ``model`` may also be an adapter. An adapter is trained further, or merged into its model and a new one trained on
    top: ``adapter``. Without ``lora`` all weights are trained. ``max_pixels`` is the most a frame has.
    """

    perception: StageConfig
    ranking: RankingConfig
    adapter: Literal["continue", "merge"] = "continue"
    lora: LoraConfig | None = LoraConfig()
    activation_checkpointing: bool = True
    max_pixels: Positive = 128 * 32 * 32
    outer_vision_tokens: bool = False

    def __post_init__(self) -> None:
        if "{query}" not in self.ranking.prompt.user:
            raise ValueError("ranking.prompt.user must hold {query}")
        if "{caption}" not in self.perception.prompt.reply:
            raise ValueError("perception.prompt.reply must hold {caption}")


def preset_names(folder: str = "trainer.presets") -> list[str]:
    """The presets that come with the project, of rerankers unless ``folder`` is another."""
    return sorted(f.name.removesuffix(".yaml") for f in resources.files(folder).iterdir() if f.name.endswith(".yaml"))


def load_config(name: str, settings: Sequence[str] = ()) -> TrainConfig:
    """A configuration by the name of a preset or the path of a YAML file, with ``a.b=value`` settings put over it.

    A file may name the preset that it changes: ``preset: paper``.

    Raises:
        ConfigError: no such preset or file, or a key or value that it does not know.
    """
    return parse_config(read_values(name, settings, "trainer.presets"))


def parse_config(values: dict[str, Any]) -> TrainConfig:
    """A configuration from plain values.

    Raises:
        ConfigError: a key is unknown or missing, or a value makes no sense; with its path.
    """
    return converted(values, TrainConfig, "training configuration, key", ConfigError)


def read_values(name: str, settings: Sequence[str], folder: str) -> dict[str, Any]:
    """The plain values of a preset in ``folder``, or of a YAML file, with settings put over them.

    Raises:
        ConfigError: no such preset or file, or it is none.
    """
    values: dict[str, Any] = with_settings(_read(name, folder), settings, ConfigError)
    return values


def _read(name: str, folder: str, presets: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a preset or file over those of the preset that it names; ``presets`` are those that name it."""
    if name in presets:
        raise ConfigError(
            f"training configuration {presets[0]!r} goes round in a circle: {' > '.join((*presets, name))}"
        )
    if name in preset_names(folder):
        text = resources.files(folder).joinpath(f"{name}.yaml").read_text("utf-8")
    elif not name.endswith((".yaml", ".yml")):
        raise ConfigError(f"preset {name!r} is not known; give {' or '.join(preset_names(folder))}, or a file.yaml")
    else:
        try:
            text = Path(name).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"training configuration {name!r} cannot be read: {error}") from error
    values = read_yaml(text, f"training configuration {name!r}", ConfigError)
    if not isinstance(values, dict):
        raise ConfigError(f"training configuration {name!r} must be a mapping")
    base = values.pop("preset", None)
    return values if base is None else _merge(_read(str(base), folder, (*presets, name)), values)


def _merge(under: Any, over: Any) -> Any:
    """``over`` put over ``under``, mapping by mapping."""
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    return under | {key: _merge(under.get(key), value) for key, value in over.items()}
