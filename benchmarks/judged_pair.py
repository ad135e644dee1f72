"""What the machinery takes of a judged pair, apart from the judge: CPU microseconds, without Beam.

Run with ``python -m benchmarks.judged_pair``. A judge that knows the answer at once is asked about each of 300 videos
ten times, of short evidence (a caption of 120 words) and of long (60 spoken and 60 shown lines as well); each figure is
the least of several rounds.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from random import Random

from benchmarks.simulated import Oracle, _said
from schemas.query import Candidate, Query
from schemas.video import AsrSegment, Box, Evidence, MediaFacts, Modality, OcrLine, Video
from transforms.journal.counts import Work, counted_in
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgeOptions, Pair, judge_pair
from transforms.protocols.teacher import Teacher, TeacherReply, TeacherRequest
from transforms.teacher.recorded_teacher import RecordedTeacher

VIDEOS, QUERIES, ROUNDS = 300, 10, 5
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


def _answer(asked: list[TeacherRequest]) -> None:
    for each in asked:
        Oracle().reply(each)


def judged(pairs: list[Pair], teacher: Teacher) -> Callable[[], object]:
    """All pairs judged once, counted as a bundle counts them."""
    stamp, options = Oracle().stamp(), JudgeOptions(SEEN)

    def work() -> None:
        with counted_in(defaultdict(Work)):
            for pair in pairs:
                judge_pair(teacher, stamp, pair, options)

    return work


def micros(work: Callable[[], object], calls: int, rounds: int = ROUNDS) -> float:
    """CPU microseconds a call, of the round that took least."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return 1e6 * min(taken) / calls


def main() -> None:
    print("| evidence | the judge itself | + no journal | + journal, answered before | + journal, new |")
    print("|---|---:|---:|---:|---:|")
    for name, lines in (("short", 0), ("long", LINES)):
        pairs = pairs_of(lines)
        overheard = Overheard()
        judged(pairs, overheard)()
        call = micros(partial(_answer, overheard.asked), len(pairs))
        bare = micros(judged(pairs, Oracle()), len(pairs))
        with tempfile.TemporaryDirectory() as folder, closing(Journal(folder)) as journal:
            teacher = RecordedTeacher(Oracle(), journal)
            new = micros(judged(pairs, teacher), len(pairs), rounds=1)
            again = micros(judged(pairs, replace(teacher)), len(pairs))
        print(f"| {name} | {call:.0f} | {bare - call:.0f} | {again:.0f} | {new - call:.0f} |", flush=True)


if __name__ == "__main__":
    main()
