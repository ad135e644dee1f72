"""What the qrels of an output say of the run beside them."""

from dataclasses import replace

import ir_measures
from ranking_records import candidates, human_query, judgement, positive, query

from pipeline.emit import qrels_of_kept
from schemas.query import Query
from transforms.curate.curate_query import CurateRules, curate_query
from transforms.mine.retrieve import Ranking
from transforms.storage.trec import qrels_lines, run_lines

RUN = candidates(("a", 9.0), ("pos", 8.0), ("twin", 7.0), ("b", 6.0))


def qrels_of(asked: Query) -> dict[str, int]:
    judgements = [positive(), judgement("a", "no", -9.0), judgement("b", "no", -3.0, rank=4)]
    example = curate_query(asked, "train", judgements, CurateRules()).outcome
    ranking = Ranking(asked, RUN, RUN[1])
    [(query_id, labels)] = qrels_of_kept(asked.query_id, {"rankings": [ranking], "examples": [example]})
    assert query_id == asked.query_id
    return labels


def test_the_grades_that_people_gave_are_kept():
    asked = replace(human_query(also_relevant=("twin",)), grades=(("pos", 3), ("twin", 2)), query_id="q")

    assert qrels_of(asked) == {"pos": 3, "twin": 2, "a": 0, "b": 0}


def test_what_answers_a_written_query_is_relevant():
    assert qrels_of(replace(query(), also_relevant=("twin",))) == {"pos": 1, "twin": 1, "a": 0, "b": 0}


def test_recall_of_the_run_reaches_one_as_videos_that_are_not_in_it_are_left_out():
    asked = replace(human_query(query_id="q", also_relevant=("gone", "twin")), grades=(("gone", 3), ("pos", 1)))
    labels = qrels_of(asked)
    qrels = ir_measures.read_trec_qrels("\n".join(qrels_lines({"q": labels})))
    run = ir_measures.read_trec_run("\n".join(run_lines({"q": RUN}, "first-stage")))

    assert "gone" not in labels
    assert ir_measures.calc_aggregate([ir_measures.R @ 4], qrels, run) == {ir_measures.R @ 4: 1.0}
