"""A tiny output folder to train on, a tiny model, and a configuration that fits both."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

from schemas.tables import SCHEMA_VERSION, TABLES
from tests.support import tiny_vlm
from trainer.config.config import TrainConfig, load_config
from transforms.emit.shards import Row, write_shard

COLOURS = ("red", "green", "blue", "yellow", "purple", "white", "orange", "black")
FRAMES = 4


def frame(colour: str, number: int, side: int = tiny_vlm.PIXELS) -> bytes:
    """A ball of a colour that moves to the right."""
    picture = Image.new("RGB", (side, side), "grey")
    left = 2 + number * side // 8
    ImageDraw.Draw(picture).ellipse((left, 8, left + side // 2, 8 + side // 2), fill=colour)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=92)
    return data.getvalue()


def candidate(video_id: str, label: int, **known: Any) -> Row:
    """A candidate as the shards have it; the teacher is sure of it unless told otherwise."""
    delta = known.pop("delta", 8.0 if label else -8.0)
    row = dict.fromkeys(_candidate_fields())
    return row | {
        "video_id": video_id,
        "label": label,
        "stratum": "positive" if label else "trusted_negative",
        "teacher_label": "yes" if label else "no",
        "delta": delta,
        "delta_lo": delta,
        "delta_hi": delta,
        "p_yes": None if delta is None else 1 / (1 + 2.718281828459045**-delta),
        "confidence_source": "logprobs" if delta is not None else "label_only",
        "rationale": "",
        **known,
    }


def _candidate_fields() -> list[str]:
    return [field.name for field in TABLES["ranking"].schema.field("candidates").type.value_type]


def tiny_tables(videos: int = 8, queries: int = 8, negatives: int = 3) -> dict[str, dict[str, list[Row]]]:
    """Rows by table and split; query i looks for the ball of colour i, the others of its group are next in line."""
    ids = [f"v{i}" for i in range(videos)]
    shown = {video_id: COLOURS[i % len(COLOURS)] for i, video_id in enumerate(ids)}
    rows: dict[str, dict[str, list[Row]]] = {"videos": {"part": []}, "perception": {}, "ranking": {}}
    blank = dict.fromkeys(TABLES["videos"].schema.names)
    for video_id, colour in shown.items():
        times = [0.5 * i for i in range(FRAMES)]
        frames = [{"bytes": frame(colour, i), "path": None} for i in range(FRAMES)]
        rows["videos"]["part"].append(blank | {"video_id": video_id, "frame_times_s": times, "frames": frames})
    captions = [{"video_id": v, "caption": f"a {c} ball moves right", "captioner": None} for v, c in shown.items()]
    groups = []
    for i in range(queries):
        picked = [ids[(i + step) % videos] for step in range(negatives + 1)]
        candidates = [candidate(video_id, int(step == 0)) for step, video_id in enumerate(picked)]
        blank = dict.fromkeys(TABLES["ranking"].schema.names)
        groups.append(blank | {"query_id": f"q{i}", "query": f"a {shown[picked[0]]} ball", "candidates": candidates})
    for split in ("train", "validation"):
        rows["perception"][split] = captions
        rows["ranking"][split] = groups
    return rows


def write_output(folder: Path, rows: Mapping[str, Mapping[str, list[Row]]], shards: int = 2) -> Path:
    """Write the tables as the pipeline does, dealt out to ``shards`` shards, and a manifest that lists them."""
    files = []
    for name, parts in rows.items():
        for part, mine in parts.items():
            for index in range(shards):
                path = TABLES[name].shard_path(part, index, shards)
                sha256, size, count = write_shard(str(folder / path), name, mine[index::shards])
                files.append({"path": path, "sha256": sha256, "size_bytes": size, "rows": count})
    manifest = {"schema_version": SCHEMA_VERSION, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def tiny_output(folder: Path, **sizes: int) -> Path:
    """The output folder of ``tiny_tables``."""
    return write_output(folder, tiny_tables(**sizes))


def tiny_model(folder: Path, family: str = "qwen3_vl", **sizes: Any) -> Path:
    """A model whose tokenizer knows the words of ``tiny_tables`` and of the prompts."""
    config = load_config("paper")
    prompts = [config.perception.prompt, config.ranking.prompt]
    texts = [text for prompt in prompts for text in (prompt.system, prompt.user)] * 20
    texts += [f"a {colour} ball moves right" for colour in COLOURS] * 20
    return tiny_vlm.build(folder, family, texts, **sizes)


def tiny_config(model: Path, *settings: str) -> TrainConfig:
    """The preset ``paper`` with a tiny model, no adapter, on a CPU; ``settings`` as with --set."""
    small = [
        f"model={json.dumps(str(model))}",
        "lora=null",
        "precision=fp32",
        "activation_checkpointing=false",
        "loader_workers=0",
        f"max_pixels={tiny_vlm.PIXELS**2}",
        "perception.learning_rate=2e-3",
        "ranking.learning_rate=1e-3",
        "perception.batch=4",
        "ranking.batch=4",
        "perception.log_steps=1",
        "ranking.log_steps=1",
    ]
    return load_config("paper", [*small, *settings])


def write_config(path: Path, config: TrainConfig) -> Path:
    """The configuration as a file."""
    path.write_text(yaml.safe_dump(config.as_dict()))
    return path
