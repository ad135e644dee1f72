"""Do negative queries help? The same groups with mined videos, with written queries, and with half of either.

``python -m benchmarks.negative_queries`` trains a small reranker of balls that move over floors three times, by the
plan and the losses of the second stage: on queries with near-miss clips that a first stage mined, on clips with queries
that look like theirs (``ranking_by_video``: another ball, another floor, the other direction), and on both by turns.
"""

from __future__ import annotations

import argparse
import functools
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import Path
from statistics import fmean, stdev
from typing import TypeVar

import numpy as np
import torch

from benchmarks.balls import FRAMES, PIXELS, Ball, Clip, best_negatives, candidate, video_row, write_output
from schemas.example import Edit, Example, ExampleCandidate, NegativeQuery, QueryCandidate, VideoExample
from schemas.query import Candidate
from schemas.video import EngineStamp
from trainer.config.config import load_config
from trainer.data.clips import Clips, FrameBudget
from trainer.data.examples import QueryExample, read_by_video, read_queries
from trainer.data.examples import VideoExample as VideoGroup
from trainer.data.plan import by_video_in_turn, plan_queries
from trainer.data.shards import Shards
from trainer.evaluate import mean, per_query
from trainer.model.losses import Targets, ranking_loss
from transforms.engines.bm25 import Bm25

T = TypeVar("T")

COLOURS, FLOORS, DIRECTIONS = ("red", "green", "blue"), ("black", "pink"), ("left", "right", "up", "down")
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
EDITS: Mapping[str, Edit] = {"colour": "actor", "floor": "place", "direction": "order"}
"""What a negative query changes: who acts, where, or in which order the ball is in two places."""

ARMS = {"mined videos alone": 0.0, "written queries alone": 1.0, "half and half": 0.5}
HELD_OUT_EACH = 4  # clips of a kind
_HELD_OUT = 0.3  # of all that can be asked
_DEPTH = 20
_NEGATIVES = 3
_WRITER = EngineStamp("balls", "1", "", "balls")
_EPOCHS, _BATCH = 10, 6


@dataclass(frozen=True)
class World:
    """Clips to train on and held out, the query of each training clip, and the queries that are held out."""

    seed: int
    train: Sequence[Clip]
    asked: Mapping[str, Ball]
    held_out: Sequence[Clip]
    later: Sequence[Ball]


def make_world(seed: int, clips_each: int) -> World:
    """Three colours, two floors and four directions; titles tell colour and floor, mostly, and never the direction."""
    rng = random.Random(f"negative queries:{seed}")
    kinds = [Ball(*attributes) for attributes in product(COLOURS, FLOORS, DIRECTIONS)]
    askable = sorted({query for kind in kinds for query in _queries_of(kind)}, key=str)
    later = sorted(rng.sample(askable, round(_HELD_OUT * len(askable))), key=str)
    clips = _clips("t", kinds * clips_each, rng)
    asked = {}
    for clip in clips:
        if free := [query for query in _queries_of(clip.ball) if query not in later]:
            asked[clip.video_id] = rng.choice(free)
    return World(seed, clips, asked, _clips("h", kinds * HELD_OUT_EACH, rng), later)


def _queries_of(kind: Ball) -> list[Ball]:
    return [kind, replace(kind, floor=None), replace(kind, colour=None), replace(kind, direction=None)]


def _clips(prefix: str, kinds: Sequence[Ball], rng: random.Random) -> list[Clip]:
    def title(kind: Ball) -> frozenset[str]:
        told = [word for word in (kind.colour, kind.floor) if word and rng.random() < 0.8]
        return frozenset([*told, *rng.sample((*COLOURS, *FLOORS, "day", "game", "test", "small", "round"), 2)])

    return [Clip(f"{prefix}{n:04d}", kind, title(kind)) for n, kind in enumerate(rng.sample(kinds, len(kinds)))]


def edited(query: Ball) -> Iterator[tuple[str, Ball]]:
    """Every query that differs in one attribute which is named, and the attribute; a direction becomes its opposite."""
    for colour in COLOURS if query.colour else ():
        yield "colour", replace(query, colour=colour)
    for floor in FLOORS if query.floor else ():
        yield "floor", replace(query, floor=floor)
    if query.direction:
        yield "direction", replace(query, direction=OPPOSITE[query.direction])


def negatives_of(query: Ball, never: Iterable[Ball], rng: random.Random) -> list[tuple[str, Ball]]:
    """Up to three edits of a query, an attribute of each kind first, none of ``never``."""
    shunned = {query, *never}
    found = [(kind, other) for kind, other in edited(query) if other not in shunned]
    rng.shuffle(found)
    turns = Counter[str]()
    ranked = []
    for place, (kind, _) in enumerate(found):
        ranked.append((turns[kind], place))
        turns[kind] += 1
    return [found[place] for _, place in sorted(ranked)[:_NEGATIVES]]


def write_train(world: World, output: Path) -> tuple[int, int]:
    """Write the output that all are trained on, with groups of both kinds; returns how many there are of each."""
    by_id = {clip.video_id: clip for clip in world.train}
    run = _bm25(world.train, {video_id: str(query) for video_id, query in world.asked.items()})
    examples, by_video = [], []
    for video_id, query in world.asked.items():
        rng = random.Random(f"{world.seed}:{video_id}")
        judged = functools.partial(_judged, query=query, by_id=by_id, rng=rng)
        wrong = [c for c in run[video_id] if query.match(by_id[c.video_id].ball) < 1]
        mined: list[ExampleCandidate] = []
        while not best_negatives(mined) and (some := list(islice(wrong, len(mined), len(mined) + _DEPTH))):
            mined += [judged(c.video_id, label=0, ranked=c) for c in some]
        group = (judged(video_id, label=1, ranked=None), *best_negatives(mined))
        query_id = f"q-{video_id}"
        if len(group) > 1:
            examples.append(Example(query_id, str(query), "train", "human", None, None, (), "", group))
            asked = [(None, query), *((EDITS[kind], other) for kind, other in negatives_of(query, world.later, rng))]
            queries = (_candidate(query_id, other, edit, by_id[video_id], rng) for edit, other in asked)
            denied = tuple(one for one in queries if one is not None)
            if len(denied) > 1:
                by_video.append(VideoExample(query_id, video_id, "train", _WRITER, _WRITER, denied))
    pixels = np.random.default_rng([world.seed, 0])
    videos = [video_row(clip, "train", pixels) for clip in world.train]
    write_output(str(output), videos, examples, by_video=by_video)
    return len(examples), len(by_video)


def _judged(
    video_id: str, query: Ball, by_id: Mapping[str, Clip], rng: random.Random, label: int, ranked: Candidate | None
) -> ExampleCandidate:
    return candidate(video_id, label, query.match(by_id[video_id].ball), ranked, rng)


def _candidate(query_id: str, query: Ball, edit: Edit | None, clip: Clip, rng: random.Random) -> QueryCandidate | None:
    """The teacher's margin is that of the pair, whichever side of it was changed; None of a negative that it grants."""
    judged = candidate(clip.video_id, int(edit is None), query.match(clip.ball), None, rng)
    if edit is not None and judged.teacher_label == "yes":
        return None
    return QueryCandidate(
        query_id=query_id if edit is None else NegativeQuery.id_of(query_id, str(query)),
        query=str(query),
        label=judged.label,
        edit=edit,
        teacher_label="yes" if edit is None else judged.teacher_label,
        delta=judged.delta,
        delta_lo=judged.delta_lo,
        delta_hi=judged.delta_hi,
        p_yes=judged.p_yes,
        confidence_source=judged.confidence_source,
        rationale="",
    )


class Reranker(torch.nn.Module):
    """Scores pairs of a clip, its frames averaged to 8 by 8 pixels, and the words of a query; 130,000 weights."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        self.words = list(words)
        self.frames = torch.nn.Sequential(torch.nn.Linear(FRAMES * 8 * 8 * 3, 128), torch.nn.ReLU())
        self.query = torch.nn.Linear(len(words), 128)
        self.pair = torch.nn.Sequential(torch.nn.Linear(128, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))

    def forward(self, frames: torch.Tensor, queries: Sequence[str]) -> torch.Tensor:
        """(pairs, values of pixels) and as many queries -> (pairs,)."""
        told = torch.tensor([[float(word in query.split()) for word in self.words] for query in queries])
        scores: torch.Tensor = 10 * self.pair(self.frames(frames) * self.query(told))[:, 0]  # which losses divide by
        return scores


class Pixels(dict[str, torch.Tensor]):
    """The frames of the clips of an output as the reranker sees them, by id."""

    def __init__(self, output: Path) -> None:
        super().__init__()
        self._clips = Clips(Shards(str(output)), FrameBudget(FRAMES, PIXELS**2))

    def __missing__(self, video_id: str) -> torch.Tensor:
        frames = torch.tensor(self._clips[video_id].frames).permute(0, 3, 1, 2) / 127.5 - 1
        self[video_id] = torch.nn.functional.avg_pool2d(frames, PIXELS // 8).flatten()
        return self[video_id]


def trained(output: Path, share: float, seed: int, words: Sequence[str] = (*COLOURS, *FLOORS, *DIRECTIONS)) -> Reranker:
    """A reranker trained by the trainer's plan and losses, a ``share`` of the turns on groups of one video.

    It knows these words, and no other.
    """
    shards, pixels = Shards(str(output)), Pixels(output)
    queries, videos = read_queries(shards, "train"), read_by_video(shards, "train")
    items = plan_queries(queries, epochs=_EPOCHS, batch=_BATCH, positives=1, negatives=_NEGATIVES, seed=seed)
    items = by_video_in_turn(items, videos, share=share, negatives=_NEGATIVES, seed=seed)
    by_query = {one.query_id: one for one in queries}
    by_video = {one.query_id: one for one in videos}
    losses = load_config("paper").ranking.losses
    torch.manual_seed(seed)
    model = Reranker(words)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for start in range(0, len(items), _BATCH):
        groups: list[QueryExample | VideoGroup] = [
            by_video[item.key].with_queries(item.query_ids)
            if item.query_ids
            else by_query[item.key].with_videos(item.video_ids)
            for item in items[start : start + _BATCH]
        ]
        asked = [query for group in groups for query in group.queries]
        scores = model(torch.stack([pixels[one] for group in groups for one in group.video_ids]), asked)
        targets = [Targets.of(group.candidates) for group in groups]
        loss, _ = ranking_loss(scores.split([len(one.labels) for one in targets]), targets, losses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@dataclass(frozen=True)
class Outcome:
    """nDCG@10 of held-out queries, and of held-out clips the share whose true query scores above all that look like it.

    ``by_kind`` is the share of single negatives below the true query, by what they change.
    """

    ndcg: float
    accuracy: float
    by_kind: Mapping[str, float]


def outcomes(folder: Path, seed: int, clips_each: int) -> dict[str, Outcome]:
    """Train all of one seed, and measure it, by arm."""
    world, train, held_out = make_world(seed, clips_each), folder / f"train-{seed}", folder / f"held-out-{seed}"
    _say(f"seed {seed}: groups of a query and of a video: {write_train(world, train)}")
    pixels = np.random.default_rng([seed, 1])
    write_output(str(held_out), [video_row(clip, "validation", pixels) for clip in world.held_out], [])
    found = {}
    for arm, share in ARMS.items():
        found[arm] = _measured(world, trained(train, share, seed), Pixels(held_out))
        _say(f"seed {seed}, {arm}: {found[arm]}")
    return found


def first_stage(seed: int, clips_each: int) -> float:
    """nDCG@10 of the run that is reranked."""
    world = make_world(seed, clips_each)
    return mean(per_query(_qrels(world), _run(world), ties="rank")["nDCG@10"])


@torch.no_grad()
def _measured(world: World, model: Reranker, pixels: Pixels) -> Outcome:
    def scores(pairs: Sequence[tuple[str, str]]) -> list[float]:
        found: list[float] = model(torch.stack([pixels[video] for video, _ in pairs]), [q for _, q in pairs]).tolist()
        return found

    reranked: dict[str, list[Candidate]] = {}
    for query, found in _run(world).items():
        ranked = sorted(zip(scores([(c.video_id, query) for c in found]), found, strict=True), key=lambda one: -one[0])
        reranked[query] = [Candidate(c.video_id, rank, score) for rank, (score, c) in enumerate(ranked, start=1)]
    below: dict[str, list[bool]] = {kind: [] for kind in EDITS}
    best = []
    for video_id, true, others in _groups(world):
        of_true, *of_others = scores([(video_id, str(query)) for query in (true, *(other for _, other in others))])
        best.append(of_true > max(of_others))
        for (kind, _), score in zip(others, of_others, strict=True):
            below[kind].append(of_true > score)
    ndcg = mean(per_query(_qrels(world), reranked, ties="rank")["nDCG@10"])
    return Outcome(ndcg, fmean(best), {kind: fmean(found) for kind, found in below.items()})


def _run(world: World) -> dict[str, Sequence[Candidate]]:
    found = _bm25(world.held_out, {str(query): str(query) for query in world.later})
    return {query: candidates[:_DEPTH] for query, candidates in found.items()}


def _qrels(world: World) -> dict[str, dict[str, int]]:
    return {str(q): {c.video_id: 1 for c in world.held_out if q.match(c.ball) == 1} for q in world.later}


def _groups(world: World) -> Iterator[tuple[str, Ball, list[tuple[str, Ball]]]]:
    """Every held-out clip and query that it answers, with up to three queries that look like it."""
    for clip, query in product(world.held_out, world.later):
        if query.match(clip.ball) == 1:
            yield clip.video_id, query, negatives_of(query, (), random.Random(f"{world.seed}:{clip.video_id}:{query}"))


def _bm25(clips: Sequence[Clip], queries: Mapping[str, str]) -> dict[str, Sequence[Candidate]]:
    index = Bm25().load().index((clip.video_id, " ".join(sorted(clip.title))) for clip in clips)
    return {query_id: index.search(query_id, text, len(clips)) for query_id, text in queries.items()}


def table(found: Sequence[Mapping[str, Outcome]]) -> str:
    """A row an arm, means over seeds and their standard deviation."""
    kinds = list(EDITS)
    lines = [f"| negatives | nDCG@10 | look-alikes | {' | '.join(kinds)} |", "|---|" + "---:|" * (2 + len(kinds))]
    for arm in ARMS:
        mine = [one[arm] for one in found]
        cells = [cell([one.ndcg for one in mine]), cell([one.accuracy for one in mine])]
        cells += [cell([one.by_kind[kind] for one in mine]) for kind in kinds]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(values: Sequence[float]) -> str:
    """Their mean, and their standard deviation where there are several."""
    return f"{fmean(values):.3f}" + (f" (±{stdev(values):.3f})" if len(values) > 1 else "")


def _say(text: str) -> None:
    print(f"[{time.process_time():5.0f} CPU s] {text}", file=sys.stderr, flush=True)


def over_seeds(description: str | None, measure: Callable[[Path, int, int], T]) -> tuple[list[T], int]:
    """What is measured of each seed that the command line asks for, and how many clips of a kind it asks for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clips-each", type=int, default=4, help="of a kind, to train on: 24 times as many")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = [measure(Path(folder), seed, arguments.clips_each) for seed in range(arguments.seeds)]
    return found, arguments.clips_each


def main() -> None:
    """Print the table."""
    found, clips_each = over_seeds(__doc__, outcomes)
    print(table(found))
    first = cell([first_stage(seed, clips_each) for seed in range(len(found))])
    print(f"\nfirst stage: {first}; {time.process_time():.0f} CPU s for {len(found)} seeds")


if __name__ == "__main__":
    main()
