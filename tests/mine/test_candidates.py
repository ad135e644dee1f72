import pickle

import pytest

from schemas.check import InvalidRecord
from schemas.query import Candidate, Candidates

BOTH = Candidates(["b", "a"], [2.5, -1.0])


def test_candidates_are_a_sequence_of_records_with_ranks_from_one():
    records = [Candidate("b", 1, 2.5), Candidate("a", 2, -1.0)]

    assert list(BOTH) == records
    assert [BOTH[0], BOTH[1], BOTH[-1]] == [*records, records[1]]
    assert BOTH[:1] == tuple(records[:1])
    assert Candidates.of(records) == BOTH
    assert Candidates.of(BOTH) is BOTH
    with pytest.raises(IndexError):
        BOTH[2]


def test_a_video_is_found_with_its_rank_or_not_at_all():
    assert BOTH.find("a") == Candidate("a", 2, -1.0)
    assert BOTH.find("c") is None


@pytest.mark.parametrize("found", [BOTH, Candidates(), Candidates(["é-1"], [0.1])])
def test_candidates_travel(found):
    assert pickle.loads(pickle.dumps(found)) == found


def test_a_thousand_candidates_travel_in_twenty_bytes_each():
    many = Candidates((f"v-{number:09d}" for number in range(1000)), range(1000))

    assert len(pickle.dumps(many)) < 21_000


def test_candidates_without_a_score_or_with_none_that_is_finite_are_refused():
    for video_ids, scores in ((["a"], []), (["a"], [float("nan")])):
        with pytest.raises(InvalidRecord):
            Candidates(video_ids, scores)
    with pytest.raises(InvalidRecord, match="ranks count from 1"):
        Candidates.of([Candidate("a", 2, 1.0)])
