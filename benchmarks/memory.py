"""Peak memory of the demo run on one 2-hour video.

Run with ``python -m benchmarks.memory``. Makes a 2-hour 720p clip with two hours of sound (twenty seconds of a sample
clip's speech every five minutes, silence between), runs ``hardquery run demo`` on it and reports the largest resident
set of any process, and of all of them together, sampled every 0.2 s. Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

ROOT = Path(__file__).parent.parent
LIMIT_MB = 1024
SPEECH_S, SPEECH_EVERY_S = 20, 300


def make_clip(path: Path, hours: float, sample: Path) -> None:
    """H.264 pictures of the sample at 2 a second, and its sound, repeated for ``hours``."""
    import av
    import numpy as np

    with av.open(str(sample)) as source:
        images = [frame.reformat(1280, 720, "yuv420p").to_ndarray() for frame in source.decode(video=0)][::12]
    with av.open(str(sample)) as source:
        resampler = av.AudioResampler("fltp", "mono", 16000)
        sound = np.concatenate(
            [part.to_ndarray() for frame in source.decode(audio=0) for part in resampler.resample(frame)], axis=1
        )
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=2, options={"preset": "ultrafast", "crf": "30"})
        video.width, video.height, video.pix_fmt = 1280, 720, "yuv420p"
        audio = out.add_stream("aac", rate=16000, layout="mono")
        audio.bit_rate = 32_000
        for second in range(round(hours * 3600)):
            for half in range(2):
                frame = av.VideoFrame.from_ndarray(images[(2 * second + half) % len(images)], format="yuv420p")
                frame.pts, frame.time_base = 2 * second + half, Fraction(1, 2)
                out.mux(video.encode(frame))
            start = second * 16000 % max(1, sound.shape[1] - 16000)
            samples = np.ascontiguousarray(sound[:, start : start + 16000]) * (second % SPEECH_EVERY_S < SPEECH_S)
            heard = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            heard.sample_rate, heard.pts, heard.time_base = 16000, second * 16000, Fraction(1, 16000)
            out.mux(audio.encode(heard))
        out.mux(video.encode(None))
        out.mux(audio.encode(None))


def resident_mb(pid: int) -> float:
    """Resident set of one process, 0 where it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found.extend(int(child) for child in task.read_text().split())
            except OSError:
                continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "long.mp4"
        make_clip(clip, arguments.hours, ROOT / "samples" / "videos" / "flood_riverton_1.mp4")
        print(f"{clip.stat().st_size / 2**20:.0f} MB of video made", file=sys.stderr)
        command = [sys.executable, "-m", "runners", "run", "demo", "--input", str(clip), "--output", f"{folder}/out"]
        start = time.monotonic()
        with subprocess.Popen([*command, "--workers", "1"], cwd=ROOT, stdout=subprocess.DEVNULL) as run:
            largest = together = 0.0
            while run.poll() is None:
                sizes = [resident_mb(pid) for pid in family(run.pid)]
                largest, together = max(largest, *sizes), max(together, sum(sizes))
                time.sleep(0.2)
        wall = time.monotonic() - start
    print("| hours of video | largest process MB | all processes MB | limit MB | wall s | exit code |")
    print("|---:|---:|---:|---:|---:|---:|")
    print(f"| {arguments.hours:g} | {largest:.0f} | {together:.0f} | {LIMIT_MB} | {wall:.0f} | {run.returncode} |")


if __name__ == "__main__":
    main()
