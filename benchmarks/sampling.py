"""What 32 exact frames of a 30-minute video cost: ours, decord and a loop of cv2 seeks, each in a process of its own.

Run with ``python -m benchmarks.sampling``. Every frame of the clip carries its number as a barcode, so exactness is
read from the pictures. CPU seconds are those of the sampling alone; peak memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

FPS = 24
SIZE = (1280, 720)
FRAMES = 32
SIDE = 448  # the longer side that a ranker sees


def make_long_clip(path: Path, minutes: float) -> None:
    """H.264 with 3 B-frames and groups of 1.7 to 10 s, a panning texture under the barcode."""
    import av

    from schemas.fingerprint import unit_interval
    from tests.support.make_clips import draw_barcode

    width, height = SIZE
    noise = np.random.default_rng(0).integers(40, 216, (height // 8, 2 * width // 8), np.uint8)
    texture = np.kron(noise, np.ones((8, 8), np.uint8))
    plane = np.full((height * 3 // 2, width), 128, np.uint8)
    with av.open(str(path), "w") as out:
        options = {"preset": "ultrafast", "crf": "20", "bf": "3", "g": "240", "sc_threshold": "0"}
        stream = out.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        next_key = 0
        for number in range(round(minutes * 60 * FPS)):
            shift = 3 * number % width
            plane[:height] = texture[:, shift : shift + width]
            draw_barcode(plane[:height, :, None], number)
            frame = av.VideoFrame.from_ndarray(plane, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            if number == next_key:
                frame.pict_type = av.video.frame.PictureType.I
                next_key += 40 + int(200 * unit_interval(f"group {number}"))
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def sample_ours(path: str, times: list[float]) -> list[np.ndarray]:
    """The sampler of this project; it chooses the same times itself."""
    from transforms.engines.pyav import PyAvSampler
    from transforms.protocols.frames import FramePolicy

    sampled = PyAvSampler().sample(path, FramePolicy(max_frames=len(times), max_side=SIDE))
    return [frame.image for frame in sampled.frames]


def sample_decord(path: str, times: list[float]) -> list[np.ndarray]:
    """decord as most code calls it, resizing as it decodes."""
    import decord

    reader = decord.VideoReader(path, width=SIDE, height=SIDE * SIZE[1] // SIZE[0], num_threads=1)
    return list(reader.get_batch([int(time_s * FPS + 1e-6) for time_s in times]).asnumpy())


def sample_cv2(path: str, times: list[float]) -> list[np.ndarray]:
    """A seek before every frame."""
    import cv2

    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    images = []
    for time_s in times:
        capture.set(cv2.CAP_PROP_POS_FRAMES, int(time_s * FPS + 1e-6))
        _, image = capture.read()
        images.append(cv2.resize(image, (SIDE, SIDE * SIZE[1] // SIZE[0]), interpolation=cv2.INTER_AREA))
    return images


def measure(sampler: Callable[[str, list[float]], list[np.ndarray]], path: str, times: list[float]) -> dict[str, Any]:
    """In a fresh process: cost and exactness of one sampler. A first call on one frame pays for the imports."""
    from tests.support.make_clips import read_barcode
    from tests.support.peak_memory import peak_mb

    sampler(path, times[:1])
    before = time.process_time()
    images = sampler(path, times)
    cpu_s = time.process_time() - before
    exact = sum(read_barcode(image) == int(t * FPS + 1e-6) for image, t in zip(images, times, strict=False))
    return {"cpu_s": cpu_s, "peak_mb": peak_mb(), "exact": exact}


def main() -> None:
    """Make the clip unless it is there, measure, and print a Markdown table."""
    from transforms.media.video_stream import target_times
    from transforms.protocols.frames import FramePolicy

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", type=Path, help="where the clip is, or is to be kept (default: a temporary file)")
    parser.add_argument("--minutes", type=float, default=30.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = arguments.clip or Path(folder) / "long.mp4"
        if not clip.exists():
            make_long_clip(clip, arguments.minutes)
        times = target_times(arguments.minutes * 60, FramePolicy(max_frames=FRAMES))
        print(
            f"{arguments.minutes:g} minutes of {SIZE[0]}x{SIZE[1]} at {FPS} fps, {clip.stat().st_size / 1e6:.0f} MB\n"
        )
        print("| sampler | CPU s | peak MB | exact frames |\n|---|---|---|---|")
        samplers = {"ours (PyAV, exact)": sample_ours, "decord get_batch": sample_decord, "cv2 seek loop": sample_cv2}
        for name, sampler in samplers.items():
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                cost = process.submit(measure, sampler, str(clip), times).result()
            print(f"| {name} | {cost['cpu_s']:.2f} | {cost['peak_mb']:.0f} | {cost['exact']} of {FRAMES} |", flush=True)


if __name__ == "__main__":
    main()
