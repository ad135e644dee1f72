"""Recipes: named configurations in YAML, checked key by key before any work starts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import msgspec

from pipeline.recipes.errors import RecipeError
from pipeline.recipes.files import recipe_names, recipe_text, recipe_values
from pipeline.recipes.prices import with_prices
from pipeline.recipes.sections import require_no_bare_words
from pipeline.recipes.settings import Note, changed, unheard
from prompts.evidence import EvidenceBudgets
from prompts.languages import LANGUAGES, in_language
from prompts.template import Template, load_template
from prompts.write_queries import MOST_PARTS
from schemas.check import InvalidRecord, require, require_one_of
from schemas.configuration.section import Section, converted
from schemas.fingerprint import fingerprint
from schemas.losses import STEPS_OF_JUDGE
from schemas.query import PAPERS_VARIANTS, WITH_PARTS, Variant
from schemas.video import Modality
from transforms.curate.thresholds import CurateConfig
from transforms.decontaminate.test_sets import TestSet
from transforms.emit.frame_grid import FrameGrid
from transforms.emit.shards import ShardCounts
from transforms.extract.decode import Limits
from transforms.group.group_videos import GroupRules
from transforms.journal.budget import Cost
from transforms.judge.necessity import NecessityConfig
from transforms.mine.filter_rankings import PAPERS, Ambiguity
from transforms.mine.margin_rule import MarginRule
from transforms.protocols.frames import FramePolicy
from transforms.search.fusion import FusionConfig
from transforms.speech.plausible import SpeechRules
from transforms.synthesize.filter_queries import TextFilters
from transforms.synthesize.negative_queries import NegativeQueriesConfig
from transforms.synthesize.write_queries import task_of
from transforms.teacher.panel import PanelRules

__all__ = ["Recipe", "RecipeError", "changed", "load_recipe", "parse_recipe", "recipe_names", "recipe_text"]

EngineOptions = dict[str, Any]
Positive = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]
Below1 = Annotated[float, msgspec.Meta(ge=0, lt=1)]
AtMost0 = Annotated[float, msgspec.Meta(le=0)]
_RUN_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")  # it is part of a file's name
_RENAMED = {
    "modalities": "`fields` of each of mine.first_stages, such as {caption: 1, asr: 1, ocr: 0, metadata: 2}",
    "ambiguity_ratio": "mine.ambiguity, such as {ratio: 2.0}, or {run: NAME, ratio: 2.0} with several first stages",
}
PROMPTS = ("caption", "write_queries", "write_requests", "write_events", "judge")
WITHOUT_EXAMPLE = "without_example"
"""In the place of a file: the judge's prompts that show no worked example."""
_OF_JUDGES = ("judge", "judge_reworded")
_OF_NEGATIVES = ("negative_queries", "judge_reworded")  # prompts of negative queries alone


class ExtractConfig(Section, frozen=True):
    """From media to evidence. A modality whose engine is null is left out.

    ``speech`` says which segments of a transcript nobody can have said; null keeps all.
    """

    decode: EngineOptions
    asr: EngineOptions | None
    ocr: EngineOptions | None
    caption: EngineOptions | None
    frames: FramePolicy = FramePolicy()
    limits: Limits = Limits()
    speech: SpeechRules | None = SpeechRules()


class SynthesizeConfig(Section, frozen=True):
    """From evidence to queries: who writes them, from which variants, how many each, and what is filtered out.

    ``prompt`` is a file that takes the place of the prompt that comes with the project, ``request_prompt`` and
    ``event_prompt`` those for the variants request and event. ``parser`` reads the replies to ``prompt``, where it asks
    for another form. ``languages`` are those that queries are written in, whatever the language of the evidence;
    variants take turns, and without any the prompt and ``filters.languages`` decide. ``evidence`` is the most
    characters of each modality that a prompt shows. ``own_filters`` are filters of other distributions by name, which
    is the reason that is counted, asked in the order of their names about what ``filters`` kept. ``negative_queries``
    are written where that is not null.
    """

    teacher: EngineOptions
    prompt: str | None = None
    parser: EngineOptions | None = None
    request_prompt: str | None = None
    event_prompt: str | None = None
    evidence: EvidenceBudgets = EvidenceBudgets()
    variants: tuple[Variant, ...] = PAPERS_VARIANTS
    queries_per_variant: Positive = 2
    languages: tuple[str, ...] = ()
    filters: TextFilters = TextFilters()
    own_filters: dict[str, EngineOptions] = {}
    negative_queries: NegativeQueriesConfig | None = None

    def __post_init__(self) -> None:
        _require_distinct("variants", self.variants)
        require(len(set(self.languages)) == len(self.languages), "languages name each only once", self.languages)
        for language in self.languages:
            require_one_of("language", language, tuple(LANGUAGES))
        for name in self.own_filters:
            require(bool(_RUN_NAME.fullmatch(name)), "the name of a filter is of a-z, 0-9, - and _", name)

    @property
    def queries_a_video(self) -> int:
        """The most that are written, the parts of requests and events among them."""
        parts = MOST_PARTS * sum(variant in WITH_PARTS for variant in self.variants)
        return self.queries_per_variant * (len(self.variants) + parts)


class MineConfig(Section, frozen=True):
    """From queries to candidates: the first stages by name, how their runs are fused, and how deep these are.

    An engine's options stand beside ``engine``, and for one that reads texts the weights of ``fields``; a first stage
    that is null is left out. A query is dropped unless its own video is among the first ``retrievable_at``, or if it is
    ambiguous. Of the candidates of its split the first ``candidates`` go to the judge, but for those above the
    ``margin`` and near-duplicates of its video.
    """

    first_stages: dict[str, EngineOptions]
    fusion: FusionConfig = FusionConfig()
    retrievable_at: Positive = 1000
    ambiguity: Ambiguity | None = PAPERS
    margin: MarginRule | None = None
    candidates: Positive = 20

    def __post_init__(self) -> None:
        names = list(self.first_stages)
        require(bool(names), "first_stages must name at least one", names)
        for name in names:
            require(bool(_RUN_NAME.fullmatch(name)), "the name of a first stage is of a-z, 0-9, - and _", name)
        for key, rule in (("ambiguity", self.ambiguity), ("margin", self.margin)):
            if rule is not None and rule.run is not None:
                require(rule.run in names, f"{key}.run must be one of {', '.join(names)}", rule.run)
        self.fusion.require_runs(names)
        several = len(names) > 1
        if several and self.ambiguity and self.ambiguity.ratio is not None and self.ambiguity.run is None:
            raise InvalidRecord(
                f"ambiguity.ratio needs a run, one of {', '.join(names)}: a ratio says something of one retriever's "
                f"scores and nothing of fused ones; set mine.ambiguity={{run: {names[0]}, ratio: 2}} or {{rank: 100}}"
            )
        if several and self.margin and self.margin.run is None:
            raise InvalidRecord(f"margin needs a run, one of {', '.join(names)}: it compares scores of one retriever")


class JudgeConfig(Section, frozen=True):
    """From pairs to judgements: who judges, and which evidence the judge sees.

    ``prompt`` is a file that takes the place of the prompt that comes with the project; "without_example" is one that
    comes with it too, and shows no example, for a teacher that repeats it; nor does the other wording then, in which
    negative queries are verified. ``evidence`` is the most
    characters of each modality that a prompt shows.

    ``no_rationale_below`` saves calls: a pair whose prior (see the option ``prior`` of the teacher) is certainly at
    most so many nats is judged no by it, and the teacher is not asked for a rationale; never a query's own video. What
    such a pair gets is cheaper and of less worth: no rationale, and for its margin the prior, which is another quantity
    and may be sure where reasoning would not be. At ``curate.alpha1`` or below, it is a trusted negative by it.

    Of about ``sample_queries`` queries all pairs are judged before any other: the run says what its thresholds make of
    them, and stops there where these leave it nothing. 0 judges all in one go, and so does a run of no more queries.

    ``panel`` are further teachers by name, asked with the same prompt about the pairs that ``panel_rules`` name; of
    such a pair a label needs the word of ``panel_rules.agree`` judges, the first counted as one.

    ``parser`` reads the replies of all of them, where ``prompt`` asks for another form than the project's own does.

    With ``necessity``, the judge is asked again about positives of groups, without each of the modalities in turn.
    """

    teacher: EngineOptions
    prompt: str | None = None
    parser: EngineOptions | None = None
    modalities: tuple[Modality, ...] = ("caption",)
    evidence: EvidenceBudgets = EvidenceBudgets()
    no_rationale_below: AtMost0 | None = None
    sample_queries: NotNegative = 200
    panel: dict[str, EngineOptions] = {}
    panel_rules: PanelRules = PanelRules()
    necessity: NecessityConfig | None = None

    def __post_init__(self) -> None:
        _require_distinct("modalities", self.modalities)
        several = self.necessity is None or len(self.modalities) > 1
        require(several, "necessity needs several judge.modalities, of one nothing can be left out", self.modalities)
        for name in self.panel:
            free = name not in STEPS_OF_JUDGE and bool(_RUN_NAME.fullmatch(name))
            taken = ", ".join(STEPS_OF_JUDGE)
            require(free, f"the name of a further judge is of a-z, 0-9, - and _, and none of {taken}", name)
        judges, agree = 1 + len(self.panel), self.panel_rules.agree
        fits = not self.panel or agree <= judges
        require(fits, f"panel_rules.agree must be at most {judges}, the number of judges", agree)

    @property
    def heeds(self) -> PanelRules | None:
        """The rules of the panel; None where there is none."""
        return self.panel_rules if self.panel else None


class EmitConfig(Section, frozen=True):
    """How the output is cut: the share of events held out, the frames that go into it, and what a shard holds.

    A shard has about ``videos_per_shard`` videos at most, or in tables of queries and pairs what comes of at most
    ``pairs_per_shard`` judged pairs; these have at least as many shards as those of videos.
    """

    validation_fraction: Below1 = 0.1
    videos_per_shard: Positive = 512
    pairs_per_shard: Positive = 50_000
    frames: FrameGrid | None = FrameGrid()


class CostConfig(Section, frozen=True):
    """What the calls of each paid step cost, for the plan and for budgets in dollars."""

    caption: Cost = Cost()
    write: Cost = Cost()
    embed_video: Cost = Cost()
    embed_query: Cost = Cost()
    judge: Cost = Cost()
    panel: Cost = Cost()
    negatives: Cost = Cost()
    verify: Cost = Cost()

    def by_step(self) -> dict[str, Cost]:
        """As a budget has them; the judge costs the same whatever it is not shown."""
        return {**{name: getattr(self, name) for name in self.__struct_fields__}, "necessity": self.judge}


class Recipe(Section, frozen=True):
    """A whole configuration; its fingerprint names it."""

    name: str
    description: str
    extract: ExtractConfig
    synthesize: SynthesizeConfig
    mine: MineConfig
    judge: JudgeConfig
    group: GroupRules = GroupRules()
    curate: CurateConfig = CurateConfig()
    emit: EmitConfig = EmitConfig()
    costs: CostConfig = CostConfig()
    decontaminate: tuple[TestSet, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.curate.positives == "confirmed" and not self.judge.panel:
            raise InvalidRecord("curate.positives: confirmed needs a judge.panel")

    def as_dict(self) -> dict[str, Any]:
        """The recipe with every default filled in, as plain values."""
        resolved: dict[str, Any] = msgspec.to_builtins(self)
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
        writing = self.synthesize
        negatives = writing.negative_queries
        own = {
            "write_queries": ("synthesize.prompt", writing.prompt),
            "write_requests": ("synthesize.request_prompt", writing.request_prompt),
            "write_events": ("synthesize.event_prompt", writing.event_prompt),
            "judge": ("judge.prompt", self.judge.prompt),
            "judge_reworded": ("judge.prompt", WITHOUT_EXAMPLE if self.judge.prompt == WITHOUT_EXAMPLE else None),
            "negative_queries": ("synthesize.negative_queries.prompt", negatives.prompt if negatives else None),
        }
        unasked = {task_of(variant) for variant in WITH_PARTS if variant not in writing.variants}
        names = [name for name in PROMPTS if name not in unasked]
        if negatives is not None:
            names = [*names, *_OF_NEGATIVES]
        templates = {name: _template(name, *own.get(name, ("", None))) for name in names}
        for language in writing.languages:
            for name in {"write_queries", *map(task_of, WITH_PARTS)}.intersection(templates):
                try:
                    in_language(templates[name], language)
                except ValueError as error:
                    raise RecipeError(f"recipe key synthesize.languages: {error}") from error
        return templates

    def share_judged_first(self, videos: int, human: int) -> float | None:
        """The share of queries that are judged before the others, of at most as many as the videos can get.

        None where that may be all of them, or none are wanted.
        """
        writing, first = self.synthesize, self.judge.sample_queries
        most = videos * writing.queries_a_video + human
        return first / most if 0 < first < most else None

    def shards(self, videos: int, human: int) -> ShardCounts:
        """Shards a table, from the most that the input can come to: what becomes of it does not change them."""
        pairs = (videos * self.synthesize.queries_a_video + human) * (1 + self.mine.candidates)
        by_video = max(1, -(-videos // self.emit.videos_per_shard))
        return ShardCounts(by_video, max(by_video, -(-pairs // self.emit.pairs_per_shard)))


def _template(name: str, key: str, path: str | None) -> Template:
    given = load_template(name)
    if path is None:
        return given
    if name in _OF_JUDGES and path == WITHOUT_EXAMPLE:
        return Template(name, load_template(f"{name}_{path}").source)
    try:
        template = Template(name, Path(path).read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        meant = name == "judge" and get_close_matches(path, [WITHOUT_EXAMPLE])
        hint = f"; did you mean {WITHOUT_EXAMPLE}?" if meant else ""
        raise RecipeError(f"recipe key {key}: {path!r} cannot be read: {error}{hint}") from error
    if template.slots != given.slots:
        slots = ", ".join(sorted(given.slots))
        raise RecipeError(f"recipe key {key}: {path!r} must have the {{{{slots}}}} {slots}, and no others")
    return template


def load_recipe(name: str, settings: Sequence[str] = (), note: Note = unheard) -> Recipe:
    """A recipe by name or by path of a YAML file, with ``a.b=value`` settings put over it.

    ``note`` is given, a line each, what the settings change besides what they say.

    Raises:
        RecipeError: no such recipe, or a key or value that it does not know.
    """
    return parse_recipe(with_prices(changed(recipe_values(name), settings, note)))


def parse_recipe(values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values; every unknown key and ill-typed value is named with its full path."""
    require_no_bare_words(values)
    mine, judge = values.get("mine"), values.get("judge")
    if isinstance(mine, Mapping):
        values = {**values, "mine": _with_first_stages(mine)}
    if isinstance(judge, Mapping) and "panel" in judge:
        values = {**values, "judge": {**judge, "panel": _by_name("judge.panel", judge["panel"])}}
    return converted(values, Recipe, "recipe key", RecipeError)


def _with_first_stages(mine: Mapping[str, Any]) -> dict[str, Any]:
    """The section with its first stages by name, whether it gives them so, as a list of named ones, or only one."""
    for key, instead in _RENAMED.items():
        if key in mine:
            raise RecipeError(f"recipe key mine.{key} is now {instead}")
    section = dict(mine)
    one, several = section.pop("first_stage", None), section.get("first_stages")
    if one is not None and several is not None:
        raise RecipeError("recipe key mine.first_stage: a short form of mine.first_stages for only one; give either")
    if one is not None and not isinstance(one, Mapping):
        raise RecipeError(f"recipe key mine.first_stage: expected a mapping such as {{engine: bm25}}, got {one!r}")
    if isinstance(one, Mapping):
        several = [one]
    if several is not None:
        section["first_stages"] = _by_name("mine.first_stages", several)
    return section


def _by_name(key: str, several: Any) -> Any:
    """Engines' options by name, whether they are given so or as a list; one that is null is left out."""
    if isinstance(several, list) and all(isinstance(each, Mapping) for each in several):
        named: dict[str, Any] = {}
        for each in several:
            name = str(each.get("name", each.get("engine", each.get("preset"))))
            if name in named:
                raise RecipeError(f"recipe key {key}: two are called {name!r}; give each a name of its own")
            named[name] = {option: value for option, value in each.items() if option != "name"}
        return named
    if isinstance(several, Mapping):
        return {name: each for name, each in several.items() if each is not None}
    return several


def _require_distinct(name: str, values: tuple[str, ...]) -> None:
    require(0 < len(values) == len(set(values)), f"{name} must name at least one, and each only once", values)
