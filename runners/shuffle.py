"""The local runner: what lies between steps is in files where it is much, and a step is given it in parts."""

from __future__ import annotations

import os
import pickle
import tempfile
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

from apache_beam.metrics import monitoring_infos
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner import execution, fn_runner

HELD = 2 << 20
"""Bytes of encoded elements that one buffer holds in memory; a run has some hundred of them."""

PART = 8 << 20
"""Bytes of a bundle's input, about. Beam makes a bundle a worker, and holds all that goes into and comes out of it."""

_PARTITIONS = 64  # of the keys of a buffer that is not in memory: no more at a time than a bundle is given
_BUNDLES = 4  # a worker gets of such a buffer, or more: none is to wait long for another's last one

Place = tuple[int, int]  # offset and size
Part = Mapping[str, list[bytes]]  # what a bundle is given, by input


def use_files() -> None:
    """Have Beam's local runner use these buffers from now on, in this process."""
    execution.ListBuffer = fn_runner.ListBuffer = SpillingList
    execution.GroupingBuffer = SpillingGroups


class _File:
    """Blocks of bytes in a file without a name, which may be read while others are added."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="hardquery-")  # noqa: SIM115 - closed with the last buffer
        self._end = 0

    def add(self, block: bytes) -> Place:
        place = self._end, len(block)
        self._file.write(block)
        self._end += len(block)
        return place

    def read(self, place: Place) -> bytes:
        self._file.flush()
        offset, size = place
        return os.pread(self._file.fileno(), size, offset)


class SpillingList(execution.ListBuffer):
    """The elements of a PCollection, in blocks as workers sent them."""

    def __init__(self, coder_impl: Any) -> None:
        super().__init__(coder_impl)
        self._inputs: list[bytes] = []
        self._held = 0
        self._file: _File | None = None
        self._places: list[Place] = []  # before the blocks in memory

    def append(self, element: bytes) -> None:
        super().append(element)
        self._held += len(element)
        if self._held > HELD:
            self._file = self._file or _File()
            self._places += map(self._file.add, self._inputs)
            self._inputs, self._held = [], 0

    def extend(self, extra: Iterable[bytes]) -> None:
        for element in extra:
            self.append(element)

    def copy(self) -> SpillingList:
        new = SpillingList(self._coder_impl)
        new._inputs, new._held = list(self._inputs), self._held
        new._file, new._places = self._file, list(self._places)
        return new

    def __iter__(self) -> Iterator[bytes]:
        stored = map(self._file.read, self._places) if self._file else ()
        return chain(stored, super().__iter__())

    def parts(self, workers: int) -> Iterator[list[bytes]]:
        """The input of one bundle after the other: a part a worker where all is in memory, else as much as ``PART``."""
        if not self._places:
            yield from self.partition(workers)
            return
        part: list[bytes] = []
        for block in self:
            if part and sum(map(len, part)) + len(block) > PART:
                yield part
                part = []
            part.append(block)
        yield part

    def clear(self) -> None:
        super().clear()
        self._held, self._file, self._places = 0, None, []


class SpillingGroups(execution.GroupingBuffer):
    """The values of each key; those that are not in memory are parted by a hash of the key."""

    def __init__(self, *coders_and_windowing: Any) -> None:
        super().__init__(*coders_and_windowing)
        self._held = 0
        self._file: _File | None = None
        self._places: list[list[Place]] = [[] for _ in range(_PARTITIONS)]

    def append(self, elements_data: bytes) -> None:
        super().append(elements_data)
        self._hold(len(elements_data))

    def extend(self, input_buffer: Any) -> None:
        super().extend(input_buffer)
        if isinstance(input_buffer, SpillingGroups):
            if input_buffer._file is not None:
                self._file = self._file or _File()
                for number, places in enumerate(input_buffer._places):
                    self._places[number] += [self._file.add(input_buffer._file.read(place)) for place in places]
            self._hold(input_buffer._held)

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > HELD:
            self._spill()

    def _spill(self) -> None:
        parted: list[list[tuple[bytes, list[Any]]]] = [[] for _ in range(_PARTITIONS)]
        for key, values in self._table.items():
            parted[zlib.crc32(key) % _PARTITIONS].append((key, values))
        self._file = self._file or _File()
        for places, groups in zip(self._places, parted, strict=True):
            if groups:
                places.append(self._file.add(pickle.dumps(groups, pickle.HIGHEST_PROTOCOL)))
        self._table.clear()
        self._held = 0

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self.parts(1))

    def parts(self, workers: int) -> Iterator[list[bytes]]:
        """The input of one bundle after the other; see ``SpillingList``."""
        if self._file is None:
            yield from self.partition(workers)
            return
        self._spill()
        whole = sum(size for places in self._places for _, size in places)
        enough = min(PART, whole // (_BUNDLES * workers))  # a bundle costs 10 ms, whatever it is given
        held = 0
        for left, places in enumerate(self._places, start=1 - len(self._places)):
            for place in places:
                held += place[1]
                for key, values in pickle.loads(self._file.read(place)):
                    self._table[key] += values
            if held > enough or (held and not left):
                self._grouped_output = None
                yield from filter(any, self.partition(-(-held // PART)))
                held = 0


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
