"""Queries in other languages than their video's, found by the first stage that the demo fuses with BM25."""

from pathlib import Path

import pytest
import yaml

from benchmarks.languages import LANGUAGES, QUERIES, ranks
from schemas.video import AsrSegment, Evidence, Metadata


@pytest.fixture(scope="module")
def found(samples: Path):
    """The ranks by BM25 and by vectors, where every clip's evidence is what the corpus's script has it say."""
    clips = yaml.safe_load((samples / "corpus.yaml").read_text("utf-8"))["clips"]
    return ranks({clip["name"]: evidence(clip) for clip in clips if "title" in clip or "say" in clip})


def evidence(clip):
    said = (AsrSegment(0.0, 8.0, clip["say"], 1.0),) if "say" in clip else ()
    return Evidence(asr=said, metadata=Metadata(clip.get("title", ""), clip.get("description", "")))


def test_a_query_in_german_french_or_spanish_finds_its_english_video_by_the_dense_run(found):
    assert found.keys() == QUERIES.keys()
    dense = {
        (video_id, language): rank
        for video_id, by_language in found.items()
        for language, (_, rank) in zip(LANGUAGES, by_language, strict=True)
        if language != "English"
    }

    assert max(dense.values()) <= 5, dense
    assert sum(rank == 1 for rank in dense.values()) >= 10, dense


def test_by_words_alone_most_of_these_queries_find_nothing(found):
    missed = [words for by_language in found.values() for words, _ in by_language[1:] if words is None]

    assert len(missed) > len(QUERIES)
