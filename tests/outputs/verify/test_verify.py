"""What of the files, shards and accounts of an output is not as its manifest says."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.outputs.export.rankvideo import export_rankvideo
from pipeline.outputs.manifest import NotAnOutput, read_manifest, write_manifest
from pipeline.outputs.publish import describe
from pipeline.outputs.verify.verify import verdict, verify
from schemas.example import SPLITS
from tests.support.tampered_output import declare, problems, retell, rewrite, rows_of
from tests.support.tiny_output import tiny_rows


def test_a_sound_output_has_no_problem(sound):
    assert problems(sound) == []
    assert "is sound: 26 files" in verdict(str(sound), [])


def test_a_folder_without_a_manifest_is_no_output(tmp_path):
    with pytest.raises(NotAnOutput):
        verify(str(tmp_path))


def test_a_missing_file_is_named(output):
    (output / "report.html").unlink()
    (output / "videos/part-00000-of-00002.parquet").unlink()

    assert problems(output) == ["report.html: missing", "videos/part-00000-of-00002.parquet: missing"]


def test_an_extra_file_is_named_but_exports_are_not(output):
    (output / "exports" / "rankvideo").mkdir(parents=True)
    (output / "exports" / "rankvideo" / "train.jsonl").write_text("{}")
    (output / "videos" / "part-00000-of-00009.parquet").write_text("x")

    assert problems(output) == ["videos/part-00000-of-00009.parquet: extra: not in the manifest"]


def test_one_changed_byte_is_found(output):
    path = output / "run.trec"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)

    assert problems(output)[0].startswith("run.trec: changed: SHA-256 ")


def test_a_changed_size_is_found(output):
    with open(output / "README.md", "a") as file:
        file.write("more")

    assert "bytes, the manifest says" in problems(output)[0]


@pytest.mark.parametrize("declared", [False, True])
def test_flipped_bytes_in_a_page_are_a_problem_and_no_crash(output, declared):
    path = "queries/part-00000-of-00002.parquet"
    data = bytearray((output / path).read_bytes())
    data[200:2000] = bytes(byte ^ 0x5A for byte in data[200:2000])
    (output / path).write_bytes(data)
    if declared:
        rows = {file.path: file.rows for file in read_manifest(str(output)).files}
        declare(output, replace(describe(str(output), path), rows=rows[path]))

    [problem] = problems(output)

    assert problem.startswith(f"{path}: cannot be read" if declared else f"{path}: changed: SHA-256")


def test_a_file_that_cannot_be_opened_is_named(output):
    (output / "README.md").unlink()
    (output / "README.md").symlink_to("nowhere")

    assert [problem for problem in problems(output) if problem.startswith("README.md: ")]


def test_the_lock_and_the_leftovers_of_a_killed_run_are_no_problem(output):
    (output / ".lock").write_text("{}")
    (output / ".staging" / "videos").mkdir(parents=True)
    (output / ".staging" / "videos" / "part-00000-of-00009.parquet").write_bytes(b"half")

    assert problems(output) == []


def test_an_output_that_is_published_anew_while_it_is_verified_is_not_called_damaged(output, monkeypatch):
    (output / "README.md").write_text("of the next run")
    manifest = read_manifest(str(output))
    answers = iter([manifest, replace(manifest, elapsed_s=1.5)])
    monkeypatch.setattr("pipeline.outputs.verify.verify.read_manifest", lambda _: next(answers))

    with pytest.raises(NotAnOutput, match="published anew"):
        problems(output)


def test_an_export_is_of_this_run_or_a_problem(output):
    export_rankvideo(str(output), str(output / "exports" / "rankvideo"))
    assert problems(output) == []

    write_manifest(str(output), replace(read_manifest(str(output)), elapsed_s=1.5))
    assert problems(output) == [
        "exports/rankvideo/SOURCE.json: export of an earlier run: run hardquery export again",
    ]

    (output / "exports" / "rankvideo" / "SOURCE.json").write_text("[")
    assert problems(output)[0].startswith("exports/rankvideo/SOURCE.json: cannot be read")


def test_the_input_and_the_ledger_list_as_many_videos(output):
    write_manifest(str(output), replace(read_manifest(str(output)), entries=15))

    assert problems(output) == ["ledger.json, extract/decode: 14 entered, 15 listed in the input"]


@pytest.mark.parametrize(
    "step",
    [
        "extract/decode",
        "extract/deduplicate",
        "synthesize/select",
        "synthesize/filter",
        "synthesize/deduplicate",
        "mine/select",
        "mine/filter",
        "curate/queries",
        "curate/pairs",
    ],
)
def test_items_lost_before_a_step_are_named(output, step):
    ledger = json.loads((output / "ledger.json").read_text())
    line = next(line for line in ledger["steps"] if f"{line['stage']}/{line['step']}" == step)
    line["in"] -= 1
    line["out"] -= 1  # the line itself balances
    retell(output, "ledger.json", json.dumps(ledger))

    assert [problem for problem in problems(output) if f"ledger.json, {step}: {line['in']} entered, " in problem]


def test_a_ledger_without_a_line_is_named(output):
    ledger = json.loads((output / "ledger.json").read_text())
    ledger["steps"] = [line for line in ledger["steps"] if (line["stage"], line["step"]) != ("mine", "select")]
    retell(output, "ledger.json", json.dumps(ledger))

    assert problems(output) == ["ledger.json, mine/select: has no such line"]


def test_a_text_in_both_splits_is_named_however_it_is_written(output):
    rows = tiny_rows()
    train, validation = (next(row for where, row in rows["ranking"] if where == part) for part in SPLITS)
    text = f" {train['query'].upper()}\n"
    for row in (validation, *rows_of(rows, "queries", query_id=validation["query_id"])):
        row["text" if "text" in row else "query"] = text
    rewrite(output, rows)

    [problem] = problems(output)
    assert "is in two splits" in problem


def test_a_censored_margin_is_that_of_its_judgement(output):
    rows = tiny_rows()
    candidates = [c for _, row in rows["ranking"] for c in row["candidates"]]
    censored = next(c for c in candidates if c["censored"])
    for name, other in {"delta_lo": -30.0, "delta_hi": 0.0, "censored": None}.items():
        kept = censored[name]
        censored[name] = other
        rewrite(output, rows)
        assert [problem for problem in problems(output) if "are those of its judgement" in problem]
        censored[name] = kept


def test_a_shard_that_is_no_parquet_is_one_problem_and_no_crash(output):
    retell(output, "ranking/train-00000-of-00002.parquet", "PAR1 nothing PAR1")

    assert problems(output)[0].startswith("ranking/train-00000-of-00002.parquet: not a Parquet file")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop_columns(["caption"]), "caption is missing"),
        (lambda table: table.append_column("more", pa.nulls(len(table))), "more is unexpected"),
        (lambda table: table.replace_schema_metadata({}), "its schema's metadata"),
        (lambda table: table.slice(1), "rows, the manifest says"),
    ],
)
def test_a_shard_of_another_shape_is_named(output, change, said):
    path = "perception/train-00000-of-00002.parquet"
    pq.write_table(change(pq.read_table(output / path)), output / path)
    manifest = read_manifest(str(output))
    rows = {file.path: file.rows for file in manifest.files}
    found = replace(describe(str(output), path), rows=rows[path])
    write_manifest(str(output), replace(manifest, files=tuple(found if f.path == path else f for f in manifest.files)))

    assert [problem for problem in problems(output) if problem.startswith(path) and said in problem]


def test_a_set_of_shards_with_a_hole_is_named(output):
    path = "queries/part-00000-of-00002.parquet"
    (output / path).unlink()
    manifest = read_manifest(str(output))
    write_manifest(str(output), replace(manifest, files=tuple(f for f in manifest.files if f.path != path)))

    assert problems(output) == ["queries/: the part shards in the manifest are not a whole set"]
