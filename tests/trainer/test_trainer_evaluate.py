"""Evaluation against trec_eval's own code, and its statistics against arithmetic done by hand."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import ir_measures
import numpy as np
import pytest
import pytrec_eval

from runners.cli.main import main
from schemas.query import Candidate
from tests.support.tiny_output import write_tiny
from trainer.evaluate import (
    CUTOFFS,
    JUDGED_AT,
    MEASURES,
    Corpus,
    breakdown,
    by_positives,
    judged,
    mean,
    per_query,
    permutation_p,
    priors,
    score_curves,
)
from trainer.evaluation_text import as_text, evaluate, write_plots
from transforms.storage.trec import read_run, run_lines, write_lines

Scores = dict[str, dict[str, float]]


def run_of(scores: Scores) -> dict[str, list[Candidate]]:
    """Ranked by score; equal ones in the order given."""
    ranked = {query_id: sorted(videos.items(), key=lambda item: -item[1]) for query_id, videos in scores.items()}
    return {
        query_id: [Candidate(video_id, rank, score) for rank, (video_id, score) in enumerate(videos, start=1)]
        for query_id, videos in ranked.items()
    }


def random_world(seed: int) -> tuple[dict[str, dict[str, int]], Scores]:
    """Qrels of three grades and a run with ties (also of 32-bit floats alone), depth 1 to 150, missing queries."""
    rng = random.Random(seed)
    videos = [f"v{number}" for number in range(200)]
    qrels = {
        f"q{number}": {video: rng.choice((0, 1, 1, 2)) for video in rng.sample(videos, rng.randint(1, 20))}
        for number in range(30)
    }
    run = {}
    for query_id in (*qrels, "q-not-judged"):
        if rng.random() < 0.2:
            continue
        found = rng.sample(videos, rng.randint(1, 150))
        run[query_id] = {video: rng.choice((rng.random(), 0.5, 0.5 + 1e-9, round(rng.random(), 1))) for video in found}
    return qrels, run


@pytest.mark.parametrize("seed", range(20))
def test_every_measure_is_that_of_trec_eval(seed: int) -> None:
    qrels, scores = random_world(seed)
    cuts = ",".join(map(str, CUTOFFS))
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {f"ndcg_cut.{cuts}", f"recall.{cuts}"})
    expected = evaluator.evaluate(scores)
    found = per_query(qrels, run_of(scores))
    for name in MEASURES:
        theirs = name.replace("nDCG@", "ndcg_cut_").replace("R@", "recall_")
        assert found[name].keys() == qrels.keys()
        for query_id, value in found[name].items():
            assert value == pytest.approx(expected.get(query_id, {}).get(theirs, 0.0), abs=1e-6)


def test_a_query_that_is_not_retrieved_counts_as_zero() -> None:
    found = per_query({"a": {"v": 1}, "b": {"v": 1}}, run_of({"a": {"v": 1.0}}))
    assert mean(found["nDCG@10"]) == 0.5


def test_equal_scores_are_ordered_as_is_said() -> None:
    qrels, run = {"q": {"a": 1}}, run_of({"q": {"a": 1.0, "z": 1.0}})
    assert per_query(qrels, run, "rank")["nDCG@5"]["q"] == 1.0
    assert per_query(qrels, run, "trec_eval")["nDCG@5"]["q"] == pytest.approx(1 / np.log2(3))


def test_a_permutation_test_of_two_queries_knows_their_four_signs() -> None:
    # Differences 1 and 1: of the four equally likely signs, two have a mean as far from 0.
    assert permutation_p({"a": 1.0, "b": 1.0}, {"a": 0.0, "b": 0.0}) == pytest.approx(0.5, abs=0.02)


def test_equal_systems_are_not_told_apart_and_very_unlike_ones_are() -> None:
    a = {f"q{number}": number / 40 for number in range(40)}
    assert permutation_p(a, a) == 1.0
    assert permutation_p(a, {query_id: value - 0.1 for query_id, value in a.items()}) < 0.001


def test_the_p_value_does_not_depend_on_the_order_of_queries() -> None:
    rng = random.Random(1)
    a, b = ({f"q{number}": rng.random() for number in range(30)} for _ in range(2))
    assert permutation_p(a, b) == permutation_p(dict(reversed(a.items())), b)


def test_a_query_of_two_modalities_counts_in_both_groups() -> None:
    found = {"nDCG@10": {"a": 1.0, "b": 0.0, "c": 0.5}}
    groups = breakdown(found, {"modality": {"a": ("asr", "ocr"), "b": ("ocr",), "c": ()}})
    assert [(g.value, g.queries, g.means["nDCG@10"]) for g in groups] == [("asr", 1, 1.0), ("ocr", 2, 0.5)]


def test_variance_is_explained_by_what_made_the_scores() -> None:
    by_query = priors(run_of({"a": {"v": 1.0, "w": 1.0}, "b": {"v": 3.0, "w": 3.0}}))
    by_video = priors(run_of({"a": {"v": 1.0, "w": 5.0}, "b": {"v": 1.0, "w": 5.0}}))
    assert by_query is not None
    assert by_video is not None
    assert (by_query.query, by_query.video, by_query.both) == (1.0, 0.0, 1.0)
    assert (by_video.query, by_video.video, by_video.both) == (0.0, 1.0, 1.0)


def test_variance_explained_by_both_is_that_of_least_squares() -> None:
    rng = np.random.default_rng(3)
    scores: Scores = {}
    for query in range(12):  # no two queries retrieve the same videos: means of one do not settle it
        chosen = rng.choice(15, size=rng.integers(3, 12), replace=False)
        scores[f"q{query}"] = {f"v{video}": float(query * 0.3 + video * 0.2 + rng.normal()) for video in chosen}
    pairs = [(int(q[1:]), int(v[1:]), score) for q, videos in scores.items() for v, score in videos.items()]
    design = np.zeros((len(pairs), 27))
    for row, (query, video, _) in enumerate(pairs):
        design[row, query] = design[row, 12 + video] = 1.0
    y = np.array([score for *_, score in pairs])
    fitted = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    found = priors(run_of(scores))
    assert found is not None
    assert found.both == pytest.approx(1 - np.var(y - fitted) / np.var(y), abs=1e-8)


def test_there_are_no_priors_of_equal_scores() -> None:
    assert priors(run_of({"a": {"v": 1.0, "w": 1.0}})) is None
    assert priors({}) is None


def test_score_curves_hold_retrieved_pairs_of_judged_queries() -> None:
    curves = score_curves({"a": {"v": 1, "w": 0}}, run_of({"a": {"v": 2.0, "w": 1.0, "x": 0.0}, "b": {"v": 9.0}}))
    assert (list(curves.relevant), list(curves.other)) == ([2.0], [0.0, 1.0])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    folder = tmp_path_factory.mktemp("evaluated")
    write_tiny(folder / "out")
    baseline = read_run(str(folder / "out" / "run.trec"))
    turned = {
        query_id: [Candidate(c.video_id, rank, -float(rank)) for rank, c in enumerate(reversed(candidates), start=1)]
        for query_id, candidates in baseline.items()
    }
    write_lines(str(folder / "turned.trec"), run_lines(turned, "turned"))
    return str(folder / "out"), str(folder / "turned.trec"), str(folder / "plots")


def test_the_command_compares_two_runs_and_breaks_down(
    files: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    output, turned, _ = files
    given = ["evaluate", "--qrels", f"{output}/qrels.trec", "--run", turned, "--baseline", f"{output}/run.trec"]
    assert main([*given, "--data", output]) == 0
    said = capsys.readouterr().out
    assert "corpus: 12 videos, 12 of them retrieved; metadata: read by bm25, dense: an oracle beside" in said
    assert "positives 1 " in said
    assert "query type ocr" in said
    assert "modality caption" in said
    assert "language de" in said
    assert main([*given, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["mean"]["nDCG@10"] < values["baseline"]["nDCG@10"]
    assert values["p_values"]["nDCG@10"] < 0.05


@pytest.mark.parametrize("seed", range(5))
def test_judged_is_that_of_ir_measures(seed: int) -> None:
    qrels, scores = random_world(seed)
    run = run_of({query_id: {v: -float(n) for n, v in enumerate(videos)} for query_id, videos in scores.items()})
    wanted = [ir_measures.Judged @ k for k in JUDGED_AT]
    ranked = {q: {c.video_id: -float(c.rank) for c in candidates} for q, candidates in run.items()}

    found = judged(qrels, run)

    for metric in ir_measures.iter_calc(wanted, qrels, ranked):
        assert found[str(metric.measure)][metric.query_id] == pytest.approx(metric.value)
    assert all(len(per) == len(qrels) for per in found.values())


def test_queries_are_grouped_by_how_many_videos_answer_them() -> None:
    qrels = {f"q{n}": {f"v{i}": 1 for i in range(n)} | {"w": 0} for n in (0, 1, 2, 3, 5, 6, 10, 11)}

    bands = {query_id: band for query_id, (band,) in by_positives(qrels).items()}

    assert list(bands.values()) == ["none", "1", "2", "3-5", "3-5", "6-10", "6-10", "more"]
    found = breakdown({"nDCG@10": dict.fromkeys(qrels, 1.0)}, {"positives": by_positives(qrels)})
    assert [(group.value, group.queries) for group in found] == [
        ("none", 1), ("1", 1), ("2", 1), ("3-5", 2), ("6-10", 2), ("more", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("corpus", "said"),
    [
        (Corpus(), "corpus: not known, 1 of them retrieved; metadata: not known whether it was read (--data says)"),
        (Corpus(2000, {"clip": []}), "corpus: 2,000 videos, 1 of them retrieved; metadata: read by no first stage"),
        (
            Corpus(3, {"clip": [], "bm25": ["caption", "metadata"]}),
            "metadata: read by bm25: an oracle beside systems that only see and hear the videos",
        ),
    ],
)
def test_what_was_searched_and_judged_is_said(corpus: Corpus, said: str) -> None:
    text = as_text(evaluate({"a": {"v": 1}, "b": {"v": 1}}, run_of({"a": {"v": 2.0}}), corpus=corpus))

    assert said in text
    assert "judged: 50.0% of the first 5, 50.0% of the first 10" in text


def test_plots_are_written(files: tuple[str, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    output, turned, plots = files
    assert main(["evaluate", "--qrels", f"{output}/qrels.trec", "--run", turned, "--plots", plots]) == 0
    written = capsys.readouterr().out.splitlines()[-2:]
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in written)


def test_text_and_plots_hold_without_relevant_pairs_or_baseline(tmp_path: Path) -> None:
    found = evaluate({"a": {"v": 1}}, {})
    assert "1 queries, 1 of them not retrieved" in as_text(found)
    assert len(write_plots(found, tmp_path)) == 2


@pytest.mark.parametrize("content", ["q Q0 v one 2.0 tag\n", "q v\n"])
def test_a_broken_run_is_one_line(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").write_text(content)
    (tmp_path / "qrels").write_text("q 0 v 1\n")
    assert main(["evaluate", "--qrels", str(tmp_path / "qrels"), "--run", str(tmp_path / "run")]) == 2
    assert "line 1" in capsys.readouterr().err


def test_a_library_that_is_not_installed_is_named_with_its_extra(
    files: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output, turned, _ = files
    monkeypatch.setitem(sys.modules, "ir_measures", None)
    assert main(["evaluate", "--qrels", f"{output}/qrels.trec", "--run", turned]) == 2
    assert "pip install 'hardquery[evaluate]'" in capsys.readouterr().err
