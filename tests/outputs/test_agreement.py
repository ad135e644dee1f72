import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.audit.agreement import agreement, agreement_text
from pipeline.audit.blind import Asked, Drawn, NoSample, draw, joined, read_sample, write_sample
from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.marks import ANSWERS_FILE, add_mark
from pipeline.outputs.report.panel import cohens_kappa
from runners.cli.main import main
from schemas.people.mark import Mark
from tests.support.tiny_output import tiny_rows, write_tiny


@pytest.fixture(scope="module")
def tables(made_once):
    folder = str(made_once("viewed", write_tiny))
    return read_manifest(folder).tables(folder)


def made(cells, rng):
    """Pairs and answers of cells (name, size, pairs, the judge's label, how often people say yes)."""
    drawn, answers = [], {}
    for name, size, pairs, judged, yes in cells:
        for n in range(pairs):
            one = Drawn(f"{name}-{n}", "v", name, size, judged)
            drawn.append(one)
            answers[one.query_id, "v"] = "yes" if rng.random() < yes else "no"
    return drawn, answers


CELLS = [
    ("positive", 1000, 60, "yes", 0.85),
    ("trusted_negative", 2500, 70, "no", 0.05),
    ("hard_negative", 500, 70, "no", 0.3),
]


def kappa_of_sklearn(judge, people, weights):
    from sklearn.metrics import cohen_kappa_score  # a second and a half, for this file alone

    return cohen_kappa_score(judge, people, sample_weight=weights)


def test_kappa_is_that_of_scikit_learn_weighted_or_not():
    rng = np.random.default_rng(3)
    judge, people, weight = rng.random(400) < 0.4, rng.random(400) < 0.3, rng.random(400)
    for weights in (np.ones(400), weight):
        table = np.zeros((2, 2))
        np.add.at(table, (judge.astype(int), people.astype(int)), weights)
        assert float(cohens_kappa(table)) == pytest.approx(kappa_of_sklearn(judge, people, weights), abs=1e-12)


def test_a_sample_stands_for_the_whole_set_by_the_sizes_of_its_cells():
    drawn, answers = made(CELLS, np.random.default_rng(5))
    said = [answers[one.query_id, "v"] == "yes" for one in drawn]
    judged = [one.judged == "yes" for one in drawn]
    answered = {name: pairs for name, _, pairs, *_ in CELLS}
    weights = [one.of / answered[one.cell] for one in drawn]

    found = agreement(drawn, answers)

    assert found.kappa.value == pytest.approx(kappa_of_sklearn(judged, said, weights), abs=1e-12)
    assert found.base_rate.value == pytest.approx(np.average(said, weights=weights), abs=1e-12)
    rates = {cell.cell: cell.wrong / cell.answered for cell in found.cells}
    expected = (2500 * rates["trusted_negative"] + 500 * rates["hard_negative"]) / 3000
    assert found.false_negatives.value == pytest.approx(expected, abs=1e-12)


def test_intervals_cover_the_truth_as_often_as_they_say():
    whole = sum(size for _, size, *_ in CELLS)
    joint = np.zeros((2, 2))
    for _, size, _, judged, yes in CELLS:
        joint[int(judged == "yes")] += np.array([1 - yes, yes]) * size / whole
    truth = {
        "kappa": float(cohens_kappa(joint)),
        "base_rate": joint[:, 1].sum(),
        "false_negatives": (2500 * 0.05 + 500 * 0.3) / 3000,
        "wrong_positives": 0.15,
    }
    rng = np.random.default_rng(11)
    covered = dict.fromkeys(truth, 0)
    for seed in range(500):
        found = agreement(*made(CELLS, rng), seed)
        for name, value in truth.items():
            estimate = getattr(found, name)
            covered[name] += estimate.low <= value <= estimate.high

    assert all(0.92 <= count / 500 <= 0.98 for count in covered.values()), covered


def test_where_no_error_was_seen_the_interval_is_no_point():
    drawn, _ = made(CELLS, np.random.default_rng(0))

    found = agreement(drawn, {(one.query_id, "v"): one.judged for one in drawn})

    assert found.kappa.value == 1
    assert found.false_negatives.value == 0
    assert 0.005 < found.false_negatives.high < 0.05


def test_unsure_and_unanswered_pairs_are_counted_and_decide_nothing():
    drawn = [
        Drawn(f"q{n}", "v", "positive" if n % 2 else "hard_negative", 50, "yes" if n % 2 else "no") for n in range(8)
    ]

    found = agreement(drawn, {("q0", "v"): "unsure", ("q1", "v"): "yes", ("q2", "v"): "no"})
    nothing = agreement(drawn, {})

    assert (found.drawn, found.answered, found.unsure) == (8, 2, 1)
    assert (nothing.answered, nothing.kappa, nothing.false_negatives) == (0, None, None)


def test_a_sample_holds_as_many_of_each_cell_and_only_what_is_kept(tables):
    kept = {(row["query_id"], row["video_id"]): row for _, row in tiny_rows()["judgements"] if row["kept"]}

    drawn = draw(tables, 40, seed=1)

    assert len(drawn) == 40
    assert all(kept[one.query_id, one.video_id]["label"] == one.judged for one in drawn)
    cells = {one.cell: one.of for one in drawn}
    counts = {cell: sum(one.cell == cell for one in drawn) for cell in cells}
    assert sum(cells.values()) == len(kept)
    assert max(counts.values()) - min(counts.values()) <= 2
    assert {"positive", "hard_negative by dense"} < cells.keys()


def test_a_sample_is_the_same_for_a_seed_and_another_for_another(tables):
    assert draw(tables, 40, seed=1) == draw(tables, 40, seed=1) != draw(tables, 40, seed=2)
    assert len(draw(tables, 10_000, seed=1)) == 178  # every kept pair


def test_answers_are_not_thrown_away_by_drawing_again(tables, tmp_path):
    drawn = draw(tables, 12, seed=1)
    write_sample(str(tmp_path), drawn)
    assert read_sample(str(tmp_path)) == [Asked(one.query_id, one.video_id) for one in drawn]
    (tmp_path / "audit/answers.jsonl").write_text('{"query_id":"q","video_id":"v","verdict":"yes"}\n')

    with pytest.raises(NoSample, match="has answers"):
        write_sample(str(tmp_path), drawn)
    with pytest.raises(NoSample, match="hardquery audit sample"):
        read_sample(str(tmp_path / "elsewhere"))


def test_who_labels_can_read_no_label_in_the_sample_and_it_is_joined_when_it_is_needed(tables, tmp_path):
    drawn = draw(tables, 40, seed=1)
    path = write_sample(str(tmp_path), drawn)

    lines = [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]

    assert [set(line) for line in lines] == [{"query_id", "video_id"}] * 40
    assert joined(tables, read_sample(str(tmp_path))) == (drawn, 0)


def test_pairs_that_an_output_no_longer_keeps_are_counted_and_decide_nothing(tables):
    drawn, gone = joined(
        tables, [Asked("q-gone", "v-gone"), *(Asked(o.query_id, o.video_id) for o in draw(tables, 9, 1))]
    )
    said = {("q-gone", "v-gone"): "no"} | {(one.query_id, one.video_id): one.judged for one in drawn}

    found = agreement(drawn, said, gone=gone)

    assert (found.drawn, found.answered, found.gone) == (10, 9, 1)
    assert found.kappa.value == 1
    assert "1 are no longer kept here" in agreement_text("out", found)


def test_the_figures_are_put_into_card_and_report_of_an_output_that_stays_sound(tmp_path, capsys):
    write_tiny(tmp_path)
    output = str(tmp_path)
    before = {file.path: file.sha256 for file in read_manifest(output).files}
    assert "nobody has checked them" in (tmp_path / "README.md").read_text("utf-8")
    main(["audit", "sample", output, "--n", "30"])
    for number, one in enumerate(read_sample(output)):
        add_mark(str(tmp_path / ANSWERS_FILE), Mark(one.query_id, one.video_id, "yes" if number % 3 else "no"))

    assert main(["audit", "agreement", output, "--publish"]) == 0

    capsys.readouterr()
    manifest = read_manifest(output)
    card, report = ((tmp_path / name).read_text("utf-8") for name in ("README.md", "report.html"))
    for page in (card, report):
        assert "Checked by people" in page
        assert manifest.agreement.kappa.plain in page
        assert manifest.agreement.false_negatives.percent in page
    assert 'href="#checked-by-people"' in report
    after = {file.path: file.sha256 for file in manifest.files}
    assert {path for path in after if after[path] != before.get(path)} == {"README.md", "report.html"}
    assert after.keys() == before.keys()
    assert main(["verify", output]) == 0


def test_the_command_draws_pairs_and_says_what_people_make_of_the_judge(tmp_path, capsys):
    write_tiny(tmp_path)
    assert main(["audit", "agreement", str(tmp_path)]) == 2
    assert "draw one with `hardquery audit sample" in capsys.readouterr().err
    assert main(["audit", "sample", str(tmp_path), "--n", "30", "--seed", "4"]) == 0
    assert "30 pairs: " in capsys.readouterr().out
    for one in draw(read_manifest(str(tmp_path)).tables(str(tmp_path)), 30, seed=4):
        add_mark(str(tmp_path / ANSWERS_FILE), Mark(one.query_id, one.video_id, one.judged))

    assert main(["audit", "agreement", str(tmp_path)]) == 0

    said = capsys.readouterr().out
    assert "30 of 30 pairs answered yes or no, 0 unsure" in said
    assert "kappa of judge and people    1.000 [1.000, 1.000]" in said
    assert main(["audit", "agreement", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["false_negatives"]["value"] == 0
