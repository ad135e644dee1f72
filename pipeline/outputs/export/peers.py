"""Ranking groups as the training libraries of others read them: JSON Lines, and for BEIR a folder."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pipeline.outputs.errors import UnreadableOutput, UnwritableExport
from pipeline.outputs.export.naming import Naming, name_videos
from pipeline.outputs.export.writing import Write, dumps, json_lines, text_lines, write_files
from pipeline.outputs.manifest import SOURCE, manifest_sha256, read_manifest
from pipeline.outputs.measured.necessity import necessities
from pipeline.outputs.tables import Row, Tables, VideoIndex, evidence_of
from schemas.example import SPLITS
from schemas.video import MODALITIES, Evidence, Modality

_CLAMR: Mapping[Modality, str] = {"caption": "video", "asr": "asr", "ocr": "ocr", "metadata": "description"}
_QUESTION = "Is this video relevant to the search query: {query}"


Rows = Callable[["Groups", str], Iterator[dict[str, Any]]]


class Groups:
    """What every format is made of: groups, and of each video its text and the path of its file."""

    def __init__(self, output: str, video_dir: str | None) -> None:
        self.tables: Tables = read_manifest(output).tables(output)
        self.naming: Naming = name_videos(self.tables, video_dir, numeric=False)
        self._videos = VideoIndex(self.tables, ["caption", "asr", "ocr", "metadata"])

    def of(self, split: str) -> Iterator[tuple[Row, list[Row], list[Row]]]:
        """The rows of a split, each with its positives and its negatives."""
        for row in self.tables.rows("ranking", part=split):
            positives = [each for each in row["candidates"] if each["label"]]
            yield row, positives, [each for each in row["candidates"] if not each["label"]]

    def by_video(self, split: str) -> Iterator[tuple[Row, str]]:
        """The queries of groups of one video, each with its video's id: a true one, then those that look like it."""
        for row in self.tables.rows("ranking_by_video", ["video_id", "candidates"], split):
            yield from ((each, row["video_id"]) for each in row["candidates"])

    def ids(self) -> list[str]:
        """All videos, by id."""
        return sorted(self.naming)

    def path(self, candidate: Mapping[str, Any]) -> str:
        """Where a candidate's file is said to lie."""
        return self.naming[candidate["video_id"]].path

    def evidence(self, video_id: str) -> Evidence:
        """A video's evidence."""
        video = self._videos.get(video_id)
        if video is None:
            raise UnreadableOutput(self.tables.output, "videos/", f"video {video_id!r} is not in it")
        return evidence_of(video)

    def title_and_text(self, video_id: str) -> tuple[str, str]:
        """A video's title, and all of its other evidence as one text."""
        evidence = self.evidence(video_id)
        parts = [evidence.text(name) for name in MODALITIES if name != "metadata"]
        return evidence.metadata.title, "\n".join(filter(None, [*parts, evidence.metadata.description]))

    def text(self, candidate: Mapping[str, Any]) -> str:
        """A candidate's evidence, its title first."""
        return "\n".join(filter(None, self.title_and_text(candidate["video_id"])))


def export_sentence_transformers(output: str, destination: str, video_dir: str | None, numeric_ids: bool) -> list[str]:
    """For CrossEncoder trainers: ``pairs_SPLIT.jsonl`` (query, passage, label: the teacher's p_yes, else 0 or 1), and
    ``SPLIT.jsonl`` (anchor, positive, negative_1 to negative_N), a line a positive, of as many negatives as every group
    has. Groups of one video are pairs too, in ``pairs_by_video_SPLIT.jsonl``.
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

    formats = {"{split}": tuples, "pairs_{split}": pairs}
    return _by_split(output, destination, video_dir, numeric_ids, formats, {"pairs_by_video_{split}": pairs_by_video})


def export_ms_swift(output: str, destination: str, video_dir: str | None, numeric_ids: bool) -> list[str]:
    """For ms-swift's rerankers: the query as ``messages``, a video each in ``positive_messages``/``_videos`` and
    ``negative_messages``/``_videos``.
    """

    def rows(groups: Groups, split: str) -> Iterator[dict[str, Any]]:
        for row, positives, negatives in groups.of(split):
            yield {
                "messages": [{"role": "user", "content": row["query"]}],
                "positive_messages": [[{"role": "user", "content": "<video>"}] for _ in positives],
                "positive_videos": [[groups.path(each)] for each in positives],
                "negative_messages": [[{"role": "user", "content": "<video>"}] for _ in negatives],
                "negative_videos": [[groups.path(each)] for each in negatives],
            }

    return _by_split(output, destination, video_dir, numeric_ids, {"{split}": rows})


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
    return _by_split(output, destination, video_dir, numeric_ids, formats, more)


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

    return _by_split(output, destination, video_dir, numeric_ids, {"{split}": rows})


def export_clamr(output: str, destination: str, video_dir: str | None, numeric_ids: bool) -> list[str]:
    """For CLaMR (arXiv 2506.06144): a line a positive whose label rests on one modality more than on any other.

    ``query_type`` is that modality, the target of its modality-aware losses: video (what the caption tells), asr, ocr
    or description (title and description). Beside what its collator reads (``query``, ``images``, ``ocr``, ``asr``,
    ``description``; with its ``video_dir``, ``video_id`` is the stem of the file's name there) are ``rests_on``, all
    such modalities, and ``drops``, the margin's falls in nats. A positive without a target is left out: to those losses
    it would be of the modality of padding.

    Raises:
        UnwritableExport: the judge was not asked what labels rest on.
    """
    recipe = read_manifest(output).recipe
    if (recipe.get("judge") or {}).get("necessity") is None:
        raise UnwritableExport("clamr needs to know what labels rest on: run with --set 'judge.necessity={share: 1}'")
    found = necessities(read_manifest(output).tables(output))
    of_pair = {(one.query_id, one.video_id): one for one in found if one.target_modality is not None}

    def rows(groups: Groups, split: str) -> Iterator[dict[str, Any]]:
        for row, positives, _ in groups.of(split):
            for each in positives:
                if (one := of_pair.get((row["query_id"], each["video_id"]))) and one.target_modality:
                    path, evidence = groups.path(each), groups.evidence(each["video_id"])
                    yield {
                        "query": row["query"],
                        "query_type": _CLAMR[one.target_modality],
                        "rests_on": [_CLAMR[name] for name in one.rests_on],
                        "drops": {_CLAMR[name.modality]: name.drop for name in one.without},
                        "video_id": posixpath.splitext(posixpath.basename(path))[0],
                        "images": [path],
                        "asr": evidence.text("asr"),
                        "ocr": evidence.text("ocr"),
                        "description": evidence.text("metadata"),
                    }

    return _by_split(output, destination, video_dir, numeric_ids, {"{split}": rows})


def export_beir(output: str, destination: str, video_dir: str | None, numeric_ids: bool) -> list[str]:
    """A BEIR folder: ``corpus.jsonl``, ``queries.jsonl``, ``qrels/train.tsv`` and ``qrels/dev.tsv``."""
    _require_own_ids("beir", numeric_ids)
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


def _sureness(said: Row) -> float:
    """The teacher's p_yes; the label where that is not known."""
    return float(said["label"]) if said["p_yes"] is None else float(said["p_yes"])


def _by_split(
    output: str,
    destination: str,
    video_dir: str | None,
    numeric_ids: bool,
    formats: Mapping[str, Rows],
    by_video: Mapping[str, Rows] = MappingProxyType({}),
) -> list[str]:
    """Write a file a split and kind of row; ``formats`` are makers of rows by the file's name, without its ending.

    Those of ``by_video`` are written where the output has groups of one video.
    """
    _require_own_ids("this format", numeric_ids)
    groups = Groups(output, video_dir)
    if groups.tables.shards("ranking_by_video"):
        formats = {**formats, **by_video}
    contents: dict[str, Write] = {
        f"{name.format(split=split)}.jsonl": json_lines(rows(groups, split))
        for split in SPLITS
        for name, rows in formats.items()
    }
    return write_files(destination, contents | source_file(output))


def _require_own_ids(name: str, numeric_ids: bool) -> None:
    if numeric_ids:
        raise UnwritableExport(f"--numeric-ids is for rankvideo; {name} has the ids of the output")


def source_file(output: str) -> dict[str, Write]:
    """The file that says which manifest an export was made from."""
    text = dumps({"manifest_sha256": manifest_sha256(output)})
    return {SOURCE: text_lines([f"{text}\n"])}
