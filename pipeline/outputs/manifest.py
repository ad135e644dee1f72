"""The manifest: what a finished run was given, what it used, and every file that it wrote with its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import msgspec

from pipeline.outputs.errors import NotAnOutput
from pipeline.outputs.marks import LabelsUsed
from pipeline.outputs.staging import is_half_published
from pipeline.outputs.tables import Tables
from schemas.capabilities import Capabilities
from schemas.check import read_json
from schemas.people.agreement import Agreement
from schemas.tables import SCHEMA_VERSION
from schemas.video import EngineStamp
from transforms.curate.strata import Thresholds
from transforms.decontaminate.test_sets import TestFile
from transforms.emit.shards import WrittenFile
from transforms.mine.margin_rule import FittedMargin
from transforms.storage.files import join, read_bytes, write_bytes

__all__ = [
    "MANIFEST",
    "ROLES",
    "Manifest",
    "NotAnOutput",
    "PromptText",
    "RunInfo",
    "by_role",
    "has_manifest",
    "listed_files",
    "manifest_sha256",
    "read_manifest",
    "write_manifest",
]

MANIFEST = "manifest.json"

# A filter is "filters.NAME", a first stage "first_stages.NAME", a further judge "panel.NAME".
ROLES = (
    *("decode", "asr", "ocr", "caption", "writer", "writer_parser", "filters"),
    *("first_stages", "judge", "judge_parser", "panel", "negatives", "verifier"),
)


def by_role(roles: Iterable[str]) -> list[str]:
    """Roles in the order of the pipeline, those of filters, first stages and a panel as they come."""
    return sorted(roles, key=lambda role: ROLES.index(role.partition(".")[0]))


@dataclass(frozen=True, slots=True)
class PromptText:
    """A prompt file as it was when the run used it."""

    version: str
    text: str


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What a run was given and what it used.

    ``recipe`` is the resolved recipe, ``engines`` a stamp by role (see ROLES), ``prompts`` the prompt files by name,
    ``entries`` the number of videos of the run, ``all_entries`` how many the input lists where these are only some (0
    where they are all), ``created`` the UTC start in ISO 8601.
    ``work`` counts, by step, results that were cached, run, failed or deferred, and what calls used (see
    ``count``). ``servers`` is what was found of the teachers' servers when the run began, by role; ``libraries``
    are the versions of those that decide results besides the engines' own. ``thresholds`` are what curation's came
    to, ``margin`` what that of mining did, None where the recipe gives them as numbers. ``labels`` is the file of
    people's marks that it honoured, ``test_files`` are those of the test sets that it looked at. ``given`` is the
    fingerprint of all that decides the output, "" where it is not known.
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
    work: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    all_entries: int = 0
    servers: Mapping[str, Capabilities] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    thresholds: Thresholds | None = None
    margin: FittedMargin | None = None
    labels: LabelsUsed | None = None
    test_files: tuple[TestFile, ...] = ()
    given: str = ""


@dataclass(frozen=True, kw_only=True)
class Manifest(RunInfo):
    """A run and the files that it wrote; the file ``manifest.json``, which is written last.

    ``agreement`` is what people made of the judge afterwards, where that was published.
    """

    files: tuple[WrittenFile, ...]
    agreement: Agreement | None = None
    hardquery: str = field(default_factory=lambda: version("hardquery"))
    schema_version: str = SCHEMA_VERSION

    def tables(self, output: str) -> Tables:
        """The tables of this run, which lies at ``output``."""
        return Tables(output, self.files)


def read_manifest(output: str) -> Manifest:
    """The manifest of a finished output.

    Raises:
        NotAnOutput: there is none, it cannot be read, its tables are of another schema version, or the files of
            another run are being moved into place.
    """
    if is_half_published(output):
        raise NotAnOutput(
            f"{output} is half published, by a run that is at its very end or was interrupted there: "
            f"the same `hardquery run` command finishes it"
        )
    try:
        data = read_bytes(join(output, MANIFEST))
    except FileNotFoundError as error:
        raise NotAnOutput(f"{output} is not a finished hardquery output: it has no {MANIFEST}") from error
    except OSError as error:
        raise NotAnOutput(f"{output}/{MANIFEST} cannot be read: {error}") from error
    try:
        manifest = read_json(data, Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotAnOutput(f"{output}/{MANIFEST} cannot be read: {error}") from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise NotAnOutput(
            f"{output} has tables of schema version {manifest.schema_version}, this hardquery reads {SCHEMA_VERSION}"
        )
    return manifest


def write_manifest(output: str, manifest: Manifest) -> None:
    """Write ``manifest.json``, which declares the output finished."""
    write_bytes(join(output, MANIFEST), msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")


@dataclass(frozen=True, slots=True)
class _Signature:
    """What a manifest of any schema version of this project has."""

    hardquery: str
    schema_version: str
    files: list[WrittenFile]


def listed_files(folder: str) -> list[WrittenFile]:
    """The files that the folder's manifest lists, whatever schema version they are of.

    Raises:
        NotAnOutput: there is no manifest of this project.
    """
    try:
        return read_json(read_bytes(join(folder, MANIFEST)), _Signature).files
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotAnOutput(f"{folder} has no {MANIFEST} of hardquery") from error


def has_manifest(output: str) -> bool:
    """Whether the folder has a manifest of this project, of any schema version; other files of that name are not."""
    try:
        listed_files(output)
    except NotAnOutput:
        return False
    return True


def manifest_sha256(output: str) -> str:
    """The hash of the file ``manifest.json``."""
    return hashlib.sha256(read_bytes(join(output, MANIFEST))).hexdigest()


SOURCE = "SOURCE.json"  # written last into the folder of an export: the hash of the manifest that it was made from
