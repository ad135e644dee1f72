"""What changed since an output was made, by the stage that it changes first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import msgspec

from pipeline.outputs.diff.given import Given
from pipeline.outputs.manifest import Manifest, PromptText
from pipeline.recipes.sections import key_of
from pipeline.run import Job
from transforms.journal.deciding import libraries_of

OF_CANDIDATES = ("extract", "group", "mine")
STAGES = ("extract", "group", "synthesize", "mine", "judge", "curate")
# The stage of each section of a recipe that decides anything, the first prefix of a key counts.
_OF_KEY: Mapping[str, str] = {
    "extract": "extract",
    "decontaminate": "extract",
    "seed": "extract",
    "group": "group",
    "emit.validation_fraction": "group",
    "synthesize.negative_queries": "curate",
    "synthesize": "synthesize",
    "mine": "mine",
    "judge.sample_queries": "",
    "judge.necessity": "curate",
    "judge": "judge",
    "curate": "curate",
}
_OF_ROLE: Mapping[str, str] = {
    **dict.fromkeys(("decode", "asr", "ocr", "caption"), "extract"),
    **dict.fromkeys(("writer", "writer_parser", "filters"), "synthesize"),
    "first_stages": "mine",
    **dict.fromkeys(("judge", "judge_parser", "panel"), "judge"),
    **dict.fromkeys(("negatives", "verifier"), "curate"),
}
_OF_PROMPT: Mapping[str, str] = {
    "caption": "extract",
    **dict.fromkeys(("write_queries", "write_requests", "write_events"), "synthesize"),
    "judge": "judge",
    **dict.fromkeys(("negative_queries", "judge_reworded"), "curate"),
}
_OF_STEP: Mapping[str, str] = {
    **dict.fromkeys(("media", "decode", "asr", "ocr", "caption"), "extract"),
    "frame_hashes": "group",
    "write": "synthesize",
    **dict.fromkeys(("embed_video", "embed_query"), "mine"),
    **dict.fromkeys(("judge", "panel"), "judge"),
    **dict.fromkeys(("negatives", "verify", "necessity"), "curate"),
}
DEPTH = "mine.candidates"
_LIMITS = "extract.limits"  # of time, which decide no result
_READ_BY = ("fields", "search")  # what stands beside a first stage's engine and is none of its options


@dataclass(frozen=True, slots=True)
class Change:
    """What differs, in a few words; ``stage`` is the first that it decides, ``key`` that of the recipe, if any."""

    stage: str
    text: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Since:
    """The changes since an output was made."""

    changes: tuple[Change, ...]

    def before(self, step: str) -> bool:
        """Whether anything changed that decides what a step of the journal is asked."""
        last = STAGES.index(_OF_STEP[step])
        changes = (change for change in self.changes if change.key != DEPTH)  # what was found is still asked about
        return any(STAGES.index(change.stage) <= last for change in changes)

    @property
    def of_candidates(self) -> tuple[Change, ...]:
        """Those by which a query may have other candidates, but for how many it has."""
        return tuple(change for change in self.changes if change.stage in OF_CANDIDATES and change.key != DEPTH)


def since(manifest: Manifest, job: Job) -> Since:
    """What a job is given that the run of this manifest was not."""
    stamps = job.engines.stamps()
    now = replace(
        manifest,
        recipe=msgspec.json.decode(msgspec.json.encode(job.recipe.as_dict())),
        engines=stamps,
        libraries=libraries_of(stamps),
        prompts={name: PromptText(template.version, template.source) for name, template in job.prompts.items()},
    )
    return Since(tuple(dict.fromkeys(_changes(Given(manifest, now), [*stamps]))))


def _changes(given: Given, roles: list[str]) -> Iterator[Change]:
    engines = tuple(key_of(role) for role in (*given.a.engines, *roles))
    for key in given.values:
        if stage := _stage_of(key, engines):
            yield from (Change(stage, cause.text, key) for cause in sorted(given.recipe(key)))
    for role in {**given.a.engines, **given.b.engines}:
        yield from (Change(_OF_ROLE[role.partition(".")[0]], cause.text) for cause in sorted(given.engine(role)))
    for name in {**given.a.prompts, **given.b.prompts}:
        yield from (Change(_OF_PROMPT[name], cause.text) for cause in sorted(given.prompt(name)))
    yield from (Change(STAGES[0], cause.text) for cause in sorted(given.version))


def _stage_of(key: str, engines: tuple[str, ...]) -> str:
    """The stage of a recipe's key; "" of what decides nothing, or is an option of an engine, which its stamp tells."""
    for engine in engines:
        if f"{key}.".startswith(f"{engine}."):
            option = key.removeprefix(f"{engine}.").partition(".")[0]
            return "mine" if engine.startswith("mine.") and option in _READ_BY else ""
    if key.startswith(f"{_LIMITS}.") and key != f"{_LIMITS}.max_duration_s":
        return ""
    return next((stage for start, stage in _OF_KEY.items() if f"{key}.".startswith(f"{start}.")), "")
