"""Run a pipeline on this machine: Beam's in-process runner, set up so that options and workers mean what they say."""

from __future__ import annotations

import argparse
import bz2
import logging
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from types import SimpleNamespace
from typing import Any, NoReturn, TypeVar

import apache_beam as beam
from apache_beam.internal import cloudpickle_pickler
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions, TypeOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner, worker_handlers
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import PipelineResult
from apache_beam.runners.worker import sdk_worker

from runners import dofn_specs, quick_graph, shuffle
from transforms.workers import sandbox, window

V = TypeVar("V", bound=PipelineOptions)

LOCAL_RUNNERS = (None, "DirectRunner", "FnApiRunner")


class _Options(PipelineOptions):
    """Options whose views are made once: Beam asks for one at every step, and each would build a parser anew, which is
    half the time that building our graph takes. Views share their values, so they stay true.
    """

    def view_as(self, cls: type[V]) -> V:
        views: dict[type, Any] = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        view: V = views[cls]
        return view


class _BeamParser(argparse.ArgumentParser):
    """Beam's options, whose complaints are one line each."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print below two screens of options."""
        raise ValueError(f"an option of Beam: {message}")


def pipeline_options(flags: list[str], workers: int) -> PipelineOptions:
    """Beam options; a local run gets ``workers`` threads, because the heavy work happens in child processes anyway.

    Raises:
        ValueError: a flag that no Beam option knows, with the closest one, or one that would not do what it says.
    """
    require_known(flags)
    options = _Options(flags)
    if is_local(options):
        if options.get_all_options().get("dry_run"):
            raise ValueError("Beam's --dry_run keeps nothing on this machine from running; --dry-run of hardquery does")
        direct = options.view_as(DirectOptions)
        direct.direct_num_workers = workers
        direct.direct_running_mode = "multi_threading" if workers > 1 else "in_memory"
    return options


def require_known(flags: Sequence[str], all_of_them: bool = True) -> None:
    """Refuse a value that a flag of Beam does not take, and a flag that is none of Beam's if ``all_of_them`` are to be.

    Raises:
        ValueError: with the closest flag.
    """
    parser = _BeamParser(prog="hardquery run", allow_abbrev=False, add_help=False)
    for kind in PipelineOptions.__subclasses__():
        kind._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(list(flags))
    if unknown and all_of_them:
        flag = unknown[0].partition("=")[0]
        close = get_close_matches(flag, [name for action in parser._actions for name in action.option_strings], n=1)
        hint = f"; did you mean {close[0]}?" if close else "; see Beam's pipeline options"
        raise ValueError(f"{flag} is no option of Beam{hint}")


def is_local(options: PipelineOptions) -> bool:
    """Whether the run happens in this process."""
    return options.view_as(StandardOptions).runner in LOCAL_RUNNERS


def here(options: PipelineOptions) -> PipelineOptions:
    """The options for this process, whatever runner they name; they are changed."""
    options.view_as(StandardOptions).runner = None
    return options


def runner_name(options: PipelineOptions) -> str:
    """The name of the runner that really runs."""
    return "FnApiRunner" if is_local(options) else str(options.view_as(StandardOptions).runner)


def _send_input(bundle: Any, bundle_id: str, transform_id: str, chunks: Iterable[bytes] | None) -> None:
    """Beam's own, but in many messages: it makes one of all that a worker gets, which takes memory and ends at 2 GB.

    Each chunk holds whole elements.
    """
    stream = bundle._worker_handler.data_conn.output_stream(bundle_id, transform_id)
    for chunk in chunks or ():
        stream.write(chunk)
        stream.maybe_flush()
    stream.close()


_FAST = SimpleNamespace(compress=lambda data, compresslevel: zlib.compress(data, 1), decompress=zlib.decompress)


def make_pipeline(options: PipelineOptions) -> beam.Pipeline:
    """An empty pipeline on the runner that the options name.

    The local runner is chosen explicitly: Beam's default picks one by whether a binary can be downloaded, so the same
    command would run on different runners with and without a network.
    """
    dofn_specs.remember()
    quick_graph.remember(is_local(options))
    # A local run's steps never leave this process: Beam's bz2 keeps small what is sent to a service.
    cloudpickle_pickler.bz2 = _FAST if is_local(options) else bz2
    if not is_local(options):
        return beam.Pipeline(options=options)
    # Once in so many ms, a thread of Beam would empty the buffers that workers write to, with a lock that no writer
    # takes: what is being written at that moment is torn in two or lost, in silence. At 0, writers alone empty them.
    worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = 0
    fn_runner.BundleManager._send_input_to_worker = _send_input
    # Types are checked while the graph is built, at a fifteenth of a small run; a run has the graph of every other.
    options.view_as(TypeOptions).pipeline_type_check = False
    shuffle.use_files()
    # Options are shipped to workers only if the runner is given them as provision information.
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = fn_runner.ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    return beam.Pipeline(runner=shuffle.LocalRunner(provision_info=provision), options=options)


def run(pipeline: beam.Pipeline, watch: Callable[[threading.Event], object]) -> PipelineResult:
    """Run to the end while ``watch`` shows progress; it is given an event that is set when the run is over.

    Raises whatever the pipeline raised.
    """
    over = threading.Event()
    failure: list[BaseException] = []
    results: list[PipelineResult] = []

    def work() -> None:
        try:
            result = pipeline.run()
            result.wait_until_finish()
            results.append(result)
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread below
            failure.append(error)
        finally:
            over.set()

    thread = threading.Thread(target=work, name="pipeline", daemon=True)
    thread.start()
    try:
        watch(over)
        thread.join()
    finally:
        sandbox.shut_down()  # at Ctrl-C, so that no worker thread waits on for a child's answer
        window.shut_down()  # or for a server's
    if failure:
        raise failure[0]
    return results[0]


def quieten() -> None:
    """Keep what libraries say of their internals out of the user's terminal, unless HARDQUERY_TRACEBACK is set."""
    logging.getLogger("bm25s").disabled = True  # it sets its own level to DEBUG when imported
    if os.environ.get("HARDQUERY_TRACEBACK"):
        return
    # Beam logs, and its worker prints, the trace of every error that it raises as well.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    sdk_worker.print = lambda *_, **__: None
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # more workers than boto3 keeps connections
