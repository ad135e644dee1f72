"""Which videos and captions certainly break no rule, told by columns; see ``clear``."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.outputs.verify.columns import (
    Mask,
    among,
    everywhere,
    field,
    given,
    lengths,
    mask,
    null,
    number,
    stamped,
    texts,
    true,
    visible,
    within,
)
from pipeline.outputs.verify.rows import Seen
from schemas.example import SPLITS

_MEASURED = ("duration_s", "fps", "audio_s")  # finite and not negative, where they are known


def clear_videos(rows: pa.RecordBatch, split: str, seen: Seen) -> Mask:
    """Videos whose evidence is well-formed; where two of a batch are in conflict over a split, none is clear."""
    of = rows.column
    media, metadata = of("media"), of("metadata")
    clear = visible(of("video_id")) & given(of("uri"), of("caption"), of("group"), field(media, "container"))
    clear &= given(*(field(metadata, name.name) for name in metadata.type)) & among(of("split"), SPLITS)
    clear &= true(pc.equal(pc.utf8_length(field(media, "sha256")), 64)) & within(field(media, "size_bytes"), 0)
    for name in _MEASURED:
        clear &= null(field(media, name)) | within(field(media, name), 0)
    clear &= everywhere(of("asr"), _spoken) & everywhere(of("ocr"), _shown)
    clear &= everywhere(of("engines"), lambda one: given(field(one, "part")) & stamped(field(one, "engine")))
    clear &= everywhere(of("warnings"), _warned) & (lengths(of("frames")) == lengths(of("frame_times_s")))
    return clear & _agree(rows, seen)


def note_videos(rows: pa.RecordBatch, split: str, seen: Seen) -> None:
    """Split, caption, event and group of each, and whether it has frames."""
    ids, splits, groups = (rows.column(name).to_pylist() for name in ("video_id", "split", "group"))
    events = field(rows.column("metadata"), "event").to_pylist()
    seen.video_split.update(zip(ids, splits, strict=True))
    seen.captions.update(zip(ids, map(hash, rows.column("caption").to_pylist()), strict=True))
    seen.event_split.update((event, split) for event, split in zip(events, splits, strict=True) if event)
    seen.group_split.update(zip(groups, splits, strict=True))
    seen.video_group.update((video, group) for video, group in zip(ids, groups, strict=True) if video != group)
    bare = lengths(rows.column("frames")) == 0
    seen.without_frames.update(video for video, without in zip(ids, bare.tolist(), strict=True) if without)


def _agree(rows: pa.RecordBatch, seen: Seen) -> bool:
    """Whether each event and each group is in one split, in this batch and before it."""
    events = [event or None for event in field(rows.column("metadata"), "event").to_pylist()]
    for known, names in ((seen.event_split, events), (seen.group_split, rows.column("group").to_pylist())):
        found: dict[str, str] = {}
        for name, split in zip(names, rows.column("split").to_pylist(), strict=True):
            if name is not None and found.setdefault(name, known.get(name, split)) != split:
                return False
    return True


def _spoken(one: pa.Array) -> Mask:
    return _spans(one, "start_s", "end_s") & visible(field(one, "text")) & within(field(one, "confidence"), 0, 1)


def _shown(one: pa.Array) -> Mask:
    box = field(one, "box")
    sides = [field(box, name) for name in ("left", "top", "right", "bottom")]
    left, top, right, bottom = map(number, sides)
    boxed: Mask = np.logical_and.reduce([within(side, 0, 1) for side in sides]) & (left <= right) & (top <= bottom)
    spans = _spans(one, "time_s", "last_s")
    return spans & boxed & visible(field(one, "text")) & within(field(one, "confidence"), 0, 1)


def _spans(one: pa.Array, start: str, end: str) -> Mask:
    return (
        within(field(one, start), 0)
        & within(field(one, end), 0)
        & (number(field(one, start)) <= number(field(one, end)))
    )


def _warned(one: pa.Array) -> Mask:
    few_words = texts(field(one, "reason"), lambda text: 1 <= len(text.split()) <= 3)
    return few_words & given(field(one, "part"), field(one, "message"))


def clear_perception(rows: pa.RecordBatch, split: str, seen: Seen) -> Mask:
    """Captions of videos of the same split, as these have them."""
    unfit = seen.without_frames if seen.wants_frames else ()

    def follows(video_id: str, caption: str) -> bool:
        known = seen.video_split.get(video_id) == split and video_id not in unfit
        return known and seen.captions.get(video_id) == hash(caption)

    pairs = zip(rows.column("video_id").to_pylist(), rows.column("caption").to_pylist(), strict=True)
    clear = mask((follows(*pair) for pair in pairs), len(rows))
    return clear & visible(rows.column("caption")) & stamped(rows.column("captioner"))


def note_perception(rows: pa.RecordBatch, split: str, seen: Seen) -> None:
    """Nothing refers to them."""
