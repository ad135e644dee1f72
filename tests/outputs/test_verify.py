import json
import math
import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.outputs.export.rankvideo import export_rankvideo
from pipeline.outputs.manifest import NotAnOutput, read_manifest, write_manifest
from pipeline.outputs.publish import describe
from pipeline.outputs.verify.verify import verdict, verify
from schemas.example import SPLITS
from tests.support.tiny_output import ALWAYS, tiny_rows, write_tables, write_tiny


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound") / "out"
    write_tiny(folder)
    return folder


@pytest.fixture
def output(sound, tmp_path):
    """A fresh copy of a sound output, to be broken in one place."""
    return shutil.copytree(sound, tmp_path / "out")


def problems(output):
    return [str(problem) for problem in verify(str(output))]


def rewrite(output, rows):
    """Write other rows, and a manifest that knows them: the files are as declared, what they say is not."""
    manifest = read_manifest(str(output))
    changed = [name for name, found in tiny_rows().items() if found != rows[name]]
    written = {file.path: file for file in write_tables(str(output), rows, changed)}
    write_manifest(str(output), replace(manifest, files=tuple(written.get(f.path, f) for f in manifest.files)))


def retell(output, name, text):
    """Replace a text file, and its hash in the manifest."""
    (output / name).write_text(text)
    declare(output, describe(str(output), name))


def declare(output, file):
    """Make the manifest say this of a file."""
    manifest = read_manifest(str(output))
    files = tuple(file if known.path == file.path else known for known in manifest.files)
    write_manifest(str(output), replace(manifest, files=files))


def rows_of(rows, table, **wanted):
    """The rows of a table with these values, in order."""
    return [row for _, row in rows[table] if all(row[key] == value for key, value in wanted.items())]


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


LONG_REASON = {"part": "asr", "reason": "it is as it is", "message": ""}
SURE = {
    "stratum": "hard_negative",
    **dict.fromkeys(("delta", "delta_lo", "delta_hi"), -12.0),
    "p_yes": 1 / (1 + math.exp(12.0)),
}
LIKELY = {
    "stratum": "hard_negative",
    "label": "yes",
    **dict.fromkeys(("delta", "delta_lo", "delta_hi"), 9.0),
    "p_yes": 1 / (1 + math.exp(-9.0)),
}


def set_values(table, index=0, **values):
    def change(rows):
        rows[table][index][1].update(values)

    return change


def rate(**ratings):
    def change(rows):
        rows["queries"][0][1]["difficulty"]["rated"] |= ratings

    return change


def set_judged(index, **values):
    """Change a judgement of the first query, the positive being the first."""

    def change(rows):
        query_id = rows["ranking"][0][1]["query_id"]
        rows_of(rows, "judgements", query_id=query_id)[index].update(values)

    return change


def set_in_example(candidate=0, **values):
    def change(rows):
        rows["ranking"][0][1]["candidates"][candidate].update(values)

    return change


def twice(table):
    def change(rows):
        rows[table].append(rows[table][0])

    return change


def drop_row(table, index=0):
    def change(rows):
        del rows[table][index]

    return change


def drop_candidates(keep):
    def change(rows):
        example = rows["ranking"][0][1]
        example["candidates"] = [c for c in example["candidates"] if keep(c)]

    return change


def drop_query_of_first_example(rows):
    query = rows_of(rows, "queries", query_id=rows["ranking"][0][1]["query_id"])[0]
    query.update(verdict="dropped", stage="curate", reason="no trusted negative")


def move_event(rows):
    rows["videos"][0][1]["split"] = "validation"


def move_example(rows):
    _, row = rows["ranking"][0]
    rows["ranking"][0] = ("validation", row)


def lend_video(rows):
    video_id = rows_of(rows, "videos", split="validation")[0]["video_id"]
    rows["ranking"][0][1]["candidates"][1]["video_id"] = video_id


def fourth_negative(rows):
    example = rows["ranking"][0][1]
    extra = {**example["candidates"][-1], "video_id": rows_of(rows, "videos", split="train")[-1]["video_id"]}
    example["candidates"] += [extra, {**extra, "video_id": rows_of(rows, "videos", split="train")[-2]["video_id"]}]


def lose_frames(rows):
    video_id = rows["ranking"][0][1]["candidates"][1]["video_id"]
    rows_of(rows, "videos", video_id=video_id)[0].update(frames=[], frame_times_s=[])


def two_positives(rows):
    rows["ranking"][0][1]["candidates"][1].update(label=1, stratum="positive")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(twice("videos"), "its video_id is not unique", id="a video twice"),
        pytest.param(twice("queries"), "its query_id is not unique", id="a query twice"),
        pytest.param(twice("judgements"), "its query_id and video_id is not unique", id="a judgement twice"),
        pytest.param(twice("ranking"), "its query_id is not unique", id="an example twice"),
        pytest.param(twice("perception"), "its video_id is not unique", id="a caption twice"),
        pytest.param(set_values("queries", video_id="nowhere"), "video 'nowhere' is not in videos", id="query's video"),
        pytest.param(set_values("judgements", video_id="nowhere"), "its video is not in videos", id="judged video"),
        pytest.param(set_values("judgements", query_id="q-gone"), "its query is not in queries", id="judged query"),
        pytest.param(set_in_example(1, video_id="nowhere"), "'nowhere' is not in videos", id="candidate's video"),
        pytest.param(set_values("perception", video_id="nowhere"), "'nowhere' is not in videos", id="caption's video"),
        pytest.param(set_values("ranking", query_id="q-gone"), "q-gone: is not in queries", id="example's query"),
        pytest.param(drop_query_of_first_example, "its query was dropped", id="example of a dropped query"),
        pytest.param(drop_row("ranking"), "is kept, and no example holds it", id="kept query without example"),
        pytest.param(set_values("rejections", query_id="q-gone"), "query 'q-gone' is not in queries", id="rejection"),
        pytest.param(
            set_values("failures", stage="judge", video_id="gone"), "video 'gone' is not in videos", id="failure"
        ),
        pytest.param(two_positives, "an example has exactly one video of its own", id="two positives"),
        pytest.param(drop_candidates(lambda c: not c["label"]), "the query's own video comes first", id="no positive"),
        pytest.param(
            drop_candidates(lambda c: c["stratum"] != "trusted_negative"), "fewer than 1 trusted", id="none trusted"
        ),
        pytest.param(fourth_negative, "negatives, at most 3", id="too many negatives"),
        pytest.param(set_in_example(1, label=1), "label is 1 exactly for a positive", id="label"),
        pytest.param(set_in_example(1, stratum="suspected_positive"), "suspected positive", id="stratum"),
        pytest.param(
            set_in_example(1, delta=-5.0),
            "its stratum is hard_negative by label no, margin -5.0",
            id="margin of trusted",
        ),
        pytest.param(set_in_example(1, delta=-9.5), "p_yes must be sigmoid(delta)", id="p_yes of delta"),
        pytest.param(set_in_example(1, p_yes=None), "p_yes is null exactly where delta is", id="p_yes alone null"),
        pytest.param(set_judged(1, confidence_source="label_only"), "only a label-only judgement", id="no margin"),
        pytest.param(
            set_judged(1, confidence_source="prior"), "without a rationale, a pair is only ever", id="prior alone"
        ),
        pytest.param(set_in_example(1, confidence_source="prior"), "are those of its judgement", id="not as judged so"),
        pytest.param(set_in_example(1, confidence_source="luck"), "Invalid enum value 'luck'", id="source"),
        pytest.param(set_in_example(1, delta_lo=0.0), "needs finite lo <= delta <= hi", id="bounds of delta"),
        pytest.param(set_in_example(1, delta_hi=None), "Expected `float`, got `null`", id="no bound of delta"),
        pytest.param(set_in_example(1, label_mass=1.5), "label_mass must lie in [0, 1]", id="label mass"),
        pytest.param(set_in_example(1, rank=99), "are those of its judgement", id="rank not as judged"),
        pytest.param(
            set_in_example(1, rationale="made up"), "are those of its judgement", id="rationale not as judged"
        ),
        pytest.param(set_judged(1, rank=None), "rank and score are null together", id="score without rank"),
        pytest.param(set_judged(1, is_positive=True), "is of its query's own video", id="positive of another video"),
        pytest.param(set_judged(1, **SURE), "its stratum is trusted_negative by label no", id="sure, and called hard"),
        pytest.param(set_judged(1, **LIKELY), "its stratum is suspected_positive by label yes", id="yes, called hard"),
        pytest.param(set_in_example(1, **SURE), "its stratum is trusted_negative by label no", id="sure candidate"),
        pytest.param(set_in_example(1, delta_prior=-2.0), "are those of its judgement", id="prior not as judged"),
        pytest.param(
            set_in_example(1, delta=None, p_yes=None, confidence_source="label_only"),
            "are null where delta is",
            id="bounds of no margin",
        ),
        pytest.param(set_in_example(1, teacher_label="yes"), "are those of its judgement", id="not as judged"),
        pytest.param(lose_frames, "a candidate's video has frames", id="frames"),
        pytest.param(set_values("videos", frame_times_s=[0.0]), "4 frames but 1 frame times", id="frame times"),
        pytest.param(move_event, "event 'harbour-festival-2024' is in two splits", id="event in two splits"),
        pytest.param(move_example, "is of split train, used in validation", id="example in the wrong split"),
        pytest.param(lend_video, "is of split validation, used in train", id="video in two splits"),
        pytest.param(set_values("queries", rationale=" "), "a kept written query has a rationale", id="no rationale"),
        pytest.param(set_values("perception", caption="another"), "is not that of its video", id="another caption"),
        pytest.param(set_values("videos", warnings=[LONG_REASON]), "one to three words", id="reason of a warning"),
        pytest.param(set_values("rejections", stage="later"), "stage must be one of", id="stage of a rejection"),
        pytest.param(set_values("failures", error_class=" "), "reason must not be blank", id="class of a failure"),
        pytest.param(set_values("queries", verdict="maybe"), "verdict must be kept, dropped or deferred", id="verdict"),
        pytest.param(set_values("queries", text=" "), "query must not be blank", id="blank query"),
        pytest.param(set_values("queries", attempts=0), "attempts must be at least 1", id="no attempt"),
        pytest.param(set_values("queries", query_type="cross"), "a cross query needs two modalities", id="cross query"),
        pytest.param(rate(causal=3), "causal must be rated from 0 to 2", id="rating"),
        pytest.param(set_values("ranking", query="another"), "its text is not that of its query", id="another text"),
        pytest.param(set_values("judgements", label="perhaps"), "Invalid enum value 'perhaps'", id="judged label"),
        pytest.param(set_values("judgements", stratum="odd"), "stratum must be one of", id="judged stratum"),
        pytest.param(set_values("judgements", reason="why"), "a reason is given exactly where", id="judged reason"),
        pytest.param(set_values("perception", caption=""), "caption must not be blank", id="blank caption"),
        pytest.param(drop_row("rejections"), "in the ledger, 0 in rejections", id="ledger and rejections"),
        pytest.param(drop_row("failures"), "in the ledger, 0 in failures", id="ledger and failures"),
        pytest.param(drop_row("perception"), "left, perception has 11 rows", id="ledger and perception"),
    ],
)
def test_what_is_wrong_between_rows_is_named(output, change, said):
    rows = tiny_rows()
    change(rows)
    rewrite(output, rows)

    assert [problem for problem in problems(output) if said in problem], problems(output)


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("videos", "video_id"),
        ("videos", "metadata"),
        ("videos", "media"),
        ("queries", "query_id"),
        ("queries", "text"),
        ("queries", "video_id"),
        ("judgements", "query_id"),
        ("judgements", "video_id"),
        ("judgements", "is_positive"),
        ("ranking", "query_id"),
        ("ranking", "query"),
        ("ranking", "candidates"),
        ("perception", "video_id"),
        ("perception", "caption"),
        ("rejections", "reason"),
        ("rejections", "query_id"),
        ("failures", "error_class"),
        ("failures", "uri"),
    ],
)
def test_what_must_not_be_null_is_a_problem_line_of_its_table(output, table, column):
    rows = tiny_rows()
    rows[table][0][1][column] = None
    rewrite(output, rows)

    [found] = [problem for problem in problems(output) if "got `null` - at `$." in problem]

    assert found.startswith(f"{table}/")
    assert f".{'reason' if column == 'error_class' else column}`" in found  # the class of an error is its reason


def test_a_null_id_of_a_candidate_is_a_problem_line(output):
    rows = tiny_rows()
    set_in_example(1, video_id=None)(rows)
    rewrite(output, rows)

    assert [problem for problem in problems(output) if "got `null` - at `$.candidates[" in problem]


def test_a_row_that_is_no_record_is_not_missed_by_those_that_refer_to_it(output):
    rows = tiny_rows()
    rows["videos"][0][1]["media"] = None
    rows["queries"][0][1]["rationale"] = None
    rewrite(output, rows)

    assert [problem for problem in problems(output) if "is not in" in problem] == []


def test_thresholds_that_are_none_are_a_problem_of_the_manifest(output):
    manifest = read_manifest(str(output))
    write_manifest(str(output), replace(manifest, recipe={**manifest.recipe, "curate": {"alpha1": "low"}}))

    assert [problem for problem in problems(output) if problem.startswith("manifest.json: recipe.curate: ")]


def test_a_query_in_both_splits_is_named(output):
    rows = tiny_rows()
    rows["ranking"].append(("validation", rows["ranking"][0][1]))
    rewrite(output, rows)

    assert [problem for problem in problems(output) if "is in two splits, or twice in one" in problem]


def test_a_row_in_the_wrong_shard_is_named(output):
    rows = tiny_rows()
    rewrite(output, rows)
    one, two = (output / f"perception/train-0000{i}-of-00002.parquet" for i in (0, 1))
    aside = one.rename(one.with_suffix(".aside"))
    two.rename(one)
    aside.rename(two)
    manifest = read_manifest(str(output))
    at = {f.path: replace(describe(str(output), f.path), rows=f.rows) for f in manifest.files}
    counts = {path: pq.ParquetFile(output / path).metadata.num_rows for path in at if path.endswith(".parquet")}
    files = tuple(replace(at[f.path], rows=counts.get(f.path)) for f in manifest.files)
    write_manifest(str(output), replace(manifest, files=files))

    assert all("belongs in shard" in problem for problem in problems(output))
    assert len(problems(output)) == 9


def test_a_human_query_whose_video_is_unknown_is_no_problem(output):
    rows = tiny_rows()
    human = {
        **rows["queries"][0][1],
        **dict.fromkeys(("query_type", "variant", "writer", "positive_rank", "positive_score")),
        "query_id": "h-1",
        "video_id": "not-here",
        "source": "human",
        "rationale": "",
        "verdict": "dropped",
        "stage": "mine",
        "reason": "unknown video",
    }
    rows["queries"].append(("part", human))
    rewrite(output, rows)

    assert all(problem.startswith("ledger.json") for problem in problems(output))


def test_a_human_query_without_a_relevant_video_is_in_no_table_of_queries(output):
    rows = tiny_rows()
    rejection = {**rows["rejections"][0][1], "video_id": "", "query_id": "h-1", "reason": "no relevant video"}
    rows["rejections"].append(("part", rejection))
    rewrite(output, rows)

    assert all(problem.startswith("ledger.json") for problem in problems(output))


def test_frames_are_not_asked_for_where_the_recipe_leaves_them_out(output):
    rows = tiny_rows()
    for _, row in rows["videos"]:
        row.update(frames=[], frame_times_s=[])
    rewrite(output, rows)
    manifest = read_manifest(str(output))
    recipe = {**manifest.recipe, "emit": {"frames": None}}
    write_manifest(str(output), replace(manifest, recipe=recipe))

    assert problems(output) == []


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("ledger.json", lambda text: "{}", "cannot be read"),
        ("ledger.json", lambda text: text.replace('"in": 14', '"in": 15'), "extract/decode: does not balance: +1"),
        ("qrels.trec", lambda text: text.replace(" 1\n", " 0\n", 1), "label 1 in ranking, but not in the qrels"),
        ("qrels.trec", lambda text: text.replace(" 0\n", " 2\n", 1), "label 0 in ranking, but not in the qrels"),
        ("qrels.trec", lambda text: "one two\n" + text, "cannot be read"),
        (
            "qrels.trec",
            lambda text: f"{text}{text.split()[0]} 0 elsewhere 1\n",
            "'elsewhere' is judged, and not in the",
        ),
        ("run.trec", lambda text: "one two\n" + text, "cannot be read"),
        ("run.trec", lambda text: "".join(text.splitlines(True)[5:]), "an example's query is not in the run"),
        ("run.trec", lambda text: "".join(text.splitlines(True)[1:]), "ranks do not count from 1"),
        ("run.trec", lambda text: text.replace("19.0", "9.0", 1), "a score exceeds the one before it"),
        ("run.trec", lambda text: text + text.splitlines(True)[0], "its lines do not stand together"),
        ("run.trec", lambda text: text.replace(text.split()[2], "nowhere", 1), "'nowhere' is not in videos"),
    ],
)
def test_accounts_that_do_not_agree_with_the_tables_are_named(output, name, change, said):
    retell(output, name, change((output / name).read_text()))

    found = [problem for problem in problems(output) if said in problem]

    assert found, problems(output)
    assert all(problem.startswith(name) for problem in found)


def test_a_candidate_at_another_rank_than_in_the_run_is_named(output):
    lines = (output / "run.trec").read_text().splitlines(True)
    one, two = lines[0].split(), lines[1].split()
    one[2], two[2] = two[2], one[2]
    retell(output, "run.trec", "".join([" ".join(one) + "\n", " ".join(two) + "\n", *lines[2:]]))

    assert [problem for problem in problems(output) if "in the run, " in problem]


def test_the_verdict_lists_problems_a_line_each_and_counts_the_rest(output):
    for table in ALWAYS:
        for path in (output / table).iterdir():
            path.unlink()

    found = verify(str(output))
    said = verdict(str(output), found, shown=3).splitlines()

    assert len(said) == 5
    assert said[0] == str(found[0])
    assert said[3] == f"… and {len(found) - 3} more"
    assert said[4].endswith(f"has {len(found)} problems")
