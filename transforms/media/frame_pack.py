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

    jpegs = [_to_jpeg(frame, quality) for frame in frames]
    sizes = np.array([frame.image.shape[:2] for frame in frames], np.int32).reshape(-1, 2)
    ends = np.cumsum([0, *map(len, jpegs)]).astype(np.int32)
    # From buffers: before it looks at a list, pyarrow imports pandas where there is one, which takes a decoding process
    # a third of a second.
    buffers: dict[str, tuple[pa.DataType, list[bytes]]] = {
        "time_s": (pa.float64(), [np.array([frame.time_s for frame in frames], np.float64).tobytes()]),
        "width": (pa.int32(), [sizes[:, 1].tobytes()]),
        "height": (pa.int32(), [sizes[:, 0].tobytes()]),
        "jpeg": (pa.binary(), [ends.tobytes(), b"".join(jpegs)]),
    }
    columns = [
        pa.Array.from_buffers(kind, len(frames), [None, *map(pa.py_buffer, data)]) for kind, data in buffers.values()
    ]
    schema = pa.schema([pa.field(name, kind, nullable=False) for name, (kind, _) in buffers.items()])
    # JPEG does not compress further; statistics and dictionaries of a column of pictures only cost space.
    pq.write_table(
        pa.Table.from_arrays(columns, schema=schema),
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

    with pq.ParquetFile(path) as file:  # read_table would import pandas, too
        table = file.read(columns=["time_s", "jpeg"], use_threads=False)
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
