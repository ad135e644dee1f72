"""Files with the same bytes: which is kept, and what is known of it."""

from dataclasses import replace
from itertools import permutations

import pytest

from pipeline.extract import copies
from schemas.video import Evidence, Metadata, Video
from tests.support.ranking_records import video


def copy(video_id: str, **said: str) -> Video:
    return replace(video(video_id), evidence=Evidence(metadata=Metadata(**said)))


def test_the_one_that_sorts_first_is_kept_with_what_any_of_them_says():
    files = [copy("b", title="Flood", event="flood-2019"), copy("a", language="de"), copy("c", description="All of it")]

    for order in permutations(files):
        kept, *others = copies(order)
        assert kept.video_id == "a"
        assert kept.evidence.metadata == Metadata("Flood", "All of it", "de", "", "flood-2019")
        assert kept.warnings == ()
        assert [other.video_id for other in others] == ["b", "c"]


def test_an_event_that_a_copy_knows_decides_the_split():
    assert copies([copy("a"), copy("b", event="flood-2019")])[0].split_key == "event:flood-2019"


def test_where_copies_disagree_the_kept_one_says_so():
    kept, _, _ = copies([copy("a", title="Flood"), copy("b", title="High water"), copy("c", title="Flood", event="e")])

    assert kept.evidence.metadata == Metadata("Flood", event="e")
    [warning] = kept.warnings
    assert (warning.part, warning.reason) == ("metadata", "copies disagree")
    assert warning.message == "title 'High water' is not 'Flood'"


@pytest.mark.parametrize("said", [{}, {"title": "Flood"}])
def test_a_file_without_copies_is_as_it_was(said):
    assert copies([copy("a", **said)]) == [copy("a", **said)]
