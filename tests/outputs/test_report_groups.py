"""Near-duplicate groups in the report and in verification, on a drawn output."""

from dataclasses import replace

import pytest

from pipeline.outputs.report.groups import LargeGroup, count_groups, splits_hint
from pipeline.outputs.verify.verify import verify
from tests.support.tiny_output import tiny_rows, write_tiny


def drawn():
    """The rows of the drawn output, and its videos by id."""
    rows = tiny_rows()
    return rows, sorted((row for _, row in rows["videos"]), key=lambda row: row["video_id"])


def test_groups_are_counted_and_events_tie_them_together(tmp_path):
    rows, videos = drawn()
    train = [row for row in videos if row["split"] == "train"]
    events = sorted({row["metadata"]["event"] for row in train})
    one, other = (next(row for row in train if row["metadata"]["event"] == event) for event in events[:2])
    first, last = sorted((one["video_id"], other["video_id"]))
    one["group"] = other["group"] = first
    manifest = write_tiny(tmp_path, rows)

    counts = count_groups(manifest.tables(str(tmp_path)))

    tied = sum(row["metadata"]["event"] in events[:2] for row in videos)
    assert (counts.groups, counts.videos, counts.largest) == (1, 2, (LargeGroup(2, first, last),))
    assert counts.together == tied
    recipe = {"emit": {"validation_fraction": 1 - (tied - 1) / len(videos)}}
    assert splits_hint(counts, len(videos), recipe).startswith(f"{tied} of {len(videos)} videos must be in one split")
    assert splits_hint(counts, len(videos), {"emit": {"validation_fraction": 0.1}}) == ""
    assert splits_hint(replace(counts, together=1), 1, recipe) == ""  # a single video is tied to none
    assert verify(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("same_split", "backwards", "rule"),
    [(False, False, "are in two splits"), (True, True, "is named for the smallest id among its videos")],
)
def test_a_group_lies_in_one_split_and_is_named_for_its_first_video(tmp_path, same_split, backwards, rule):
    rows, videos = drawn()
    left = videos[0]
    right = next(row for row in videos[1:] if (row["split"] == left["split"]) == same_split)
    if backwards:
        left["group"] = right["video_id"]
    else:
        right["group"] = left["video_id"]
    write_tiny(tmp_path, rows)

    assert any(rule in str(problem) for problem in verify(str(tmp_path)))
