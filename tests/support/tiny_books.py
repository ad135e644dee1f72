"""What a small output says of its rows beside them: the ledger's counts, its TREC runs and its qrels."""

from __future__ import annotations

from collections import Counter

from schemas.losses import Tally
from transforms.emit.shards import Row

Rows = dict[str, list[tuple[str, Row]]]

TYPES = (("base", "caption"), ("specific", "all"), ("ocr", "ocr"), ("speech", "asr"), ("text", "metadata"))


def places(rank: int) -> list[Row]:
    """Where the two runs have what stands at this rank of five: one as the fused run, the other the other way round."""
    bm25 = {"run": "bm25", "rank": rank, "score": 31.0 - rank}
    return [bm25, {"run": "dense", "rank": 6 - rank, "score": (90 - 6 + rank) / 100}]


def tiny_tallies(rows: Rows) -> list[Tally]:
    """The ledger's counts of ``rows``, in which every step that drops says why."""
    files, videos = 14, len(rows["videos"])
    failed = Counter(row["error_class"] for _, row in rows["failures"])
    rejected = Counter((row["stage"], row["step"], row["reason"]) for _, row in rows["rejections"])
    left = len(rows["queries"])
    tallies = [
        Tally("extract", "decode", "in", "", files),
        Tally("extract", "decode", "out", "", videos),
        *(Tally("extract", "decode", "failed", name, n) for name, n in failed.items()),
        *(Tally("extract", "deduplicate", side, "", videos) for side in ("in", "out")),
        *(Tally("extract", "evidence", side, "", videos) for side in ("in", "out")),
        *(Tally("synthesize", "select", side, "", videos) for side in ("in", "out")),
        *(Tally("synthesize", "write", side, "", videos * len(TYPES)) for side in ("in", "out")),
        *(Tally("judge", "judge", side, "", len(rows["judgements"])) for side in ("in", "out")),
        Tally("mine", "guard", "in", "", len(rows["judgements"]) + rejected["mine", "guard", "near duplicate"]),
        Tally("mine", "guard", "rejected", "near duplicate", rejected["mine", "guard", "near duplicate"]),
        Tally("mine", "guard", "out", "", len(rows["judgements"])),
    ]
    for stage, step in (
        ("synthesize", "filter"),
        ("synthesize", "deduplicate"),
        ("mine", "select"),
        ("mine", "retrieve"),
        ("mine", "filter"),
        ("curate", "queries"),
    ):
        tallies.append(Tally(stage, step, "in", "", left))
        lost = {reason: n for (*where, reason), n in rejected.items() if where == [stage, step]}
        tallies += [Tally(stage, step, "rejected", reason, n) for reason, n in lost.items()]
        left -= sum(lost.values())
        tallies.append(Tally(stage, step, "out", "", left))
    dropped = Counter(row["reason"] for _, row in rows["judgements"] if not row["kept"])
    pairs = len(rows["judgements"])
    tallies += [Tally("curate", "pairs", "in", "", pairs), Tally("curate", "pairs", "out", "", pairs - dropped.total())]
    tallies += [Tally("curate", "pairs", "rejected", reason, n) for reason, n in dropped.items()]
    return tallies + [
        Tally("emit", name, side, "", len(found)) for name, found in rows.items() for side in ("in", "out")
    ]


def tiny_run(rows: Rows, name: str | None = None) -> str:
    """Five candidates a query, by one of the runs or fused: those judged at their ranks, others in those between."""
    videos = [row["video_id"] for _, row in rows["videos"]]
    lines = []
    for _, row in sorted(rows["ranking"], key=lambda pair: pair[1]["query_id"]):
        judged = [pair for _, pair in rows["judgements"] if pair["query_id"] == row["query_id"]]
        at = {pair["rank"]: pair["video_id"] for pair in judged}
        spare = iter([video_id for video_id in videos if video_id not in at.values()])
        ranked = [(at.get(rank) or next(spare), rank, 20.0 - rank) for rank in range(1, 6)]
        if name is not None:
            found = [(video, next(p for p in places(rank) if p["run"] == name)) for video, rank, _ in ranked]
            ranked = sorted(((v, p["rank"], p["score"]) for v, p in found), key=lambda each: each[1])
        lines += [f"{row['query_id']} Q0 {v} {rank} {score} {name or 'first-stage'}\n" for v, rank, score in ranked]
    return "".join(lines)


def tiny_qrels(examples: list[Row]) -> str:
    pairs = sorted((row["query_id"], c["video_id"], c["label"]) for row in examples for c in row["candidates"])
    return "".join(f"{query_id} 0 {video_id} {label}\n" for query_id, video_id, label in pairs)
