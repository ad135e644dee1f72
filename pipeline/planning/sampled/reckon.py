"""From looks at a sample to numbers of the whole corpus, and what no sample can tell of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec

from pipeline.planning.forecast import AT_HAND, depth_of
from pipeline.planning.look import Look
from pipeline.planning.sampled.recall import MORE, RECALL
from pipeline.planning.sampled.recalled import Depth, Recalled, recalled_from
from pipeline.planning.sampled.sample import Sample, Sampling, Stratum, drawn, hash_of, off_by
from pipeline.planning.seen import NOTHING, Seen
from pipeline.planning.steps import Unsearched
from pipeline.run import Job
from transforms.extract.list_input import Listing
from transforms.journal.record import STEPS
from transforms.storage.address import is_remote


def reckoned(job: Job, sample: Sample, look: Look) -> tuple[Seen, Unsearched]:
    """What the drawn videos stand for, and what they cannot tell.

    Raises:
        UnreadableOutput: a shard of the output is missing or damaged.
    """
    recalled = Recalled()
    if not sample.since.of_candidates:
        mine = job.recipe.mine
        before = msgspec.structs.replace(mine, candidates=sample.manifest.recipe["mine"]["candidates"])
        depth = Depth(depth_of(before), depth_of(mine))
        path = look.folder / "videos.jsonl"
        recalled = recalled_from(sample.tables, sample.drawn_ids, frozenset(sample.ids.values()), depth, path)
    owners = sample.owners({query_id: told.video_id for query_id, told in recalled.queries.items()})
    known = _all_of(sample.known, look, sample.job(job, sample.known), recalled, owners, sample.left())
    touched = _all_of(sample.touched, look, sample.job(job, sample.touched), recalled, owners, {}, sample.hashes)
    new = _all_of(sample.new, look, sample.job(job, sample.new), Recalled(), {}, {}, sample.hashes)
    seen = known.plus(touched).plus(new)
    return seen, Unsearched(
        why=sample.why(new.count(AT_HAND, "out")),
        more=seen.count(RECALL, MORE),
        videos=new.count(AT_HAND, "out"),
        records=_records(job),
    )


def reckoned_alone(
    job: Job, sampling: Sampling, look: Look, say: Callable[[str], object]
) -> tuple[Seen, Unsearched | None]:
    """The same where no output tells of any: of files that were never hashed a sample is looked at, and of others all.

    That these are many is said. An object store is not asked which files are as they were: it takes as long as a look.
    """
    entries = job.listing.entries
    hashes = {entry.uri: None if is_remote(entry.uri) else hash_of(entry.uri, job.journal) for entry in entries}
    new = drawn(job, [entry for entry in entries if hashes[entry.uri] is None], sampling.new)
    apart = new.of > sampling.above and not any(map(is_remote, hashes))
    listing = Listing(tuple(entry for entry in entries if hashes[entry.uri] is not None)) if apart else job.listing
    if len(listing.entries) > sampling.above:
        say(f"looking at all {len(listing.entries):,} videos{' that were hashed' * apart}, which takes long")
    seen = look(replace(job, listing=listing)) if listing.entries else NOTHING
    if not apart:
        return seen, None
    elsewhere = frozenset(sha256 for sha256 in hashes.values() if sha256 is not None)
    some = replace(job, listing=Listing(new.entries), human=())
    unseen = _all_of(new, look, some, Recalled(), {}, {}, elsewhere)
    return seen.plus(unseen), Unsearched("", 0.0, unseen.count(AT_HAND, "out"), _records(job))


def _all_of(
    stratum: Stratum,
    look: Look,
    job: Job,
    recalled: Recalled,
    owners: Mapping[str, str],
    left: Mapping[str, float],
    elsewhere: frozenset[str] = frozenset(),
) -> Seen:
    """What the drawn videos of a stratum stand for."""
    if not stratum.entries:
        return NOTHING
    own = frozenset(owners[entry.uri] for entry in stratum.entries if entry.uri in owners)
    seen = look(job, replace(recalled, own=own), elsewhere)
    off = off_by(stratum, seen, look.noted, owners, left)
    return replace(seen.times(stratum.factor), off=off)


def _records(job: Job) -> dict[str, int]:
    return {step: job.journal.count(step) for step in STEPS}
