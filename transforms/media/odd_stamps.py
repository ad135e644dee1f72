"""Timestamps of a sound track that are at odds with the others: damage that would put sound in the wrong place."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate, pairwise

from transforms.media.clock import Clock
from transforms.media.container import open_media, read_only

# A step back that is shorter than this is rounding.
SLACK_S = Fraction(1, 50)
# A longer step between two packets is a hole in the sound, or a damaged timestamp.
JUMP_S = Fraction(1, 2)


def odd_stamps(path: str, index: int, clock: Clock) -> frozenset[int]:
    """The timestamps (ticks, on ``clock``) of a sound track that contradict the others, by reading without decoding.

    One damaged stamp would put all sound after it in the wrong place. Sound is stored in time order, so where the
    stamps step back, whole runs of them are left out, as few stamps as let the rest rise.
    """
    stamps = array("q")
    with open_media(path) as container:
        stream = container.streams[index]
        read_only(container, stream)
        stamps.extend(p.pts for p in clock.packets(container, stream) if p is not None and p.pts is not None)
        time_base = stream.time_base or Fraction(1, 1000)
    slack, jump = int(SLACK_S / time_base), int(JUMP_S / time_base)
    if all(stamp >= highest - slack for stamp, highest in zip(stamps, accumulate(stamps, max), strict=True)):
        return frozenset()
    starts = [i for i in range(len(stamps)) if i == 0 or not -slack <= stamps[i] - stamps[i - 1] <= jump]
    runs = [stamps[first:end] for first, end in pairwise([*starts, len(stamps)])]
    trusted = frozenset(stamp for run in _rising(runs, slack) for stamp in run)
    return frozenset(stamps) - trusted


def _rising(runs: Sequence[array[int]], slack: int) -> list[array[int]]:
    """Those runs, of most stamps in all, of which each starts where the one before it ends or later.

    A longest increasing subsequence with weights. The k-th of the candidates is the chain of ``totals[k]`` stamps that
    ends soonest, at ``ends[k]``, with the run ``lasts[k]``; both numbers rise with k.
    """
    ends: list[int] = []
    totals: list[int] = []
    lasts: list[int] = []
    before: list[int] = []  # for each run the one before it in its chain, or -1
    for number, run in enumerate(runs):
        fitting = bisect_right(ends, run[0] + slack)
        before.append(lasts[fitting - 1] if fitting else -1)
        total = len(run) + (totals[fitting - 1] if fitting else 0)
        sooner = bisect_right(ends, run[-1])
        if sooner and totals[sooner - 1] >= total:
            continue
        beaten = slice(bisect_left(ends, run[-1]), bisect_right(totals, total))
        ends[beaten], totals[beaten], lasts[beaten] = [run[-1]], [total], [number]
    chain = []
    number = lasts[-1] if lasts else -1
    while number >= 0:
        chain.append(runs[number])
        number = before[number]
    return chain[::-1]
