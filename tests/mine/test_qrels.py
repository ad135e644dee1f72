"""What the qrels of an output say of the run beside them."""

from dataclasses import replace

import ir_measures

from pipeline.emit import qrels_of_kept, relevant_of
from schemas.query import Query
from tests.support.ranking_records import candidates, human_query, query
from transforms.mine.retrieve import Ranking
from transforms.storage.trec import run_lines

RUN = candidates(("a", 9.0), ("pos", 8.0), ("twin", 7.0), ("b", 6.0))


def qrels_of(asked: Query) -> str:
    """The qrels of a query that became an example with the negatives a and b."""
    relevant = relevant_of(Ranking(asked, RUN, RUN[1]))
    return "\n".join(qrels_of_kept([("q", {"pos": 1, "a": 0, "b": 0}), ("q", relevant)]))


def test_the_grades_that_people_gave_are_kept():
    asked = replace(human_query("q", also_relevant=("twin",)), grades=(("pos", 3), ("twin", 2)))

    assert qrels_of(asked).split("\n") == ["q 0 a 0", "q 0 b 0", "q 0 pos 3", "q 0 twin 2"]


def test_what_answers_a_written_query_is_relevant():
    asked = replace(query(), also_relevant=("twin",))

    assert qrels_of(asked).split("\n") == ["q 0 a 0", "q 0 b 0", "q 0 pos 1", "q 0 twin 1"]


def test_recall_of_the_run_reaches_one_as_videos_that_are_not_in_it_are_left_out():
    asked = replace(human_query("q", also_relevant=("gone", "twin")), grades=(("gone", 3), ("pos", 1)))
    qrels = list(ir_measures.read_trec_qrels(qrels_of(asked)))
    run = ir_measures.read_trec_run("\n".join(run_lines({"q": RUN}, "first-stage")))

    assert "gone" not in {qrel.doc_id for qrel in qrels}
    assert ir_measures.calc_aggregate([ir_measures.R @ 4], qrels, run) == {ir_measures.R @ 4: 1.0}
