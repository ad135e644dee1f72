import math
import random

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.outputs import tables
from pipeline.outputs.tables import Tables, VideoIndex, read_group
from schemas.tables import TABLES, row_of
from schemas.video import Box, OcrLine
from tests.support.tiny_output import tiny_rows, write_tables


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda t: t.name)
def test_datasets_reads_the_features_that_a_shard_declares(table, tmp_path):
    pq.write_table(table.arrow_schema.empty_table(), tmp_path / "x.parquet")

    features = datasets.Features.from_arrow_schema(pq.read_schema(tmp_path / "x.parquet"))

    assert list(features) == table.schema.names
    declared = features.arrow_schema
    for field in table.schema:
        assert declared.field(field.name).type == field.type


def test_frames_are_declared_as_images():
    features = datasets.Features.from_arrow_schema(TABLES["videos"].arrow_schema)

    assert features["frames"] == datasets.List(datasets.Image())


def test_a_record_becomes_a_row_of_nested_structs():
    line = OcrLine(1.0, 2.0, "EXIT", Box(0.1, 0.2, 0.3, 0.4), 0.9)

    row = row_of(line)

    kind = TABLES["videos"].schema.field("ocr").type.value_type
    assert pa.scalar(row, kind).as_py() == row


def test_videos_are_found_in_any_order_and_each_row_group_is_read_once(tmp_path, monkeypatch):
    first = tiny_rows()["videos"][0][1]
    ids = [f"v{number:03d}" for number in range(400)]
    rows = {"videos": [("part", {**first, "video_id": name, "uri": f"{name}.mp4"}) for name in ids]}
    files = write_tables(str(tmp_path), rows, ["videos"])
    index = VideoIndex(Tables(str(tmp_path), tuple(files)), ["uri", "asr", "frames"])
    read = []
    monkeypatch.setattr(tables, "read_group", lambda *args: read.append(1) or read_group(*args))

    for name in random.Random(0).choices(ids, k=2000):
        found = index.get(name)
        assert found == {"video_id": name, "uri": f"{name}.mp4", "asr": list(first["asr"]), "frames": first["frames"]}

    assert len(read) == sum(math.ceil(file.rows / 8) for file in files)
    assert index.get("gone") is None
