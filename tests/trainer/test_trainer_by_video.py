"""Groups of one video in training: read, planned by turns, and laid out as pairs like any other."""

import math

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from schemas.tables import TABLES
from tests.support.tiny_training import tiny_tables, write_output
from trainer.config.config import LossConfig
from trainer.data.clips import Clip
from trainer.data.columns import Examples
from trainer.data.examples import Candidate, QueryCandidate, QueryExample, VideoExample, read_by_video
from trainer.data.plan import by_video_in_turn, plan_queries, read_plan, write_plan
from trainer.data.shards import DataError, Shards
from trainer.model.losses import Targets, ranking_loss
from trainer.ranking import GroupCollator, Groups, RankingTrainer

QUERIES = [
    QueryExample(f"q{i}", f"query {i}", (Candidate(f"v{i}", 1), *(Candidate(f"n{i}-{j}", 0) for j in range(3))))
    for i in range(40)
]
VIDEOS = [
    VideoExample(
        one.query_id,
        one.positive.video_id,
        (QueryCandidate(one.query_id, one.query, 1), *(QueryCandidate(f"x{n}", f"not {n}", 0) for n in range(3))),
    )
    for one in QUERIES[:30]
]
PLAN = plan_queries(Examples.of(QueryExample, QUERIES), epochs=2, batch=4, positives=1, negatives=2, seed=1)


def turned(share, groups=VIDEOS, seed=1):
    return by_video_in_turn(PLAN, Examples.of(VideoExample, groups), share=share, negatives=2, seed=seed)


def test_no_turn_is_given_to_videos_where_none_is_to_be_or_there_are_no_such_groups():
    assert turned(0.0) == PLAN == turned(1.0, groups=[])


def test_a_query_is_trained_on_as_often_as_before_and_in_its_videos_group_by_its_share():
    half, all_turns = turned(0.5), turned(1.0)

    assert [(item.step, item.key) for item in half] == [(item.step, item.key) for item in PLAN]
    assert {item.key for item in all_turns if not item.query_ids} == {f"q{i}" for i in range(30, 40)}
    assert sum(bool(item.query_ids) for item in half) / 60 == pytest.approx(0.5, abs=0.15)
    alone = turned(0.5, groups=VIDEOS[:1])
    assert [item for item in alone if item.key == "q0"] == [item for item in half if item.key == "q0"]


def test_a_turn_of_a_video_has_its_true_query_first_and_drawn_others():
    for item in turned(1.0):
        if item.query_ids:
            assert item.video_ids == (f"v{item.key[1:]}",)
            assert item.query_ids[0] == item.key
            assert len(set(item.query_ids[1:]) & {"x0", "x1", "x2"}) == 2


def test_a_plan_of_both_kinds_is_read_as_it_was_written(tmp_path):
    write_plan(tmp_path / "plan.parquet", turned(0.5))

    assert read_plan(tmp_path / "plan.parquet") == turned(0.5)


def rows_by_video(*labels):
    blank = dict.fromkeys(TABLES["ranking_by_video"].schema.names)
    fields = [field.name for field in TABLES["ranking_by_video"].schema.field("candidates").type.value_type]
    candidates = [
        dict.fromkeys(fields)
        | {"query_id": f"n{i}", "query": f"query {i}", "label": label, "delta": -2.0, "p_yes": 0.1}
        for i, label in enumerate(labels)
    ]
    return [blank | {"query_id": "q0", "video_id": "v0", "candidates": candidates}]


def test_groups_of_a_video_are_read_from_their_table_and_none_where_there_is_no_such_table(tmp_path):
    rows = tiny_tables(videos=2, queries=1, negatives=1)
    without = Shards(str(write_output(tmp_path / "without", rows)))
    with_them = rows | {"ranking_by_video": {"train": rows_by_video(1, 0, 0), "validation": []}}
    shards = Shards(str(write_output(tmp_path / "with", with_them)))
    broken = rows | {"ranking_by_video": {"train": rows_by_video(0, 1), "validation": []}}

    (found,) = read_by_video(shards, "train")
    assert (found.query_id, found.video_ids, found.queries) == ("q0", ("v0",) * 3, ("query 0", "query 1", "query 2"))
    assert found.candidates[1] == QueryCandidate("n1", "query 1", 0, -2.0, 0.1)
    assert found.with_queries(("n0", "n2")).queries == ("query 0", "query 2")
    assert [*read_by_video(shards, "validation"), *read_by_video(without, "train")] == []
    with pytest.raises(DataError, match="the true query, then negatives"):
        read_by_video(Shards(str(write_output(tmp_path / "broken", broken))), "train")
    twice = rows | {"ranking_by_video": {"train": 2 * rows_by_video(1, 0), "validation": []}}
    with pytest.raises(DataError, match="ranking_by_video, train: several rows of query_id q0"):
        read_by_video(Shards(str(write_output(tmp_path / "twice", twice))), "train")


class Pairs:
    """Stands in for the prompt: what was put together."""

    def for_scoring(self, clips, queries):
        return {"input_ids": [(clip.times_s[0], query) for clip, query in zip(clips, queries, strict=True)]}


class Counting(dict):
    """Clips that count how often each is decoded."""

    asked = 0

    def __getitem__(self, video_id):
        self.asked += 1
        return super().__getitem__(video_id)


def clip(n):
    return Clip(np.zeros((1, 2, 2, 3), np.uint8), (float(n),))


def test_pairs_of_both_kinds_make_one_batch_and_a_video_is_decoded_once_a_group():
    clips = Counting({"v0": clip(0), "v1": clip(1), "n1-0": clip(10)})
    groups = Groups([VIDEOS[0], QUERIES[1].with_videos(("v1", "n1-0"))], clips)

    batch = GroupCollator(Pairs())([groups[0], groups[1]])

    of_video = [(0.0, query) for query in ("query 0", "not 0", "not 1", "not 2")]
    assert batch["input_ids"] == [*of_video, (1.0, "query 1"), (10.0, "query 1")]
    assert batch["by_video"] == [True, False]
    assert [one.labels.tolist() for one in batch["targets"]] == [[1.0, 0.0, 0.0, 0.0], [1.0, 0.0]]
    assert clips.asked == 3


def test_the_loss_of_a_video_group_is_that_of_its_pairs():
    scores = torch.tensor([2.0, 1.0, 0.0, -1.0])
    losses = LossConfig()
    others = {name: replace(getattr(losses, name), weight=0.0) for name in ("teacher", "pointwise")}

    loss, _ = ranking_loss([scores], [Targets.of(VIDEOS[0].candidates)], replace(losses, **others))

    assert float(loss) == pytest.approx(math.log(sum(math.exp(s / 10 - 0.2) for s in (2.0, 1.0, 0.0, -1.0))))


def test_validation_tells_ranked_videos_and_queries_told_apart_by_name():
    trainer = RankingTrainer.__new__(RankingTrainer)
    measured = [{"ndcg_10": 0.5}, {"by_video": 1.0}, {"by_video": 0.0}]

    assert trainer.summarise(measured) == {"ndcg_10": 0.5, "by_video": 0.5}
    assert trainer.summarise(measured[:1]) == {"ndcg_10": 0.5}
    assert trainer.summarise([]) == {}
