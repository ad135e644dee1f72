"""Ranking groups as the training libraries of others read them: JSON Lines, and for BEIR a folder."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.outputs.errors import UnwritableExport
from pipeline.outputs.export.groups import Groups, by_split, require_own_ids, source_file
from pipeline.outputs.export.writing import Write, json_lines, text_lines, write_files
from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.measured.necessity import necessities
from pipeline.outputs.tables import Row
from schemas.example import SPLITS
from schemas.video import Modality

_CLAMR: Mapping[Modality, str] = {"caption": "video", "asr": "asr", "ocr": "ocr", "metadata": "description"}
_QUESTION = "Is this video relevant to the search query: {query}"


def export_sentence_transformers(output: str, destination: str, video_dir: str | None, numeric_ids: bool) -> list[str]:
    """For CrossEncoder trainers: ``pairs_SPLIT.jsonl`` (query, passage, label: the teacher's p_yes, else 0 or 1), and
    ``SPLIT.jsonl`` (anchor, positive, negative_1 to negative_N), a line a positive, of as many negatives as every group
    has. Groups of one video are pairs too, in ``pairs_by_video_SPLIT.jsonl``.

    For distillation into multi-vector and other encoders, ``scored_SPLIT.jsonl``: query, document_1 (a positive) to
    document_N, and label, the teacher's margin of each in nats. Candidates without a margin are left out.
    """

    def pairs(groups: Groups, split: str) -> Iterator[dict[str, Any]]:
        for row, positives, negatives in groups.of(split):
            for each in (*positives, *negatives):
                yield {"query": row["query"], "passage": groups.text(each), "label": _sureness(each)}

    def pairs_by_video(groups: Groups, split: str) -> Iterator[dict[str, Any]]:
        for query, video_id in groups.by_video(split):
            yield {"query": query["query"], "passage": groups.text({"video_id": video_id}), "label": _sureness(query)}

    def tuples(groups: Groups, split: str) -> Iterator[dict[str, Any]]:
        fewest = min((len(negatives) for _, _, negatives in groups.of(split)), default=0)
        for row, positives, negatives in groups.of(split):
            others = {f"negative_{n}": groups.text(each) for n, each in enumerate(negatives[:fewest], 1)}
            for positive in positives:
                yield {"anchor": row["query"], "positive": groups.text(positive), **others}

    def scored(groups: Groups, split: str) -> Iterator[dict[str, Any]]:
        fewest = min((len(found) for _, found in _with_margins(groups, split)), default=0)
        for query, found in _with_margins(groups, split):
            documents = {f"document_{n}": groups.text(each) for n, each in enumerate(found[:fewest], 1)}
            yield {"query": query, **documents, "label": [each["delta"] for each in found[:fewest]]}

    formats = {"{split}": tuples, "pairs_{split}": pairs, "scored_{split}": scored}
    return by_split(output, destination, video_dir, numeric_ids, formats, {"pairs_by_video_{split}": pairs_by_video})


def export_trl(output: str, destination: str, video_dir: str | None, numeric_ids: bool) -> list[str]:
    """For TRL's SFTTrainer, conversational prompt and completion: the teacher's rationale and answer, and the video.

    Groups of one video are such conversations too, in ``by_video_SPLIT.jsonl``.
    """

    def rows(groups: Groups, split: str) -> Iterator[dict[str, Any]]:
        for row, positives, negatives in groups.of(split):
            for each in (*positives, *negatives):
                yield {**_conversation(row["query"], each), "videos": [groups.path(each)]}

    def rows_by_video(groups: Groups, split: str) -> Iterator[dict[str, Any]]:
        for query, video_id in groups.by_video(split):
            yield {**_conversation(query["query"], query), "videos": [groups.path({"video_id": video_id})]}

    formats, more = {"{split}": rows}, {"by_video_{split}": rows_by_video}
    return by_split(output, destination, video_dir, numeric_ids, formats, more)


def _conversation(query: str, said: Row) -> dict[str, Any]:
    question = [{"type": "video"}, {"type": "text", "text": _QUESTION.format(query=query)}]
    reply = f"{said['rationale'] or ''}\n<answer>{'yes' if said['label'] else 'no'}</answer>".lstrip()
    return {
        "prompt": [{"role": "user", "content": question}],
        "completion": [{"role": "assistant", "content": [{"type": "text", "text": reply}]}],
    }


def export_tevatron(output: str, destination: str, video_dir: str | None, numeric_ids: bool) -> list[str]:
    """For Tevatron: a query with ``positive_passages`` and ``negative_passages`` of docid, title, text and video."""

    def passage(groups: Groups, candidate: Row) -> dict[str, str]:
        title, text = groups.title_and_text(candidate["video_id"])
        return {"docid": candidate["video_id"], "title": title, "text": text, "video": groups.path(candidate)}

    def rows(groups: Groups, split: str) -> Iterator[dict[str, Any]]:
        for row, positives, negatives in groups.of(split):
            yield {
                "query_id": row["query_id"],
                "query": row["query"],
                "positive_passages": [passage(groups, each) for each in positives],
                "negative_passages": [passage(groups, each) for each in negatives],
            }

    return by_split(output, destination, video_dir, numeric_ids, {"{split}": rows})


def export_clamr(output: str, destination: str, video_dir: str | None, numeric_ids: bool) -> list[str]:
    """For CLaMR (arXiv 2506.06144): a line a positive whose label rests on one modality more than on any other.

    ``query_type`` is that modality, the target of its modality-aware losses: video (what the caption tells), asr, ocr
    or description (title and description). Beside what its collator reads (``query``, ``images``, ``ocr``, ``asr``,
    ``description``; with its ``video_dir``, ``video_id`` is the stem of the file's name there) are ``rests_on``, all
    such modalities, and ``drops``, the margin's falls in nats. A positive without a target is left out: to those losses
    it would be of the modality of padding.

    Raises:
        UnwritableExport: the judge was not asked what labels rest on, or none rests on one modality most.
    """
    recipe = read_manifest(output).recipe
    if (recipe.get("judge") or {}).get("necessity") is None:
        raise UnwritableExport("clamr needs to know what labels rest on: run with --set 'judge.necessity={share: 1}'")
    found = necessities(read_manifest(output).tables(output))
    of_pair = {(one.query_id, one.video_id): one for one in found if one.target_modality is not None}
    if not of_pair:
        raise UnwritableExport(
            f"no label of {output} rests on one modality more than on any other: no row has a target"
        )

    def rows(groups: Groups, split: str) -> Iterator[dict[str, Any]]:
        for row, positives, _ in groups.of(split):
            for each in positives:
                if (one := of_pair.get((row["query_id"], each["video_id"]))) and one.target_modality:
                    path, texts = groups.path(each), groups.texts(each["video_id"])
                    yield {
                        "query": row["query"],
                        "query_type": _CLAMR[one.target_modality],
                        "rests_on": [_CLAMR[name] for name in one.rests_on],
                        "drops": {_CLAMR[name.modality]: name.drop for name in one.without},
                        "video_id": posixpath.splitext(posixpath.basename(path))[0],
                        "images": [path],
                        "asr": texts.asr,
                        "ocr": texts.ocr,
                        "description": texts.metadata,
                    }

    return by_split(output, destination, video_dir, numeric_ids, {"{split}": rows})


def export_beir(output: str, destination: str, video_dir: str | None, numeric_ids: bool) -> list[str]:
    """A BEIR folder: ``corpus.jsonl``, ``queries.jsonl``, ``qrels/train.tsv`` and ``qrels/dev.tsv``."""
    require_own_ids("beir", numeric_ids)
    groups = Groups(output, video_dir)

    def corpus() -> Iterator[dict[str, Any]]:
        for video_id in groups.ids():
            title, text = groups.title_and_text(video_id)
            yield {"_id": video_id, "title": title, "text": text, "metadata": {"video": groups.naming[video_id].path}}

    def qrels(split: str) -> Iterator[str]:
        yield "query-id\tcorpus-id\tscore\n"
        for row, positives, _ in groups.of(split):
            yield from (f"{row['query_id']}\t{positive['video_id']}\t1\n" for positive in positives)

    queries = ({"_id": row["query_id"], "text": row["query"]} for split in SPLITS for row, _, _ in groups.of(split))
    contents: dict[str, Write] = {"corpus.jsonl": json_lines(corpus()), "queries.jsonl": json_lines(queries)}
    contents |= {
        f"qrels/{name}.tsv": text_lines(qrels(split)) for name, split in zip(("train", "dev"), SPLITS, strict=True)
    }
    return write_files(destination, contents | source_file(output))


def _with_margins(groups: Groups, split: str) -> Iterator[tuple[str, list[Row]]]:
    """Queries with the first positive and the negatives whose margins are known; one of each at least."""
    for row, positives, negatives in groups.of(split):
        known = [[each for each in side if each["delta"] is not None] for side in (positives, negatives)]
        if all(known):
            yield row["query"], [known[0][0], *known[1]]


def _sureness(said: Row) -> float:
    """The teacher's p_yes; the label where that is not known."""
    return float(said["label"]) if said["p_yes"] is None else float(said["p_yes"])
