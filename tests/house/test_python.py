"""hardquery from Python: the facade does what the commands do, on the same outputs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hardquery as hq
from hardquery.shadows import LAYERS
from pipeline.config import RecipeError
from pipeline.outputs.manifest import NotAnOutput
from runners.cli.main import main
from tests.support.tiny_output import tiny_rows, write_tiny

ROOT = Path(__file__).parents[2]
FAST = {
    "extract.asr": None,
    "extract.ocr": None,
    "extract.frames.max_frames": 2,
    "emit.frames": None,
    "synthesize.variants": ["caption", "metadata"],
    "mine.first_stage": {"engine": "bm25"},
}


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("python") / "out"
    write_tiny(folder)
    return hq.open(folder)


def test_a_table_is_arrow_and_has_a_row_for_each_that_was_written(out):
    written = tiny_rows()

    assert out.table("judgements").num_rows == len(written["judgements"])
    assert out.table("ranking", split="train").num_rows == sum(part == "train" for part, _ in written["ranking"])
    assert out.table("queries", columns=["text"]).to_pandas().columns.tolist() == ["text"]
    with pytest.raises(ValueError, match=r"table 'judgments' is not known; did you mean 'judgements'"):
        out.table("judgments")


def test_groups_are_read_one_by_one_and_chosen_by_stratum_and_split(out):
    groups = out.groups()
    hard = out.groups(stratum="hard_negative")

    assert [group.query_id for group in groups] == [row["query_id"] for row in out.tables.rows("ranking")]
    assert groups[0] == next(iter(groups)) == groups[-len(groups)] == groups[:1][0]
    assert 0 < len(hard) <= len(groups)
    assert all(any(each.stratum == "hard_negative" for each in group.candidates) for group in hard)
    assert len(out.groups(split="train")) + len(out.groups(split="validation")) == len(groups)
    with pytest.raises(IndexError, match=f"there are {len(groups)} groups"):
        groups[len(groups)]


def test_a_notebook_shows_a_group_with_its_frames_and_nothing_of_its_text_is_markup(out):
    group = out.groups()[0]
    shown = hq.Group(group.query_id, "<script>", group.row, group.candidates, out.tables)._repr_html_()

    assert shown.count("data:image/jpeg;base64,") >= len(group.candidates)
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    assert f"{len(out.groups()):,} groups" in out.groups()._repr_html_()


def test_what_is_no_output_is_refused_when_it_is_opened(tmp_path):
    with pytest.raises(NotAnOutput, match="is not a finished hardquery output"):
        hq.open(tmp_path)


def test_an_opened_output_is_explained_and_verified(out):
    query = out.groups()[0]

    assert query.query in out.explain(query.query_id)
    assert out.verify() == []


def test_a_run_from_python_is_the_run_of_the_command(samples, tmp_path, capsys):
    job = hq.run("demo", input=samples / "videos", output=tmp_path / "out", set=FAST, limit=2, workers=1)

    assert job.output.table("videos").num_rows == 2
    assert job.output.manifest.all_entries == 30
    assert any("2 of 30 videos" in note for note in job.notes)
    planned = hq.plan("demo", input=samples / "videos", output=tmp_path / "out", set=FAST, limit=2, workers=1)
    assert sum(step.to_run for step in planned.steps) == 0
    capsys.readouterr()
    settings = ["--set=extract.asr=null", "--set=extract.ocr=null", "--set=extract.frames.max_frames=2"]
    settings += ["--set=emit.frames=null", "--set=synthesize.variants=[caption, metadata]"]
    settings += ["--set=mine.first_stage={engine: bm25}", "--limit=2", "--workers=1"]
    assert main(["plan", "demo", "-i", str(samples / "videos"), "-o", str(tmp_path / "out"), *settings]) == 0
    assert "nothing has changed since" in capsys.readouterr().err


def test_what_cannot_be_done_is_said_as_by_the_command(tmp_path):
    with pytest.raises(RecipeError, match=r"curate\.alfa1 is not known; did you mean 'alpha1'"):
        hq.run("demo", input="x", output=tmp_path / "out", set={"curate.alfa1": -4})
    with pytest.raises(TypeError, match="limmit"):
        hq.plan("demo", input="x", output=tmp_path / "out", limmit=3)


@pytest.mark.parametrize("module", ["runners", "hardquery"])
@pytest.mark.parametrize("name", ["schemas.py", "pipeline/__init__.py"])
def test_a_file_that_stands_in_the_way_of_a_package_is_named_in_one_line(module, name, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()

    ended = subprocess.run(
        [sys.executable, "-m", module, "recipes"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"would get {tmp_path / name}: rename that" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_every_layer_is_looked_for():
    assert {name for name in LAYERS if (ROOT / name / "__init__.py").is_file()} == set(LAYERS)


WITHOUT_BEAM = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("apache_beam", "bm25s", "pebble", "py3langid", "snowballstemmer", "torch"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import hardquery as hq
print(hq.open("out").groups()[0].query_id)
import runners.cli.models.rerank, runners.cli.models.evaluate, transforms.search.search, transforms.search.pack
from transforms.storage.trec import read_qrels, read_run
print(len(read_run("out/run.trec")), len(read_qrels("out/qrels.trec")))
from runners.cli.main import main
print(main(["view", "out", "--export", "page.html", "--n", "2"]), main(["run", "demo", "-i", "x", "-o", "y"]))
"""


def test_outputs_are_read_looked_at_and_ranked_where_beam_is_not_installed(out, tmp_path):
    (tmp_path / "out").symlink_to(out.path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_BEAM], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    query_id, files, page, codes = ended.stdout.splitlines()
    assert query_id == out.groups()[0].query_id
    assert files == "53 53"
    assert page.startswith("page.html: ")
    assert codes == "0 2"
    assert ended.stderr == "hardquery: No module named 'apache_beam': pip install 'hardquery[run]'\n"
