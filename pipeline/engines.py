"""The engines that a recipe names: found by name, and checked on this machine before any work starts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar, cast

from pipeline.config import EngineOptions, Recipe, RecipeError
from pipeline.recipes.sections import key_of, modality_of
from prompts.template import Template
from schemas.capabilities import Capabilities
from schemas.configuration.section import converted
from schemas.video import EngineStamp
from transforms.curate.thresholds import Fitted
from transforms.engines.registry import find_engine
from transforms.judge.confidence import least_margin
from transforms.mine.documents import FieldWeights
from transforms.protocols.embed import EmbedEngine
from transforms.protocols.engine import Engine, EngineError, MissingPackage
from transforms.protocols.first_stage import FirstStageEngine
from transforms.protocols.query_filter import QueryFilterEngine
from transforms.protocols.reply_parser import NamedParser, ParserEngine
from transforms.protocols.teacher import Task, TeacherEngine
from transforms.search.search import SearchOptions
from transforms.workers.place import Resources

_MOST = 20.0  # nats: more samples than anybody draws
_OF_ONE_FORM = ("rules", "transformers")  # teachers that write what this project's prompts ask for, whatever is asked
T = TypeVar("T")

FIRST_STAGES, PANEL, FILTERS, RESOURCES = "first_stages", "panel", "filters", "resources"
_TASKS: dict[str, Task] = {
    "writer": "write_queries",
    "judge": "judge",
    PANEL: "judge",
    "negatives": "negative_queries",
    "verifier": "judge",
}


@dataclass(frozen=True)
class FirstStage:
    """One run of the first stage: its name and its engine, and the weights of the fields where it reads text.

    ``search`` says how the vectors of an embedder are searched, and is None for engines of another kind.
    """

    name: str
    engine: Any
    weights: FieldWeights | None = None
    search: SearchOptions | None = None


@dataclass(frozen=True)
class Engines:
    """The engines that a recipe names, each known to be usable on this machine.

    ``panel`` are the further judges by name, ``filters`` the filters of other distributions, ``writer_parser`` and
    ``judge_parser`` what reads replies of another form. ``resources`` are what the
    machines of their steps must have, by role, where the runner is to be asked for it.
    """

    decode: Engine
    asr: Engine | None
    ocr: Engine | None
    caption: Engine | None
    writer: TeacherEngine
    first_stages: tuple[FirstStage, ...]
    judge: TeacherEngine
    panel: Mapping[str, TeacherEngine] = field(default_factory=dict)
    negatives: TeacherEngine | None = None
    verifier: TeacherEngine | None = None
    filters: Mapping[str, QueryFilterEngine] = field(default_factory=dict)
    writer_parser: ParserEngine | None = None
    judge_parser: ParserEngine | None = None
    resources: Mapping[str, Resources] = field(default_factory=dict)

    def stamps(self) -> dict[str, EngineStamp]:
        """The stamp of every engine, by role; a first stage's is named after it as well.

        Raises:
            RecipeError: something that is part of an engine's stamp is not there.
        """
        stamps = {}
        for role, engine in self.by_role():
            try:
                stamps[role] = engine.stamp()
            except EngineError as error:
                raise RecipeError(f"recipe key {key_of(role)}: {error}") from error
        return stamps

    @property
    def embedders(self) -> list[EmbedEngine]:
        """Those among the first stages that compare vectors."""
        return [stage.engine for stage in self.first_stages if isinstance(stage.engine, EmbedEngine)]

    def seeing(self, run: str) -> EmbedEngine:
        """The engine of a first stage that embeds frames.

        Raises:
            RecipeError: the run is of another kind.
        """
        for stage in self.first_stages:
            if stage.name == run and isinstance(stage.engine, EmbedEngine) and stage.engine.reads == "frames":
                return stage.engine
        raise RecipeError(f"recipe key group.vectors.run: {run} is no first stage that embeds frames")

    def comparing(self, run: str) -> EmbedEngine:
        """The engine of a first stage that compares vectors.

        Raises:
            RecipeError: the run is of another kind.
        """
        for stage in self.first_stages:
            if stage.name == run and isinstance(stage.engine, EmbedEngine):
                return stage.engine
        raise RecipeError(f"recipe key decontaminate: {run} is no first stage that compares vectors")

    def read(self, prompts: Mapping[str, Template]) -> dict[str, Template]:
        """The prompts, those with a parser of their replies where the recipe names one."""
        parsers = {"write_queries": ("synthesize", self.writer_parser), "judge": ("judge", self.judge_parser)}
        found = dict(prompts)
        for name, (section, engine) in parsers.items():
            if engine is not None:
                found[name] = replace(found[name], parser=NamedParser(f"{section}.parser", engine))
        return found

    def by_role(self) -> Iterator[tuple[str, Any]]:
        """Every engine, by role and in the order of the pipeline."""
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == RESOURCES:
                continue
            if f.name == FIRST_STAGES:
                yield from ((f"{FIRST_STAGES}.{stage.name}", stage.engine) for stage in value)
            elif f.name in (PANEL, FILTERS):
                yield from ((f"{f.name}.{name}", engine) for name, engine in value.items())
            elif value is not None:
                yield f.name, value


def _roles(recipe: Recipe) -> tuple[dict[str, EngineOptions | None], dict[str, str]]:
    """The engines' options by role, and roles that the engine of another plays; first stages are apart."""
    extract, synthesize, judge = recipe.extract, recipe.synthesize, recipe.judge
    roles: dict[str, EngineOptions | None] = {
        "decode": extract.decode,
        "asr": extract.asr,
        "ocr": extract.ocr,
        "caption": extract.caption,
        "writer": synthesize.teacher,
        "judge": judge.teacher,
        "writer_parser": synthesize.parser,
        "judge_parser": judge.parser,
        **{f"{PANEL}.{name}": own for name, own in judge.panel.items()},
        **{f"{FILTERS}.{name}": own for name, own in sorted(synthesize.own_filters.items())},
    }
    shared = {}
    if (more := synthesize.negative_queries) is not None:
        for role, other, own in (("negatives", "writer", more.teacher), ("verifier", "judge", more.verifier)):
            if own is None:
                shared[role] = other
            else:
                roles[role] = own
    return roles, shared


def find_engines(recipe: Recipe) -> Engines:
    """The engines of a recipe.

    Raises:
        RecipeError: an engine or option is unknown, or a package or file that it needs is missing.
    """
    roles, shared = _roles(recipe)
    found: dict[str, Any] = {}
    missing: dict[str, MissingPackage] = {}
    resources: dict[str, Resources] = {}
    for role, options in roles.items():
        if options is None:
            found[role] = None
            continue
        key = key_of(role)
        try:
            found[role] = find_engine(modality_of(key), _without_resources(options))
        except MissingPackage as error:
            missing[key] = error
        except EngineError as error:
            raise RecipeError(f"recipe key {key}: {error}") from error
        if options.get(RESOURCES) is not None:
            resources[role] = converted(options[RESOURCES], Resources, f"recipe key {key}.resources", RecipeError)
    first_stages = find_first_stages(recipe, missing)
    require_packages(missing)
    for role, other in shared.items():
        found[role] = found[other]
        if other in resources:
            resources[role] = resources[other]
    panel = {name: found.pop(f"{PANEL}.{name}") for name in recipe.judge.panel}
    filters = {name: found.pop(f"{FILTERS}.{name}") for name in sorted(recipe.synthesize.own_filters)}
    engines = Engines(**found, filters=filters, first_stages=first_stages, panel=panel, resources=resources)
    _require_free_form(recipe, engines)
    if recipe.judge.no_rationale_below is not None and engines.judge.ladder.prior is None:
        raise RecipeError("recipe key judge.no_rationale_below: needs judge.teacher.prior, such as prefill")
    require_reach(recipe, engines.judge)
    if recipe.group.vectors is not None:
        engines.seeing(recipe.group.vectors.run)
    for test_set in recipe.decontaminate:
        if test_set.vectors is not None:
            engines.comparing(test_set.vectors.run)
    return engines


def _require_free_form(recipe: Recipe, engines: Engines) -> None:
    """Refuse a parser of replies that are of this project's own form whatever the prompt asks for."""
    if engines.writer_parser is not None:
        _require_own_words("synthesize.parser", "synthesize.teacher", recipe.synthesize.teacher)
        if getattr(engines.writer, "json_schema", False):
            raise RecipeError(
                "recipe key synthesize.parser: a JSON schema holds replies to this project's own form; set "
                "synthesize.teacher.json_schema: false"
            )
    if engines.judge_parser is None:
        return
    negatives = recipe.synthesize.negative_queries
    judges = {
        "judge.teacher": (recipe.judge.teacher, engines.judge),
        **{f"judge.panel.{name}": (own, engines.panel[name]) for name, own in recipe.judge.panel.items()},
        "synthesize.negative_queries.verifier": (negatives.verifier if negatives else None, engines.verifier),
    }
    for key, (options, judge) in judges.items():
        _require_own_words("judge.parser", key, options)
        if judge is not None and judge.ladder.prior == "prefill":
            raise RecipeError(
                f"recipe key judge.parser: the prior is asked for in this project's own form; leave out {key}.prior"
            )


def _require_own_words(parser: str, key: str, options: EngineOptions | None) -> None:
    if options is not None and (name := options.get("engine")) in _OF_ONE_FORM:
        raise RecipeError(f"recipe key {parser}: engine {name!r} of {key} replies in this project's own form alone")


def require_packages(missing: Mapping[str, MissingPackage]) -> None:
    """Raise one RecipeError that names every engine whose package is missing, by key, and one command for all."""
    if not missing:
        return
    extras = list(dict.fromkeys(error.extra for error in missing.values()))
    if len(missing) == 1 or "" in extras:
        key, error = next((item for item in missing.items() if not item[1].extra), next(iter(missing.items())))
        raise RecipeError(f"recipe key {key}: {error}") from error
    lacking: dict[str, list[str]] = {}
    for key, error in missing.items():
        lacking.setdefault(error.package, []).append(key)
    named = ", ".join(f"{package} ({', '.join(keys)})" for package, keys in lacking.items())
    raise RecipeError(f"packages are not installed: {named}; pip install 'hardquery[{','.join(extras)}]'")


def _without_resources(options: EngineOptions) -> EngineOptions:
    return {name: value for name, value in options.items() if name != RESOURCES}


def find_first_stages(recipe: Recipe, missing: dict[str, MissingPackage]) -> tuple[FirstStage, ...]:
    """The first stages of a recipe, in its order.

    One whose package is missing is left out, and put into ``missing`` by its key.

    Raises:
        RecipeError: see ``find_engines``, or one is given an option of another kind of engine.
    """
    found = []
    for name, options in recipe.mine.first_stages.items():
        key = f"mine.first_stages.{name}"
        own = {option: value for option, value in options.items() if option not in ("fields", "search")}
        try:
            engine = find_engine("first_stage", own)
        except MissingPackage as error:
            missing[key] = error
            continue
        except EngineError as error:
            raise RecipeError(f"recipe key {key}: {error}") from error
        embedder = isinstance(engine, EmbedEngine)
        reads_text = (
            cast(EmbedEngine, engine).reads == "text" if embedder else cast(FirstStageEngine, engine).reads_text
        )
        weights = _of_its_kind(options, key, "fields", FieldWeights, "reads no text" if not reads_text else "")
        search = _of_its_kind(options, key, "search", SearchOptions, "searches no vectors" if not embedder else "")
        found.append(FirstStage(name, engine, weights, search))
    return tuple(found)


def _of_its_kind(options: EngineOptions, key: str, option: str, kind: type[T], lacks: str) -> T | None:
    """An option of a first stage, which some engines have not: what they lack for it is told."""
    given = options.get(option)
    if not lacks:
        return converted({} if given is None else given, kind, f"recipe key {key}.{option}", RecipeError)
    if given is not None:
        raise RecipeError(f"recipe key {key}.{option}: engine {options.get('engine')!r} {lacks}")
    return None


def require_reach(recipe: Recipe, judge: TeacherEngine, lacks: str = "") -> None:
    """Refuse a judge none of whose margins can be that of a trusted negative: all calls would be paid for nothing.

    ``lacks`` is what its server was found to lack.

    Raises:
        RecipeError: its sources of confidence do not come down to ``curate.alpha1``, with the arithmetic. What is
            fitted to margins is within reach of whatever has some.
    """
    ladder, alpha1 = judge.ladder, recipe.curate.alpha1
    if ladder.prior is not None and recipe.judge.no_rationale_below is not None:
        return  # the margins of priors count
    least = least_margin(ladder)
    if isinstance(alpha1, Fitted):
        if least is None:
            raise RecipeError(
                "judge.teacher: judgements have no margin, and curate.alpha1 is fitted to margins: no query could "
                "be kept; set confidence: [sampling], whose margins any server can give"
                + (f"; {lacks}" if lacks else "")
            )
        return
    if least is not None and least <= alpha1:
        return
    sources = " and ".join(source for source in ladder.rungs if source not in ladder.lacking)
    reach = "judgements have no margin" if least is None else f"margins from {sources} are at least {least:.2f}"
    samples = math.ceil(math.exp(min(-alpha1, _MOST)) - 1)
    fixes = [f"confidence: [sampling] with samples: {samples}, whose margins are at least -ln({samples} + 1)"]
    if least is not None:
        fixes.insert(0, f"curate.alpha1 to {math.ceil(100 * least) / 100:g}")
    raise RecipeError(
        f"judge.teacher: {reach}, and a trusted negative has one of at most {alpha1:g} (curate.alpha1): no query could "
        f"be kept; set {' or '.join(fixes)}" + (f"; {lacks}" if lacks else "")
    )


def find_judge(recipe: Recipe) -> TeacherEngine:
    """The judge of a recipe alone, checked, as its server can serve it.

    Raises:
        RecipeError: it is unknown, something that it needs is missing, or it cannot do its work.
    """
    try:
        return cast(TeacherEngine, find_engine("teacher", _without_resources(recipe.judge.teacher))).fitted("judge")[0]
    except EngineError as error:
        raise RecipeError(f"recipe key judge.teacher: {error}") from error


def find_judge_parser(recipe: Recipe) -> NamedParser | None:
    """What reads the replies of a recipe's judges, None where that is this project.

    Raises:
        RecipeError: it is unknown, or something that it needs is missing.
    """
    if recipe.judge.parser is None:
        return None
    try:
        return NamedParser("judge.parser", cast(ParserEngine, find_engine("parser", recipe.judge.parser)))
    except EngineError as error:
        raise RecipeError(f"recipe key judge.parser: {error}") from error


def check_engines(engines: Engines, in_batch: bool = False) -> tuple[Engines, dict[str, Capabilities]]:
    """Make sure that every engine can be loaded on this machine, without loading any.

    Those whose questions go ``in_batch`` are left out: their server may not be there yet. Returns the engines as their
    servers can serve them, with the same stamps, and what was found of the servers, by role.

    Raises:
        RecipeError: an engine's weights, server, key or file is not there, or the server cannot do its work.
    """
    as_served: dict[str, Any] = {}
    found: dict[str, Capabilities] = {}
    for role, engine in engines.by_role():
        task = _TASKS.get(role.partition(".")[0])
        if task and in_batch and engine.takes_batches:
            continue
        try:
            if task:
                as_served[role], server = engine.fitted(task)
                found.update({role: server} if server else {})
            elif hasattr(engine, "check"):
                engine.check()
        except EngineError as error:
            raise RecipeError(f"recipe key {key_of(role)}: {error}") from error
    panel = {name: as_served.pop(f"{PANEL}.{name}", engine) for name, engine in engines.panel.items()}
    return replace(engines, **as_served, panel=panel), found
