"""A run is turned round exactly, in the order of ids, whatever part of the videos each file holds."""

import random

import pyarrow as pa
import pytest

from pipeline.outputs.export import turned as module
from pipeline.outputs.export.turned import Turned, joined
from pipeline.outputs.run_lines import blocks


@pytest.mark.parametrize("parts", [1, 3, 64])
def test_every_video_has_its_queries_in_order(tmp_path, monkeypatch, parts):
    monkeypatch.setattr(module, "_PARTS", parts)
    draw = random.Random(parts)
    videos = [f"v{number}" for number in range(12)]
    run = {f"q{number}": draw.sample(videos[:10], 4) for number in (7, 30, 4, 11)}
    lines = [
        f"{query} Q0 {video} {rank} 0.5 t\n" for query, found in run.items() for rank, video in enumerate(found, 1)
    ]
    (tmp_path / "run.trec").write_text("".join(lines))

    with Turned(videos) as turned:
        read = [*blocks(str(tmp_path), size=40)]
        for block in read:
            turned.add(block, turned.places(block))
        found = list(turned.queries_by_video(str.upper))

    assert len(read) == 4
    pairs = sorted((video, query) for query, found in run.items() for video in found)
    assert [(video, query.lower()) for video, queries in found for query in queries.split(", ")] == pairs
    assert len(found) == len({video for video, _ in pairs})


def test_a_video_that_is_not_known_has_no_place(tmp_path):
    (tmp_path / "run.trec").write_text("q Q0 v 1 0.5 t\nq Q0 w 2 0.25 t\n")

    with Turned(["v"]) as turned:
        assert [turned.places(block).to_pylist() for block in blocks(str(tmp_path))] == [[0, None]]


def test_texts_are_joined_from_start_to_start():
    assert joined([0, 2, 3], pa.array(["a", "b", "c"])) == ["a, b", "c"]
