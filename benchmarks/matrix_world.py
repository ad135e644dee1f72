"""A corpus for several first stages: moving balls, titles that tell what a single frame shows, and queries.

A title tells the ball's colour and the floor's, in the query's word or another, sometimes wrong or not at all, among
other words; never the direction. So what confuses retrievers of text is not what confuses one that sees the frames.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import numpy as np

from benchmarks.balls import DIRECTIONS, Ball, Clip, best_negatives, candidate, video_row, write_output
from schemas.example import Example, ExampleCandidate, Split
from schemas.query import Candidate

COLOURS = {"red": "crimson", "green": "emerald", "blue": "navy", "yellow": "golden", "purple": "violet"}
FLOORS = {"black": "dark", "pink": "rosy", "brown": "wooden"}
_OTHERS = (
    "small clean plain simple round scene computer indoor close still empty toy studio playing animated short test "
    "smooth shadow loop sport physics game day"
).split()
_NOT_TOLD, _WRONG, _IN_ANOTHER_WORD = 0.1, 0.1, 0.25
_HELD_OUT = 0.35  # of all that can be asked
_QUERIES_A_CLIP = 2
_JUDGED = 40  # wrong candidates of a query; more only where none of them is a trusted negative

Runs = Mapping[str, Sequence[Candidate]]
"""Candidates by query id."""


@dataclass(frozen=True)
class Corpus:
    """Clips by id, what is asked by query id, and the videos that answer each query."""

    clips: Mapping[str, Clip]
    asked: Mapping[str, Ball]
    qrels: Mapping[str, Mapping[str, int]]

    @staticmethod
    def of(clips: Sequence[Clip], asked: Mapping[str, Ball]) -> Corpus:
        """The answers are the clips that have all that a query names."""
        qrels = {
            query_id: {clip.video_id: 1 for clip in clips if query.match(clip.ball) == 1}
            for query_id, query in asked.items()
        }
        return Corpus({clip.video_id: clip for clip in clips}, asked, qrels)

    @property
    def queries(self) -> dict[str, str]:
        """The texts of the queries."""
        return {query_id: str(query) for query_id, query in self.asked.items()}

    @property
    def titles(self) -> dict[str, str]:
        """All that retrievers of text know of the clips."""
        return {video_id: " ".join(sorted(clip.title)) for video_id, clip in self.clips.items()}


@dataclass(frozen=True)
class World:
    """What is trained on; and what is held out, other clips of the same kinds and queries never asked in training.

    ``positives`` are the clips that the training queries were written of, by query id.
    """

    seed: int
    train: Corpus
    positives: Mapping[str, str]
    held_out: Corpus

    def write_train(self, output: Path, negatives: Runs) -> None:
        """Write an output to train on: each query's negatives are its best candidates that do not answer it.

        One of them is a trusted one, as curation has it. Nothing else depends on ``negatives``.
        """
        groups = {query_id: self._group(query_id, negatives[query_id]) for query_id in self.positives}
        examples = [
            Example(query_id, str(self.train.asked[query_id]), "train", "human", None, None, (), "", group)
            for query_id, group in groups.items()
        ]
        self._write(output, "train", self.train, examples)

    def write_held_out(self, output: Path) -> None:
        """Write an output of the held-out clips, without examples."""
        self._write(output, "validation", self.held_out, [])

    def _write(self, output: Path, split: Split, corpus: Corpus, examples: Sequence[Example]) -> None:
        pixels = np.random.default_rng([self.seed, len(split)])
        videos = [video_row(clip, split, pixels) for clip in corpus.clips.values()]
        write_output(str(output), videos, examples, corpus.qrels)

    def _group(self, query_id: str, found: Sequence[Candidate]) -> tuple[ExampleCandidate, ...]:
        answers = self.train.qrels[query_id]
        wrong = (c for c in found if c.video_id not in answers)
        negatives: list[ExampleCandidate] = []
        while not best_negatives(negatives) and (judged := list(islice(wrong, _JUDGED))):
            negatives += (self._judged(query_id, candidate.video_id, 0, candidate) for candidate in judged)
        return (self._judged(query_id, self.positives[query_id], 1, None), *best_negatives(negatives))

    def _judged(self, query_id: str, video_id: str, label: int, ranked: Candidate | None) -> ExampleCandidate:
        """The teacher's margin of a pair is the same whoever found it."""
        match = self.train.asked[query_id].match(self.train.clips[video_id].ball)
        return candidate(video_id, label, match, ranked, random.Random(f"{self.seed}:{query_id}:{video_id}"))


def make_world(seed: int, train_each: int = 24, held_out_each: int = 4) -> World:
    """A world with so many clips of each kind, to train on and held out."""
    rng = random.Random(f"matrix:{seed}")
    kinds = [Ball(*attributes) for attributes in product(COLOURS, FLOORS, DIRECTIONS)]
    askable = sorted({query for kind in kinds for query in _queries_of(kind)}, key=str)
    later = set(rng.sample(askable, round(_HELD_OUT * len(askable))))
    clips = _clips("t", kinds * train_each, rng)
    positives, asked = {}, {}
    for clip in clips:
        free = [query for query in _queries_of(clip.ball) if query not in later]
        for query in rng.sample(free, min(_QUERIES_A_CLIP, len(free))):
            query_id = f"q-{clip.video_id}-{'-'.join(query.words)}"
            positives[query_id], asked[query_id] = clip.video_id, query
    held_out = {f"q-{'-'.join(query.words)}": query for query in sorted(later, key=str)}
    later_clips = _clips("h", kinds * held_out_each, rng)
    return World(seed, Corpus.of(clips, asked), positives, Corpus.of(later_clips, held_out))


def _queries_of(kind: Ball) -> list[Ball]:
    """All three attributes of a clip, or two of them."""
    colour, floor, direction = kind.colour, kind.floor, kind.direction
    return [kind, Ball(colour, floor, None), Ball(colour, None, direction), Ball(None, floor, direction)]


def _clips(prefix: str, kinds: Sequence[Ball], rng: random.Random) -> list[Clip]:
    shuffled = rng.sample(kinds, len(kinds))
    return [Clip(f"{prefix}{number:04d}", kind, _title(kind, rng)) for number, kind in enumerate(shuffled)]


def _title(kind: Ball, rng: random.Random) -> frozenset[str]:
    told = (_told(kind.colour, COLOURS, rng), _told(kind.floor, FLOORS, rng))
    return frozenset([*(word for word in told if word), *rng.sample(_OTHERS, 2)])


def _told(attribute: str | None, words: Mapping[str, str], rng: random.Random) -> str | None:
    """An attribute in a title; ``words`` are all its values, each with another word for it."""
    if attribute is None or rng.random() < _NOT_TOLD:
        return None
    value = rng.choice(sorted(words)) if rng.random() < _WRONG else attribute
    return words[value] if rng.random() < _IN_ANOTHER_WORD else value
