"""The manifest: what a finished run was given, what it used, and every file that it wrote with its hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import msgspec

from pipeline.outputs.tables import Tables
from schemas.tables import SCHEMA_VERSION
from schemas.video import EngineStamp
from transforms.files import join, read_bytes, write_bytes
from transforms.shards import WrittenFile

MANIFEST = "manifest.json"

ROLES = ("decode", "asr", "ocr", "caption", "writer", "first_stage", "judge")


class NotAnOutput(ValueError):
    """A folder that is not a finished output, or one of another version; one line that says which."""


@dataclass(frozen=True, slots=True)
class PromptText:
    """A prompt file as it was when the run used it."""

    version: str
    text: str


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a run was given and what it used.

    ``recipe`` is the resolved recipe, ``engines`` a stamp by role (see ROLES), ``prompts`` the prompt files by name,
    ``entries`` the number of videos listed in the input, ``created`` the UTC start in ISO 8601.
    """

    recipe: Mapping[str, Any]
    recipe_fingerprint: str
    engines: Mapping[str, EngineStamp]
    prompts: Mapping[str, PromptText]
    input: str
    entries: int
    runner: str
    created: str
    elapsed_s: float


@dataclass(frozen=True, kw_only=True)
class Manifest(RunInfo):
    """A run and the files that it wrote; the file ``manifest.json``, which is written last."""

    files: tuple[WrittenFile, ...]
    hardquery: str = field(default_factory=lambda: version("hardquery"))
    schema_version: str = SCHEMA_VERSION

    def tables(self, output: str) -> Tables:
        """The tables of this run, which lies at ``output``."""
        return Tables(output, self.files)


def read_manifest(output: str) -> Manifest:
    """The manifest of a finished output.

    Raises:
        NotAnOutput: there is none, it cannot be read, or its tables are of another schema version.
    """
    try:
        data = read_bytes(join(output, MANIFEST))
    except FileNotFoundError as error:
        raise NotAnOutput(f"{output} is not a finished hardquery output: it has no {MANIFEST}") from error
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise NotAnOutput(f"{output}/{MANIFEST} cannot be read: {error}") from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise NotAnOutput(
            f"{output} has tables of schema version {manifest.schema_version}, this hardquery reads {SCHEMA_VERSION}"
        )
    return manifest


def write_manifest(output: str, manifest: Manifest) -> None:
    """Write ``manifest.json``, which declares the output finished."""
    write_bytes(join(output, MANIFEST), msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
