"""What the calls to servers took, by step: for the summary of a run, the report and the card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.outputs.manifest import Manifest
from schemas.usage import USAGE
from transforms.journal.budget import PAID_STEPS
from transforms.journal.counts import CACHEABLE, EARLIER, SILENT

Work = Mapping[str, Mapping[str, int]]

_EXPECTED_SHARE = 0.7  # prompts that begin with the same evidence and follow one another reach 87 to 90 % on vLLM
_ENOUGH_CALLS = 200
_ENOUGH_CALLS_A_VIDEO = 10  # the first one about a video finds nothing


@dataclass(frozen=True, slots=True)
class StepCalls:
    """The calls of one step: ``found`` were answered by the journal, ``made`` are the others, failed ones included.

    Requests and tokens are those of calls made, or of both kinds where they are for all runs; 0 where no server told.
    ``cached_tokens`` are told of ``cacheable_tokens``; ``silent`` calls made were answered without a word of tokens.
    """

    step: str
    found: int
    made: int
    requests: int
    retries: int
    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cacheable_tokens: int
    silent: int

    @property
    def cached_share(self) -> float | None:
        """The share of input tokens that servers had cached, of those where they told."""
        return self.cached_tokens / self.cacheable_tokens if self.cacheable_tokens else None


def calls_of(work: Work, all_runs: bool = False) -> list[StepCalls]:
    """The steps that asked a server in a run, from the manifest's ``work``; or in any run whose results it has."""
    steps = [_step_calls(step, work.get(step, {}), all_runs) for step in PAID_STEPS]
    return [calls for calls in steps if calls.requests or calls.input_tokens or calls.output_tokens]


def _step_calls(step: str, counts: Mapping[str, int], all_runs: bool) -> StepCalls:
    used = {
        name: counts.get(name, 0) + (counts.get(EARLIER + name, 0) if all_runs else 0) for name in (*USAGE, CACHEABLE)
    }
    made = counts.get("run", 0) + counts.get("failed", 0)
    return StepCalls(step=step, found=counts.get("cached", 0), made=made, silent=counts.get(SILENT, 0), **used)


def prompt_cache_warning(manifest: Manifest) -> str:
    """One line where the judge's server tells how much it cached, and it is far too little; empty where all is well.

    Runs with few calls in all, or few about each video, find little in any cache, and are left alone.
    """
    videos = sum(file.rows or 0 for file in manifest.files if file.path.startswith("videos/"))
    for calls in calls_of(manifest.work):
        enough = calls.made >= max(_ENOUGH_CALLS, _ENOUGH_CALLS_A_VIDEO * videos)
        share = calls.cached_share
        if calls.step == "judge" and enough and share is not None and share < _EXPECTED_SHARE:
            return (
                f"only {share:.0%} of the judge's input tokens came from its server's prompt cache, where "
                f"{_EXPECTED_SHARE:.0%} is the least to expect: turn it on, give it more room, or lower in_flight"
            )
    return ""
