"""A few videos of an input: the same ones whenever they are asked for, and mostly the same when it has grown."""

from __future__ import annotations

import os
import re
from dataclasses import replace

from schemas.fingerprint import unit_interval
from transforms.extract.list_input import Listing
from transforms.storage.address import absolute, local_path


def limited(listing: Listing, spec: str, limit: int | None, seed: int | str) -> Listing:
    """The ``limit`` entries of the listing of ``spec`` that a hash with ``seed`` puts first, in the listing's order.

    What is hashed is an entry's id, or else its path below the input's folder, so that a move changes nothing. A larger
    limit takes the same entries and more; an entry that is new puts out one of those taken before at most. All are
    taken where there are no more.
    """
    if limit is None or limit >= len(listing.entries):
        return listing
    spec = absolute(local_path(spec))
    inside = all(entry.uri.startswith(f"{spec}/") for entry in listing.entries)
    folder = spec if inside else os.path.dirname(re.split(r"[*?\[]", spec)[0])
    names = {entry.uri: entry.video_id or entry.uri.removeprefix(f"{folder}/") for entry in listing.entries}
    taken = set(sorted(names, key=lambda uri: (unit_interval(f"{seed}:{names[uri]}"), uri))[:limit])
    chosen = tuple(entry for entry in listing.entries if entry.uri in taken)
    return replace(listing, entries=chosen, all_entries=len(names))
