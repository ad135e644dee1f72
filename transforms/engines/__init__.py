"""Engines by modality and name: find one, check that it can run here, load its model once a process."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import threading
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

import msgspec

from schemas.fingerprint import fingerprint
from schemas.video import EngineStamp
from transforms.engines.protocols import Engine

ENGINES: dict[str, dict[str, str]] = {
    "decode": {"pyav": "pyav:PyAv", "decord": "decord:Decord"},
    "asr": {"pocketsphinx": "pocketsphinx:Pocketsphinx", "whisper": "whisper:Whisper"},
    "ocr": {"rapidocr": "rapidocr:RapidOcr", "easyocr": "easyocr:EasyOcr"},
    "caption": {"pixels": "pixels:Pixels", "openai": "openai_caption:OpenAiCaption"},
    "teacher": {
        "rules": "rules:Rules",
        "openai": "openai_teacher:OpenAiTeacher",
        "transformers": "transformers_teacher:TransformersTeacher",
    },
    "first_stage": {"bm25": "bm25:Bm25", "trec": "trec:TrecRun"},
}


class EngineError(ValueError):
    """An engine that cannot be had, in one line that names the fix."""


def did_you_mean(word: str, known: Mapping[str, Any] | list[str]) -> str:
    """``; did you mean 'x'?`` where one of ``known`` is close, then the whole list."""
    close = get_close_matches(word, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (known: {', '.join(known)})"


def find_engine(modality: str, options: Mapping[str, Any]) -> Engine:
    """The engine a recipe section such as ``{engine: whisper, model: tiny}`` names, without importing its library.

    Raises:
        EngineError: unknown engine, unknown or ill-typed option, or a package that is not installed.
    """
    names = ENGINES[modality]
    name = options.get("engine")
    if not isinstance(name, str) or name not in names:
        raise EngineError(f"{modality} engine {name!r} is not known{did_you_mean(str(name), names)}")
    module, _, cls = names[name].partition(":")
    kind = getattr(importlib.import_module(f"transforms.engines.{module}"), cls)
    known = [f.name for f in fields(kind)]
    chosen = {key: value for key, value in options.items() if key != "engine"}
    for key in chosen:
        if key not in known:
            raise EngineError(f"{modality} engine {name!r} has no option {key!r}{did_you_mean(key, known)}")
    try:
        engine: Engine = msgspec.convert(chosen, kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise EngineError(f"{modality} engine {name!r}: {error}") from error
    for package in engine.requires:
        if importlib.util.find_spec(package) is None:
            raise EngineError(
                f"{modality} engine {name!r} needs the package {package!r}: pip install 'hardquery[{engine.extra}]'"
            )
    return engine


_models: dict[tuple[type, Any], Any] = {}
_loading = threading.Lock()


def loaded(engine: Any) -> Any:
    """The engine's model, loaded on first use and kept for the life of the process; safe to call from threads."""
    key = (type(engine), engine)
    with _loading:
        if key not in _models:
            _models[key] = engine.load()
        return _models[key]


version_of = functools.cache(importlib.metadata.version)
"""The version of an installed distribution; stamps are made for every element, and looking it up reads a file."""


def stamp_of(engine: Any, name: str, distribution: str, model: str = "") -> EngineStamp:
    """The stamp of an engine whose library is the given distribution ("" for engines of this project)."""
    version = version_of(distribution or "hardquery")
    options = {f.name: getattr(engine, f.name) for f in fields(engine)}
    return EngineStamp(name, version, model, fingerprint([name, version, model, options]))
