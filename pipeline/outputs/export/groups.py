"""The groups of an output as every format needs them, and files of rows made of them, split by split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pipeline.outputs.errors import UnwritableExport
from pipeline.outputs.export.naming import Naming, name_videos
from pipeline.outputs.export.texts import Texts, VideoTexts, texts_of
from pipeline.outputs.export.writing import Write, dumps, json_lines, text_lines, write_files
from pipeline.outputs.manifest import SOURCE, manifest_sha256, read_manifest
from pipeline.outputs.tables import Row, Tables
from schemas.example import SPLITS

Rows = Callable[["Groups", str], Iterator[dict[str, Any]]]


class Groups:
    """What every format is made of: groups, and of each video its text and the path of its file.

    Raises:
        UnwritableExport: there are no groups.
    """

    def __init__(self, output: str, video_dir: str | None) -> None:
        self.tables: Tables = grouped_tables(output)
        self.naming: Naming = name_videos(self.tables, video_dir, numeric=False)
        self._texts = VideoTexts(self.tables, texts_of)

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

    def texts(self, video_id: str) -> Texts:
        """A video's evidence as text."""
        return Texts(*self._texts.of(video_id))

    def title_and_text(self, video_id: str) -> tuple[str, str]:
        """A video's title, and all of its other evidence as one text."""
        texts = self.texts(video_id)
        return texts.title, "\n".join(filter(None, [texts.caption, texts.asr, texts.ocr, texts.description]))

    def text(self, candidate: Mapping[str, Any]) -> str:
        """A candidate's evidence, its title first."""
        return "\n".join(filter(None, self.title_and_text(candidate["video_id"])))


def grouped_tables(output: str) -> Tables:
    """The tables of an output that has ranking groups, of which every format is made.

    Raises:
        UnwritableExport: it has none, and what is written would be empty.
    """
    tables = read_manifest(output).tables(output)
    if not tables.count("ranking"):
        raise UnwritableExport(
            f"{output} holds no ranking group: an export would hold no example (its rejections say why)"
        )
    return tables


def by_split(
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
    require_own_ids("this format", numeric_ids)
    groups = Groups(output, video_dir)
    if groups.tables.shards("ranking_by_video"):
        formats = {**formats, **by_video}
    contents: dict[str, Write] = {
        f"{name.format(split=split)}.jsonl": json_lines(rows(groups, split))
        for split in SPLITS
        for name, rows in formats.items()
    }
    return write_files(destination, contents | source_file(output))


def require_own_ids(name: str, numeric_ids: bool) -> None:
    """Raise UnwritableExport where videos are to be numbered, which only one format does."""
    if numeric_ids:
        raise UnwritableExport(f"--numeric-ids is for rankvideo; {name} has the ids of the output")


def source_file(output: str) -> dict[str, Write]:
    """The file that says which manifest an export was made from."""
    text = dumps({"manifest_sha256": manifest_sha256(output)})
    return {SOURCE: text_lines([f"{text}\n"])}
