"""The sample corpus is small, varied, readable and consistent with itself."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

MEDIA_SUFFIXES = {".mp4", ".mkv", ".webm"}


@pytest.fixture(scope="module")
def corpus(samples: Path) -> dict[str, Any]:
    return yaml.safe_load((samples / "corpus.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def manifest(samples: Path) -> dict[str, dict[str, str]]:
    lines = (samples / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["video_id"]: entry for entry in map(json.loads, lines)}


def on_screen(clip: dict[str, Any]) -> list[str]:
    """The lines of text that a clip shows."""
    return [line for shot in clip["shots"] for line in (*shot.get("labels", ()), *shot.get("caption", ()))]


def test_there_are_enough_clips_and_they_stay_small(samples: Path) -> None:
    media = [path for path in (samples / "videos").iterdir() if path.suffix in MEDIA_SUFFIXES]
    assert len(media) >= 24
    assert sum(path.stat().st_size for path in (samples / "videos").iterdir()) <= 6_000_000


def test_the_manifest_names_every_clip_of_the_script_once(samples: Path, corpus: Any, manifest: Any) -> None:
    assert list(manifest) == [clip["name"] for clip in corpus["clips"]]
    media = {f"videos/{p.name}" for p in (samples / "videos").iterdir() if p.suffix in MEDIA_SUFFIXES}
    assert sorted(entry["uri"] for entry in manifest.values()) == sorted(media)


def test_side_cars_say_what_the_manifest_says(samples: Path, manifest: Any) -> None:
    side_cars = {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in (samples / "videos").glob("*.json")}
    for video_id, entry in manifest.items():
        assert side_cars.pop(video_id, {}) == {k: v for k, v in entry.items() if k not in ("uri", "video_id")}
    assert side_cars == {}


def test_metadata_follow_the_script(corpus: Any, manifest: Any) -> None:
    for clip in corpus["clips"]:
        entry = manifest[clip["name"]]
        if clip.get("bare"):
            assert set(entry) == {"uri", "video_id"}
        else:
            assert entry["event"] == corpus["events"][clip["of"]]["id"]
            assert all(entry.get(k) == clip.get(k) for k in ("title", "description", "language", "published"))


def test_events_have_several_clips_each(manifest: Any) -> None:
    events = Counter(entry["event"] for entry in manifest.values() if "event" in entry)
    assert len(events) >= 6
    assert min(events.values()) >= 2


def test_on_screen_text_is_in_at_least_three_scripts(corpus: Any) -> None:
    letters = "".join(line for clip in corpus["clips"] for line in on_screen(clip))
    scripts = {unicodedata.name(letter).split()[0] for letter in letters if letter.isalpha()}
    assert {"LATIN", "CYRILLIC", "CJK", "HIRAGANA", "KATAKANA"} <= scripts


def test_some_clips_lack_speech_text_audio_or_metadata(corpus: Any) -> None:
    clips = corpus["clips"]
    assert sum("say" in clip for clip in clips) >= 15
    assert {clip.get("sound") for clip in clips} == {None, "tones", "silence", "none"}
    assert any(clip.get("bare") and "say" not in clip and not on_screen(clip) for clip in clips)


def test_poor_metadata_give_the_filters_something_to_refuse(manifest: Any) -> None:
    descriptions = [entry.get("description", "") for entry in manifest.values()]
    assert any(len(entry.get("title", "").split()) == 1 and "description" not in entry for entry in manifest.values())
    assert any(text.startswith("This video shows") for text in descriptions)
    assert any(len(text.split()) > 60 for text in descriptions)
    assert {"es", "de"} <= {entry.get("language") for entry in manifest.values()}


def test_every_clip_decodes_to_its_end(samples: Path, corpus: Any, manifest: Any) -> None:
    av = pytest.importorskip("av")
    for clip in corpus["clips"]:
        with av.open(str(samples / manifest[clip["name"]]["uri"])) as file:
            assert bool(file.streams.audio) == (clip.get("sound") != "none"), clip["name"]
            samples_decoded = frames = 0
            for frame in file.decode():
                if isinstance(frame, av.VideoFrame):
                    frames += 1
                    assert (frame.width, frame.height) == (640, 360)
                else:
                    samples_decoded += frame.samples / frame.sample_rate
            assert frames == clip["seconds"] * 12, clip["name"]
            assert not file.streams.audio or samples_decoded == pytest.approx(clip["seconds"], abs=0.2), clip["name"]


def test_queries_are_judged_and_judgements_point_to_clips(samples: Path, manifest: Any) -> None:
    queries = dict(line.split("\t") for line in (samples / "queries.tsv").read_text(encoding="utf-8").splitlines())
    qrels = [line.split() for line in (samples / "qrels.trec").read_text(encoding="utf-8").splitlines()]
    assert len(queries) == 11
    assert all(len(row) == 4 and row[1] == "0" and row[3] in ("0", "1") for row in qrels)
    assert {row[2] for row in qrels} <= set(manifest)
    assert Counter(row[0] for row in qrels if row[3] == "1") == Counter(queries.keys())


def test_the_licence_is_stated(samples: Path) -> None:
    assert re.search(r"CC0 1\.0", (samples / "README.md").read_text(encoding="utf-8"))
