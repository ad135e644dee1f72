"""What the machinery takes of a judged pair, apart from the judge: CPU microseconds, without Beam.

Run with ``python -m benchmarks.judged_pair``. A judge that knows the answer at once is asked about each of 300 videos
ten times, of short evidence (a caption of 120 words) and of long (60 spoken and 60 shown lines as well). Each figure is
a sum over pieces of the work, some 20 ms each, of the least that several rounds took of a piece: what other programs
take away from a processor, by its caches and its other thread, seldom spoils one piece in all rounds.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from random import Random
from typing import TypeVar

from benchmarks.simulated import Oracle, _said
from runners.cli.main import SELDOM
from schemas.query import Candidate, Query
from schemas.video import AsrSegment, Box, Evidence, MediaFacts, Modality, OcrLine, Video
from transforms.journal.counts import Work, counted_in
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgeOptions, Pair, judge_pair
from transforms.protocols.teacher import Teacher, TeacherReply, TeacherRequest
from transforms.teacher.recorded_teacher import RecordedTeacher

T = TypeVar("T")
VIDEOS, QUERIES, ROUNDS, PIECE = 300, 10, 5, 200
LINES = 60
SEEN: tuple[Modality, ...] = ("caption", "asr", "ocr")


class Overheard(Oracle):
    """Keeps what it was asked."""

    def __init__(self) -> None:
        object.__setattr__(self, "asked", [])

    def reply(self, request: TeacherRequest) -> TeacherReply:
        """As ever."""
        self.asked.append(request)
        return super().reply(request)


def pairs_of(lines: int) -> list[Pair]:
    """Queries and videos, those of a video one after the other, as in a run."""
    draw = Random("pairs")
    judge = Oracle().stamp()
    pairs = []
    for number in range(VIDEOS):
        evidence = Evidence(
            " ".join(_said(draw, 120)),
            tuple(AsrSegment(float(at), at + 1.0, " ".join(_said(draw, 8)), 1.0) for at in range(lines)),
            tuple(OcrLine(float(at), at + 1.0, " ".join(_said(draw, 4)), Box(0, 0, 1, 1), 1.0) for at in range(lines)),
        )
        video = Video(f"v{number:05}", f"v{number:05}.mp4", MediaFacts("0" * 64, 1), evidence)
        for rank in range(QUERIES):
            query_id, text = f"q-{number}-{rank}", " ".join(_said(draw, 8))
            query = Query(query_id, "none", text, "teacher", "base", "caption", "because", ("caption",), judge)
            pairs.append(Pair(query, video, Candidate(video.video_id, rank + 1, 2.0), is_positive=False))
    return pairs


def judging(teacher: Teacher) -> Callable[[Pair], object]:
    """Judges a pair."""
    stamp, options = Oracle().stamp(), JudgeOptions(SEEN)
    return lambda pair: judge_pair(teacher, stamp, pair, options)


def taken(work: Callable[[T], object], given: Sequence[T]) -> list[float]:
    """CPU seconds of each piece of one round, counted as a bundle counts."""
    pieces = []
    with counted_in(defaultdict(Work)):
        for first in range(0, len(given), PIECE):
            start = time.process_time()
            for each in given[first : first + PIECE]:
                work(each)
            pieces.append(time.process_time() - start)
    return pieces


def micros(rounds: Sequence[Sequence[float]]) -> float:
    """CPU microseconds a call, from the least that each piece took."""
    return 1e6 * sum(map(min, zip(*rounds, strict=True))) / (VIDEOS * QUERIES)


def main() -> None:
    gc.set_threshold(*SELDOM)
    print("| evidence | the judge itself | + no journal | + journal, answered before | + journal, new |")
    print("|---|---:|---:|---:|---:|")
    for name, lines in (("short", 0), ("long", LINES)):
        pairs = pairs_of(lines)
        overheard = Overheard()
        taken(judging(overheard), pairs)
        call = micros([taken(Oracle().reply, overheard.asked) for _ in range(ROUNDS)])
        bare = micros([taken(judging(Oracle()), pairs) for _ in range(ROUNDS)])
        new, again = map(micros, zip(*(_journaled(pairs) for _ in range(ROUNDS)), strict=True))
        print(f"| {name} | {call:.0f} | {bare - call:.0f} | {again:.0f} | {new - call:.0f} |", flush=True)


def _journaled(pairs: list[Pair]) -> tuple[list[float], list[float]]:
    """A round with a journal that knows nothing, and one with what it then knows."""
    with tempfile.TemporaryDirectory() as folder:
        rounds = []
        for _ in range(2):
            with closing(Journal(folder)) as journal:
                rounds.append(taken(judging(RecordedTeacher(Oracle(), journal)), pairs))
    return rounds[0], rounds[1]


if __name__ == "__main__":
    main()
