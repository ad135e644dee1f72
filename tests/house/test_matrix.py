"""The matrix of negatives and runs: its world, and what its table says."""

from __future__ import annotations

import pytest

from benchmarks.matrix import RUNS, SOURCES, START, Cells, fallen, table
from benchmarks.matrix_world import make_world
from schemas.query import Candidates
from trainer.data.examples import read_queries
from trainer.data.shards import Shards


def _cells(union: float, first: float = 0.5) -> Cells:
    after = {source: dict.fromkeys(RUNS, 0.6) for source in (START, *SOURCES)}
    return Cells(dict.fromkeys(RUNS, first), after | {"union": dict.fromkeys(RUNS, union)})


def test_a_cell_below_its_first_stage_is_marked():
    lines = table([_cells(0.4), _cells(0.5)]).splitlines()
    assert lines[0] == "| negatives of | BM25 0.500 | dense 0.500 | Video-ColBERT 0.500 | fusion 0.500 |"
    assert lines[-1] == "| union |" + " 0.450 (±0.071) ↓ |" * 4
    assert lines[-2] == "| Video-ColBERT |" + " 0.600 (±0.000) |" * 4


def test_the_union_fails_where_it_is_below_its_first_stage_on_average():
    assert fallen([_cells(0.4), _cells(0.61)]) == []
    assert fallen([_cells(0.4), _cells(0.59)]) == list(RUNS)


@pytest.fixture(scope="module")
def world():
    return make_world(0, train_each=1, held_out_each=1)


def test_held_out_queries_are_never_asked_in_training(world):
    assert not set(world.held_out.queries.values()) & set(world.train.queries.values())
    assert all(world.held_out.qrels.values())


def test_no_title_tells_the_direction(world):
    assert not {"left", "right", "up", "down"} & {
        word for title in world.train.titles.values() for word in title.split()
    }


def test_sources_differ_in_negatives_alone(world, tmp_path):
    video_ids = sorted(world.train.clips)
    for name, order in (("forwards", video_ids), ("backwards", video_ids[::-1])):
        ranked = Candidates(order, map(float, range(len(order), 0, -1)))
        world.write_train(tmp_path / name, dict.fromkeys(world.positives, ranked))
    forwards, backwards = (read_queries(Shards(str(tmp_path / name)), "train") for name in ("forwards", "backwards"))
    assert [(e.query_id, e.query, e.positive) for e in forwards] == [
        (e.query_id, e.query, e.positive) for e in backwards
    ]
    assert [e.negatives for e in forwards] != [e.negatives for e in backwards]
    for example in (*forwards, *backwards):
        assert len(example.negatives) == 3
        assert not set(example.video_ids[1:]) & world.train.qrels[example.query_id].keys()
        assert example.positive.video_id in world.train.qrels[example.query_id]
