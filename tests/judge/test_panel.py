"""Further judges: which pairs they are asked about, what their word decides, and what is recorded of it."""

import json
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from types import SimpleNamespace

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipeline.config import JudgeConfig, RecipeError, load_recipe
from pipeline.curate import Curate
from pipeline.emit import judgement_row, split_row
from pipeline.engines import Engines
from pipeline.judge import Judge
from pipeline.planning.panel import plan_panel
from pipeline.planning.seen import Seen
from pipeline.planning.step import StepPlan
from pipeline.stage import LedgerBuilder
from prompts.template import load_template
from schemas.check import InvalidRecord
from schemas.example import Example
from schemas.people.mark import Mark
from schemas.query import Candidate, Candidates, Label, Opinion
from schemas.video import EngineStamp
from tests.support.judged_world import judged_world
from tests.support.ranking_records import ENGINE, judgement, positive, query, video
from tests.support.scripted_teacher import LADDER, ScriptedEngine
from transforms.curate.curate_query import CuratedQuery, CurateRules, curate_query
from transforms.curate.thresholds import CurateConfig
from transforms.journal.budget import Budget
from transforms.journal.journal import Journal
from transforms.journal.record import STEPS
from transforms.mine.retrieve import Ranking
from transforms.protocols.teacher import TeacherFailed, TeacherReply
from transforms.teacher.panel import PanelRules

SURE, UNSURE = -9.0, -1.0


def opinion(judge: str, label: Label) -> Opinion:
    return Opinion(judge, label, "because", None, "label_only", ENGINE, label, "")


def said(judged, *labels: Label):
    """The judgement, with the words of as many further judges."""
    return replace(judged, panel=tuple(opinion(f"j{number}", label) for number, label in enumerate(labels)))


TWIN, TRUSTED = said(judgement("twin", "yes", 3.0, 1), "yes"), judgement("a", "no", SURE, 2)


def curate(*judgements, agree: int = 2, positives: str = "confirmed", marks=()) -> CuratedQuery:
    rules = CurateRules(positives=positives, panel=PanelRules(agree=agree))
    return curate_query(query(), "train", judgements, rules, {mark.video_id: mark for mark in marks})


def chosen(curated: CuratedQuery) -> list[tuple[str, int, str]]:
    assert isinstance(curated.outcome, Example)
    return [(one.video_id, one.label, one.stratum) for one in curated.outcome.candidates]


def reasons(curated: CuratedQuery) -> dict[str, str]:
    return {pair.judgement.video_id: pair.reason for pair in curated.pairs}


@pytest.mark.parametrize(
    ("judged", "asked"),
    [
        (judgement("v", "no", -8.0), False),
        (judgement("v", "no", -7.9), True),
        (judgement("v", "no", None), True),
        (judgement("v", "yes", 9.0), True),  # a suspected positive, however sure
        (positive("yes", 9.0), False),
        (positive("yes", 2.0), True),
        (positive("no", -9.0), False),
    ],
)
def test_the_panel_is_asked_where_the_first_judge_is_unsure_or_suspects_a_positive(judged, asked):
    assert PanelRules().asks_about(judged) is asked
    assert PanelRules(margin_below=None).asks_about(judged)


def test_a_suspected_positive_that_the_panel_confirms_is_a_positive_after_the_querys_own():
    curated = curate(
        said(judgement("twin", "yes", 3.0, 1), "yes"),
        said(judgement("other", "yes", 3.0, 4), "no"),
        judgement("a", "no", SURE, 2),
        positive("yes", 9.0, 3),
    )

    own, twin = ("pos", 1, "positive"), ("twin", 1, "confirmed_positive")
    assert chosen(curated) == [own, twin, ("a", 0, "trusted_negative")]
    assert reasons(curated) == {"pos": "", "twin": "", "a": "", "other": "suspected positive"}


def test_by_the_papers_rule_what_the_panel_confirms_is_still_left_out():
    curated = curate(
        said(judgement("twin", "yes", 3.0, 1), "yes"),
        judgement("a", "no", SURE, 2),
        positive("yes", 9.0),
        positives="one",
    )

    assert [video_id for video_id, _, _ in chosen(curated)] == ["pos", "a"]
    assert reasons(curated)["twin"] == "suspected positive"


def test_a_query_whose_own_video_too_few_call_an_answer_is_dropped():
    curated = curate(said(positive("yes", 2.0), "no"), judgement("a", "no", SURE, 2))

    assert (curated.outcome.reason, curated.outcome.detail) == (
        "panel disagrees",
        "1 of 2 verdicts count as yes, at least 2",
    )


def test_a_negative_that_too_few_call_one_gives_its_place_to_the_next():
    found = [said(judgement(f"n{rank}", "no", UNSURE, rank), "yes" if rank == 2 else "no") for rank in range(1, 5)]
    curated = curate(positive("yes", 9.0), judgement("a", "no", SURE, 9), *found)

    assert [video_id for video_id, _, _ in chosen(curated)] == ["pos", "n1", "n3", "a"]
    assert reasons(curated) == dict.fromkeys(("pos", "n1", "n3", "a"), "") | {
        "n2": "panel disagrees",
        "n4": "surplus negative",
    }


def test_a_judge_that_said_nothing_agrees_with_nobody():
    curated = curate(positive("yes", 9.0), judgement("n", "no", UNSURE, 1), judgement("a", "no", SURE, 2))

    assert reasons(curated)["n"] == "panel disagrees"


BY_THREE = {"c": ("yes", "no", "no"), "b": ("yes", "yes", "no")}


def test_three_of_four_decide_and_two_do_not():
    two, three = (said(judgement(name, "yes", 3.0, 1), *labels) for name, labels in BY_THREE.items())
    curated = curate(positive("yes", 9.0), judgement("a", "no", SURE, 2), two, three, agree=3)

    assert [video_id for video_id, _, _ in chosen(curated)] == ["pos", "b", "a"]


def test_a_confirmed_positive_that_people_call_wrong_is_left_out():
    marks = [Mark("q", "twin", "wrong positive")]
    curated = curate(
        said(judgement("twin", "yes", 3.0, 1), "yes"), judgement("a", "no", SURE, 2), positive("yes", 9.0), marks=marks
    )

    assert [video_id for video_id, _, _ in chosen(curated)] == ["pos", "a"]
    assert reasons(curated)["twin"] == "marked wrong positive"


def test_without_a_panel_the_rows_are_to_the_byte_those_of_one_positive_a_query():
    """The digest is that of the rows of version 0.4.0, before there could be several."""
    digest, examples = sha256(), 0
    for asked, judged in judged_world():
        curated = curate_query(asked, "train", judged, CurateRules())
        if isinstance(curated.outcome, Example):
            digest.update(json.dumps(split_row(curated.outcome), sort_keys=True).encode())
            examples += 1
        for pair in curated.pairs:
            about = (pair.judgement.query_id, pair.judgement.video_id)
            digest.update(json.dumps([*about, pair.stratum, pair.kept, pair.reason]).encode())

    assert examples == 109
    assert digest.hexdigest() == "45f0e76cfaa4fbf263fa753423ca754cb5115c4621e01d5413c92df23f6dc8be"


def test_the_panel_is_a_column_of_the_pairs_row():
    pair = curate(said(positive("yes", 2.0), "yes"), judgement("a", "no", SURE, 2)).pairs[0]

    (row,) = judgement_row(pair)["panel"]

    assert (row["judge"], row["label"], row["delta"], row["p_yes"]) == ("j0", "yes", None, None)


def test_further_judges_are_named_once_and_in_order():
    with pytest.raises(InvalidRecord, match="in the order of their names"):
        replace(positive(), panel=(opinion("b", "yes"), opinion("a", "yes")))
    with pytest.raises(InvalidRecord, match="gives its reasons"):
        replace(opinion("b", "no"), confidence_source="prior", margin=positive().margin)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["curate.positives=confirmed"], "curate.positives: confirmed needs a judge.panel"),
        (["judge.panel={judge: {engine: rules}}"], "the name of a further judge is of"),
        (["judge.panel={second: {engine: rules}}", "judge.panel_rules.agree=3"], "must be at most 2"),
        (["judge.panel_rules.agree=1"], "agree must be at least 2"),
    ],
)
def test_a_panel_that_could_decide_nothing_is_refused(settings, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("demo", settings)


def test_a_panel_may_be_listed_with_names():
    recipe = load_recipe("demo", ["judge.panel=[{name: second, engine: rules}, {engine: openai, model: m}]"])

    assert recipe.judge.panel == {"second": {"engine": "rules"}, "openai": {"engine": "openai", "model": "m"}}
    assert recipe.judge.heeds == PanelRules()


def first(request):
    """Sure of v0 alone, and no word on v3."""
    video_id = request.subject.split()[-1]
    if video_id == "v3":
        return TeacherReply("I cannot tell.")
    return TeacherReply(f"<think>{video_id}</think><answer>{'yes' if video_id in ('v1', 'v4') else 'no'}</answer>")


def second(request):
    """Confirms v1, is not to be had for v2, cannot be read on v4."""
    name, _, video_id = request.subject.split()
    assert name == "other"
    if video_id == "v2":
        return TeacherFailed("gave up")
    answer = "whatever" if video_id == "v4" else "yes" if video_id == "v1" else "no"
    return TeacherReply(f"<think>{video_id} again</think><answer>{answer}</answer>")


@dataclass(frozen=True)
class SecondEngine(ScriptedEngine):
    def stamp(self) -> EngineStamp:
        return EngineStamp("scripted", "2", "", "e" * 16)


def judge_all(folder, found, budget=None):
    """Judge v0 to v4 for q with a panel of one; ``found`` is told what came of it."""
    config = JudgeConfig({}, panel={"other": {}}, panel_rules=PanelRules(margin_below=None))
    engines = Engines(None, None, None, None, None, (), ScriptedEngine(first), {"other": SecondEngine(second)})
    videos = [f"v{number}" for number in range(5)]
    ledger = LedgerBuilder()
    with closing(Journal(str(folder), budget=budget or Budget())) as journal, beam.Pipeline("FnApiRunner") as pipeline:
        assigned = [(name, "q", "a flood", rank == 1, rank, 9.0 - rank, ()) for rank, name in enumerate(videos, 1)]
        inputs = (
            pipeline | "Pairs" >> beam.Create(assigned),
            pipeline | "Videos" >> beam.Create([video(name, f"What {name} shows.") for name in videos]),
        )
        judged = inputs | Judge(config, engines, journal, load_template("judge"), 0, ledger)
        found(judged, ledger)


def test_doubtful_pairs_are_judged_again_and_all_that_is_lost_is_told_by_the_judges_name(tmp_path):
    def check(judged, ledger):
        opinions = judged["panel"] | beam.MapTuple(lambda q, one: (q, one[0], one[1].judge, one[1].label))
        assert_that(opinions, equal_to([("q", "v0", "other", "no"), ("q", "v1", "other", "yes")]), "opinions")
        losses = judged["losses"] | beam.Map(lambda loss: (loss.step, loss.kind, loss.reason, loss.video_id))
        read = [("judge", "rejected", "no answer", "v3"), ("other", "rejected", "not yes/no", "v4")]
        due = [*read, ("other", "failed", "TeacherFailed", "v2")]
        assert_that(losses, equal_to(due), "losses")
        assert ledger.steps == [("judge", "judge"), ("judge", "other")]

    judge_all(tmp_path, check)


def test_a_query_of_which_a_further_judge_is_yet_to_be_asked_waits_and_is_whole_in_the_next_run(tmp_path):
    """Eight calls: all five of the first judge, and three of the panel's four, which answer two."""

    def waits(judged, _):
        losses = judged["losses"] | "Waiting" >> beam.Filter(lambda loss: loss.kind == "deferred")
        assert_that(losses | beam.Map(lambda loss: loss.step), equal_to(["other"]), "waiting")

    def whole(judged, _):
        assert_that(judged["panel"] | beam.Map(lambda one: one[1][0]), equal_to(["v0", "v1"]), "opinions")
        waiting = judged["losses"] | "Waiting" >> beam.Filter(lambda loss: loss.kind == "deferred")
        assert_that(waiting, equal_to([]), "waiting")

    judge_all(tmp_path, waits, Budget(max_calls=8))
    judge_all(tmp_path, whole, Budget(max_calls=2))


def stratum_and_judges(pair):
    return pair.judgement.video_id, pair.stratum, [opinion.judge for opinion in pair.judgement.panel]


def test_what_a_panel_says_comes_to_the_judgement_that_it_is_about():
    judged = [positive("yes", 9.0), judgement("twin", "yes", 3.0, 1), judgement("a", "no", SURE, 2)]
    with beam.Pipeline("FnApiRunner") as pipeline:
        ranking = Ranking(query(), Candidates(("pos",), (1.0,)), Candidate("pos", 1, 1.0))
        said_so = [("q", ("twin", opinion("b", "yes"))), ("q", ("twin", opinion("a", "no")))]
        found = {
            "judgements": pipeline | "Judged" >> beam.Create(judged),
            "panel": pipeline | "Said" >> beam.Create(said_so),
            "losses": pipeline | "Lost" >> beam.Create([]),
        }
        rankings = pipeline | "Rankings" >> beam.Create([ranking])
        splits = pipeline | "Splits" >> beam.Create([("pos", "train")])
        rules = CurateConfig(positives="confirmed")
        curated = (rankings, found, splits) | Curate(rules, LedgerBuilder(), panel=PanelRules())
        strata = curated["pairs"] | beam.Map(stratum_and_judges)
        due = [("pos", "positive", []), ("twin", "confirmed_positive", ["a", "b"]), ("a", "trusted_negative", [])]
        assert_that(strata, equal_to(due), "strata")


def planned(counts, judge_to_run, below=6.0, judges=2):
    """The plan of a panel, of which nothing is cached, behind so many calls of the first judge."""
    names = [f"j{number}" for number in range(judges)]
    settings = [f"judge.panel={{{', '.join(f'{name}: {{engine: rules}}' for name in names)}}}"]
    settings.append(f"judge.panel_rules.margin_below={'null' if below is None else below}")
    job = SimpleNamespace(
        recipe=load_recipe("demo", settings),
        engines=SimpleNamespace(judge=ScriptedEngine(first), panel=dict.fromkeys(names, ScriptedEngine(second))),
        journal=SimpleNamespace(some=lambda *_: []),
    )
    judge = StepPlan("judge", 0, judge_to_run, not judge_to_run, (), 0, 0, False, 0.0, None, least=70, most=140)
    none = dict.fromkeys(STEPS, 0)
    return plan_panel(job, Seen(counts, {step: {} for step in STEPS}, missed=none, follow=none, files={}), judge)


def test_of_a_panel_a_plan_says_between_what_and_what_its_calls_will_be():
    assert LADDER.prior is None  # one call a pair, of whichever judge
    cold, every = planned({}, 100), planned({}, 100, below=None)
    assert (cold.least, cold.to_run, cold.most, cold.exact) == (0, 80, 280, False)
    assert (every.least, every.to_run, every.most) == (140, 200, 280)

    warm = planned({"judge/judge": {"out": 400}, "judge/j0": {"in": 100}, "judge/j1": {"in": 100}}, 100)
    assert (warm.least, warm.to_run, warm.most) == (24, 50, 99)
    assert planned({}, 0).exact
