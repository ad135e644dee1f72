"""Exports whose rows hold more than texts: margins to distil, lists with reasons, frames; read by their peers' code."""

import re
from pathlib import Path

import datasets
import pytest
from PIL import Image

from pipeline.outputs.errors import UnwritableExport
from pipeline.outputs.export.formats import EXPORTS
from tests.support.tiny_output import tiny_rows, write_rows, write_tiny


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    write_tiny(folder / "out")
    for name in ("sentence-transformers", "ms-swift", "ms-swift-frames"):
        EXPORTS[name](str(folder / "out"), str(folder / name), None, False)
    return folder


@pytest.fixture(scope="module")
def loaded(exported, tmp_path_factory):
    """A file as the ``datasets`` library loads it."""
    cache = str(tmp_path_factory.mktemp("cache"))
    return lambda path: datasets.load_dataset("json", data_files=str(exported / path), split="train", cache_dir=cache)


@pytest.fixture(scope="module")
def groups():
    return {row["query"]: row for split, row in tiny_rows()["ranking"] if split == "train"}


def test_a_multi_vector_encoder_is_given_the_margins_of_as_many_candidates_as_every_group_has(loaded, groups):
    rows = loaded("sentence-transformers/scored_train.jsonl")

    assert rows.column_names == ["query", "document_1", "document_2", "document_3", "label"]
    assert len(rows) > 0.9 * len(groups)
    for row in rows:
        deltas = [each["delta"] for each in groups[row["query"]]["candidates"]]
        assert row["label"] == [delta for delta in deltas if delta is not None][:3]
        assert row["label"][0] == deltas[0]


def test_a_list_is_in_an_order_that_tells_nothing_and_the_answer_puts_the_positive_first(loaded, groups):
    rows = loaded("ms-swift/listwise_train.jsonl")
    places = []
    for row in rows:
        question, answer = (message["content"] for message in row["messages"])
        query = re.search(r"search query: (.*)\n", question)[1]
        told, candidates = groups[query], groups[query]["candidates"]
        order = [int(number) - 1 for number in re.findall(r"\[(\d+)\]", answer.partition("<answer>")[2])]
        paths = [row["videos"][place] for place in order]
        by_margin = sorted(candidates[1:], key=lambda one: (one["delta"] is None, -(one["delta"] or 0)))

        assert question.count("<video>") == len(row["videos"]) == len(candidates)
        assert [path.rpartition("/")[2] for path in paths] == [
            f"{one['video_id']}.mp4" for one in (candidates[0], *by_margin)
        ], told["query_id"]
        assert all(one["rationale"] in answer for one in candidates)
        places.append(order[0])

    assert len(rows) == len(groups)
    assert len(set(places)) > 1  # the positive stands anywhere


def test_frames_of_the_output_take_the_place_of_its_files(exported, loaded, groups):
    rows = loaded("ms-swift-frames/train.jsonl")
    listed = loaded("ms-swift-frames/listwise_train.jsonl")
    frames = {row["video_id"]: row["frames"] for _, row in tiny_rows()["videos"]}

    assert len(rows) == len(listed) == len(groups)
    for row in rows:
        [[paths]] = row["positive_videos"]
        video = groups[row["messages"][0]["content"]]["candidates"][0]["video_id"]
        assert [Path(path).read_bytes() for path in paths] == [frame["bytes"] for frame in frames[video]]
        assert Image.open(paths[0]).format == "JPEG"
        assert len(row["negative_videos"]) == len(row["negative_messages"])
    assert all(len(videos) == 4 for row in listed for videos in row["videos"])


def test_frames_that_are_not_there_are_asked_for_and_files_of_videos_are_none(exported, tmp_path):
    rows = tiny_rows()
    for _, row in rows["videos"]:
        row["frames"] = None
    write_rows(tmp_path / "out", rows)

    with pytest.raises(UnwritableExport, match=r"has no frames in the output: run with emit\.frames"):
        EXPORTS["ms-swift-frames"](str(tmp_path / "out"), str(tmp_path / "to"), None, False)
    with pytest.raises(UnwritableExport, match="leave --video-dir out"):
        EXPORTS["ms-swift-frames"](str(exported / "out"), str(tmp_path / "to"), "/videos", False)
