"""A sample of a large corpus, where the output of an earlier run tells of the rest; and how far off it may be."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from pipeline.human import with_positive
from pipeline.outputs.manifest import Manifest
from pipeline.outputs.tables import Tables
from pipeline.planning.changes import NotHeld
from pipeline.planning.forecast import compared_by
from pipeline.planning.sampled.since import OF_CANDIDATES, Since, since
from pipeline.planning.seen import Seen
from pipeline.run import Job
from schemas.check import read_json
from schemas.video import ManifestEntry
from transforms.extract.identify import media_key, state_of
from transforms.extract.limit import limited
from transforms.extract.list_input import Listing
from transforms.journal.journal import Journal
from transforms.journal.record import STEPS
from transforms.storage.address import is_remote

_OUTCOMES = ("cached", "run", "failed", "deferred")
# Half of an interval in standard errors, and of n videos how many may be unlike all that were drawn, as what none of n
# has at most so many of n have. Together they hold what is missing in 96 of 100 samples or more, also where it is rare.
_WIDE, _UNSEEN = 2.6, 3.0


@dataclass(frozen=True, slots=True)
class Sampling:
    """Of how many videos on a sample is drawn, and how large it is.

    As many videos are drawn of those that an output has as come to so many ``pairs``, which with all that is around
    them take some 15 CPU s to look up; but at least and at most so many. Of ``new`` ones at most so many are.
    """

    above: int = 500
    pairs: int = 6_000
    least: int = 50
    most: int = 300
    new: int = 200


@dataclass(frozen=True)
class Stratum:
    """Videos that were drawn, ``of`` so many."""

    entries: tuple[ManifestEntry, ...]
    of: int

    @property
    def factor(self) -> float:
        """How many each of them stands for."""
        return self.of / len(self.entries)


@dataclass(frozen=True)
class Sample:
    """Videos that were drawn: of those that an output has, of those ``touched`` since, and of ``new`` ones.

    A touched video is one whose file has another address, or may have been written to since it was hashed. ``ids`` are
    those of all that the output has, by the address that the input gives, ``hashes`` those of their files but for
    touched ones. ``since`` is what else changed.
    """

    tables: Tables
    manifest: Manifest
    known: Stratum
    touched: Stratum
    new: Stratum
    ids: Mapping[str, str]
    hashes: frozenset[str]
    since: Since

    @property
    def looked_at(self) -> int:
        """How many videos were drawn."""
        return sum(len(stratum.entries) for stratum in (self.known, self.touched, self.new))

    @property
    def drawn_ids(self) -> frozenset[str]:
        """The ids of the drawn ones that the output has."""
        return frozenset(self.ids[entry.uri] for entry in (*self.known.entries, *self.touched.entries))

    def left(self) -> dict[str, float]:
        """Of each step of which nothing has changed that decides it: how many results may be missing at most.

        Those are what was not to be had then, and what comes of that: on average as many results as of others, and no
        more than three times as many. Files that could not be decoded are not among these videos.
        """
        done = {step: self.manifest.work.get(step, {}) for step in STEPS}
        calls = {step: sum(work.get(outcome, 0) for outcome in _OUTCOMES) for step, work in done.items()}
        lacking: dict[str, float] = {}
        left: dict[str, float] = {}
        for step, work in done.items():
            if self.since.before(step):
                break
            following = sum(number * calls[step] / max(1, calls[before]) for before, number in lacking.items())
            lacking[step] = 0 if step in ("media", "decode") else work.get("failed", 0) + work.get("deferred", 0)
            left[step] = math.ceil(lacking[step] + 3 * following)
        return left

    def why(self, new: float) -> str:
        """Why candidates may be others than the output's, of a corpus with so many new videos; "" where not."""
        reasons = [change.text for change in self.since.changes if change.stage in OF_CANDIDATES]
        if new:
            reasons.append(f"{new:,.0f} new videos")
        if gone := self.tables.count("videos") - len({*self.ids.values()}):
            reasons.append(f"{gone:,} that are gone")
        return ", ".join(reasons)

    def job(self, job: Job, stratum: Stratum) -> Job:
        """The job of a stratum alone, with the queries of people for its videos."""
        given = (entry.video_id for entry in job.listing.entries if entry.video_id)
        present = dict.fromkeys((*self.ids.values(), *given))
        ids = {self.ids.get(entry.uri, entry.video_id) for entry in stratum.entries}
        placed = {query: with_positive(query, {}, present).video_id for query in job.human if query.grades}
        human = tuple(query for query, video_id in placed.items() if video_id in ids)
        judge = msgspec.structs.replace(job.recipe.judge, sample_queries=0)  # a look need not stop early
        recipe = msgspec.structs.replace(job.recipe, judge=judge)
        return replace(job, listing=Listing(stratum.entries), human=human, recipe=recipe)

    def owners(self, queries: Mapping[str, str]) -> dict[str, str]:
        """The drawn video that a record is about, by what its subject names: an address, an id, or that of a query.

        ``queries`` are the ids of their queries, each with that of its own video.
        """
        by_uri = {entry.uri: self.ids[entry.uri] for entry in (*self.known.entries, *self.touched.entries)}
        return {**by_uri, **{video_id: video_id for video_id in by_uri.values()}, **queries}


def draw(job: Job, tables: Tables, manifest: Manifest, sampling: Sampling) -> Sample | None:
    """Videos of a job to look at; None where that would not do.

    Queries of test sets, which are compared by vectors, are as many whatever the videos: a sample of these says nothing
    of them.

    Raises:
        UnreadableOutput: a shard of the output is missing or damaged.
    """
    if compared_by(job.recipe):
        return None
    rows = tables.rows("videos", ["video_id", "uri", "media.sha256"])
    hashes = {row["video_id"]: (row["uri"], row["media"]["sha256"]) for row in rows}
    by_uri = {uri: video_id for video_id, (uri, _) in hashes.items()}
    ids: dict[str, str] = {}
    known: list[ManifestEntry] = []
    touched: list[ManifestEntry] = []
    new: list[ManifestEntry] = []
    for entry in job.listing.entries:
        video_id = by_uri.get(entry.uri) or (entry.video_id if entry.video_id in hashes else None)
        if video_id is None:
            new.append(entry)
            continue
        ids[entry.uri] = video_id
        # An object store is not asked: that is a request a video.
        as_it_was = entry.uri in by_uri and (is_remote(entry.uri) or hash_of(entry.uri, job.journal) is not None)
        (known if as_it_was else touched).append(entry)
    pairs_a_video = tables.count("judgements") / max(1, len(hashes))
    most = min(sampling.most, max(sampling.least, round(sampling.pairs / max(1.0, pairs_a_video))))
    return Sample(
        tables,
        manifest,
        drawn(job, known, most),
        drawn(job, touched, most),
        drawn(job, new, sampling.new),
        ids,
        frozenset(hashes[ids[entry.uri]][1] for entry in known),
        since(manifest, job),
    )


def drawn(job: Job, entries: Sequence[ManifestEntry], most: int) -> Stratum:
    """At most so many of some videos of a job, drawn by the recipe's seed.

    They are not those that a ``--limit`` draws by it, of which other things may have been tried.
    """
    some = limited(Listing(tuple(entries)), job.input, most, f"plan:{job.recipe.seed}")
    return Stratum(some.entries, len(entries))


def hash_of(uri: str, journal: Journal) -> str | None:
    """The recorded hash of a file that has not been written to since, None where there is none."""
    try:
        record = journal.found("media", media_key(uri, state_of(uri)).digest)
    except OSError:
        return None
    return read_json(record.value, str) if record and record.failed is None else None


def off_by(
    stratum: Stratum, seen: Seen, noted: Iterable[NotHeld], owners: Mapping[str, str], left: Mapping[str, float]
) -> dict[str, float]:
    """By how much the missing results of each step, of all videos of a stratum, may be more or fewer than reckoned.

    ``seen`` are the numbers of those that were drawn, ``noted`` what is missing of them. Videos are what was drawn, so
    that their sums are what varies; ``owners`` names the video that a subject is about. ``left`` are the steps of which
    it is known how many results can be missing at most.
    """
    drawn, rest = len(stratum.entries), 1.0 - len(stratum.entries) / stratum.of
    sums: dict[str, Counter[str]] = {step: Counter() for step in STEPS}
    for miss in {(miss.step, miss.digest): miss for miss in noted}.values():
        sums[miss.step][_owner(miss.subject, owners)] += 1
    off = {}
    for step, by_video in sums.items():
        due, calls = seen.due(step), seen.calls(step)
        if not due and step in left:
            off[step] = left[step]
            continue
        squares = sum(count**2 for count in by_video.values()) - due**2 / drawn
        error = _WIDE * math.sqrt(rest * drawn * max(0.0, squares) / max(1, drawn - 1))
        with_follow = (due + seen.follow.get(step, 0)) / due if due else 1.0
        off[step] = stratum.factor * (error * with_follow + rest * _UNSEEN / drawn * calls)
    off["decode"] += off["media"]
    return off


def _owner(subject: str, owners: Mapping[str, str]) -> str:
    """The video that a subject names first, by an address, an id, or that of a query; else what it names first."""
    words = subject.split(" ")
    named = (owners[name] for name in (subject, " ".join(words[:-1]), *words) if name in owners)
    return next(named, words[0])
