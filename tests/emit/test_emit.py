from pipeline.emit import failure_rows, qrels_of_kept, rejection_rows, run_of_kept
from schemas.losses import Loss
from schemas.query import Candidates
from schemas.tables import TABLES

FOUND = Candidates(["b", "a"], [2.0, 1.0])


def test_the_run_holds_the_candidates_of_queries_that_became_examples():
    found = [("q1", None), ("q1", FOUND), ("q2", FOUND), ("q3", FOUND), ("q3", None), ("q4", Candidates())]

    of_q1 = ["q1 Q0 b 1 2.0 first-stage", "q1 Q0 a 2 1.0 first-stage"]
    assert list(run_of_kept(found)) == [*of_q1, *(line.replace("q1", "q3") for line in of_q1)]


def test_the_qrels_hold_the_labels_of_examples_and_the_grades_of_what_is_relevant():
    found = [("q1", (("b", 3), ("z", 1))), ("q1", {"b": 1, "a": 0}), ("q2", (("z", 1),)), ("q3", {"c": 1}), ("q3", ())]

    assert list(qrels_of_kept(found)) == ["q1 0 a 0", "q1 0 b 3", "q1 0 z 1", "q3 0 c 1"]


def test_each_kind_of_loss_has_a_row_of_the_columns_of_its_table():
    rejected = Loss("rejected", "mine", "filter", "ambiguous", "too close", "v", "q")
    failed = Loss("failed", "judge", "judge", "TeacherFailed", "HTTP 500", "v", "q", "v.mp4")
    deferred = Loss("deferred", "judge", "judge", "max calls", "", "v", "q")

    (rejection,), (failure,) = rejection_rows(rejected), failure_rows(failed)
    assert [rejection[name] for name in TABLES["rejections"].schema.names] == [
        *("mine", "filter", "ambiguous", "too close", "v", "q")
    ]
    assert [failure[name] for name in TABLES["failures"].schema.names] == [
        *("judge", "judge", "TeacherFailed", "HTTP 500", "v.mp4", "v", "q")
    ]
    assert not [*rejection_rows(failed), *failure_rows(rejected), *rejection_rows(deferred), *failure_rows(deferred)]
