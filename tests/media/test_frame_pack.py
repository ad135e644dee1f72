import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from schemas.fingerprint import sha256_file
from tests.support.make_clips import picture, read_barcode
from transforms.media.frame_pack import read_frame_pack, read_jpegs, write_frame_pack
from transforms.protocols.frames import Frame

FRAMES = [Frame(0.5, picture(7)), Frame(1.5, picture(1_000_000, width=480, height=270))]


@pytest.fixture
def pack(tmp_path) -> str:
    write_frame_pack(str(tmp_path / "pack.parquet"), FRAMES, quality=90)
    return str(tmp_path / "pack.parquet")


def test_frames_come_back_in_order_with_their_times_sizes_and_pictures(pack):
    frames = read_frame_pack(pack)
    assert [frame.time_s for frame in frames] == [0.5, 1.5]
    assert [frame.image.shape for frame in frames] == [(136, 240, 3), (270, 480, 3)]
    assert [read_barcode(frame.image) for frame in frames] == [7, 1_000_000]
    assert all(np.abs(a.image.astype(int) - b.image).mean() < 3 for a, b in zip(frames, FRAMES, strict=True))


def test_a_row_is_a_frame_with_a_whole_jpeg_file(pack):
    assert pq.read_table(pack).column_names == ["time_s", "width", "height", "jpeg"]
    (time_s, jpeg), _ = read_jpegs(pack)
    image = Image.open(io.BytesIO(jpeg))
    assert (time_s, image.format, image.size) == (0.5, "JPEG", (240, 136))


def test_the_same_frames_give_the_same_bytes(pack, tmp_path):
    again = str(tmp_path / "again.parquet")
    write_frame_pack(again, FRAMES, quality=90)
    assert sha256_file(again) == sha256_file(pack)


def test_a_single_pixel_is_a_frame(tmp_path):
    path = str(tmp_path / "pack.parquet")
    write_frame_pack(path, [Frame(0.0, np.full((1, 1, 3), 200, np.uint8))], quality=90)
    assert read_frame_pack(path)[0].image.shape == (1, 1, 3)


def test_the_file_is_that_of_a_table_of_rows(pack, tmp_path):
    table = pq.read_table(pack)
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    rows = pa.Table.from_pylist(table.to_pylist(), table.schema)
    pq.write_table(rows, tmp_path / "rows.parquet", version="2.6", data_page_version="1.0", **options)

    assert not any(field.nullable for field in table.schema)
    assert sha256_file(tmp_path / "rows.parquet") == sha256_file(pack)


def test_a_pack_of_no_frame_is_read_as_none(tmp_path):
    write_frame_pack(str(tmp_path / "none.parquet"), [], quality=90)

    assert read_jpegs(str(tmp_path / "none.parquet")) == []
