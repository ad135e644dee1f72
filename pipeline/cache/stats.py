"""What is in a cache: how many results of which engines, models and prompts, and what they took."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.cache.contents import Contents, Stored
from schemas.usage import USAGE
from schemas.video import EngineStamp
from transforms.journal.counts import CACHEABLE, counts_of
from transforms.journal.record import STEPS, record_of
from transforms.journal.segments import Line


@dataclass(frozen=True, slots=True)
class Origin:
    """Records of one step that the same engine made with the same settings; no engine hashes media."""

    engine: EngineStamp | None
    settings: Mapping[str, str]
    records: int


@dataclass(frozen=True, slots=True)
class StepStats:
    """The records of one step. All but one record of each key are ``repeated``; damaged ones are not counted.

    ``seconds`` is the time that the work took, added up over all threads that did it. ``requests`` and tokens are those
    that are known; of ``cacheable_tokens`` the servers told that ``cached_tokens`` were cached.
    """

    step: str
    records: int
    keys: int
    repeated: int
    failed_transient: int
    failed_permanent: int
    size_bytes: int
    requests: int
    retries: int
    input_tokens: int
    cacheable_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    seconds: float
    origins: tuple[Origin, ...]


@dataclass(frozen=True, slots=True)
class FileStats:
    """How many files there are of one kind."""

    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Everything in a cache."""

    root: str
    steps: tuple[StepStats, ...]
    frames: FileStats
    audio: FileStats
    vectors: FileStats
    packs: FileStats


def stats(contents: Contents) -> CacheStats:
    """Count what is in a cache; memory grows by about 100 bytes a record."""
    known = [step for step in STEPS if step in contents.segments]
    others = [step for step in contents.segments if step not in STEPS]
    kinds: dict[str, list[Stored]] = defaultdict(list)
    for key, file in contents.cached.items():
        kinds[key.partition("/")[0]].append(file)
    return CacheStats(
        contents.root,
        tuple(_step(contents, step) for step in (*known, *others)),
        frames=_files(kinds["frames"]),
        audio=_files(kinds["audio"]),
        vectors=_files(kinds["vectors"]),
        packs=_files(contents.packs),
    )


def _files(files: Iterable[Stored]) -> FileStats:
    sizes = [file.size_bytes for file in files]
    return FileStats(len(sizes), sum(sizes))


def _step(contents: Contents, step: str) -> StepStats:
    records, seconds = 0, 0.0
    used = dict.fromkeys((*USAGE, CACHEABLE), 0)
    keys: set[bytes] = set()
    failed = Counter[bool]()
    origins = Counter[tuple[EngineStamp | None, tuple[tuple[str, str], ...]]]()
    for segment in contents.segments[step]:
        for line in contents.lines(segment):
            record = record_of(line.data) if isinstance(line, Line) else None
            if not isinstance(line, Line) or record is None:
                continue
            records += 1
            keys.add(bytes.fromhex(line.key))
            seconds += record.seconds
            origins[record.engine, tuple(sorted(record.settings.items()))] += 1
            if record.failed is not None:
                failed[record.failed.permanent] += 1
            for name, amount in counts_of(record.usage).items():
                used[name] += amount
    return StepStats(
        step=step,
        records=records,
        keys=len(keys),
        repeated=records - len(keys),
        failed_transient=failed[False],
        failed_permanent=failed[True],
        size_bytes=sum(segment.size_bytes for segment in contents.segments[step]),
        seconds=seconds,
        origins=tuple(Origin(engine, dict(pairs), n) for (engine, pairs), n in origins.most_common()),
        **used,
    )
