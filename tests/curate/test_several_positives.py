"""An output whose panel confirmed suspected positives: verified, reported, exported and measured."""

import json
import math
from dataclasses import replace

import pytest
import pytrec_eval

from pipeline.outputs.explain.explain import explain
from pipeline.outputs.export.formats import EXPORTS
from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.report.complete import complete
from pipeline.outputs.report.panel import JudgeCounts, TwoJudges, compare_judges
from pipeline.outputs.verify.verify import verify
from schemas.losses import Tally
from schemas.tables import TABLES
from tests.support.tiny_books import Rows, tiny_qrels, tiny_run, tiny_tallies
from tests.support.tiny_output import (
    ENGINES,
    RECIPE,
    RUNS,
    STEPS,
    tiny_rows,
    tiny_run_info,
    write_tables,
)
from trainer.data.examples import read_queries
from trainer.data.shards import Shards
from trainer.model.metrics import ndcg
from transforms.ledger import ledger_json, lines_of, read_ledger
from transforms.storage.files import join, read_bytes, write_bytes

PANEL = {"panel": {"second": {"engine": "rules"}}, "panel_rules": {"margin_below": 2.0, "agree": 2, "sure": 0.0}}
JUDGED = RECIPE["judge"] | PANEL
CONFIRMED = RECIPE | {"judge": JUDGED, "curate": {**RECIPE["curate"], "positives": "confirmed"}}


def agree(pair: dict) -> None:
    """Put in what a second judge says of a pair: the same as the first."""
    same = [name for name in TABLES["judgements"].schema.field("panel").type.value_type.names if name != "judge"]
    pair["panel"] = [{"judge": "second", **{name: pair[name] for name in same}}]


def confirm_all(rows: Rows) -> Rows:
    """The rows with a second judge, who makes a positive of every suspected one of a kept query."""
    examples = {row["query_id"]: row for _, row in rows["ranking"]}
    for _, pair in rows["judgements"]:
        if pair["kept"] and pair["delta"] is None:
            agree(pair)
        if pair["stratum"] != "suspected_positive" or pair["query_id"] not in examples:
            continue
        agree(pair)
        pair.update(stratum="confirmed_positive", kept=True, reason="")
        candidates = examples[pair["query_id"]]["candidates"]
        shared = {name: value for name, value in pair.items() if name in candidates[0]}
        candidates.insert(1, shared | {"label": 1, "teacher_label": pair["label"]})
    return rows


def write(folder, rows: Rows, recipe=CONFIRMED) -> str:
    output, steps = str(folder), [*STEPS[: STEPS.index(("judge", "judge")) + 1], ("judge", "second")]
    asked = sum(bool(pair["panel"]) for _, pair in rows["judgements"])
    tallies = [*tiny_tallies(rows), *(Tally("judge", "second", side, "", asked) for side in ("in", "out"))]
    written = write_tables(output, rows)
    steps += [step for step in STEPS if step not in steps]
    write_bytes(join(output, "ledger.json"), ledger_json(lines_of(tallies, steps), {}))
    write_bytes(join(output, "run.trec"), tiny_run(rows).encode())
    for name in RUNS:
        write_bytes(join(output, f"run.{name}.trec"), tiny_run(rows, name).encode())
    write_bytes(join(output, "qrels.trec"), tiny_qrels([row for _, row in rows["ranking"]]).encode())
    engines = ENGINES | {"panel.second": ENGINES["judge"]}
    complete(output, replace(tiny_run_info(), recipe=recipe, engines=engines), written)
    return output


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return write(tmp_path_factory.mktemp("several") / "out", confirm_all(tiny_rows()))


@pytest.fixture(scope="module")
def train():
    rows = confirm_all(tiny_rows())["ranking"]
    return {row["query_id"]: row["candidates"] for split, row in rows if split == "train"}


def positives(candidates):
    return [each["video_id"] for each in candidates if each["label"]]


def test_an_output_with_several_positives_a_query_is_sound(output, train):
    assert verify(output) == []
    assert {len(positives(candidates)) for candidates in train.values()} == {1, 2}


def test_a_confirmed_positive_without_the_votes_is_a_problem(tmp_path):
    rows = confirm_all(tiny_rows())
    pair = next(pair for _, pair in rows["judgements"] if pair["stratum"] == "confirmed_positive")
    pair["panel"][0]["label"] = "no"

    said = [str(problem) for problem in verify(write(tmp_path / "out", rows))]

    assert any("its stratum is suspected_positive by label yes" in each for each in said)
    assert any("it was kept, and 1 judges say yes, where 2 must" in each for each in said)


def test_a_confirmed_positive_is_a_problem_where_the_recipe_wants_one(tmp_path):
    said = verify(write(tmp_path / "out", confirm_all(tiny_rows()), recipe=RECIPE | {"judge": JUDGED}))

    assert any("its stratum is suspected_positive" in str(problem) for problem in said)


def test_report_and_card_say_how_the_judges_agree(output):
    found = compare_judges(read_manifest(output).tables(output), read_ledger(read_bytes(join(output, "ledger.json"))))

    (judge,), (two,) = found.judges, found.twos
    yes = judge.asked - 1  # all but the pair without a margin
    assert judge == JudgeCounts("second", judge.asked, judge.asked, yes)
    assert two == TwoJudges(("judge", "second"), judge.asked, 1.0, (yes / judge.asked,) * 2, 1.0)
    assert "judge and second" in read_bytes(join(output, "report.html")).decode()
    assert "| judge and second |" in read_bytes(join(output, "README.md")).decode()


def test_the_story_of_a_pair_has_what_its_panel_said(output, train):
    query_id, candidates = next(each for each in train.items() if len(positives(each[1])) == 2)

    story = explain(output, f"{query_id}:{positives(candidates)[1]}")

    assert "The panel\n  second        yes, margin +1.50 from rules, by rules 0.1.0" in story


def exported(output, folder, name, file):
    EXPORTS[name](output, str(folder), "/videos", False)
    lines = (folder / file).read_text().splitlines()
    return lines if file.endswith(".tsv") else [json.loads(line) for line in lines]


def test_rankvideo_gets_a_row_a_positive(output, train, tmp_path):
    rows = exported(output, tmp_path, "rankvideo", "train.jsonl")

    found = {query_id: [] for query_id in train}
    for row in rows:
        found[row["query_id"]] += [row["doc_id"]] * row["true_label"]
    assert found == {query_id: positives(candidates) for query_id, candidates in train.items()}


def test_peers_get_every_positive(output, train, tmp_path):
    all_of_them = sum(len(positives(candidates)) for candidates in train.values())
    names = ("sentence-transformers", "ms-swift", "trl", "tevatron")
    rows = {name: exported(output, tmp_path / name, name, "train.jsonl") for name in names}
    qrels = exported(output, tmp_path / "beir", "beir", "qrels/train.tsv")

    assert all_of_them > len(train)
    assert len(rows["sentence-transformers"]) == all_of_them == len(qrels) - 1
    assert sum(len(row["positive_videos"]) for row in rows["ms-swift"]) == all_of_them
    assert sum(len(row["positive_messages"]) for row in rows["ms-swift"]) == all_of_them
    assert sum("<answer>yes" in row["completion"][0]["content"][0]["text"] for row in rows["trl"]) == all_of_them
    assert sum(len(row["positive_passages"]) for row in rows["tevatron"]) == all_of_them


def test_the_trainer_reads_groups_of_several_positives(output, train):
    examples = read_queries(Shards(output), "train")

    assert {e.query_id: [c.video_id for c in e.positives] for e in examples} == {
        query_id: positives(candidates) for query_id, candidates in train.items()
    }


def test_ndcg_of_two_positives_is_that_of_trec_eval_and_of_arithmetic_by_hand():
    scores, labels = [0.9, 0.2, 0.5, 0.7], [1, 1, 0, 0]
    run = {"q": {f"v{place}": score for place, score in enumerate(scores)}}
    qrels = {"q": {f"v{place}": label for place, label in enumerate(labels)}}

    measured = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10"}).evaluate(run)["q"]["ndcg_cut_10"]

    by_hand = (1 + 1 / math.log2(5)) / (1 + 1 / math.log2(3))
    assert ndcg(scores, labels, 10) == pytest.approx(by_hand) == measured
