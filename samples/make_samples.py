"""Makes the sample corpus from corpus.yaml: clips, side-cars and the manifest.

    python samples/make_samples.py [--only NAME]

Needs the Debian packages flite, fonts-noto-core and fonts-noto-cjk (see README.md). The results are committed, so
neither the tests nor the demo run it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import scenes_people
import scenes_sky
import scenes_town
import sound
import yaml
from drawing import HEIGHT, WIDTH, Canvas
from numpy.typing import NDArray
from PIL import Image

HERE = Path(__file__).parent
FPS = 12
SCENES = {**scenes_town.SCENES, **scenes_people.SCENES, **scenes_sky.SCENES}
# All else is mp4 with h264.
CONTAINERS = {"flood_valdoro_1": ".mkv", "festival_aonami_3": ".webm"}
METADATA = ("title", "description", "language", "published")


def file_name(clip: dict[str, Any]) -> str:
    """The clip's file below samples/videos."""
    return str(clip["name"]) + CONTAINERS.get(clip["name"], ".mp4")


def frames(clip: dict[str, Any], event: dict[str, Any]) -> Iterator[Image.Image]:
    """The clip's pictures in order: its shots, each for an equal share of the time."""
    shots, total = clip["shots"], clip["seconds"] * FPS
    for i, shot in enumerate(shots):
        options = {key: value for key, value in shot.items() if key not in ("scene", "caption")}
        for number in range(total * i // len(shots), total * (i + 1) // len(shots)):
            t = number / FPS - clip["seconds"] * i / len(shots)
            canvas = Canvas(event["look"]["top"], event["look"]["bottom"], event.get("script", "latin"))
            SCENES[shot["scene"]](canvas, t, event["look"], **options)
            if "caption" in shot:
                canvas.lower_third(shot["caption"], event["look"]["accent"], t)
            yield canvas.finish()


def audio(clip: dict[str, Any]) -> NDArray[np.int16] | None:
    """The clip's samples at 16 kHz, or None for a clip without an audio stream."""
    if "say" in clip:
        return sound.speech(clip["say"], clip.get("voice", "rms"), clip["seconds"])
    match clip["sound"]:
        case "tones":
            return sound.tones(clip["name"], clip["seconds"])
        case "silence":
            return sound.silence(clip["seconds"])
        case "none":
            return None
    raise ValueError(f"{clip['name']}: unknown sound {clip['sound']!r}")


def encode(path: Path, pictures: Iterator[Image.Image], samples: NDArray[np.int16] | None) -> None:
    """Write the file, through a temporary name; bit-exact for the same versions of the encoders."""
    partial = path.with_name("partial-" + path.name)
    web = path.suffix == ".webm"
    with av.open(str(partial), "w", options={"fflags": "+bitexact"}) as file:
        video = file.add_stream("libvpx-vp9" if web else "libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.thread_count = 1
        video.options = {"crf": "42", "b": "0"} if web else {"crf": "30", "preset": "veryslow", "tune": "animation"}
        if samples is not None:
            track = file.add_stream("libopus" if web else "aac", rate=sound.RATE_HZ, layout="mono")
            track.bit_rate = 48_000  # at 32 kb/s pocketsphinx loses one word in ten more
        for picture in pictures:
            file.mux(video.encode(av.VideoFrame.from_image(picture)))
        file.mux(video.encode())
        if samples is not None:
            spoken = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
            spoken.sample_rate = sound.RATE_HZ
            spoken.pts = 0
            file.mux(track.encode(spoken))
            file.mux(track.encode())
    partial.rename(path)


def metadata(clip: dict[str, Any], event: dict[str, Any]) -> dict[str, str]:
    """What is published with the clip; nothing for a bare one."""
    if clip.get("bare"):
        return {}
    return {**{key: clip[key] for key in METADATA if key in clip}, "event": event["id"]}


def write_metadata(clips: list[dict[str, Any]], events: dict[str, Any]) -> None:
    """Write one side-car a published clip, and the manifest of all."""
    lines = []
    for clip in clips:
        published = metadata(clip, events[clip["of"]])
        if published:
            text = json.dumps(published, ensure_ascii=False, indent=2)
            (HERE / "videos" / f"{clip['name']}.json").write_text(text + "\n", encoding="utf-8")
        entry = {"uri": f"videos/{file_name(clip)}", "video_id": clip["name"], **published}
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    (HERE / "manifest.jsonl").write_text("".join(lines), encoding="utf-8")


def main() -> None:
    """Make every clip, or one; always write all metadata."""
    parser = argparse.ArgumentParser(description="Make the sample corpus from corpus.yaml.")
    parser.add_argument("--only", metavar="NAME", help="make only this clip")
    only = parser.parse_args().only
    corpus = yaml.safe_load((HERE / "corpus.yaml").read_text(encoding="utf-8"))
    chosen = [clip for clip in corpus["clips"] if only in (None, clip["name"])]
    if not chosen:
        parser.error(f"no clip {only!r} in corpus.yaml")
    (HERE / "videos").mkdir(exist_ok=True)
    write_metadata(corpus["clips"], corpus["events"])
    for clip in chosen:
        path = HERE / "videos" / file_name(clip)
        encode(path, frames(clip, corpus["events"][clip["of"]]), audio(clip))
        print(f"{path.stat().st_size / 1024:6.0f} KiB  {path.name}", flush=True)


if __name__ == "__main__":
    main()
