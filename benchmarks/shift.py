"""Does a reranker that was trained on one writer's queries serve another's, and people's? And one variant's another's?

``python -m benchmarks.shift`` trains a small reranker of balls that move over floors on queries of one writer, of
another, and of both by turns, as many each, and asks it in the words of either and of people. Writers share a world and
some words; each prefers words of its own for what it sees. Then the same of what queries are written from: titles,
which tell colour and floor, or pictures, which tell the direction as well.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

from benchmarks.balls import Ball, Clip, best_negatives, candidate, video_row, write_output
from benchmarks.negative_queries import (
    COLOURS,
    DIRECTIONS,
    FLOORS,
    Pixels,
    Reranker,
    World,
    cell,
    make_world,
    over_seeds,
    trained,
)
from schemas.example import Example
from schemas.query import Candidate
from trainer.evaluate import mean, per_query

Words = Mapping[str, str]

FORMAL: Words = {
    **{"red": "crimson", "green": "emerald", "blue": "navy", "black": "dark", "pink": "rosy"},
    **{"left": "leftwards", "right": "rightwards", "up": "skywards", "down": "earthwards"},
}
CASUAL: Words = {
    **{"red": "ruby", "green": "lime", "blue": "azure", "black": "inky", "pink": "salmon"},
    **{"left": "west", "right": "east", "up": "north", "down": "south"},
}
WRITERS: Mapping[str, tuple[float, Sequence[Words]]] = {
    "writer A": (0.3, [FORMAL]),
    "writer B": (0.3, [CASUAL]),
    "people": (0.5, [FORMAL, CASUAL]),
}
"""How often each uses the plain word for an attribute, and whose words it uses otherwise."""

TRAINED_ON: Mapping[str, Sequence[str]] = {
    "writer A": ["writer A"],
    "writer B": ["writer B"],
    "both by turns": ["writer A", "writer B"],
}
VARIANTS = ("titles", "pictures")
VARIANTS_TRAINED_ON: Mapping[str, Sequence[str]] = {**{name: [name] for name in VARIANTS}, "both by turns": VARIANTS}
_ASKED = 3  # ways in which each writer asks for the same
_NEGATIVES = 20  # wrong clips of a query that are looked at
_ALL_WORDS = [*COLOURS, *FLOORS, *DIRECTIONS, *FORMAL.values(), *CASUAL.values()]


def said(query: Ball, writer: str, rng: random.Random) -> str:
    """The query in the words of a writer."""
    plain, others = WRITERS[writer]

    def word(value: str | None) -> str | None:
        return value if value is None or rng.random() < plain else rng.choice(others)[value]

    return str(Ball(word(query.colour), word(query.floor), word(query.direction)))


def of_variant(query: Ball, variant: str) -> Ball | None:
    """What is asked where only titles, or only pictures, were shown to the writer; None where that is nothing."""
    if variant == "titles":
        asked = replace(query, direction=None)
        return asked if asked.words else None
    return query if query.direction else None


def write_train(world: World, output: Path, texts: Mapping[str, tuple[Ball, str]]) -> None:
    """Write an output of the training clips, each with its query, given with its words, and wrong clips by chance."""
    by_id = {clip.video_id: clip for clip in world.train}
    examples = []
    for video_id, (query, text) in texts.items():
        rng = random.Random(f"{world.seed}:{video_id}")
        wrong = [clip for clip in world.train if query.match(clip.ball) < 1]
        drawn = rng.sample(wrong, min(_NEGATIVES, len(wrong)))
        judged = [
            candidate(clip.video_id, 0, query.match(clip.ball), Candidate(clip.video_id, rank, -float(rank)), rng)
            for rank, clip in enumerate(drawn, start=1)
        ]
        if negatives := best_negatives(judged):
            own = candidate(video_id, 1, query.match(by_id[video_id].ball), None, rng)
            group = (own, *negatives)
            examples.append(Example(f"q-{video_id}", text, "train", "human", None, None, (), "", group))
    pixels = np.random.default_rng([world.seed, 0])
    write_output(str(output), [video_row(clip, "train", pixels) for clip in world.train], examples)


@torch.no_grad()
def ndcg(model: Reranker, pixels: Pixels, clips: Sequence[Clip], asked: Sequence[tuple[Ball, str]]) -> float:
    """nDCG@10 of all clips in the order of the model's scores, of the mean query."""
    videos = torch.stack([pixels[clip.video_id] for clip in clips])
    runs, qrels = {}, {}
    for number, (query, text) in enumerate(asked):
        scores = model(videos, [text] * len(clips)).tolist()
        ranked = sorted(zip(scores, clips, strict=True), key=lambda one: (-one[0], one[1].video_id))
        runs[str(number)] = [Candidate(clip.video_id, rank, score) for rank, (score, clip) in enumerate(ranked, 1)]
        qrels[str(number)] = {clip.video_id: 1 for clip in clips if query.match(clip.ball) == 1}
    return mean(per_query(qrels, runs, ties="rank")["nDCG@10"])


def outcomes(folder: Path, seed: int, clips_each: int) -> dict[tuple[str, str], float]:
    """nDCG@10 of one seed by what was trained on and what was asked, of writers and of variants."""
    world, held_out = make_world(seed, clips_each), folder / f"held-out-{seed}"
    pixels = np.random.default_rng([seed, 1])
    write_output(str(held_out), [video_row(clip, "validation", pixels) for clip in world.held_out], [])
    seen = Pixels(held_out)
    rng = random.Random(f"shift:{seed}")
    later = {
        writer: [(query, said(query, writer, rng)) for query, _ in product(world.later, range(_ASKED))]
        for writer in WRITERS
    }
    later |= {
        variant: [(query, str(query)) for one in world.later if (query := of_variant(one, variant))]
        for variant in VARIANTS
    }
    found: dict[tuple[str, str], float] = {}
    arms = [(name, sources, [*WRITERS]) for name, sources in TRAINED_ON.items()]
    arms += [(name, sources, [*VARIANTS]) for name, sources in VARIANTS_TRAINED_ON.items()]
    for number, (arm, sources, tests) in enumerate(arms):
        texts: dict[str, tuple[Ball, str]] = {}
        for turn, (video_id, query) in enumerate(world.asked.items()):
            source = sources[turn % len(sources)]
            if source in WRITERS:
                texts[video_id] = query, said(query, source, rng)
            elif asked := of_variant(query, source):
                texts[video_id] = asked, str(asked)
        output = folder / f"train-{seed}-{number}"
        write_train(world, output, texts)
        model = trained(output, 0.0, seed, _ALL_WORDS)
        found |= {(arm, test): ndcg(model, seen, world.held_out, later[test]) for test in tests}
    return found


def table(found: Sequence[Mapping[tuple[str, str], float]], arms: Sequence[str], tests: Sequence[str]) -> str:
    """A row for what was trained on, a column for what was asked: means over seeds and their standard deviation."""
    lines = [f"| trained on | {' | '.join(f'asked by {test}' for test in tests)} |", "|---|" + "---:|" * len(tests)]
    for arm in arms:
        cells = []
        for test in tests:
            cells.append(cell([one[arm, test] for one in found]))
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print both tables."""
    found, _ = over_seeds(__doc__, outcomes)
    print(table(found, list(TRAINED_ON), list(WRITERS)))
    print("\n" + table(found, list(VARIANTS_TRAINED_ON), VARIANTS))
    print(f"\n{time.process_time():.0f} CPU s for {len(found)} seeds")


if __name__ == "__main__":
    main()
