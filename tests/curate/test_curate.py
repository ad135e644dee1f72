import random
from dataclasses import replace

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from schemas.check import InvalidRecord
from schemas.example import Example
from schemas.losses import Loss
from schemas.people.mark import Mark
from schemas.query import Judgement, Margin
from tests.support.ranking_records import human_query, judgement, positive, query
from transforms.curate.curate_query import CuratedPair, CuratedQuery, CurateExamples, CurateRules, Group, curate_query

SURE, UNSURE = -9.0, -1.0  # margins of a trusted and of a hard negative


def curate(judgements: list[Judgement], **rules: float) -> CuratedQuery:
    return curate_query(query(), "train", judgements, CurateRules(**rules))


def chosen(curated: CuratedQuery) -> list[str]:
    assert isinstance(curated.outcome, Example)
    return [candidate.video_id for candidate in curated.outcome.candidates]


def reasons(curated: CuratedQuery) -> dict[str, str]:
    return {pair.judgement.video_id: pair.reason for pair in curated.pairs}


def rejection(curated: CuratedQuery) -> tuple[str, str]:
    assert isinstance(curated.outcome, Loss)
    return curated.outcome.reason, curated.outcome.detail


def test_the_positive_comes_first_and_its_negatives_by_rank():
    curated = curate([judgement("b", "no", SURE, 3), positive(rank=2), judgement("a", "no", UNSURE, 1)])
    assert chosen(curated) == ["pos", "a", "b"]
    assert reasons(curated) == {"pos": "", "a": "", "b": ""}


def test_every_field_of_an_example_is_that_of_its_query_and_judgements():
    curated = curate([positive(delta=4.0, rank=2), judgement("a", "no", SURE, 1)])
    example = curated.outcome
    assert isinstance(example, Example)
    assert (example.query_id, example.query, example.split) == ("q", query().text, "train")
    assert (example.source, example.query_type, example.variant) == ("teacher", "specific", "caption")
    assert (example.modalities, example.rationale) == (("caption",), "because")
    first, second = example.candidates
    assert (first.label, first.stratum, first.teacher_label, first.rank, first.score) == (1, "positive", "yes", 2, 5.0)
    assert (first.delta, first.delta_lo, first.delta_hi) == (4.0, 3.5, 4.5)
    assert first.p_yes == pytest.approx(0.98201379)
    assert (second.label, second.stratum, second.teacher_label) == (0, "trusted_negative", "no")
    assert (second.rationale, second.confidence_source) == ("about a", "logprobs")


def test_at_most_three_negatives_are_kept_the_best_ranked():
    negatives = [judgement(f"n{rank}", "no", SURE if rank == 2 else UNSURE, rank) for rank in range(1, 6)]
    curated = curate([positive(rank=None), *negatives])
    assert chosen(curated) == ["pos", "n1", "n2", "n3"]
    assert reasons(curated) == {
        "pos": "",
        "n1": "",
        "n2": "",
        "n3": "",
        "n4": "surplus negative",
        "n5": "surplus negative",
    }


def test_the_best_ranked_trusted_negative_is_kept_however_deep_it_lies():
    negatives = [judgement(f"n{rank}", "no", SURE if rank >= 8 else UNSURE, rank) for rank in range(1, 10)]
    curated = curate([positive(rank=None), *negatives])
    assert chosen(curated) == ["pos", "n1", "n2", "n8"]
    assert reasons(curated)["n9"] == "surplus negative"


def test_more_trusted_negatives_can_be_asked_for():
    negatives = [judgement(f"n{rank}", "no", SURE if rank >= 8 else UNSURE, rank) for rank in range(1, 10)]
    assert chosen(curate([positive(), *negatives], min_trusted=2)) == ["pos", "n1", "n8", "n9"]
    assert rejection(curate([positive(), *negatives], min_trusted=3)) == (
        "no trusted negative",
        "2 of 9 negatives, at least 3",
    )


def test_equal_ranks_are_ordered_by_id_and_missing_ranks_come_last():
    negatives = [judgement(v, "no", SURE, r) for v, r in (("d", None), ("c", 5), ("b", 5), ("a", None))]
    assert chosen(curate([positive(), *negatives], max_negatives=4)) == ["pos", "b", "c", "a", "d"]


def test_a_suspected_positive_is_never_a_negative():
    curated = curate([positive(), judgement("twin", "yes", 3.0, 1), judgement("a", "no", SURE, 4)])
    assert chosen(curated) == ["pos", "a"]
    assert reasons(curated)["twin"] == "suspected positive"


def test_a_hard_negative_that_the_teacher_took_for_a_match_keeps_its_label_zero():
    curated = curate([positive(), judgement("near", "yes", 1.0, 1), judgement("a", "no", SURE, 4)], alpha2=2.0)
    assert isinstance(curated.outcome, Example)
    near = curated.outcome.candidates[1]
    assert (near.video_id, near.label, near.stratum, near.teacher_label) == ("near", 0, "hard_negative", "yes")


def test_a_query_without_a_verdict_on_its_own_video_is_dropped():
    curated = curate([judgement("a", "no", SURE, 1), judgement("b", "yes", 3.0, 2)])
    assert rejection(curated)[0] == "no positive verdict"
    assert reasons(curated) == {"a": "query dropped", "b": "suspected positive"}
    assert rejection(curate([]))[0] == "no positive verdict"


def test_a_query_that_the_teacher_disagrees_with_is_dropped():
    curated = curate([positive("no", -2.5), judgement("a", "no", SURE, 1)])
    assert rejection(curated) == ("teacher disagrees", "judged no, margin -2.50")
    assert reasons(curated) == {"pos": "query dropped", "a": "query dropped"}
    assert rejection(curate([positive("no", None)])) == ("teacher disagrees", "judged no, margin unknown")


def test_a_query_without_a_trusted_negative_is_dropped():
    curated = curate([positive(), judgement("a", "no", UNSURE, 1), judgement("b", "no", None, 2)])
    assert rejection(curated) == ("no trusted negative", "0 of 2 negatives, at least 1")
    assert reasons(curated) == {"pos": "query dropped", "a": "query dropped", "b": "query dropped"}


def test_a_query_whose_own_video_is_not_surely_an_answer_can_be_dropped():
    found = [
        curate([positive("yes", delta), judgement("a", "no", SURE)], sure_positive=2.0) for delta in (2.0, 1.9, None)
    ]

    assert chosen(found[0]) == ["pos", "a"]
    assert rejection(found[1]) == ("unsure positive", "judged yes, margin 1.90, at least 2")
    assert rejection(found[2]) == ("unsure positive", "judged yes, no margin, at least 2")


def test_the_first_reason_that_holds_is_given():
    assert rejection(curate([positive("no"), judgement("a", "no", UNSURE)]))[0] == "teacher disagrees"


def test_unknown_margins_stay_unknown_in_the_example():
    curated = curate([positive(delta=None), judgement("a", "no", SURE, 1), judgement("b", "no", None, 2)])
    assert isinstance(curated.outcome, Example)
    first, _, last = curated.outcome.candidates
    assert (first.delta, first.p_yes, first.confidence_source) == (None, None, "label_only")
    assert (last.stratum, last.delta) == ("hard_negative", None)


def test_the_order_of_the_judgements_changes_nothing():
    rng = random.Random(3)
    judgements = [positive()] + [
        judgement(f"n{i}", rng.choice(["yes", "no"]), rng.choice([SURE, UNSURE, None]), rng.randint(1, 4))
        for i in range(12)
    ]
    expected = curate(judgements)
    for _ in range(30):
        rng.shuffle(judgements)
        assert curate(judgements) == expected
    assert len(expected.pairs) == 13


def test_human_queries_pass_the_same_rules():
    curated = curate_query(human_query("q"), "train", [positive(), judgement("a", "no", SURE)], CurateRules())
    assert isinstance(curated.outcome, Example)
    assert (curated.outcome.source, curated.outcome.query_type) == ("human", None)


def test_a_pair_that_was_judged_twice_is_an_error():
    with pytest.raises(ValueError, match="one judgement a video"):
        curate([positive(), judgement("a", "no", SURE, 1), judgement("a", "no", SURE, 2)])


def test_rules_and_pairs_that_contradict_themselves_are_refused():
    for wrong in ({"min_trusted": 0}, {"min_trusted": 4}, {"max_negatives": 0}):
        with pytest.raises(InvalidRecord):
            CurateRules(**wrong)
    with pytest.raises(InvalidRecord):
        CuratedPair(positive(), "positive", True, "surplus negative")
    with pytest.raises(InvalidRecord):
        CuratedPair(positive(), "positive", False)


def test_the_transform_gives_examples_losses_and_every_pair():
    good = [positive(), judgement("a", "no", SURE, 1)]
    bad = [positive("no")]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        groups = [
            ("q", Group(query(), "train", good)),
            ("q2", Group(query("q2"), "validation", bad)),
            ("q3", Group(query("q3"), "train", good, deferred="max calls")),
        ]
        examples, losses, pairs = pipeline | beam.Create(groups) | CurateExamples()
        assert_that(examples | beam.Map(lambda e: (e.query_id, len(e.candidates))), equal_to([("q", 2)]), "examples")
        found = losses | beam.Map(
            lambda loss: (loss.kind, loss.stage, loss.step, loss.reason, loss.video_id, loss.query_id)
        )
        dropped = ("rejected", "curate", "queries", "teacher disagrees", "pos", "q2")
        waits = ("deferred", "curate", "queries", "max calls", "pos", "q3")
        assert_that(found, equal_to([dropped, waits]), "losses")
        kept = pairs | "Kept" >> beam.Map(lambda p: (p.judgement.video_id, p.kept, p.reason))
        of_q3 = [("pos", False, "deferred"), ("a", False, "deferred")]
        of_others = [("pos", True, ""), ("a", True, ""), ("pos", False, "query dropped")]
        assert_that(kept, equal_to([*of_others, *of_q3]), "pairs")


def test_bounds_and_what_a_margin_rests_on_reach_the_example():
    sure = replace(positive(), margin=Margin(9.0, 9.0, 20.0, "no", label_mass=0.75), delta_prior=1.5)

    curated = curate_query(query(), "train", [sure, judgement("a", "no", -7.0)], CurateRules())

    assert [(c.delta, c.delta_lo, c.delta_hi, c.censored) for c in curated.outcome.candidates] == [
        (9.0, 9.0, 20.0, "no"),
        (-7.0, -7.5, -6.5, None),
    ]
    assert [(c.label_mass, c.delta_prior) for c in curated.outcome.candidates] == [(0.75, 1.5), (None, None)]


NEGATIVES = [judgement("a", "no", SURE, 1), judgement("b", "no", UNSURE, 3), judgement("c", "no", SURE, 4)]


def marked(*marks: Mark, negatives: list[Judgement] = NEGATIVES) -> CuratedQuery:
    said = {mark.video_id: mark for mark in marks}
    return curate_query(query(), "train", [positive(), *negatives], CurateRules(max_negatives=2), said)


def test_a_negative_that_people_call_false_gives_its_place_to_the_next():
    curated = marked(Mark("q", "a", "false negative"))

    assert chosen(curated) == ["pos", "b", "c"]
    assert reasons(curated) == {"pos": "", "a": "marked false negative", "b": "", "c": ""}


def test_without_its_only_trusted_negative_a_query_is_dropped_for_that():
    curated = marked(Mark("q", "a", "false negative"), negatives=NEGATIVES[:2])

    assert rejection(curated)[0] == "no trusted negative"


def test_a_query_that_people_call_bad_or_whose_positive_they_call_wrong_is_dropped_with_their_note():
    assert rejection(marked(Mark("q", "", "bad query"))) == ("marked bad query", "by a person")
    curated = marked(Mark("q", "pos", "wrong positive", "another bridge"))
    assert rejection(curated) == ("marked wrong positive", "another bridge")
    assert set(reasons(curated).values()) == {"query dropped"}


def test_a_mark_of_what_a_video_no_longer_is_changes_nothing():
    unmarked = curate_query(query(), "train", [positive(), *NEGATIVES], CurateRules(max_negatives=2))

    assert marked(Mark("q", "a", "wrong positive"), Mark("q", "pos", "false negative")) == unmarked
    assert marked(Mark("q", "elsewhere", "false negative")) == unmarked


def test_a_suspected_positive_that_people_confirm_has_their_reason():
    curated = marked(Mark("q", "twin", "false negative"), negatives=[judgement("twin", "yes", 3.0, 1), *NEGATIVES])

    assert reasons(curated)["twin"] == "marked false negative"
