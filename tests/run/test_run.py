"""The whole pipeline, through the command line, on real clips and bad files."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import duckdb
import ir_measures
import pyarrow.dataset as ds
import pytest
from PIL import Image

from pipeline.outputs.errors import OutputError
from pipeline.outputs.explain.explain import explain
from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.marks import add_mark
from pipeline.outputs.verify.verify import verify
from pipeline.run import check_output
from runners.cli.main import main
from schemas.people.mark import Mark
from tests.support.altered_clips import write_beginning
from transforms.ledger import read_ledger
from transforms.storage.files import digest, list_files

CLIPS = ("flood_valdoro_2", "flood_valdoro_3", "launch_ostara_1", "launch_ostara_2")  # of two events
SECONDS = 1.0
SETTINGS = ["extract.frames.max_frames=2", "emit.frames.frames=2", "emit.validation_fraction=0.4"]
SETTINGS += ["extract.ocr={engine: rapidocr, limit_side: 320}", "synthesize.queries_per_variant=1"]  # large letters


def rows(output: Path, table: str) -> list[dict]:
    return ds.dataset(str(output / table), format="parquet").to_table().to_pylist()


def hashes(output: Path) -> dict[str, str]:
    return {file.path: file.sha256 for file in read_manifest(str(output)).files if file.rows is not None}


@pytest.fixture(scope="module")
def entries(samples, tmp_path_factory):
    """The first seconds of a few clips of the sample corpus, and what is none; speech is recognised as it is said."""
    clips, bad = tmp_path_factory.mktemp("clips"), tmp_path_factory.mktemp("bad")
    (bad / "empty.mp4").touch()
    (bad / "text.mp4").write_text("not a video")
    (bad / "folder.mp4").mkdir()
    write_beginning(samples / "videos" / "aquarium.mp4", bad / "ünï %d {x}.mp4", SECONDS)
    lines = [json.loads(line) for line in (samples / "manifest.jsonl").read_text().splitlines()]
    chosen = [line for line in lines if line["video_id"] in CLIPS]
    for line in chosen:
        clip = samples / line["uri"]
        line["uri"] = str(write_beginning(clip, clips / clip.name, SECONDS))
    broken = [{"uri": str(bad / name)} for name in ("empty.mp4", "text.mp4", "folder.mp4", "missing.mp4")]
    return [*chosen, {"uri": str(bad / "ünï %d {x}.mp4")}, *broken]


def run_demo(folder: Path, entries: list[dict], samples: Path, workers: int, *more: str) -> Path:
    manifest = folder / "list.jsonl"
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    qids = {line["video_id"] for line in entries if "video_id" in line}
    qrels = [line for line in (samples / "qrels.trec").read_text().splitlines() if line.split()[2] in qids]
    known = {line.split()[0] for line in qrels if line.split()[3] != "0"}
    queries = [q for q in (samples / "queries.tsv").read_text().splitlines() if q.split("\t")[0] in known]
    (folder / "qrels.trec").write_text("\n".join(qrels))
    (folder / "queries.tsv").write_text("\n".join([*queries, "unjudged\tsomething that nobody has judged so far"]))
    arguments = ["run", "demo", "--input", str(manifest), "--output", str(folder / "out"), "--workers", str(workers)]
    arguments += ["--queries", str(folder / "queries.tsv"), "--qrels", str(folder / "qrels.trec")]
    assert main([*arguments, *more, *(f"--set={setting}" for setting in SETTINGS)]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def output(entries, samples, tmp_path_factory):
    return run_demo(tmp_path_factory.mktemp("first"), entries, samples, workers=1)


def test_every_file_ends_as_a_video_or_a_failure(output, entries):
    videos, failures = rows(output, "videos"), rows(output, "failures")

    assert len(videos) + len(failures) == len(entries)
    assert {row["stage"] for row in failures} == {"extract"}
    assert {os.path.basename(row["uri"]) for row in failures} == {"empty.mp4", "text.mp4", "folder.mp4", "missing.mp4"}
    assert all(row["error_class"] and row["message"] for row in failures)


def test_a_query_by_people_that_nobody_judged_is_a_rejection(output):
    [rejection] = [row for row in rows(output, "rejections") if row["query_id"] == "unjudged"]

    assert rejection["reason"] == "no relevant video"
    assert "no relevant video: its qrels name none: something that nobody" in explain(str(output), "unjudged")


def test_the_output_verifies_and_its_books_balance(output):
    assert verify(str(output)) == []
    assert [path for path in list_files(str(output)) if path.startswith(".")] == []
    assert [line for line in read_ledger((output / "ledger.json").read_bytes()) if line.missing] == []


def test_the_same_input_gives_the_same_bytes_with_other_workers_and_another_order(output, entries, samples, tmp_path):
    shuffled = random.Random(0).sample(entries, len(entries))
    known = Path(".hardquery", "journal", "ocr")  # what is read, a second a picture; other frames would be read anew
    shutil.copytree(output.parent / known, tmp_path / known)

    again = run_demo(tmp_path, shuffled, samples, workers=2)

    assert read_manifest(str(again)).work["ocr"].keys() == {"cached"}
    assert hashes(again) == hashes(output)
    for name in ("run.trec", "qrels.trec"):
        assert (again / name).read_bytes() == (output / name).read_bytes()


def test_what_people_marked_is_left_out_of_the_next_run_with_counted_reasons(output, entries, samples, tmp_path):
    copy = shutil.copytree(output, tmp_path / "out")
    (first, second, third) = [row["query_id"] for row in rows(output, "ranking")][:3]
    pairs = [row for row in rows(output, "judgements") if row["kept"]]
    positive = next(row["video_id"] for row in pairs if row["query_id"] == first and row["is_positive"])
    negative = next(row["video_id"] for row in pairs if row["query_id"] == second and not row["is_positive"])
    for mark in (
        Mark(first, positive, "wrong positive", "another town"),
        Mark(second, negative, "false negative"),
        Mark(third, "", "bad query"),
    ):
        add_mark(str(copy / "labels.jsonl"), mark)

    run_demo(tmp_path, entries, samples, 2, f"--cache={output.parent / '.hardquery'}")

    queries = {row["query_id"]: row for row in rows(copy, "queries")}
    assert [queries[q]["reason"] for q in (first, third)] == ["marked wrong positive", "marked bad query"]
    assert queries[first]["detail"] == "another town"
    groups = {row["query_id"]: row for row in rows(copy, "ranking")}
    assert {row["query_id"] for row in rows(output, "ranking")} - groups.keys() >= {first, third}
    assert negative not in [candidate["video_id"] for candidate in groups.get(second, {"candidates": []})["candidates"]]
    lines = {(line.stage, line.step): line for line in read_ledger((copy / "ledger.json").read_bytes())}
    line = lines["curate", "queries"]
    assert (line.rejected["marked wrong positive"], line.rejected["marked bad query"]) == (1, 1)
    assert read_manifest(str(copy)).labels.sha256 == digest(str(copy / "labels.jsonl"))[0]
    assert read_manifest(str(output)).labels is None
    assert verify(str(copy)) == []


def test_datasets_loads_every_config_and_frames_are_pictures(output, tmp_path):
    cache = str(tmp_path)
    ranking = datasets.load_dataset(str(output), "ranking", cache_dir=cache)
    perception = datasets.load_dataset(str(output), "perception", cache_dir=cache)
    videos = datasets.load_dataset(str(output), "videos", split="train", cache_dir=cache)

    assert set(ranking) == set(perception) == {"train", "validation"}
    assert len(ranking["train"]) + len(ranking["validation"]) == len(rows(output, "ranking")) > 0
    assert isinstance(videos[0]["frames"][0], Image.Image)


def test_every_ranking_row_is_a_whole_group(output):
    for row in rows(output, "ranking"):
        strata = [candidate["stratum"] for candidate in row["candidates"]]
        assert strata.count("positive") == 1
        assert 1 <= len(strata) - 1 <= 3
        assert strata.count("trusted_negative") >= 1


def test_no_video_event_or_query_crosses_a_split(output):
    crossing = duckdb.sql(
        f"""
        with used as (
          select regexp_extract(filename, '(train|validation)-', 1) as split, query_id,
                 unnest(list_transform(candidates, lambda c: c.video_id)) as video_id
          from read_parquet('{output}/ranking/*.parquet', filename = true)
        ), facts as (
          select used.*, coalesce(nullif(metadata.event, ''), used.video_id) as event
          from used join read_parquet('{output}/videos/*.parquet') v on v.video_id = used.video_id
        )
        select event from facts group by event having count(distinct split) > 1
        union all select query_id from facts group by query_id having count(distinct split) > 1
        """
    ).fetchall()

    assert crossing == []


def test_ir_measures_reads_run_and_qrels(output):
    qrels = list(ir_measures.read_trec_qrels(str(output / "qrels.trec")))
    run = list(ir_measures.read_trec_run(str(output / "run.trec")))

    [value] = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], qrels, run).values()

    assert {q.query_id for q in qrels} == {r.query_id for r in run} == {r["query_id"] for r in rows(output, "ranking")}
    assert 0.0 < value <= 1.0


def test_queries_by_people_pass_the_same_judging(output):
    human = [row for row in rows(output, "queries") if row["source"] == "human"]
    judged = {row["query_id"] for row in rows(output, "judgements")}

    assert human
    assert any(row["query_id"] in judged for row in human)


def test_every_row_names_what_made_it(output):
    assert {row["writer"]["name"] for row in rows(output, "queries") if row["source"] == "teacher"} == {"rules"}
    assert {row["confidence_source"] for row in rows(output, "judgements")} == {"rules"}
    for candidate in (each for row in rows(output, "ranking") for each in row["candidates"]):
        assert candidate["delta_lo"] <= candidate["delta"] <= candidate["delta_hi"]
        assert candidate["label_mass"] > 0.99
    videos = rows(output, "videos")
    assert all("decode" in {use["part"] for use in row["engines"]} for row in videos)
    assert any(row["asr"] for row in videos)
    assert any(row["ocr"] for row in videos)


@pytest.mark.parametrize("verdict", ["kept", "dropped"])
def test_explain_tells_the_story_of_a_query(output, verdict, capsys):
    query = next(row for row in rows(output, "queries") if row["verdict"] == verdict)

    assert main(["explain", str(output), query["query_id"]]) == 0

    story = capsys.readouterr().out
    assert query["text"] in story
    assert verdict in story
    assert query["reason"] in story


def test_the_export_is_written_below_the_output(output):
    assert main(["export", "rankvideo", str(output)]) == 0
    assert main(["verify", str(output)]) == 0

    assert list((output / "exports" / "rankvideo").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "dmeo", "--input", "x", "--output", "y"], "did you mean 'demo'"),
        (["run", "demo", "--input", "no/such", "--output", "y"], "names no video"),
        (["run", "demo", "--input", "x", "--output", "y", "--set", "curate.alpha=1"], "curate.alpha is not known"),
        (["run", "demo", "--input", "x", "--output", "y", "--wrkers=2"], "did you mean --workers?"),
        (["run", "demo", "--input", "x", "--output", "y", "--queries", "q.tsv"], "--queries and --qrels go together"),
        (["run", "demo", "--input", "x", "--output", "y", "--workers", "0"], "at least 1"),
        (["verify", "no/such"], "is not a finished hardquery output"),
        (["export", "rankvdeo", "no/such"], "did you mean 'rankvideo'"),
    ],
)
def test_a_wrong_command_is_one_line_that_names_the_fix(arguments, message, capsys):
    assert main(arguments) == 2

    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("name", ["thesis.txt", "manifest.json", "videos/holiday.mp4", "videos/mine.parquet"])
def test_a_folder_of_other_files_is_not_written_to(samples, tmp_path, capsys, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")

    assert main(["run", "demo", "--input", str(samples / "videos"), "--output", str(tmp_path)]) == 2

    assert name in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "{}"


@pytest.mark.parametrize("output", ["", "/", "out[1]", "out*", __file__])
def test_an_output_that_is_no_place_for_a_training_set_is_refused(samples, output, capsys):
    assert main(["run", "demo", "--input", str(samples / "videos"), "--output", output]) == 2

    assert "--output" in capsys.readouterr().err


@pytest.mark.parametrize("of_a_killed_run", [[".lock", ".staging/videos/x"], ["videos/x", ".staging/.commit"]])
def test_a_folder_that_a_killed_run_left_may_be_written_to_again(tmp_path, of_a_killed_run):
    for name in of_a_killed_run:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    check_output(str(tmp_path))


def test_what_a_killed_run_left_does_not_make_a_folder_of_other_files_ours(tmp_path):
    (tmp_path / ".staging").mkdir()
    (tmp_path / ".staging" / "x").touch()
    (tmp_path / "thesis.txt").touch()

    with pytest.raises(OutputError, match=r"thesis\.txt"):
        check_output(str(tmp_path))


def test_recipes_are_listed_and_printed(capsys):
    assert main(["recipes"]) == 0
    assert main(["recipes", "rankvideo"]) == 0

    assert "alpha1: -6" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code"), [(["completion", "bash"], 0), (["verify", "no/such"], 2), (["--version"], 0)]
)
def test_the_command_ends_with_its_exit_code_and_all_its_words(arguments, code):
    ended = subprocess.run([sys.executable, "-m", "runners", *arguments], capture_output=True, text=True, check=False)

    assert ended.returncode == code
    assert ended.stdout or ended.stderr
