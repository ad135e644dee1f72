"""A small world in which a reranker can be trained in minutes: clips of a ball that moves over a floor.

A clip is told by three attributes: the ball's colour, the floor's colour, the direction. Queries name some of them ("a
red ball moves left on a pink floor", "a ball moves up"). The first stage sees only a noisy title. Some combinations of
attributes occur in no training query: those are what the held-out queries ask for, of new clips.
"""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pipeline.outputs.manifest import Manifest, RunInfo, write_manifest
from pipeline.outputs.publish import describe
from schemas.example import SPLITS, Example, ExampleCandidate, Split, VideoExample
from schemas.query import Candidate, Margin
from schemas.tables import TABLES, row_of
from schemas.video import EngineStamp, Metadata
from transforms.emit.shards import Row, WrittenFile, write_shard
from transforms.storage.files import join
from transforms.storage.trec import qrels_lines, queries_lines, run_lines, write_lines

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (40, 60, 230),
    "yellow": (235, 220, 30),
    "purple": (160, 40, 200),
    "white": (240, 240, 240),
}
FLOORS = {"black": (10, 10, 10), "gray": (120, 120, 120), "pink": (250, 160, 190), "brown": (110, 60, 20)}
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
PIXELS, FRAMES = 32, 4
ALPHA1 = -3.0
"""Here the teacher's margin is 3 where all is as asked, and 4 less for each third of the attributes that is not."""

_DEPTH = 20
_NEGATIVES = 3
_WORLD = EngineStamp("balls", "1", "", "balls")


@dataclass(frozen=True, slots=True)
class Ball:
    """A clip's attributes, or what a query asks of them; None is not asked for."""

    colour: str | None
    floor: str | None
    direction: str | None

    @property
    def words(self) -> list[str]:
        """The attributes that are told."""
        return [word for word in (self.colour, self.floor, self.direction) if word]

    def __str__(self) -> str:
        ball = f"a {self.colour} ball" if self.colour else "a ball"
        moves = f" moves {self.direction}" if self.direction else ""
        return ball + moves + (f" on a {self.floor} floor" if self.floor else "")

    def match(self, clip: Ball) -> float:
        """The share of what is asked for that a clip has."""
        asked = [
            (wanted, has)
            for wanted, has in zip(_attributes(self), _attributes(clip), strict=True)
            if wanted is not None
        ]
        return sum(wanted == has for wanted, has in asked) / len(asked)


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip of the world: its attributes, and the words of the title by which the first stage knows it."""

    video_id: str
    ball: Ball
    title: frozenset[str]


@dataclass(frozen=True, slots=True)
class World:
    """Where a world was written: outputs to train on and of the held-out clips, and the held-out queries."""

    train: str
    held_out: str
    queries: str


def existing_world(folder: Path) -> World:
    """The world that was written below ``folder``."""
    return World(str(folder / "train"), str(folder / "held-out"), str(folder / "queries.tsv"))


def write_world(folder: Path, seed: int = 0, flipped: float = 0.0, clips_each: int = 12) -> World:
    """Write a world below ``folder``; ``flipped`` is the share of wrong labels among the training queries.

    A wrong label makes a near miss the positive, or takes a right answer among the negatives; the teacher's margins,
    which are noisy themselves, are those of the truth.
    """
    rng = random.Random(f"balls:{seed}")
    triples = [Ball(*attributes) for attributes in product(COLOURS, FLOORS, DIRECTIONS)]
    rng.shuffle(triples)
    held_out = triples[: len(triples) // 4]
    kept = triples[len(held_out) :]
    asked_later = {*held_out, *(pair for triple in triples for pair in _pairs(triple) if _is_held_out(pair))}
    pixels = np.random.default_rng([seed, 1])
    train_clips = {
        "train": _clips("t", [ball for triple in kept for ball in _family(triple, clips_each, rng)], rng),
        "validation": _clips("v", [ball for triple in kept for ball in _family(triple, 1, rng)], rng),
    }
    later_clips = _clips("h", [ball for triple in held_out for ball in _family(triple, 6, rng)], rng)
    world = existing_world(folder)
    videos = [video_row(clip, split, pixels) for split, clips in train_clips.items() for clip in clips]
    examples = [
        example for split in SPLITS for example in _examples(train_clips[split], split, asked_later, flipped, rng)
    ]
    write_output(world.train, videos, examples)
    write_output(world.held_out, [video_row(clip, "validation", pixels) for clip in later_clips], [])
    _write_queries(world, later_clips, sorted(asked_later, key=str), rng)
    return world


def _attributes(ball: Ball) -> tuple[str | None, str | None, str | None]:
    return ball.colour, ball.floor, ball.direction


def _pairs(triple: Ball) -> list[Ball]:
    return [replace(triple, colour=None), replace(triple, floor=None), replace(triple, direction=None)]


def _is_held_out(pair: Ball) -> bool:
    return hashlib.sha256(str(pair).encode()).digest()[0] < 64


def _family(triple: Ball, n: int, rng: random.Random) -> Iterator[Ball]:
    """``n`` clips that are as told, and ``n`` that differ in one attribute."""
    yield from [triple] * n
    for _ in range(n):
        name, values = rng.choice((("colour", COLOURS), ("floor", FLOORS), ("direction", DIRECTIONS)))
        yield replace(triple, **{name: rng.choice([value for value in values if value != getattr(triple, name)])})


def _clips(prefix: str, balls: Sequence[Ball], rng: random.Random) -> list[Clip]:
    words = [*COLOURS, *FLOORS, *DIRECTIONS]
    shuffled = rng.sample(balls, len(balls))
    return [
        Clip(
            f"{prefix}{number:05d}",
            ball,
            frozenset([*(word for word in ball.words if rng.random() < 0.8), *rng.choices(words, k=2)]),
        )
        for number, ball in enumerate(shuffled)
    ]


def _first_stage(query: Ball, clips: Sequence[Clip], rng: random.Random) -> list[Candidate]:
    """The best clips by overlap of words with their titles, and noise."""
    asked = query.words
    scores = [
        (sum(word in clip.title for word in asked) / len(asked) + rng.gauss(0, 0.15), clip.video_id) for clip in clips
    ]
    best = sorted(scores, reverse=True)[:_DEPTH]
    return [Candidate(video_id, rank, score) for rank, (score, video_id) in enumerate(best, start=1)]


def _examples(
    clips: Sequence[Clip], split: Split, asked_later: set[Ball], flipped: float, rng: random.Random
) -> Iterator[Example]:
    """Two queries a clip, of what is not held out; those without a trusted negative are left out."""
    by_id = {clip.video_id: clip for clip in clips}
    for clip in clips:
        asked = [query for query in _queries_of(clip.ball) if query not in asked_later]
        for query in rng.sample(asked, min(2, len(asked))):
            ranked = _first_stage(query, clips, rng)
            wrong = [c for c in ranked if query.match(by_id[c.video_id].ball) < 1]
            near = [c for c in wrong if query.match(by_id[c.video_id].ball) > 0.4]
            positive = rng.choice(near).video_id if near and rng.random() < flipped else clip.video_id
            negatives = [c for c in wrong if c.video_id != positive]
            right = [c for c in ranked if c not in wrong and c.video_id != positive]
            if right and rng.random() < flipped:
                negatives.insert(0, rng.choice(right))
            ranks = {c.video_id: c for c in ranked}
            rows = [
                candidate(video_id, label, query.match(by_id[video_id].ball), ranks.get(video_id), rng)
                for video_id, label in [(positive, 1), *((c.video_id, 0) for c in negatives)]
            ]
            chosen = best_negatives(rows[1:])
            if chosen:
                query_id = f"q-{clip.video_id}-{'-'.join(query.words)}"
                group = (rows[0], *chosen)
                yield Example(query_id, str(query), split, "human", None, None, (), "", group)


def _queries_of(ball: Ball) -> list[Ball]:
    """All that can be asked that a clip answers."""
    told = product(*((None, value) for value in _attributes(ball)))
    return [Ball(*attributes) for attributes in told if any(attributes)]


def candidate(
    video_id: str, label: int, match: float, ranked: Candidate | None, rng: random.Random
) -> ExampleCandidate:
    delta = 3.0 - 12.0 * (1.0 - match) + rng.gauss(0, 0.6)
    margin = Margin(delta, delta, delta)
    says = "yes" if delta > 0 else "no"
    return ExampleCandidate(
        video_id=video_id,
        label=label,
        stratum="positive" if label else "trusted_negative" if delta <= ALPHA1 else "hard_negative",
        teacher_label=says,
        delta=delta,
        delta_lo=delta,
        delta_hi=delta,
        p_yes=margin.p_yes,
        confidence_source="rules",
        rationale="",
        rank=ranked.rank if ranked else None,
        score=ranked.score if ranked else None,
    )


def best_negatives(negatives: Sequence[ExampleCandidate]) -> list[ExampleCandidate]:
    """The best-ranked negatives, one of them trusted; none where there is no trusted one."""
    trusted = next((c for c in negatives if c.stratum == "trusted_negative"), None)
    if trusted is None:
        return []
    others = [c for c in negatives if c is not trusted][: _NEGATIVES - 1]
    return sorted([*others, trusted], key=lambda c: c.rank or 0)


def video_row(clip: Clip, split: Split, pixels: np.random.Generator) -> Row:
    row: Row = dict.fromkeys(TABLES["videos"].schema.names)
    return row | {
        "video_id": clip.video_id,
        "uri": f"{clip.video_id}.mp4",
        "split": split,
        "metadata": row_of(Metadata(" ".join(sorted(clip.title)))),
        "caption": str(clip.ball),
        "asr": [],
        "ocr": [],
        "engines": [],
        "warnings": [],
        "frame_times_s": [number / 2 for number in range(FRAMES)],
        "frames": [{"bytes": jpeg, "path": None} for jpeg in _frames(clip.ball, pixels)],
    }


def _frames(ball: Ball, pixels: np.random.Generator) -> Iterator[bytes]:
    """The clip as JPEG frames of PIXELS by PIXELS: the ball crosses the middle, a little off it, under some noise."""
    colour, floor, direction = ball.words  # a clip has them all
    dx, dy = DIRECTIONS[direction]
    radius, reach = PIXELS * 0.22, PIXELS * 0.27
    off = pixels.uniform(-0.2, 0.2) * PIXELS
    for number in range(FRAMES):
        along = reach * (2 * number / (FRAMES - 1) - 1)
        x, y = PIXELS / 2 + dx * along + (0 if dx else off), PIXELS / 2 + dy * along + (0 if dy else off)
        picture = Image.new("RGB", (PIXELS, PIXELS), FLOORS[floor])
        ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), fill=COLOURS[colour])
        noisy = np.asarray(picture, np.int16) + pixels.normal(0, 4, (PIXELS, PIXELS, 3)).astype(np.int16)
        data = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=92, subsampling=0)
        yield data.getvalue()


def write_output(
    output: str,
    videos: Sequence[Row],
    examples: Sequence[Example],
    qrels: Mapping[str, Mapping[str, int]] | None = None,
    by_video: Sequence[VideoExample] = (),
) -> None:
    """An output folder with the tables that training reads, and qrels where they are given."""
    rows: dict[tuple[str, str], list[Row]] = {
        (name, part): []
        for name, table in TABLES.items()
        for part in table.parts
        if not table.optional or (by_video and name == "ranking_by_video")
    }
    rows["videos", "part"] = list(videos)
    for video in videos:
        caption = {"video_id": video["video_id"], "caption": video["caption"], "captioner": row_of(_WORLD)}
        rows["perception", video["split"]].append(caption)
    for example in examples:
        row = row_of(example)
        rows["ranking", row.pop("split")].append(row)
    for group in by_video:
        row = row_of(group)
        rows["ranking_by_video", row.pop("split")].append(row)
    files = []
    for (name, part), mine in rows.items():
        path = TABLES[name].shard_path(part, 0, 1)
        files.append(WrittenFile(path, *write_shard(join(output, path), name, mine)))
    if qrels:
        write_lines(join(output, "qrels.trec"), qrels_lines(qrels))
        files.append(describe(output, "qrels.trec"))
    info = RunInfo(
        recipe={"name": "balls", "curate": {"alpha1": ALPHA1}},
        recipe_fingerprint="balls",
        engines={},
        prompts={},
        input="balls",
        entries=len(videos),
        runner="none",
        created="2026-01-01T00:00:00+00:00",
        elapsed_s=0.0,
    )
    write_manifest(output, Manifest(**asdict(info), files=tuple(files)))


def _write_queries(world: World, clips: Sequence[Clip], queries: Sequence[Ball], rng: random.Random) -> None:
    """The held-out queries that some clip answers and the first stage finds, with their run and qrels."""
    texts: dict[str, str] = {}
    run: dict[str, list[Candidate]] = {}
    qrels: dict[str, dict[str, int]] = {}
    for query in queries:
        relevant = {clip.video_id: 1 for clip in clips if query.match(clip.ball) == 1}
        ranked = _first_stage(query, clips, rng)
        if any(candidate.video_id in relevant for candidate in ranked):
            query_id = "-".join(["q", *query.words])
            texts[query_id], run[query_id], qrels[query_id] = str(query), ranked, relevant
    write_lines(world.queries, queries_lines(texts))
    write_lines(join(world.held_out, "run.trec"), run_lines(run, "titles"))
    write_lines(join(world.held_out, "qrels.trec"), qrels_lines(qrels))
