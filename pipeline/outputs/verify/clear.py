"""Which rows of a batch certainly break no rule, told by columns, and what later tables are to know of them.

The rules are those of the records and of ``rows``. Here they may ask for more than those do, and never for less: a row
that is not clear is read by itself, which says what is wrong with it, if anything is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.outputs.verify.clear_videos import clear_perception, clear_videos, note_perception, note_videos
from pipeline.outputs.verify.columns import (
    Mask,
    among,
    bounds,
    cut,
    everywhere,
    field,
    given,
    in_stratum,
    lengths,
    mask,
    null,
    number,
    of_modalities,
    parents,
    placed,
    stamped,
    sure,
    texts,
    true,
    visible,
    within,
)
from pipeline.outputs.verify.rows import SHARED, Place, Seen, folded, judged
from schemas.difficulty import DIMENSIONS, HIGHEST, LENGTHS
from schemas.losses import STAGES
from schemas.query import LABELS, QUERY_TYPES, SPANS, VARIANTS, WITH_PARTS
from transforms.curate.curate_query import CurateRules

_WRITTEN_ID = "^q-[0-9a-f]{16}$"
_NEGATIVES = ("trusted_negative", "hard_negative")


def clear_queries(rows: pa.RecordBatch, split: str, seen: Seen) -> Mask:
    """Written queries; those of people are few, and read one by one."""
    of = rows.column
    verdict, rationale, query_type = of("verdict"), of("rationale"), of("query_type")
    clear = true(pc.match_substring_regex(of("query_id"), _WRITTEN_ID)) & visible(of("text"))
    clear &= true(pc.equal(of("source"), "teacher")) & among(query_type, QUERY_TYPES) & among(of("variant"), VARIANTS)
    clear &= given(rationale, of("reply"), of("prompt_sha256")) & stamped(of("writer")) & cut(of("evidence_cut"))
    clear &= of_modalities(of("modalities")) & everywhere(of("cited"), given) & _difficult(of("difficulty"))
    clear &= ~true(pc.equal(query_type, "cross")) | _several(of("modalities"))
    part_of, attempts = of("part_of"), of("attempts")
    of_another = among(of("variant"), WITH_PARTS) & true(pc.not_equal(part_of, of("query_id")))
    clear &= ~among(query_type, SPANS) | (true(pc.equal(of("variant"), "event")) & of_another)
    clear &= (null(part_of) | of_another) & (null(attempts) | within(attempts, 1))
    clear &= mask((video in seen.video_split for video in of("video_id").to_pylist()), len(rows))
    kept = true(pc.equal(verdict, "kept"))
    why = true(pc.not_equal(of("stage"), "")) & true(pc.not_equal(of("reason"), ""))
    return clear & np.where(kept, visible(rationale), among(verdict, ("dropped", "deferred")) & why)


def note_queries(rows: pa.RecordBatch, split: str, seen: Seen) -> None:
    """Whose they are, and the texts of those that were kept."""
    seen.query_video.update(zip(*(rows.column(name).to_pylist() for name in ("query_id", "video_id")), strict=True))
    kept = rows.select(["query_id", "text"]).filter(pc.equal(rows.column("verdict"), "kept"))
    seen.kept_queries.update(zip(*(kept.column(name).to_pylist() for name in ("query_id", "text")), strict=True))


def _difficult(column: pa.Array) -> Mask:
    rated = field(column, "rated")
    ratings: Mask = np.logical_and.reduce([within(field(rated, name), 0, HIGHEST) for name in DIMENSIONS])
    computed = within(field(column, "cross_modal"), 1) & within(field(column, "lexical_gap"), 0, 1)
    return null(column) | ((null(rated) | ratings) & computed & among(field(column, "length"), LENGTHS))


def _several(lists: pa.Array) -> Mask:
    """Where the first two elements of a list are there, and differ."""
    names = pc.list_flatten(lists).to_pylist()
    return mask((b - a > 1 and names[a] != names[a + 1] for a, b in bounds(lists)), len(lists))


def clear_judgements(rows: pa.RecordBatch, split: str, seen: Seen) -> Mask:
    """Judged pairs that no further judge was asked about, nor should have been."""
    of = rows.column
    label, delta, rank, score, rationale = map(of, ("label", "delta", "rank", "score", "rationale"))
    own = true(of("is_positive"))
    clear = given(of("is_positive"), rationale, of("reply"), of("prompt_sha256"), of("kept"), of("reason"))
    clear &= among(label, LABELS) & sure(of) & stamped(of("teacher")) & cut(of("evidence_cut")) & placed(of("runs"))
    settled = true(pc.equal(label, "no")) & ~own & true(pc.equal(rationale, ""))
    settled &= true(pc.equal(delta, of("delta_prior")))
    clear &= ~true(pc.equal(of("confidence_source"), "prior")) | settled
    clear &= (null(rank) == null(score)) & (null(score) | np.isfinite(number(score)))
    clear &= in_stratum(of("stratum"), own, label, delta, seen.rules)
    clear &= given(of("panel")) & (lengths(of("panel")) == 0) & ~_asked(own, label, delta, seen.rules)
    clear &= true(of("kept")) == true(pc.equal(of("reason"), ""))
    owner, videos = seen.query_video, seen.video_split
    pairs = zip(of("query_id").to_pylist(), of("video_id").to_pylist(), own.tolist(), strict=True)
    referred = (query in owner and video in videos and (owner[query] == video) is mine for query, video, mine in pairs)
    return clear & mask(referred, len(rows))


def _asked(own: Mask, label: pa.Array, delta: pa.Array, rules: CurateRules) -> Mask:
    """Where a panel is asked about a pair, see ``PanelRules``."""
    if rules.panel is None:
        return np.zeros(len(own), bool)
    if rules.panel.margin_below is None:
        return np.ones(len(own), bool)
    near = np.abs(number(delta)) < rules.panel.margin_below
    return null(delta) | near | (true(pc.equal(label, "yes")) & ~own)


def note_judgements(rows: pa.RecordBatch, split: str, seen: Seen) -> None:
    """What was kept, for the candidates that it became."""
    kept = rows.select(["query_id", "video_id", "label", "runs", "kept", *SHARED]).filter(rows.column("kept"))
    pairs = zip(kept.column("query_id").to_pylist(), kept.column("video_id").to_pylist(), strict=True)
    seen.kept_pairs.update(zip(pairs, _judged(kept.column, "label"), strict=True))


def _judged(of: Callable[[str], pa.Array], label: str) -> list[int]:
    """See ``judged``."""
    runs = of("runs")
    names = (field(pc.list_flatten(runs), name).to_pylist() for name in ("run", "rank", "score"))
    flat: list[Place] = list(zip(*names, strict=True))
    places = (tuple(flat[start:end]) for start, end in bounds(runs))
    return list(
        map(judged, of(label).to_pylist(), places, zip(*(of(name).to_pylist() for name in SHARED), strict=True))
    )


def clear_ranking(rows: pa.RecordBatch, split: str, seen: Seen) -> Mask:
    """Groups of one positive, whose candidates are as they were judged."""
    of, lists = rows.column, rows.column("candidates")
    count, start = lengths(lists), [start for start, _ in bounds(lists)]
    each = pc.list_flatten(lists)
    queries, videos = of("query_id").to_pylist(), field(each, "video_id").to_pylist()
    pairs = list(zip(np.repeat(np.array(queries, object), count).tolist(), videos, strict=True))
    first = np.zeros(len(each), bool)
    first[np.array(start, int)[count > 0]] = True

    def holds(candidate: pa.Array) -> Mask:
        def part(name: str) -> pa.Array:
            return field(candidate, name)

        own = true(pc.equal(part("stratum"), "positive"))
        sound: Mask = (own == first) & (own | among(part("stratum"), _NEGATIVES)) & (number(part("label")) == own)
        sound &= given(part("rationale")) & among(part("teacher_label"), LABELS) & sure(part) & placed(part("runs"))
        sound &= null(part("score")) | np.isfinite(number(part("score")))
        sound &= in_stratum(part("stratum"), own, part("teacher_label"), part("delta"), seen.rules)
        unfit = seen.without_frames if seen.wants_frames else ()
        fit = (seen.video_split.get(video) == split and video not in unfit for video in videos)
        alike = zip(map(seen.kept_pairs.get, pairs), _judged(part, "teacher_label"), strict=True)
        return sound & mask(fit, len(each)) & mask((a == b for a, b in alike), len(each))

    clear = everywhere(lists, holds)
    trusted = true(pc.equal(field(each, "stratum"), "trusted_negative"))
    clear &= np.bincount(parents(lists), trusted, len(rows)) >= max(1, seen.rules.min_trusted)
    clear &= count - 1 <= seen.rules.max_negatives
    clear &= given(of("source"), of("rationale")) & visible(of("query")) & of_modalities(of("modalities"))
    clear &= null(of("query_type")) | among(of("query_type"), QUERY_TYPES)
    clear &= null(of("variant")) | among(of("variant"), VARIANTS)

    def follows(query_id: str, text: str, mine: list[str]) -> bool:
        """From its query, from no other example, and of videos that are each there once."""
        known = text is not None and seen.kept_queries.get(query_id) == text and query_id not in seen.examples
        own = bool(mine) and seen.query_video.get(query_id) == mine[0] and len(set(mine)) == len(mine)
        return known and own and seen.text_split.get(folded(text), split) == split

    of_each = [videos[a:b] for a, b in bounds(lists)]
    return clear & mask(map(follows, queries, of("query").to_pylist(), of_each), len(rows))


def note_ranking(rows: pa.RecordBatch, split: str, seen: Seen) -> None:
    """The examples with their texts and positives; their pairs are those that were kept."""
    queries, lists = rows.column("query_id").to_pylist(), rows.column("candidates")
    each = pc.list_flatten(lists)
    videos, deltas = field(each, "video_id").to_pylist(), field(each, "delta").to_pylist()
    for query_id, text, (start, end) in zip(queries, rows.column("query").to_pylist(), bounds(lists), strict=True):
        seen.examples[query_id] = split
        seen.text_split.setdefault(folded(text), split)
        seen.positives[query_id, videos[start]] = deltas[start]
        for video_id in videos[start:end]:
            del seen.kept_pairs[query_id, video_id]


def clear_losses(rows: pa.RecordBatch, split: str, seen: Seen) -> Mask:
    """Rejections and failures."""
    reason = "reason" if "reason" in rows.schema.names else "error_class"
    clear = among(rows.column("stage"), STAGES) & given(*rows.columns)
    clear &= texts(rows.column(reason), lambda text: 1 <= len(text.split()) <= 3)
    for name, known in (("query_id", seen.query_video), ("video_id", seen.video_split)):
        there = (not found or found in known for found in rows.column(name).to_pylist())
        clear &= mask(there, len(rows))
    return clear


def note_losses(rows: pa.RecordBatch, split: str, seen: Seen) -> None:
    """Nothing refers to them."""


Clear = Callable[[pa.RecordBatch, str, Seen], Mask]
Note = Callable[[pa.RecordBatch, str, Seen], None]

BY_COLUMNS: Mapping[str, tuple[Clear, Note]] = {
    "videos": (clear_videos, note_videos),
    "queries": (clear_queries, note_queries),
    "judgements": (clear_judgements, note_judgements),
    "ranking": (clear_ranking, note_ranking),
    "perception": (clear_perception, note_perception),
    "rejections": (clear_losses, note_losses),
    "failures": (clear_losses, note_losses),
}
"""By table, for (batch, split of its shard or "", what was seen so far); other tables are read row by row."""
