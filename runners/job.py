"""From the command line to a job: what ``run`` and ``plan`` share, checked before any work starts."""

from __future__ import annotations

import argparse
import os

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.config import load_recipe
from pipeline.engines import Engines, check_engines, find_engines, require_reach
from pipeline.human import read_human_queries
from pipeline.run import Job, check_output
from runners import local
from runners.options import OPTIONS
from schemas.capabilities import Capabilities
from transforms.extract.list_input import ignored_text, list_input
from transforms.journal.budget import Budget, Cost
from transforms.journal.journal import Journal
from transforms.storage.cache import Cache, is_remote
from transforms.storage.files import connect, join


def default_cache(output: str) -> str:
    """Where the cache lies unless --cache says so: beside the output."""
    return join(FileSystems.split(output)[0] or ".", ".hardquery")


def prepare(
    arguments: argparse.Namespace, beam_flags: list[str], look_only: bool = False
) -> tuple[Job, PipelineOptions, str]:
    """The job, Beam's options for it, and what is said of files of the input that are no videos.

    Raises:
        ValueError, OSError: what was asked for cannot be done; the message is one line that names the fix.
    """
    if arguments.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {arguments.workers}")
    if bool(arguments.queries) != bool(arguments.qrels):
        raise ValueError("--queries and --qrels go together")
    output = arguments.output.rstrip("/")
    if not output or arguments.cache == "":
        raise ValueError("--output and --cache must name a folder, and not the root; is a shell variable unset?")
    recipe = load_recipe(arguments.recipe, arguments.settings)
    prompts = recipe.templates()
    options = local.pipeline_options(beam_flags, arguments.workers, OPTIONS)
    budget = Budget() if look_only else _budget(arguments, recipe.costs.by_step(), local.is_local(options))
    engines = find_engines(recipe)
    batch = _batch_folder(arguments, engines, local.is_local(options))
    servers: dict[str, Capabilities] = {}
    if local.is_local(options) and not look_only:
        engines, servers = check_engines(engines, in_batch=bool(batch))
        require_reach(recipe, engines.judge, servers["judge"].lacks if "judge" in servers else "")
    connect(options, arguments.input, output, arguments.cache, arguments.queries, arguments.qrels)
    human = read_human_queries(arguments.queries, arguments.qrels) if arguments.queries else ()
    check_output(output)
    listing = list_input(arguments.input)
    cache = Cache(arguments.cache or default_cache(output))
    journal = Journal(cache.root, arguments.retry_failures, budget, look_only, batch)
    job = Job(
        recipe, engines, arguments.input, listing, output, cache, journal, arguments.workers, prompts, human, servers
    )
    return job, options, ignored_text(listing.ignored)


def _batch_folder(arguments: argparse.Namespace, engines: Engines, is_local: bool) -> str:
    """The folder of --batch, "" where no batch is asked for."""
    folder: str | None = arguments.batch
    if folder is None:
        return ""
    if not folder or is_remote(folder) or os.path.isfile(folder):
        raise ValueError(f"--batch {folder!r}: name a folder of this machine")
    if not is_local:
        raise ValueError("--batch writes files on one machine; leave --runner out")
    if not (engines.writer.takes_batches or engines.judge.takes_batches):
        raise ValueError(
            "--batch needs a teacher behind an OpenAI-compatible server, such as --set judge.teacher.engine=openai; "
            "the recipe's teachers answer at once"
        )
    return folder


def _budget(arguments: argparse.Namespace, costs: dict[str, Cost], is_local: bool) -> Budget:
    bounds = (arguments.max_calls, arguments.max_tokens, arguments.max_cost)
    if any(bound is not None for bound in bounds) and not is_local:
        raise ValueError("--max-calls, --max-tokens and --max-cost are counted on one machine; leave --runner out")
    priced = any(cost.input_price or cost.output_price for cost in costs.values())
    if arguments.max_cost is not None and not priced:
        raise ValueError(
            "--max-cost needs prices: set them in the recipe, such as --set costs.judge.input_price=0.75 (dollars a "
            "million tokens); or use --max-calls or --max-tokens"
        )
    return Budget(*bounds, costs=costs)
