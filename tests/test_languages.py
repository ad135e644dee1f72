import json

from benchmarks.languages import LANGUAGES, QUERIES, ranks
from schemas.video import Evidence, Metadata


def test_a_query_in_german_french_or_spanish_finds_its_english_video_by_the_dense_run(samples):
    rows = [json.loads(line) for line in (samples / "manifest.jsonl").read_text().splitlines()]
    titles = {
        row["video_id"]: Evidence(metadata=Metadata(row["title"], row.get("description", "")))
        for row in rows
        if row.get("title") and row.get("video_id")
    }
    found = ranks(titles)

    assert found.keys() == QUERIES.keys()
    for video_id, by_language in found.items():
        for language, (_, dense) in zip(LANGUAGES, by_language, strict=True):
            assert dense <= 3, (video_id, language, dense)
    missed = [words for by_language in found.values() for words, _ in by_language[1:] if words is None]
    assert len(missed) >= len(QUERIES)  # by words alone, a third of them at least
