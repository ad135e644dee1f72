"""What an output knows of queries and videos, so that no answer to a query is taught to be a wrong one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.data.examples import Candidate, QueryExample
from trainer.data.shards import Shards

_QRELS = "qrels.trec"


@dataclass(frozen=True)
class Relevance:
    """Videos by query: ``judged`` are the candidates of its group, ``answers`` others that answer it, or may.

    ``events`` and ``groups`` (of near-duplicates) are by video.
    """

    judged: Mapping[str, Mapping[str, Candidate]]
    answers: Mapping[str, frozenset[str]]
    events: Mapping[str, str]
    groups: Mapping[str, str]

    def target(self, query: QueryExample, video_id: str, soft: bool = False) -> float | None:
        """1 where the video answers the query, 0 where it does not, None where that is not known.

        ``soft`` puts the teacher's p_yes in place of both where it judged the pair. Not known is a video that was found
        or may be taken to answer the query too, a near-duplicate of a positive or of such a one, or one of the same
        event that nobody has judged.
        """
        judged = self.judged.get(query.query_id, {})
        positives = {one.video_id for one in (*query.positives, *judged.values()) if one.label}
        candidate, is_positive = judged.get(video_id), video_id in positives
        if not is_positive:
            answers = self.answers.get(query.query_id, frozenset())
            if video_id in answers or any(_same(self.groups, video_id, answer) for answer in positives | answers):
                return None
            if candidate is None:
                return None if any(_same(self.events, video_id, positive) for positive in positives) else 0.0
        if soft and candidate is not None and candidate.p_yes is not None:
            return candidate.p_yes
        return float(is_positive)

    def matrices(
        self, queries: Sequence[QueryExample], video_ids: Sequence[str | None], soft: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Targets and whether they are known, [queries, videos]; a video that comes again, or is None, is not known."""
        first = {video_id: place for place, video_id in reversed(list(enumerate(video_ids)))}
        found = [
            [
                None if video_id is None or first[video_id] != place else self.target(query, video_id, soft)
                for place, video_id in enumerate(video_ids)
            ]
            for query in queries
        ]
        targets = torch.tensor([[target or 0.0 for target in row] for row in found])
        return targets, torch.tensor([[target is not None for target in row] for row in found])


def _same(names: Mapping[str, str], a: str, b: str) -> bool:
    return a in names and names[a] == names.get(b)


def read_relevance(shards: Shards, examples: Sequence[QueryExample]) -> Relevance:
    """What an output's tables and qrels say of the examples' queries."""
    answers: dict[str, set[str]] = {example.query_id: set() for example in examples}
    same_words: dict[str, set[str]] = {}
    for example in examples:
        words = " ".join(example.query.casefold().split())
        same_words.setdefault(words, set()).update(each.video_id for each in example.positives)
    for example in examples:
        answers[example.query_id] |= same_words[" ".join(example.query.casefold().split())]
    for line in shards.lines(_QRELS):
        query_id, _, video_id, relevance = line.split()
        if query_id in answers and int(relevance) > 0:
            answers[query_id].add(video_id)
    for path in shards.paths("judgements"):
        for row in shards.columns(path, ("query_id", "video_id", "label", "stratum")).to_pylist():
            if row["query_id"] in answers and (row["label"] == "yes" or row["stratum"] == "suspected_positive"):
                answers[row["query_id"]].add(row["video_id"])
    events, groups = _groups_of_videos(shards)
    return Relevance(
        judged={e.query_id: {candidate.video_id: candidate for candidate in e.candidates} for e in examples},
        answers={query_id: frozenset(videos) for query_id, videos in answers.items()},
        events=events,
        groups=groups,
    )


def _groups_of_videos(shards: Shards) -> tuple[dict[str, str], dict[str, str]]:
    """Events and near-duplicate groups, by video."""
    events: dict[str, str] = {}
    groups: dict[str, str] = {}
    for path in shards.paths("videos"):
        for row in shards.columns(path, ("video_id", "metadata", "group")).to_pylist():
            if event := (row["metadata"] or {}).get("event"):
                events[row["video_id"]] = event
            if group := row["group"]:
                groups[row["video_id"]] = group
    return events, groups
