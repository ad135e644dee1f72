import hashlib
import random

import apache_beam as beam
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.test_pipeline import TestPipeline

from pipeline.config import load_recipe
from transforms.emit.shards import ShardCounts, shard_index, write_shard
from transforms.emit.write_shards import WriteShards


def rejection(i):
    row = dict.fromkeys(("stage", "step", "reason", "detail", "video_id", "query_id"), "x")
    return {**row, "video_id": f"v{i:04d}", "query_id": f"q{i % 7}"}


def test_tables_of_pairs_have_shards_by_what_the_recipe_makes_of_a_video_and_those_of_videos_by_videos():
    settings = ("mine.candidates=20", "synthesize.variants=[caption, asr, ocr, metadata, all]")
    recipe = load_recipe("rankvideo", (*settings, "synthesize.queries_per_variant=2"))

    assert recipe.shards(1, 0) == ShardCounts(1, 1)
    counts = recipe.shards(110_000, 5)
    assert counts == ShardCounts(by_video=215, by_pair=463)  # 23.1 million pairs at most, fifty thousand a shard
    assert [counts.of(name) for name in ("videos", "perception", "judgements", "queries")] == [215, 215, 463, 463]
    assert load_recipe("rankvideo", ("emit.videos_per_shard=10",)).shards(100, 0) == ShardCounts(10, 10)


def test_a_shard_reports_what_it_wrote(tmp_path):
    path = tmp_path / "part.parquet"

    sha256, size, rows = write_shard(str(path), "rejections", [rejection(i) for i in range(3)])

    assert rows == 3
    assert size == path.stat().st_size
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert pq.read_table(path).to_pylist() == [rejection(i) for i in range(3)]


def test_a_row_that_does_not_fit_leaves_no_file_behind(tmp_path):
    with pytest.raises(TypeError):
        write_shard(str(tmp_path / "part.parquet"), "rejections", [{"stage": 3}])

    assert list(tmp_path.iterdir()) == []


def test_frames_are_stored_uncompressed_in_small_row_groups(tmp_path):
    row = {"video_id": "v", "frames": [{"bytes": b"x" * 1000, "path": None}], "frame_times_s": [0.5]}
    path = tmp_path / "part.parquet"

    write_shard(str(path), "videos", [row] * 20)

    file = pq.ParquetFile(path)
    columns = {
        c.path_in_schema: c.compression
        for c in map(file.metadata.row_group(0).column, range(file.metadata.num_columns))
    }
    assert file.metadata.num_row_groups == 3
    assert columns["frames.list.element.bytes"] == "UNCOMPRESSED"
    assert columns["video_id"] == "ZSTD"


@pytest.mark.parametrize("flags", [[], ["--direct_num_workers=3", "--direct_running_mode=multi_threading"]])
def test_shards_do_not_depend_on_row_order_or_workers(flags, tmp_path):
    def digests(folder, rows, flags):
        with TestPipeline(runner="FnApiRunner", argv=["--runner=FnApiRunner", *flags]) as p:
            _ = {"rejections": p | beam.Create(rows)} | WriteShards(str(folder), ShardCounts(1, 3))
        return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.rglob("*.parquet")}

    rows = [rejection(i) for i in range(200)]
    shuffled = random.Random(1).sample(rows, len(rows))

    first, second = digests(tmp_path / "a", rows, []), digests(tmp_path / "b", shuffled, flags)

    assert len(first) == 3
    assert first == second


def test_a_shard_without_rows_is_a_file_all_the_same(tmp_path):
    with TestPipeline(runner="FnApiRunner") as p:
        _ = {"ranking": p | beam.Create([], reshuffle=False)} | WriteShards(str(tmp_path), ShardCounts(1, 2))

    assert sorted(f.name for f in tmp_path.rglob("*.parquet")) == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
        "validation-00000-of-00002.parquet",
        "validation-00001-of-00002.parquet",
    ]


def test_rows_spread_over_all_shards():
    assert {shard_index(f"v{i}", 8) for i in range(200)} == set(range(8))
