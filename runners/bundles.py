"""The local runner's bundles: a step is given its input in parts, so that memory does not grow with the corpus."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

from apache_beam.metrics import monitoring_infos
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner

from runners.shuffle import SpillingGroups, SpillingList

Part = Mapping[str, list[bytes]]  # what a bundle is given, by input


class LocalRunner(fn_runner.FnApiRunner):
    """Beam's local runner; as many bundles are at work at once as it has workers."""

    def _get_bundle_manager(self, bundle_context_manager: Any) -> _Bundles:
        tokens = fn_runner.FnApiRunner.get_cache_token_generator(static=False)
        return _Bundles(bundle_context_manager, self._progress_frequency, cache_token_generator=tokens)


class _Bundles(fn_runner.BundleManager):
    def process_bundle(
        self, inputs: Any, expected_outputs: Any, fired_timers: Any, expected_output_timers: Any, dry_run: bool = False
    ) -> tuple[Any, list[Any]]:
        context = self.bundle_context_manager
        workers = 1 if context.stage.is_stateful() else context.num_workers
        parts, taking = enumerate(_parts(inputs, workers)), threading.Lock()
        options = {"dry_run": True} if dry_run else {}

        def work(_: int) -> tuple[Any, list[Any]]:
            merged: Any = None
            splits: list[Any] = []
            while True:
                with taking:
                    number, part = next(parts, (None, None))
                if part is None:
                    return merged, splits
                bundle = fn_runner.BundleManager(
                    context, self._progress_frequency, cache_token_generator=self._cache_token_generator
                )
                timers = {} if number else fired_timers
                result, split = bundle.process_bundle(part, expected_outputs, timers, expected_output_timers, **options)
                merged, splits = _merged(merged, result), splits + split

        if workers == 1:
            return work(0)
        with ThreadPoolExecutor(workers, thread_name_prefix="bundle") as pool:
            done = list(pool.map(work, range(workers)))
        result = None
        for one, _ in done:
            result = _merged(result, one)
        return result, [split for _, splits in done for split in splits]


def _merged(result: Any, other: Any) -> Any:
    """The responses of two bundles as one; either may be None."""
    if result is None or other is None:
        return result or other
    infos = chain(result.process_bundle.monitoring_infos, other.process_bundle.monitoring_infos)
    response = beam_fn_api_pb2.ProcessBundleResponse(monitoring_infos=monitoring_infos.consolidate(infos))
    return beam_fn_api_pb2.InstructionResponse(process_bundle=response, error=result.error or other.error)


def _parts(inputs: Mapping[str, SpillingList | SpillingGroups], workers: int) -> Iterator[Part]:
    """What one bundle after the other is given; there is at least one, which may be given nothing."""
    rest = {name: buffer.parts(workers) for name, buffer in inputs.items()}
    number = 0
    while True:
        part = {name: found for name, parts in rest.items() if (found := next(parts, None)) is not None}
        if number and not part:
            return
        yield {name: part.get(name, []) for name in inputs}
        number += 1
