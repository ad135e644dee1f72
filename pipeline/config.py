"""Recipes: named configurations in YAML, checked key by key before any work starts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import yaml

from prompts.evidence import EvidenceBudgets
from prompts.template import Template, load_template
from schemas.fingerprint import fingerprint
from schemas.query import VARIANTS, Variant
from schemas.video import MODALITIES, Modality
from transforms.curate.curate_query import CurateRules
from transforms.emit.frame_grid import FrameGrid
from transforms.extract.decode import Limits
from transforms.journal.budget import Cost
from transforms.protocols.engine import did_you_mean
from transforms.protocols.frames import FramePolicy
from transforms.synthesize.filter_queries import TextFilters

EngineOptions = dict[str, Any]
PROMPTS = ("caption", "write_queries", "judge")


class RecipeError(ValueError):
    """A recipe that cannot be used; one line that names the key and the fix."""


@dataclass(frozen=True)
class ExtractConfig:
    """From media to evidence. A modality whose engine is null is left out."""

    decode: EngineOptions
    asr: EngineOptions | None
    ocr: EngineOptions | None
    caption: EngineOptions | None
    frames: FramePolicy = field(default_factory=FramePolicy)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class SynthesizeConfig:
    """From evidence to queries: who writes them, from which variants, how many each, and what is filtered out.

    ``prompt`` is a file that takes the place of the prompt that comes with the project. ``evidence`` is the most
    characters of each modality that a prompt shows.
    """

    teacher: EngineOptions
    prompt: str | None = None
    evidence: EvidenceBudgets = field(default_factory=EvidenceBudgets)
    variants: tuple[Variant, ...] = VARIANTS
    queries_per_variant: int = 2
    filters: TextFilters = field(default_factory=TextFilters)


@dataclass(frozen=True)
class MineConfig:
    """From queries to candidates: the first stage, what it sees, and how deep its runs are.

    A query is dropped unless its own video is among the first ``retrievable_at``, or if the best negative scores more
    than ``ambiguity_ratio`` times its positive. The first ``candidates`` of its split go to the judge.
    """

    first_stage: EngineOptions
    modalities: tuple[Modality, ...] = MODALITIES
    retrievable_at: int = 1000
    ambiguity_ratio: float = 2.0
    candidates: int = 20


@dataclass(frozen=True)
class JudgeConfig:
    """From pairs to judgements: who judges, and which evidence the judge sees.

    ``prompt`` is a file that takes the place of the prompt that comes with the project. ``evidence`` is the most
    characters of each modality that a prompt shows.

    ``no_rationale_below`` saves calls: a pair whose prior (see the option ``prior`` of the teacher) is certainly at
    most so many nats is judged no by it, and the teacher is not asked for a rationale; never a query's own video. What
    such a pair gets is cheaper and of less worth: no rationale, and for its margin the prior, which is another quantity
    and may be sure where reasoning would not be. At ``curate.alpha1`` or below, it is a trusted negative by it.
    """

    teacher: EngineOptions
    prompt: str | None = None
    modalities: tuple[Modality, ...] = ("caption",)
    evidence: EvidenceBudgets = field(default_factory=EvidenceBudgets)
    no_rationale_below: float | None = None


@dataclass(frozen=True)
class EmitConfig:
    """How the output is cut: the share of events held out, rows a shard, and the frames that go into it."""

    validation_fraction: float = 0.1
    videos_per_shard: int = 512
    frames: FrameGrid | None = field(default_factory=FrameGrid)


@dataclass(frozen=True)
class CostConfig:
    """What the calls of each paid step cost, for the plan and for budgets in dollars."""

    caption: Cost = field(default_factory=Cost)
    write: Cost = field(default_factory=Cost)
    judge: Cost = field(default_factory=Cost)

    def by_step(self) -> dict[str, Cost]:
        """As a budget has them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Recipe:
    """A whole configuration; its fingerprint names it."""

    name: str
    description: str
    extract: ExtractConfig
    synthesize: SynthesizeConfig
    mine: MineConfig
    judge: JudgeConfig
    curate: CurateRules = field(default_factory=CurateRules)
    emit: EmitConfig = field(default_factory=EmitConfig)
    costs: CostConfig = field(default_factory=CostConfig)
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The recipe with every default filled in, as plain values."""
        # asdict first: msgspec leaves a default out of an instance's own dict, and would leave it out here as well.
        resolved: dict[str, Any] = msgspec.to_builtins(asdict(self))
        return resolved

    @property
    def fingerprint(self) -> str:
        """The hash of every value of the recipe."""
        return fingerprint(self.as_dict())

    def templates(self) -> dict[str, Template]:
        """The prompts by name; those of the recipe's own files are read now.

        Raises:
            RecipeError: such a file cannot be read, or has other slots than the prompt that it replaces.
        """
        own = {"write_queries": ("synthesize", self.synthesize.prompt), "judge": ("judge", self.judge.prompt)}
        return {name: _template(name, *own.get(name, ("", None))) for name in PROMPTS}

    def shards(self, videos: int) -> int:
        """Shards a table, from the number of input videos, so that it does not depend on what happens to them."""
        return max(1, -(-videos // self.emit.videos_per_shard))


def _template(name: str, section: str, path: str | None) -> Template:
    given = load_template(name)
    if path is None:
        return given
    try:
        template = Template(name, Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe key {section}.prompt: {path!r} cannot be read: {error}") from error
    if template.slots != given.slots:
        slots = ", ".join(sorted(given.slots))
        raise RecipeError(f"recipe key {section}.prompt: {path!r} must have the {{{{slots}}}} {slots}, and no others")
    return template


def recipe_names() -> list[str]:
    """The recipes that come with the project."""
    folder = resources.files("pipeline.recipes")
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def recipe_text(name: str) -> str:
    """The YAML of a recipe, by name or by path.

    Raises:
        RecipeError: there is no such recipe.
    """
    if name in recipe_names():
        return resources.files("pipeline.recipes").joinpath(f"{name}.yaml").read_text("utf-8")
    if not name.endswith((".yaml", ".yml")):
        raise RecipeError(f"recipe {name!r} is not known{did_you_mean(name, recipe_names())}; a file ends in .yaml")
    try:
        return Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {name!r} cannot be read: {error}") from error


def load_recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """A recipe by name or by path of a YAML file, with ``a.b=value`` settings put over it.

    Raises:
        RecipeError: no such recipe, or a key or value that it does not know.
    """
    try:
        values = yaml.safe_load(recipe_text(name))
    except yaml.YAMLError as error:
        raise RecipeError(f"recipe {name!r} is not YAML: {_yaml_problem(error)}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"recipe {name!r} must be a mapping of sections")
    return parse_recipe(changed(values, settings))


def changed(values: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """A recipe's plain values with ``a.b=value`` settings put over them.

    Raises:
        RecipeError: a setting that is none.
    """
    over = deepcopy(dict(values))
    for setting in settings:
        _apply(over, setting)
    return over


def _yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong and where, without the line itself: somebody may have put a secret there."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"line {mark.line + 1}: {problem}" if mark else type(error).__name__


def _apply(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise RecipeError("--set: expected key=value, such as curate.alpha1=-4")  # what was given may be a secret
    *path, last = key.strip().split(".")
    section = values
    for name in path:
        section = section.setdefault(name, {})
        if not isinstance(section, dict):
            raise RecipeError(f"--set {key}: {name!r} is a value, not a section")
    try:
        section[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {key}: the value is not YAML") from error


def parse_recipe(values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values; every unknown key and ill-typed value is named with its full path."""
    _refuse_unknown_keys(values, Recipe, "")
    try:
        recipe = msgspec.convert(values, Recipe)
    except msgspec.ValidationError as error:
        rule, _, path = str(error).partition(" - at `$")
        where = path.strip("`.") or "(top level)"
        raise RecipeError(f"recipe key {where}: {rule[0].lower()}{rule[1:]}") from error
    _check_ranges(recipe)
    return recipe


def _refuse_unknown_keys(values: Mapping[str, Any], kind: type, prefix: str) -> None:
    known = {f.name: f for f in fields(kind)}
    hints = get_type_hints(kind)
    for key, value in values.items():
        if key not in known:
            raise RecipeError(f"recipe key {prefix}{key} is not known{did_you_mean(str(key), list(known))}")
        options = (hints[key], *getattr(hints[key], "__args__", ()))
        nested = [option for option in options if isinstance(option, type) and is_dataclass(option)]
        if nested and isinstance(value, Mapping):
            _refuse_unknown_keys(value, nested[0], f"{prefix}{key}.")


def _distinct(names: tuple[str, ...]) -> bool:
    return 0 < len(names) == len(set(names))


def _check_ranges(recipe: Recipe) -> None:
    """Values that are of the right type and still make no sense."""
    rules = [
        ("synthesize.queries_per_variant", recipe.synthesize.queries_per_variant >= 1, "at least 1"),
        ("synthesize.variants", _distinct(recipe.synthesize.variants), "at least one variant, each only once"),
        ("mine.modalities", _distinct(recipe.mine.modalities), "at least one modality, each only once"),
        ("mine.retrievable_at", recipe.mine.retrievable_at >= 1, "at least 1"),
        ("mine.ambiguity_ratio", recipe.mine.ambiguity_ratio >= 1, "at least 1"),
        ("mine.candidates", recipe.mine.candidates >= 1, "at least 1"),
        ("judge.modalities", _distinct(recipe.judge.modalities), "at least one modality, each only once"),
        ("judge.no_rationale_below", (recipe.judge.no_rationale_below or 0.0) <= 0, "at most 0"),
        ("curate.alpha1", math.isfinite(recipe.curate.alpha1), "finite"),
        ("curate.alpha2", math.isfinite(recipe.curate.alpha2), "finite"),
        ("emit.validation_fraction", 0 <= recipe.emit.validation_fraction < 1, "in [0, 1)"),
        ("emit.videos_per_shard", recipe.emit.videos_per_shard >= 1, "at least 1"),
        ("extract.frames.max_frames", recipe.extract.frames.max_frames >= 1, "at least 1"),
        ("extract.frames.sample_fps", recipe.extract.frames.sample_fps > 0, "above 0"),
        ("extract.limits.time_limit_s", recipe.extract.limits.time_limit_s > 0, "above 0"),
    ]
    for key, holds, rule in rules:
        if not holds:
            raise RecipeError(f"recipe key {key}: must be {rule}")
