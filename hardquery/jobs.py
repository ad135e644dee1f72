"""Runs and plans: what ``hardquery run`` and ``hardquery plan`` do, called from Python."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from hardquery.output import Output
from hardquery.ready import ready

if TYPE_CHECKING:  # heavy, and imported where used
    from pipeline.planning.plan import Plan
    from runners.request import Request

Path = str | PathLike[str]


@dataclass(frozen=True)
class Finished:
    """A published run: where its output lies, and how many items a budget or a batch left for a later run."""

    path: str
    deferred: int
    notes: tuple[str, ...]

    @property
    def output(self) -> Output:
        """The output, opened."""
        return Output(self.path)


def run(recipe: str, *, input: Path, output: Path, set: Mapping[str, Any] | None = None, **options: Any) -> Finished:
    """Run a recipe on videos and publish a training set; as the command does, it goes on where it was stopped.

    ``recipe`` is a name or the path of a YAML file; ``set`` are values over it by dotted key, such as
    ``{"curate.alpha1": -4}``. ``options`` are those of the command line: ``limit``, ``workers``, ``cache``,
    ``queries``, ``qrels``, ``retry_failures``, ``max_calls``, ``max_tokens``, ``max_cost``, ``batch``,
    ``force``, ``beam_flags``.

    Raises:
        ValueError, OSError: what was asked for cannot be done; one line that names the fix.
        Exception: what stopped the run; the earlier output stays as it was, and the same call goes on.
    """
    request = _request(recipe, input, output, set, options)
    from runners.job import prepare
    from runners.run import run as run_prepared

    prepared = prepare(request)
    finished = run_prepared(prepared)
    return Finished(prepared.job.output, finished.deferred, prepared.notes)


def demo(output: Path = "out/demo", **options: Any) -> Finished:
    """Run the demo recipe on the sample corpus, which is installed with hardquery: two minutes, offline."""
    ready()
    from runners.sample_corpus import samples_folder

    folder = samples_folder()
    human = {"queries": str(folder / "queries.tsv"), "qrels": str(folder / "qrels.trec")}
    return run("demo", input=folder / "manifest.jsonl", output=output, **{**human, **options})


def plan(recipe: str, *, input: Path, output: Path, set: Mapping[str, Any] | None = None, **options: Any) -> Plan:
    """What ``run`` with the same arguments would do and cost; nothing is computed, paid for or published.

    Of more than 500 videos a sample is looked at, where a finished output tells of the others: the one that the run
    would replace, or that at ``like``. ``whole=True`` looks at all of them.

    Raises:
        ValueError, OSError: see ``run``.
    """
    request = _request(recipe, input, output, set, options)
    from runners.job import prepare
    from runners.run import plan as plan_prepared

    return plan_prepared(prepare(request, look_only=True), say=lambda _: None)


def _request(
    recipe: str, input: Path, output: Path, set: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> Request:
    ready()
    from runners.request import Request

    settings = tuple(f"{key}={json.dumps(value)}" for key, value in (set or {}).items())  # JSON is YAML
    given = {name: fspath(value) if isinstance(value, PathLike) else value for name, value in options.items()}
    return Request(recipe=recipe, input=fspath(input), output=fspath(output), settings=settings, **given)
