"""From a request to a job: what runs and plans share, checked before any work starts."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.config import load_recipe
from pipeline.engines import Engines, check_engines, find_engines, require_reach
from pipeline.human import read_human_queries
from pipeline.outputs.marks import LABELS, Labels, read_labels
from pipeline.run import Job, check_output
from runners import local
from runners.remote.rooms import Remote, as_local, choose, request_of
from runners.request import Request, cores
from schemas.capabilities import Capabilities
from transforms.decontaminate.test_sets import files_of
from transforms.extract.limit import limited
from transforms.extract.list_input import ignored_text, list_input
from transforms.journal.budget import Budget, Cost
from transforms.journal.journal import Journal
from transforms.storage.address import absolute, is_remote
from transforms.storage.cache import Cache
from transforms.storage.files import connect, exists, join, require_filesystem


def default_cache(output: str) -> str:
    """Where the cache lies unless --cache says so: beside the output."""
    return join(FileSystems.split(output)[0] or ".", ".hardquery")


@dataclass(frozen=True)
class Prepared:
    """A job, Beam's options for it, and what is to be said before it starts, a line each; where it is to run elsewhere,
    ``remote`` says where. ``force`` makes an output again that is otherwise left alone, as nothing has changed. A plan
    looks at the ``whole`` of a large corpus, or else goes by an output that is ``like`` its own.
    """

    job: Job
    options: PipelineOptions
    notes: tuple[str, ...]
    remote: Remote | None = None
    force: bool = False
    whole: bool = False
    like: str = ""


def prepare(request: Request, look_only: bool = False) -> Prepared:
    """The job that is asked for; ``look_only`` for a plan, which writes nothing and asks no server.

    Raises:
        ValueError, OSError: what was asked for cannot be done; the message is one line that names the fix.
    """
    for name, least in (("workers", 1), ("limit", 1), ("max_calls", 0), ("max_tokens", 0), ("max_cost", 0)):
        given = getattr(request, name)
        if given is not None and not given >= least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {given}")
    if bool(request.queries) != bool(request.qrels):
        raise ValueError("--queries and --qrels go together")
    chosen = choose(request.beam_flags)
    if chosen is not None:  # workers have other current folders
        cache_folder = absolute(request.cache) if request.cache else request.cache
        request = replace(request, input=absolute(request.input), output=absolute(request.output), cache=cache_folder)
    output = request.output.rstrip("/")
    if not output or request.cache == "":
        raise ValueError("--output and --cache must name a folder, and not the root; is a shell variable unset?")
    notes: list[str] = []
    recipe = load_recipe(request.recipe, request.settings, notes.append)
    prompts = recipe.templates()
    workers = request.workers or (cores() if chosen is None or chosen.is_here else 1)
    options = chosen.options if chosen else local.pipeline_options(as_local(request.beam_flags), workers)
    require_filesystem(output)
    cache = Cache(request.cache or default_cache(output))
    places = (request.input, output, cache.root)
    remote = Remote(chosen, request_of(chosen, recipe.name, places)) if chosen else None
    if remote and not look_only:
        remote.chosen.room.require(remote.request)
    budget = Budget() if look_only else _budget(request, recipe.costs.by_step(), local.is_local(options))
    engines = find_engines(recipe)
    prompts = engines.read(prompts)
    if not (remote and remote.chosen.room.has_kinds):
        engines = replace(engines, resources={})
    batch = _batch_folder(request, engines, local.is_local(options))
    servers: dict[str, Capabilities] = {}
    if (remote is None or remote.chosen.is_here) and not look_only:
        engines, servers = check_engines(engines, in_batch=bool(batch))
        require_reach(recipe, engines.judge, servers["judge"].lacks if "judge" in servers else "")
    connect(options, request.input, output, request.cache, request.queries, request.qrels, request.labels)
    human = read_human_queries(request.queries, request.qrels) if request.queries and request.qrels else ()
    test_files = files_of(recipe.decontaminate)
    check_output(output)
    labels = _labels(request.labels, output)
    if labels:
        said = ", ".join(f"{count} {kind}" for kind, count in labels.used.marks.items())
        notes.append(f"marked in {labels.used.path}, and left out: {said}")
    listing = limited(list_input(request.input), request.input, request.limit, recipe.seed)
    if ignored := ignored_text(listing.ignored):
        notes.append(ignored)
    if listing.all_entries:
        notes.append(f"--limit: {len(listing.entries)} of {listing.all_entries} videos, drawn by seed {recipe.seed}")
    notes += [f"{role}: {server.lacks}" for role, server in servers.items() if server.lacks]
    journal = Journal(cache.root, request.retry_failures, budget, look_only, batch)
    job = Job(
        recipe=recipe,
        engines=engines,
        input=request.input,
        listing=listing,
        output=output,
        cache=cache,
        journal=journal,
        workers=workers,
        prompts=prompts,
        human=human,
        servers=servers,
        labels=labels,
        test_files=test_files,
    )
    return Prepared(job, options, tuple(notes), remote, request.force, request.whole, request.like or "")


def _labels(path: str | None, output: str) -> Labels | None:
    """What people say is wrong: in the file of --labels, else in the output itself."""
    if path is None:
        return read_labels(join(output, LABELS))
    if path and not exists(path):
        raise ValueError(f"--labels {path!r}: there is no such file")
    return read_labels(path) if path else None


def _batch_folder(request: Request, engines: Engines, is_local: bool) -> str:
    """The folder of --batch, "" where no batch is asked for."""
    folder = request.batch
    if folder is None:
        return ""
    if not folder or is_remote(folder) or os.path.isfile(folder):
        raise ValueError(f"--batch {folder!r}: name a folder of this machine")
    if not is_local:
        raise ValueError("--batch writes files on one machine; leave --runner out")
    if not any(teacher.takes_batches for teacher in (engines.writer, engines.judge, *engines.panel.values())):
        raise ValueError(
            "--batch needs a teacher behind an OpenAI-compatible server, such as --set judge.teacher.engine=openai; "
            "the recipe's teachers answer at once"
        )
    return folder


def _budget(request: Request, costs: dict[str, Cost], is_local: bool) -> Budget:
    bounds = (request.max_calls, request.max_tokens, request.max_cost)
    if any(bound is not None for bound in bounds) and not is_local:
        raise ValueError("--max-calls, --max-tokens and --max-cost are counted on one machine; leave --runner out")
    priced = any(cost.input_price or cost.output_price for cost in costs.values())
    if request.max_cost is not None and not priced:
        raise ValueError(
            "--max-cost needs prices: set them in the recipe, such as --set costs.judge.input_price=0.75 (dollars a "
            "million tokens); or use --max-calls or --max-tokens"
        )
    return Budget(*bounds, costs=costs)
