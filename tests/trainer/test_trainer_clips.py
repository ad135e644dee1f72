import io
import pickle

import numpy as np
import pytest
from PIL import Image

from tests.support.tiny_output import write_tiny
from tests.support.tiny_training import FRAMES, tiny_output, tiny_tables, write_output
from trainer.data.clips import Clip, Clips, FrameBudget
from trainer.data.examples import MissingVideos, read_captions, read_queries, with_frames
from trainer.data.shards import DataError, Shards

BUDGET = FrameBudget(FRAMES, 32 * 32, 16)


def test_a_clip_has_the_frames_and_times_of_its_row(tmp_path):
    rows = tiny_tables()
    clips = Clips(Shards(str(write_output(tmp_path, rows, shards=3))), BUDGET)

    assert len(clips) == 8
    for row in rows["videos"]["part"]:
        clip = clips[row["video_id"]]
        assert clip.times_s == tuple(row["frame_times_s"])
        stored = np.asarray(Image.open(io.BytesIO(row["frames"][2]["bytes"])))
        assert np.array_equal(clip.frames[2], stored)


def test_frames_that_were_stored_in_several_sizes_are_given_in_one(tmp_path):
    rows = tiny_tables()
    frames = rows["videos"]["part"][0]["frames"]
    encoded = io.BytesIO()
    Image.open(io.BytesIO(frames[1]["bytes"])).resize((96, 48)).save(encoded, "JPEG")
    frames[1] = frames[1] | {"bytes": encoded.getvalue()}
    clips = Clips(Shards(str(write_output(tmp_path, rows))), BUDGET)

    assert clips[rows["videos"]["part"][0]["video_id"]].frames.shape == (FRAMES, 32, 32, 3)


def test_a_clip_with_too_many_frames_is_thinned_out_evenly(tmp_path):
    clips = Clips(Shards(str(tiny_output(tmp_path))), FrameBudget(2, 32 * 32, 16))

    assert clips["v0"].times_s == (0.5, 1.5)
    assert clips["v0"].frames.shape == (2, 32, 32, 3)
    assert clips["v0"].sample_fps == 1.0


@pytest.mark.parametrize(
    ("size", "budget", "expected"),
    [
        ((448, 256), FrameBudget(2, 448 * 256, 32), (448, 256)),
        ((448, 256), FrameBudget(2, 448 * 256, 28), (448, 252)),
        ((448, 256), FrameBudget(2, 128 * 128, 32), (160, 96)),
        ((33, 33), FrameBudget(2, 32 * 32, 16), (32, 32)),
        ((4000, 10), FrameBudget(2, 64 * 64, 32), (128, 32)),
        ((10, 10), FrameBudget(2, 64 * 64, 32), (32, 32)),
        ((300, 200), FrameBudget(2, 90_000), (300, 200)),
    ],
)
def test_a_frame_is_put_on_the_grid_inside_the_budget(size, budget, expected):
    assert budget.size(*size) == expected


def test_frames_of_one_moment_count_as_one_a_second():
    assert Clip(np.zeros((2, 8, 8, 3), np.uint8), (3.0, 3.0)).sample_fps == 1.0


def test_clips_can_be_sent_to_a_worker_process(tmp_path):
    clips = Clips(Shards(str(tiny_output(tmp_path))), BUDGET)
    clips["v0"]

    again = pickle.loads(pickle.dumps(clips))

    assert np.array_equal(again["v3"].frames, clips["v3"].frames)


def test_videos_without_frames_are_an_error_that_names_them_and_the_limit(tmp_path):
    rows = tiny_tables()
    for row in rows["videos"]["part"][:2]:
        row |= {"frames": [], "frame_times_s": []}
    del rows["videos"]["part"][7]
    shards = Shards(str(write_output(tmp_path, rows)))
    clips = Clips(shards, BUDGET)
    both = [read_queries(shards, "train"), read_queries(shards, "validation")[:1]]

    with pytest.raises(MissingVideos, match=r"3 videos of the examples have no frames \(v0, v1, v7\), .* allows 2"):
        with_frames(both, clips, allowed=2)
    with pytest.raises(MissingVideos, match="3 videos"):  # no split alone names three of them
        with_frames([both[0][6:7], both[0][4:5]], clips, allowed=2)
    kept, validation = with_frames(both, clips, allowed=3)

    assert [example.query_id for example in kept] == ["q2", "q3"]
    assert len(validation) == 0
    (captions,) = with_frames([read_captions(shards, "train")], clips, 3)
    assert [caption.video_id for caption in captions] == ["v2", "v4", "v6", "v3", "v5"]


def test_a_damaged_frame_is_an_error_that_names_the_video(tmp_path):
    rows = tiny_tables()
    rows["videos"]["part"][0]["frames"][1]["bytes"] = b"\xff\xd8 not a picture"
    clips = Clips(Shards(str(write_output(tmp_path, rows))), BUDGET)

    with pytest.raises(DataError, match=r"video 'v0' in .*videos/part"):
        clips["v0"]
    assert clips["v1"].frames.shape == (FRAMES, 32, 32, 3)


def test_a_folder_without_a_manifest_is_no_output(tmp_path):
    with pytest.raises(DataError, match="not a finished hardquery output"):
        Shards(str(tmp_path)).paths("videos")


def test_an_output_of_another_schema_version_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"schema_version": "0", "files": []}')

    with pytest.raises(DataError, match="schema version 0"):
        Shards(str(tmp_path)).paths("videos")


def test_an_output_is_read_through_any_filesystem_of_arrow(tmp_path):
    output = tiny_output(tmp_path)

    there = Clips(Shards(f"file://{output}"), BUDGET)

    assert np.array_equal(there["v5"].frames, Clips(Shards(str(output)), BUDGET)["v5"].frames)
    assert len(read_queries(Shards(f"file://{output}"), "validation")) == 8


def test_the_trainer_reads_what_a_run_writes(tmp_path):
    write_tiny(tmp_path)
    shards = Shards(str(tmp_path))

    clips = Clips(shards, FrameBudget(24, 128 * 32 * 32, 32))
    splits = [read_queries(shards, "train"), read_queries(shards, "validation")]
    examples = [example for split in splits for example in split]

    assert [e for split in with_frames(splits, clips, allowed=0) for e in split] == examples
    assert examples
    assert len(read_captions(shards, "train")) == 9
    assert clips[examples[0].positive.video_id].frames.shape == (4, 192, 320, 3)  # drawn as 320 x 180
    censored = [c for example in examples for c in example.candidates if c.censored]
    assert censored
    assert all(c.delta is not None for c in censored)


def test_what_the_teacher_knows_of_a_candidate_is_read(tmp_path):
    rows = tiny_tables()
    rows["ranking"]["train"][0]["candidates"][1] |= {"delta": -3.5, "p_yes": 0.03, "censored": "yes"}
    rows["ranking"]["train"][0]["candidates"][2] |= {"delta": None, "p_yes": None}

    first = read_queries(Shards(str(write_output(tmp_path, rows))), "train")[0]

    assert (first.query_id, first.positive.video_id, first.positive.label) == ("q0", "v0", 1)
    assert (first.negatives[0].delta, first.negatives[0].p_yes, first.negatives[0].censored) == (-3.5, 0.03, "yes")
    assert (first.negatives[1].delta, first.negatives[1].p_yes) == (None, None)


def test_a_group_without_its_positive_first_is_an_error(tmp_path):
    rows = tiny_tables()
    rows["ranking"]["train"][3]["candidates"].reverse()

    with pytest.raises(DataError, match="query q3: expected positives, then negatives"):
        read_queries(Shards(str(write_output(tmp_path, rows))), "train")


@pytest.mark.parametrize(
    ("table", "read", "said"),
    [
        ("ranking", read_queries, "ranking, train: several rows of query_id q5, expected one"),
        ("perception", read_captions, "perception, train: several rows of video_id v5, expected one"),
    ],
)
def test_rows_of_one_id_in_a_split_are_an_error_that_names_it(tmp_path, table, read, said):
    rows = tiny_tables()
    rows[table]["train"] = [*rows[table]["train"], rows[table]["train"][5]]  # in the other shard
    shards = Shards(str(write_output(tmp_path, rows)))

    with pytest.raises(DataError, match=said):
        read(shards, "train")
    assert len(read(shards, "validation")) == 8
