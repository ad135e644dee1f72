"""An output as a retrieval task of mteb: corpus, held-out queries and their qrels, and the task that reads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.outputs.errors import UnwritableExport
from pipeline.outputs.export.groups import Groups, source_file
from pipeline.outputs.export.writing import Write, json_lines, text_lines, write_files

_CARD = """\
---
configs:
- config_name: corpus
  data_files: [{split: test, path: corpus.jsonl}]
- config_name: queries
  data_files: [{split: test, path: queries.jsonl}]
- config_name: qrels
  data_files: [{split: test, path: qrels.jsonl}]
---
"""
_TASK = '''\
"""A retrieval task of mteb over the held-out queries of an output: ``mteb.evaluate(model, [task()])``."""

from pathlib import Path

from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata


class HardqueryRetrieval(AbsTaskRetrieval):
    metadata = TaskMetadata(
        name="HardqueryRetrieval",
        description="Queries that need inference, over the evidence of videos as text.",
        reference=None,
        dataset={"path": str(Path(__file__).parent), "revision": "main"},
        type="Retrieval",
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
        date=None,
        domains=None,
        task_subtypes=None,
        license=None,
        annotations_creators="LM-generated",
        dialect=None,
        sample_creation="LM-generated and verified",
        bibtex_citation=None,
    )


def task() -> HardqueryRetrieval:
    """The task, which reads the files beside this one."""
    return HardqueryRetrieval()
'''


def export_mteb(output: str, destination: str, video_dir: str | None, numeric_ids: bool) -> list[str]:
    """A folder that mteb's own loader reads: ``corpus.jsonl`` of all videos, ``queries.jsonl`` and ``qrels.jsonl`` of
    the validation split (mteb's "test"), the card that names them, and ``task.py``.

    Raises:
        UnwritableExport: there are no groups, or no query is held out.
    """
    if numeric_ids:
        raise UnwritableExport("--numeric-ids is for rankvideo; mteb has the ids of the output")
    groups = Groups(output, video_dir)
    if not groups.tables.count("ranking", "validation"):
        raise UnwritableExport(f"{output} holds no query out: a task would have none (emit.validation_fraction)")

    def corpus() -> Iterator[dict[str, Any]]:
        for video_id in groups.ids():
            title, text = groups.title_and_text(video_id)
            yield {"id": video_id, "title": title, "text": text}

    def qrels() -> Iterator[dict[str, Any]]:
        for row, positives, _ in groups.of("validation"):
            for positive in positives:
                yield {"query-id": row["query_id"], "corpus-id": positive["video_id"], "score": 1}

    queries = ({"id": row["query_id"], "text": row["query"]} for row, _, _ in groups.of("validation"))
    contents: dict[str, Write] = {
        "corpus.jsonl": json_lines(corpus()),
        "queries.jsonl": json_lines(queries),
        "qrels.jsonl": json_lines(qrels()),
        "README.md": text_lines([_CARD]),
        "task.py": text_lines([_TASK]),
    }
    return write_files(destination, contents | source_file(output))
