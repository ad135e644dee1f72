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

Stage = Literal["perception", "ranking"]
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


class StageConfig(Section, frozen=True):
    """How one stage is trained.

    ``batch`` items (captions, or query groups) make one optimizer step, whatever the number of devices; each device
    takes ``micro_batch`` of them at a time. ``frames`` is the most a video has. ``warmup`` is a share of all steps.
    A smaller ``adam_beta2``, such as 0.98, suits runs of a few hundred steps.
    """

    prompt: PromptConfig
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
        if self.frames % 2:
            raise ValueError(f"frames must be even, since models merge two frames into one, got {self.frames}")
        if self.batch % self.micro_batch:
            raise ValueError(f"micro_batch must divide batch, got {self.micro_batch} and {self.batch}")


class RankingConfig(StageConfig, frozen=True):
    """The second stage: groups of one positive and up to ``negatives`` negatives of a query.

    ``pairs_at_once`` bounds the pairs whose activations are in memory (GradCache), for groups that would not fit as a
    whole. Where a micro-batch has more, that costs a forward pass more, and changes no gradient. Without it, a
    micro-batch goes through the model at once. Not for FSDP: ranks would call the model unequally often.
    """

    negatives: Positive = 2
    pairs_at_once: Positive | None = None
    losses: LossConfig = LossConfig()


class TrainConfig(Section, frozen=True):
    """The whole configuration; its two stages share model, frames and precision.

    ``model`` is a name on the Hub, or a folder: a model, an adapter, or the run folder of an earlier stage. An adapter
    is trained further, or merged into its model and a new one trained on top: ``adapter``. Without ``lora`` all weights
    are trained. ``max_pixels`` is the most a frame has. ``missing_videos`` is how many videos that examples name may
    lack frames; the groups that need them are left out of the plan, and counted.
    """

    description: str
    model: str
    perception: StageConfig
    ranking: RankingConfig
    revision: str | None = None
    adapter: Literal["continue", "merge"] = "continue"
    lora: LoraConfig | None = LoraConfig()
    precision: Literal["bf16", "fp32"] = "bf16"
    activation_checkpointing: bool = True
    max_pixels: Positive = 128 * 32 * 32
    outer_vision_tokens: bool = False
    missing_videos: Count = 0
    loader_workers: Count = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if "{query}" not in self.ranking.prompt.user:
            raise ValueError("ranking.prompt.user must hold {query}")
        if "{caption}" not in self.perception.prompt.reply:
            raise ValueError("perception.prompt.reply must hold {caption}")

    def stage(self, stage: Stage) -> StageConfig:
        """The section of a stage."""
        return self.ranking if stage == "ranking" else self.perception

    def as_dict(self) -> dict[str, Any]:
        """Every value, defaults filled in, as plain values."""
        resolved: dict[str, Any] = msgspec.to_builtins(self)
        return resolved


def preset_names() -> list[str]:
    """The presets that come with the project."""
    folder = resources.files("trainer.presets")
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def load_config(name: str, settings: Sequence[str] = ()) -> TrainConfig:
    """A configuration by the name of a preset or the path of a YAML file, with ``a.b=value`` settings put over it.

    A file may name the preset that it changes: ``preset: paper``.

    Raises:
        ConfigError: no such preset or file, or a key or value that it does not know.
    """
    return parse_config(with_settings(_read(name), settings, ConfigError))


def parse_config(values: dict[str, Any]) -> TrainConfig:
    """A configuration from plain values.

    Raises:
        ConfigError: a key is unknown or missing, or a value makes no sense; with its path.
    """
    return converted(values, TrainConfig, "training configuration, key", ConfigError)


def _read(name: str, presets: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a preset or file over those of the preset that it names; ``presets`` are those that name it."""
    if name in presets:
        raise ConfigError(
            f"training configuration {presets[0]!r} goes round in a circle: {' > '.join((*presets, name))}"
        )
    if name in preset_names():
        text = resources.files("trainer.presets").joinpath(f"{name}.yaml").read_text("utf-8")
    elif not name.endswith((".yaml", ".yml")):
        raise ConfigError(f"preset {name!r} is not known; give {' or '.join(preset_names())}, or a file.yaml")
    else:
        try:
            text = Path(name).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"training configuration {name!r} cannot be read: {error}") from error
    values = read_yaml(text, f"training configuration {name!r}", ConfigError)
    if not isinstance(values, dict):
        raise ConfigError(f"training configuration {name!r} must be a mapping")
    base = values.pop("preset", None)
    return values if base is None else _merge(_read(str(base), (*presets, name)), values)


def _merge(under: Any, over: Any) -> Any:
    """``over`` put over ``under``, mapping by mapping."""
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    return under | {key: _merge(under.get(key), value) for key, value in over.items()}
