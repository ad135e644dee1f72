"""What of the data is a test set's: by words, ids and bytes, and what output and books say of it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipeline.config import RecipeError, load_recipe
from pipeline.outputs.held_against.contamination import Match
from pipeline.outputs.report.card import render_card, table_cell
from pipeline.outputs.report.report import render_report
from pipeline.outputs.report.summary import summarize
from schemas.losses import Loss
from schemas.query import Query
from schemas.video import AsrSegment, EngineStamp, Evidence, MediaFacts, Metadata, Video
from tests.support.tiny_output import write_tiny
from transforms.decontaminate.decontaminate import DropTestQueries, query_in, video_in
from transforms.decontaminate.test_sets import CannotReadTestSet, TestFile, TestSet, files_of
from transforms.decontaminate.word_runs import WordRuns

LONG = "which old stone bridge did the river flood of 2019 close in the lower town of Lyon for three weeks in May"
SHORT = "flood closes Lyon bridge"


@pytest.fixture
def test_set(tmp_path: Path) -> TestSet:
    (tmp_path / "queries.tsv").write_text(
        f"t1\t{LONG}\nt2\t{SHORT}\nt3\tfloods\nt4\t里昂的老桥因为春天的洪水关闭了三个星期\n"
    )
    (tmp_path / "corpus.jsonl").write_text(
        '{"id": "d1", "text": "The mayor of the old town opened a new tram line through the market on Sunday."}\n'
    )
    (tmp_path / "media.sha256").write_text(f"{hashlib.sha256(b'clip').hexdigest()}  clips/one.mp4\n")
    paths = {name: str(tmp_path / file) for name, file in FILES.items()}
    return TestSet("bench", **paths)


FILES = {"queries": "queries.tsv", "corpus": "corpus.jsonl", "media": "media.sha256"}


def query(text: str, query_id: str = "q") -> Query:
    return Query(query_id, "v", text, "teacher", "base", "all", "because", ("asr",), EngineStamp("rules", "1", "", "0"))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (LONG.upper() + "?", "t1"),
        (f"tell me {LONG[:75]} and who reopened it", "t1"),  # thirteen words of it, and others around
        ("a flood closes Lyon bridge in May", "t2"),
        ("Lyon: bridge closed by the flood", "t2"),  # the same words in another order
        ("里昂的老桥因为春天的洪水关闭了三个星期？", "t4"),
        ("in 2019 里昂的老桥因为春天的洪水关闭", "t4"),
    ],
)
def test_a_query_that_shares_its_words_with_one_of_the_test_set_is_named_with_it(text, match, test_set):
    found = query_in(query(text), (test_set,))

    assert found is not None
    assert found.startswith(f"bench: query {match}: ")


@pytest.mark.parametrize(
    "text",
    [
        "which old stone bridge did the river flood of 2021 close in the lower town of Lyon",  # no 13 words in a row
        "floods in the old town of Lyon close a bridge",
        "floods that nobody saw coming",  # a test query of one word is in anything
        "里昂的新桥",
        "?!",
    ],
)
def test_a_query_of_its_own_is_left(text, test_set):
    assert query_in(query(text), (test_set,)) is None


def video(said: str = "we speak of something else", video_id: str = "v", media: bytes = b"mine") -> Video:
    evidence = Evidence(asr=(AsrSegment(0.0, 9.0, said, 1.0),), metadata=Metadata("A tram"))
    return Video(video_id, "v.mp4", MediaFacts(hashlib.sha256(media).hexdigest(), 1), evidence)


def test_a_video_is_known_by_its_bytes_its_id_or_its_words(test_set):
    said = "so the mayor of the old town opened a new tram line through the market on sunday you know"

    assert video_in(video(), (test_set,)) is None
    assert video_in(video(media=b"clip"), (test_set,)) == "bench: media clips/one.mp4: the same bytes"
    assert video_in(video(video_id="d1"), (test_set,)) == "bench: document d1: the same id"
    assert str(video_in(video(said), (test_set,))).startswith("bench: document d1: asr: the mayor of the old town")
    assert video_in(video(said), (TestSet("other", queries=test_set.queries),)) is None


def test_media_may_be_a_folder_whose_files_are_hashed(tmp_path):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "one.mp4").write_bytes(b"clip")
    folder = TestSet("bench", media=str(tmp_path / "media"))

    assert video_in(video(media=b"clip"), (folder,)) == "bench: media one.mp4: the same bytes"
    assert files_of((folder,)) == (TestFile("bench", "media", folder.media or "", 1, ""),)


def test_every_file_is_told_with_its_entries_and_hash(test_set):
    files = files_of((test_set,))

    assert [(file.kind, file.entries) for file in files] == [("queries", 4), ("corpus", 1), ("media", 1)]
    assert files[0].sha256 == hashlib.sha256(Path(test_set.queries).read_bytes()).hexdigest()


def test_the_transform_drops_with_the_reason_and_what_is_shared(test_set):
    queries = [query("a tram that nobody takes at night", "q1"), query(f"{SHORT} for weeks", "q2")]
    lost = Loss(
        "rejected", "synthesize", "decontaminate", "in test set", "bench: query t2: flood closes lyon bridge", "v", "q2"
    )
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        kept, losses = pipeline | beam.Create(queries) | DropTestQueries((test_set,))
        assert_that(kept, equal_to(queries[:1]), "kept")
        assert_that(losses, equal_to([lost]), "losses")


def test_runs_are_looked_for_at_their_own_length_and_the_smaller_id_has_those_of_several():
    runs = WordRuns.of({"b": "one two three four five", "a": "two three four five"}, run=4)

    found = runs.shared_by("zero two three four five six")
    assert found is not None
    assert (found.text_id, found.words) == ("a", "two three four five")
    assert runs.shared_by("two three four seven") is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"queries": "none.tsv"}, "decontaminate: queries of 'bench': none.tsv: no such file"),
        ({"media": "none.sha256"}, "decontaminate: media of 'bench': none.sha256: no such file"),
    ],
)
def test_a_file_that_is_not_there_is_said_before_any_work(change, complaint, test_set):
    given = {name: change.get(name, getattr(test_set, name)) for name in FILES}

    with pytest.raises(CannotReadTestSet, match=complaint):
        files_of((TestSet("bench", **given),))


@pytest.mark.parametrize(
    ("value", "complaint"),
    [("[{name: b}]", "a test set has queries, a corpus or media"), ("[{name: b, querys: q}]", "querys is not known")],
)
def test_a_recipe_that_names_no_file_is_refused(value, complaint):
    with pytest.raises(RecipeError, match=complaint):
        load_recipe("demo", [f"decontaminate={value}"])


def test_card_and_report_say_which_files_were_held_against_and_what_was_left_out(tmp_path, test_set):
    manifest = replace(write_tiny(tmp_path / "out"), test_files=files_of((test_set,)))
    recipe = {**manifest.recipe, "decontaminate": [{"name": "bench", "run": 13}]}
    manifest = replace(manifest, recipe=recipe)
    summary = summarize(str(tmp_path / "out"), manifest)
    assert summary.contamination is not None
    assert "Nothing had to be left out." in render_card(summary)

    summary.contamination.dropped["bench", "queries"] = 2
    summary.contamination.examples.append(Match("q-1", "bench, query t2: flood closes lyon bridge"))
    card, page = render_card(summary), render_report(str(tmp_path / "out"), manifest, summary)

    assert f"| bench | queries | {table_cell(test_set.queries)} | 4 |" in card
    assert "Left out for bench: 2 queries." in card
    assert "| q-1 | bench, query t2: flood closes lyon bridge |" in card
    assert "<b>2 queries</b> left out for bench." in page
    assert "bench, query t2: flood closes lyon bridge" in page
    assert 'href="#test-sets"' in page
