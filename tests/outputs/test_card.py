import json
import os
import re
import subprocess
import sys

import datasets
import pytest
import yaml
from PIL.Image import Image

from pipeline.outputs.report.card import languages, size_category, table_cell
from pipeline.outputs.report.summary import summarize
from schemas.tables import TABLES
from tests.support.tiny_output import ALWAYS, tiny_rows, write_tiny

# Snippets that know nothing of each other, in one process: most of their time is that of libraries' imports.
EACH_ALONE = """
import contextlib, io, json, sys
printed = []
for snippet in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(snippet, {"__name__": "__main__"})
    printed.append(said.getvalue())
print(json.dumps(printed))
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card") / "out"
    write_tiny(folder)
    return folder


def front_matter(folder):
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def load(folder, config, cache):
    return datasets.load_dataset(str(folder), config, cache_dir=str(cache))


def test_datasets_loads_every_config(output, tmp_path):
    found = {name: load(output, name, tmp_path) for name in datasets.get_dataset_config_names(str(output))}

    counts = {name: {split: len(rows) for split, rows in config.items()} for name, config in found.items()}
    assert counts == {
        "ranking": {"train": 38, "validation": 15},
        "perception": {"train": 9, "validation": 3},
    } | {name: {"train": len(rows)} for name, rows in tiny_rows().items() if name not in ("ranking", "perception")}


def test_frames_load_as_pictures_and_ranking_is_the_default(output, tmp_path):
    videos = load(output, "videos", tmp_path)["train"]
    default = load(output, None, tmp_path)["train"]

    assert all(isinstance(frame, Image) for frame in videos[0]["frames"])
    assert [c["label"] for c in default[0]["candidates"]][:2] == [1, 0]


def test_a_split_without_rows_is_not_offered_and_the_rest_loads(tmp_path):
    rows = tiny_rows()
    rows["ranking"] = [(split, row) for split, row in rows["ranking"] if split == "train"]
    write_tiny(tmp_path / "out", rows)

    assert list(load(tmp_path / "out", "ranking", tmp_path / "cache")) == ["train"]
    assert "No query group fell into: validation" in (tmp_path / "out" / "README.md").read_text()


def test_an_output_without_examples_still_has_a_card_whose_other_configs_load(tmp_path):
    write_tiny(tmp_path / "out", tiny_rows() | {"ranking": []})

    names = datasets.get_dataset_config_names(str(tmp_path / "out"))

    assert sorted(names) == sorted(ALWAYS)
    assert [config["config_name"] for config in front_matter(tmp_path / "out")["configs"] if config.get("default")] == [
        "perception"
    ]
    assert len(load(tmp_path / "out", "perception", tmp_path / "cache")["train"]) == 9


@pytest.mark.parametrize("table", ALWAYS)
def test_an_empty_table_is_a_config_of_no_rows_with_its_columns(table, tmp_path):
    write_tiny(tmp_path / "out", tiny_rows() | {table: []}, run="", qrels="")

    empty = datasets.load_dataset(str(tmp_path / "out"), table, cache_dir=str(tmp_path / "cache"), streaming=True)

    assert {split: list(rows) for split, rows in empty.items()} == {split: [] for split in empty}
    assert {tuple(rows.features) for rows in empty.values()} == {tuple(TABLES[table].schema.names)}


def test_every_snippet_of_the_card_runs(output, tmp_path):
    snippets = re.findall(r"```python\n(.*?)```", (output / "README.md").read_text(), re.DOTALL)
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_DATASETS_OFFLINE": "1"}

    assert len(snippets) == 3
    command = [sys.executable, "-c", EACH_ALONE, *snippets]
    ran = subprocess.run(command, cwd=output, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    printed = json.loads(ran.stdout)
    assert len(printed) == 3
    assert all(printed)


def test_the_front_matter_is_what_the_hub_accepts(output):
    hub = pytest.importorskip("huggingface_hub")

    card = hub.DatasetCard((output / "README.md").read_text())

    assert card.data.task_categories == ["text-ranking", "video-text-to-text"]
    assert front_matter(output)["size_categories"] == ["n<1K"]
    assert [config["config_name"] for config in front_matter(output)["configs"] if config.get("default")] == ["ranking"]


def test_languages_are_those_of_queries_and_of_declared_videos(output):
    assert front_matter(output)["language"] == ["de", "en"]


def test_a_declared_language_that_is_no_code_is_left_out(tmp_path):
    rows = tiny_rows()
    for language, (_, row) in zip(("English", "pt-BR", "", "ZH"), rows["videos"], strict=False):
        row["metadata"]["language"] = language
    manifest = write_tiny(tmp_path, rows)

    assert languages(summarize(str(tmp_path), manifest)) == ["en", "pt", "zh"]


@pytest.mark.parametrize("name", ["ranking", "perception", "videos"])
def test_every_column_is_explained(output, name):
    card = (output / "README.md").read_text()

    assert [column for column in TABLES[name].schema.names if f"`{column}`" not in card] == []


def test_every_field_of_a_candidate_is_explained(output):
    card = (output / "README.md").read_text()
    fields = TABLES["ranking"].schema.field("candidates").type.value_type

    assert [field.name for field in fields if f"`{field.name}`" not in card] == []


def test_stand_ins_are_named_as_such(output):
    card = (output / "README.md").read_text()

    for role in ("asr", "caption", "writer", "judge"):
        assert re.search(rf"> \*\*{role}\*\* is ", card)


def test_the_card_depends_on_the_data_and_not_on_the_clock(output, tmp_path):
    write_tiny(tmp_path)

    assert (tmp_path / "README.md").read_bytes() == (output / "README.md").read_bytes()
    assert "2026" not in (output / "README.md").read_text()


def test_text_from_outside_cannot_break_a_table():
    assert table_cell("a|b\n<script>`x`") == r"a\|b \<script\>\`x\`"


@pytest.mark.parametrize(("rows", "name"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**9, "n>10M")])
def test_size_categories_are_the_hubs(rows, name):
    assert size_category(rows) == name


def test_the_runs_have_the_texts_of_their_queries_beside_them(tmp_path):
    write_tiny(tmp_path)
    texts = dict(line.split("\t") for line in (tmp_path / "queries.tsv").read_text("utf-8").splitlines())
    ranked = {line.split()[0] for line in (tmp_path / "run.trec").read_text("utf-8").splitlines()}
    rows = {row["query_id"]: row for _, row in tiny_rows()["queries"]}

    assert ranked <= texts.keys()
    assert all(texts[query_id] == " ".join(rows[query_id]["text"].split()) for query_id in texts)
    assert not any(rows[query_id]["stage"] == "synthesize" for query_id in texts)


def test_the_card_says_how_to_cite_what_made_it(tmp_path):
    manifest = write_tiny(tmp_path)

    card = (tmp_path / "README.md").read_text("utf-8")

    assert "@software{hardquery," in card
    assert f"version = {{{manifest.hardquery}}}" in card
