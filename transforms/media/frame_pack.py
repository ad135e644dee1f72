"""Frame packs: the sampled frames of one video as JPEGs in one Parquet file, the same bytes for the same frames."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from transforms.protocols.frames import Frame


def write_frame_pack(path: str, frames: Sequence[Frame], quality: int) -> None:
    """Write one row a frame, in the order given: time_s, width, height, jpeg. ``quality`` is JPEG's, 1 to 95."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            pa.field("time_s", pa.float64(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("jpeg", pa.binary(), nullable=False),
        ]
    )
    rows = [
        {
            "time_s": frame.time_s,
            "width": frame.image.shape[1],
            "height": frame.image.shape[0],
            "jpeg": _to_jpeg(frame, quality),
        }
        for frame in frames
    ]
    # JPEG does not compress further; statistics and dictionaries of a column of pictures only cost space.
    pq.write_table(
        pa.Table.from_pylist(rows, schema),
        path,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        version="2.6",
        data_page_version="1.0",
    )


def read_jpegs(path: str) -> list[tuple[float, bytes]]:
    """(seconds from the first frame, JPEG file) of every frame, in time order."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["time_s", "jpeg"], use_threads=False)
    return list(zip(table["time_s"].to_pylist(), table["jpeg"].to_pylist(), strict=True))


def read_frame_pack(path: str) -> list[Frame]:
    """Every frame with its pixels, [height, width, 3] RGB, in time order."""
    from PIL import Image

    return [Frame(time_s, np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))) for time_s, jpeg in read_jpegs(path)]


def _to_jpeg(frame: Frame, quality: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(frame.image).save(file, "JPEG", quality=quality)
    return file.getvalue()
