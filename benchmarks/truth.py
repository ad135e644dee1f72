"""What labels are worth where the truth is known: judges that err, near-misses, and several answers to a query."""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from prompts.reply import UnparsableReply
from schemas.example import Example
from schemas.query import Candidate, Judgement, Label, Opinion, Query
from schemas.token import Token
from schemas.video import EngineStamp, Evidence, MediaFacts, Video
from transforms.curate.curate_query import CurateRules, curate_query
from transforms.judge.judge_pairs import JudgeOptions, Pair, judge_pair, opinion_of
from transforms.protocols.teacher import Ladder, Teacher, TeacherReply, TeacherRequest
from transforms.teacher.panel import PanelRules

CANDIDATES = 20  # of a query, besides its own video
SPOILED = 0.1  # of queries, those that their own video does not answer
_Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations


@dataclass(frozen=True, slots=True)
class Noise:
    """How often a judge's word is wrong, unsure or not to be read, and how sure it is of each (nats: mean, spread).

    Who is unsure says yes or no as the margin falls; the side of the others' margins is that of their word.
    """

    wrong: float = 0.05
    unsure: float = 0.10
    unparsable: float = 0.02
    when_right: tuple[float, float] = (9.0, 2.0)
    when_wrong: tuple[float, float] = (2.5, 1.5)
    when_unsure: float = 1.0


NOISES: Mapping[str, Noise] = {
    "wrong is less sure": Noise(),
    "wrong is as sure": Noise(when_wrong=(9.0, 2.0)),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A query of the world with the videos that it is judged against, best-ranked first, and those that answer it."""

    query: Query
    candidates: tuple[Video, ...]
    answers: frozenset[str]


def world(events: int, seed: int) -> Iterator[Asked]:
    """Events of three facts, each shown by four videos: a fact's query has four answers and eight near-misses.

    Some are written for a video that shows another fact of the event. The first stage finds the videos of the event
    before all others, in an order that knows little of the fact.
    """
    rng = random.Random(seed)
    shown = {(event, fact, n): _video(event, fact, n) for event in range(events) for fact in range(3) for n in range(4)}
    for event, fact in product(range(events), range(3)):
        own = shown[event, (fact + 1) % 3 if rng.random() < SPOILED else fact, 0]
        near = [v for (e, _, _), v in shown.items() if e == event and v is not own]
        far = rng.sample([v for (e, _, _), v in shown.items() if e != event], CANDIDATES - len(near))
        answers = frozenset(shown[event, fact, n].video_id for n in range(4))
        near.sort(key=lambda video: rng.random() - 0.2 * (video.video_id in answers))
        text = f"which film shows fact {fact} of the event called {event}"
        yield Asked(Query(f"q{event}-{fact}", own.video_id, text, "human"), (own, *near, *far), answers)


def _video(event: int, fact: int, n: int) -> Video:
    name = f"v{event}-{fact}-{n}"
    return Video(name, f"{name}.mp4", MediaFacts("0" * 64, 1), Evidence(f"Fact {fact} of event {event}."), "pack", 1)


@dataclass(frozen=True)
class NoisyTeacher(Teacher):
    """Knows the answers, and errs as ``noise`` says: the same of the same pair, and apart from every other judge.

    ``said`` is what came of the pairs that it was asked about, by query and video, None where it cannot be read.
    """

    name: str
    noise: Noise
    answers: Mapping[str, frozenset[str]]
    seed: int
    said: dict[tuple[str, str], Judgement | None] = field(default_factory=dict)

    @property
    def ladder(self) -> Ladder:
        """See ``Teacher``."""
        return Ladder(("logprobs",))

    def judge(self, pair: Pair) -> Judgement | None:
        """What the project makes of its reply about a pair."""
        key = pair.query.query_id, pair.video.video_id
        if key not in self.said:
            try:
                self.said[key] = judge_pair(self, EngineStamp(self.name, "1", "", "0" * 16), pair, JudgeOptions())
            except UnparsableReply:
                self.said[key] = None
        return self.said[key]

    def reply(self, request: TeacherRequest) -> TeacherReply:
        """See ``Teacher``."""
        *_, query_id, video_id = request.subject.split()
        rng = random.Random(f"{self.seed} {self.name} {query_id} {video_id}")
        truth, drawn, noise = video_id in self.answers[query_id], rng.random(), self.noise
        if drawn < noise.unparsable:
            return TeacherReply("<think>It is hard to say.</think>")
        drawn -= noise.unparsable
        if drawn < noise.unsure:
            delta = rng.gauss(0.0, noise.when_unsure)
        else:
            right = drawn >= noise.unsure + noise.wrong
            size = abs(rng.gauss(*(noise.when_right if right else noise.when_wrong)))
            delta = size if truth == right else -size
        return _reply(delta)


def _reply(delta: float) -> TeacherReply:
    """A reply whose word is that of the margin, with the two log-probabilities that make it."""
    word: Label = "yes" if delta > 0 else "no"
    both = (b"yes", -math.log1p(math.exp(-delta))), (b"no", -math.log1p(math.exp(delta)))
    start = "<think>So it seems.</think><answer>"
    decision = Token(word.encode(), dict(both)[word.encode()], both)
    return TeacherReply(f"{start}{word}</answer>", (Token(start.encode(), 0.0), decision, Token(b"</answer>", 0.0)))


@dataclass(slots=True)
class Share:
    """So many of so many."""

    part: int = 0
    whole: int = 0

    def add(self, hit: bool) -> None:
        """One more."""
        self.part += hit
        self.whole += 1

    def __str__(self) -> str:
        if not self.whole:
            return "none"
        low, high = wilson(self.part, self.whole)
        return f"{self.part:,} of {self.whole:,} = {self.part / self.whole:.1%} [{low:.1%}, {high:.1%}]"


def wilson(part: int, whole: int) -> tuple[float, float]:
    """Wilson's interval of 95 % of a share."""
    middle, spread = part + _Z**2 / 2, _Z * math.sqrt(part * (whole - part) / whole + _Z**2 / 4)
    return max(0.0, (middle - spread) / (whole + _Z**2)), min(1.0, (middle + spread) / (whole + _Z**2))


@dataclass(slots=True)
class Worth:
    """What curation made of a world: its labels against the truth, and what the panel was asked.

    ``recovered`` are, of the other videos that answer the query of a group, those that are its positives;
    ``confirmed`` are so of those among them that the first judge called answers.
    """

    queries: int = 0
    groups: int = 0
    calls: int = 0
    again: int = 0
    positives: Share = field(default_factory=Share)
    false_negatives: Share = field(default_factory=Share)
    wrongly_trusted: Share = field(default_factory=Share)
    recovered: Share = field(default_factory=Share)
    confirmed: Share = field(default_factory=Share)


def judges_of(asked: Sequence[Asked], noise: Noise, seed: int, count: int) -> list[NoisyTeacher]:
    """So many judges of a world, each of whom errs on its own."""
    answers = {one.query.query_id: one.answers for one in asked}
    return [NoisyTeacher(f"j{number}", noise, answers, seed) for number in range(count)]


def measure(asked: Sequence[Asked], teachers: Sequence[NoisyTeacher], rules: CurateRules) -> Worth:
    """Have all queries judged, by the first of the teachers and by the others as a panel, and curate them."""
    found = Worth(queries=len(asked))
    for one in asked:
        judged = [said for place in range(len(one.candidates)) if (said := _judged(one, place, teachers, rules, found))]
        outcome = curate_query(one.query, "train", judged, rules).outcome
        if isinstance(outcome, Example):
            found.groups += 1
            _count(found, one, outcome, judged)
    return found


def _judged(
    one: Asked, place: int, teachers: Sequence[NoisyTeacher], rules: CurateRules, found: Worth
) -> Judgement | None:
    """What all judges say of a candidate, None where the first cannot be read."""
    video = one.candidates[place]
    pair = Pair(one.query, video, Candidate(video.video_id, place + 1, float(-place)), place == 0)
    first, *panel = teachers
    found.calls += 1
    judgement = first.judge(pair)
    if judgement is None or rules.panel is None or not rules.panel.asks_about(judgement):
        return judgement
    found.again += len(panel)
    said: list[Opinion] = [opinion_of(word, each.name) for each in panel if (word := each.judge(pair))]
    return replace(judgement, panel=tuple(said))


def _count(found: Worth, one: Asked, example: Example, judged: Sequence[Judgement]) -> None:
    positives = {each.video_id for each in example.candidates if each.label}
    for each in example.candidates:
        answers = each.video_id in one.answers
        if each.label:
            found.positives.add(answers)
            continue
        found.false_negatives.add(answers)
        if each.stratum == "trusted_negative":
            found.wrongly_trusted.add(answers)
    suspected = {each.video_id for each in judged if each.label == "yes"}
    for video_id in one.answers - {one.query.video_id}:
        found.recovered.add(video_id in positives)
        if video_id in suspected:
            found.confirmed.add(video_id in positives)


def _panel(agree: int = 2, sure: float = 0.0, below: float | None = 6.0) -> CurateRules:
    return CurateRules(positives="confirmed", panel=PanelRules(below, agree, sure))


RULES: Mapping[str, tuple[CurateRules, int]] = {
    "no panel, the paper's rules": (CurateRules(), 0),
    "no panel, trusted negatives alone": (CurateRules(min_trusted=3), 0),
    "the same, positives sure by 4 nats": (CurateRules(min_trusted=3, sure_positive=4.0), 0),
    "1 more, both must agree": (_panel(), 1),
    "1 more, both sure by 4 nats": (_panel(sure=4.0), 1),
    "2 more, 2 of 3": (_panel(), 2),
    "2 more, 2 of 3 sure by 2 nats": (_panel(sure=2.0), 2),
    "2 more, 2 of 3 sure by 4 nats": (_panel(sure=4.0), 2),
    "2 more, 2 of 3 sure by 4 nats, within 8": (_panel(sure=4.0, below=8.0), 2),
    "2 more, 2 of 3 sure by 4 nats, all pairs": (_panel(sure=4.0, below=None), 2),
    "3 more, 3 of 4": (_panel(agree=3), 3),
    "3 more, 3 of 4 sure by 4 nats, all pairs": (_panel(agree=3, sure=4.0, below=None), 3),
}


COLUMNS = (
    "rules",
    "groups",
    "positives right",
    "false negatives",
    "wrongly trusted",
    "recovered",
    "of suspected",
    "calls",
)


def main() -> None:
    """Print a table a kind of noise, in the order of RULES."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=300, help="events of 3 queries and 12 videos each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    asked = list(world(options.events, options.seed))
    most = 1 + max(judges for _, judges in RULES.values())
    for name, noise in NOISES.items():
        teachers = judges_of(asked, noise, options.seed, most)
        print(f"\n{name}: {noise.wrong:.0%} wrong, {noise.unsure:.0%} unsure, {noise.unparsable:.0%} unparsable")
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
        for label, (rules, judges) in RULES.items():
            found = measure(asked, teachers[: 1 + judges], rules)
            shares = (found.positives, found.false_negatives, found.wrongly_trusted, found.recovered, found.confirmed)
            cells = [label, f"{found.groups:,} of {found.queries:,}", *map(str, shares)]
            print("| " + " | ".join([*cells, f"{found.calls:,} + {found.again:,}"]) + " |", flush=True)


if __name__ == "__main__":
    main()
