"""Rows that are no records, rows of people, and accounts that do not agree with the tables."""

import shutil
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from pipeline.outputs.manifest import read_manifest, write_manifest
from pipeline.outputs.publish import describe
from pipeline.outputs.verify.verify import verdict, verify
from tests.support.tampered_output import problems, retell, rewrite
from tests.support.tiny_output import ALWAYS, tiny_rows


@pytest.fixture
def output(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "out")


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
    rows["ranking"][0][1]["candidates"][1].update(video_id=None)
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


def test_a_row_in_the_wrong_shard_is_named(sound, tmp_path):
    output = shutil.copytree(sound, tmp_path / "out")
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
