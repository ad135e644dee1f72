"""Exports for the training libraries of others, read back as those read them."""

import csv
import json

import datasets
import pytest

from pipeline.outputs.errors import UnwritableExport
from pipeline.outputs.export.formats import EXPORTS
from pipeline.outputs.manifest import read_manifest
from runners.cli.main import main
from tests.support.tiny_by_video import write_tiny_by_video
from tests.support.tiny_output import tiny_rows, write_tiny

PEERS = [
    name for name in EXPORTS if name not in ("rankvideo", "clamr", "ms-swift-frames")
]  # of which others have tests


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("peers")
    write_tiny(folder / "out")
    for name in PEERS:
        EXPORTS[name](str(folder / "out"), str(folder / name), "/videos", False)
    return folder


@pytest.fixture(scope="module")
def train():
    return {row["query_id"]: row for split, row in tiny_rows()["ranking"] if split == "train"}


def loaded(folder, name, file, cache):
    """A file as the ``datasets`` library loads it, which is how these peers read theirs."""
    return datasets.load_dataset("json", data_files=str(folder / name / file), split="train", cache_dir=str(cache))


@pytest.mark.parametrize("name", PEERS)
def test_an_export_says_what_it_was_made_from_and_numbers_no_videos(name, exported, tmp_path):
    assert len(json.loads((exported / name / "SOURCE.json").read_text())["manifest_sha256"]) == 64
    with pytest.raises(UnwritableExport, match="--numeric-ids is for rankvideo"):
        EXPORTS[name](str(exported / "out"), str(tmp_path), None, True)


def test_sentence_transformers_gets_pairs_with_soft_labels_and_a_tuple_a_group(exported, train, tmp_path):
    pairs = loaded(exported, "sentence-transformers", "pairs_train.jsonl", tmp_path)
    tuples = loaded(exported, "sentence-transformers", "train.jsonl", tmp_path)

    assert pairs.column_names == ["query", "passage", "label"]
    assert len(pairs) == sum(len(row["candidates"]) for row in train.values())
    assert all(0 <= label <= 1 for label in pairs["label"])
    fewest = min(len(row["candidates"]) for row in train.values()) - 1
    assert tuples.column_names == ["anchor", "positive", *(f"negative_{n}" for n in range(1, fewest + 1))]
    assert sorted(tuples["anchor"]) == sorted(row["query"] for row in train.values())
    assert all(row["positive"] != row["negative_1"] for row in tuples)


def test_ms_swift_gets_a_message_and_a_video_for_every_candidate(exported, train, tmp_path):
    rows = loaded(exported, "ms-swift", "train.jsonl", tmp_path)

    assert len(rows) == len(train)
    for row in rows:
        assert row["messages"][0]["role"] == "user"
        assert len(row["positive_messages"]) == len(row["positive_videos"]) == 1
        assert 1 <= len(row["negative_messages"]) == len(row["negative_videos"]) <= 3
        assert all(path.startswith("/videos/") for [path] in [*row["positive_videos"], *row["negative_videos"]])


def test_trl_gets_a_conversation_that_ends_in_the_answer_of_its_label(exported, train, tmp_path):
    rows = loaded(exported, "trl", "train.jsonl", tmp_path)
    ends = [row["completion"][0]["content"][0]["text"] for row in rows]

    assert [row["prompt"][0]["content"][0]["type"] for row in rows] == ["video"] * len(rows)
    assert sum(text.endswith("<answer>yes</answer>") for text in ends) == len(train)
    assert sum(text.endswith("<answer>no</answer>") for text in ends) == len(rows) - len(train)


def test_tevatron_gets_the_passages_of_every_group(exported, train, tmp_path):
    rows = loaded(exported, "tevatron", "train.jsonl", tmp_path)

    for row in rows:
        candidates = train[row["query_id"]]["candidates"]
        positives, negatives = (
            [each["docid"] for each in row[f"{sign}_passages"]] for sign in ("positive", "negative")
        )
        assert positives == [each["video_id"] for each in candidates if each["label"]]
        assert negatives == [each["video_id"] for each in candidates if not each["label"]]
        assert set(row["positive_passages"][0]) == {"docid", "title", "text", "video"}


def test_beir_gets_a_corpus_queries_and_qrels_that_name_what_is_there(exported, train):
    folder = exported / "beir"
    corpus, queries = (
        {row["_id"]: row for row in map(json.loads, (folder / f"{name}.jsonl").read_text().splitlines())}
        for name in ("corpus", "queries")
    )
    with (folder / "qrels" / "train.tsv").open() as file:
        header, *qrels = csv.reader(file, delimiter="\t")

    assert header == ["query-id", "corpus-id", "score"]
    assert {query for query, _, _ in qrels} == set(train)
    assert all(query in queries and video in corpus and score == "1" for query, video, score in qrels)
    assert all(row["text"] for row in corpus.values())


def test_mteb_gets_what_its_loader_reads_of_the_held_out_queries(exported, tmp_path):
    folder = str(exported / "mteb")
    corpus, queries, qrels = (
        datasets.load_dataset(folder, name, split="test", cache_dir=str(tmp_path))
        for name in ("corpus", "queries", "qrels")
    )
    held_out = {row["query_id"]: row for split, row in tiny_rows()["ranking"] if split == "validation"}

    assert corpus.column_names == ["id", "title", "text"]
    assert set(queries["id"]) == set(held_out) == set(qrels["query-id"])
    assert set(qrels["corpus-id"]) <= set(corpus["id"]) == {row["video_id"] for _, row in tiny_rows()["videos"]}
    compile((exported / "mteb" / "task.py").read_text(), "task.py", "exec")


class Hub:
    """What of the Hub's client a push calls, written down."""

    endpoint = "https://hub.example"

    def __init__(self):
        self.done = []

    def __call__(self):
        return self

    def create_repo(self, name, **options):
        self.done.append((name, options))

    def upload_folder(self, *, folder_path, allow_patterns, **options):
        self.done.append((folder_path, sorted(allow_patterns), options["repo_id"], options["repo_type"]))


def test_an_output_is_pushed_with_what_its_manifest_lists_and_an_export_with_what_it_wrote(
    exported, monkeypatch, capsys
):
    hub, out = Hub(), exported / "out"
    monkeypatch.setattr("huggingface_hub.HfApi", hub)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    (out / "labels.jsonl").touch()
    listed = [file.path for file in read_manifest(str(out)).files]

    assert main(["export", "parquet", str(out), "--push", "me/set", "--private"]) == 0
    assert main(["export", "beir", str(out), "--to", str(exported / "again"), "--push", "me/beir"]) == 0

    made, uploaded, made_too, uploaded_too = hub.done
    assert made == ("me/set", {"repo_type": "dataset", "private": True, "exist_ok": True})
    assert uploaded == (str(out), sorted([*listed, "manifest.json"]), "me/set", "dataset")
    assert made_too[1]["private"] is False
    assert uploaded_too[1] == sorted(
        ["corpus.jsonl", "queries.jsonl", "qrels/train.tsv", "qrels/dev.tsv", "SOURCE.json"]
    )
    said = capsys.readouterr()
    assert "https://hub.example/datasets/me/set" in said.out
    assert "hf_secret" not in said.out + said.err


def test_a_push_that_the_hub_refuses_is_one_line(exported, monkeypatch, capsys):
    def refuse(*_, **__):
        raise OSError("401\nUnauthorized")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)

    assert main(["export", "parquet", str(exported / "out"), "--push", "me/set"]) == 2
    said = capsys.readouterr().err
    assert said == "hardquery: cannot push to me/set: 401 Unauthorized; is there a key? hf auth login\n"
    assert main(["export", "parquet", str(exported / "out")]) == 2
    assert "the output is parquet already; --push OWNER/NAME uploads it" in capsys.readouterr().err


class Point:
    """An entry point of another distribution."""

    def __init__(self, name, export):
        self.name, self.load = name, lambda: export


def test_another_distribution_adds_a_format_and_takes_the_place_of_none(exported, tmp_path, monkeypatch, capsys):
    asked = []
    points = [Point(name, lambda *given: asked.append(given) or [f"{given[1]}/ids.txt"]) for name in ("ids", "beir")]
    monkeypatch.setattr("pipeline.outputs.export.formats.entry_points", lambda group: points)
    out, to = str(exported / "out"), str(tmp_path / "to")

    assert main(["export", "ids", out, "--to", to, "--video-dir", "/videos"]) == 0
    assert asked == [(out, to, "/videos", False)]
    assert capsys.readouterr().out == f"{to}/ids.txt\n"
    assert main(["export", "beir", out, "--to", to]) == 0
    assert len(asked) == 1
    assert main(["export", "idz", out]) == 2
    assert "did you mean 'ids'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def by_video(made_once):
    return str(made_once("exported_by_video", write_tiny_by_video))


def test_groups_of_one_video_are_rows_where_a_row_is_a_pair(by_video, tmp_path):
    tables = read_manifest(by_video).tables(by_video)
    groups = [row["candidates"] for row in tables.rows("ranking_by_video", part="train")]
    for name in ("sentence-transformers", "trl"):
        EXPORTS[name](by_video, str(tmp_path / name), "/videos", False)

    pairs = loaded(tmp_path, "sentence-transformers", "pairs_by_video_train.jsonl", tmp_path)
    talks = loaded(tmp_path, "trl", "by_video_train.jsonl", tmp_path)

    assert pairs["query"] == [each["query"] for group in groups for each in group]
    assert [label > 0.5 for label in pairs["label"]] == [each["label"] == 1 for group in groups for each in group]
    assert all(len({row["passage"] for row in pairs.select(range(at, at + 3))}) == 1 for at in range(0, len(pairs), 3))
    answers = [row["completion"][0]["content"][0]["text"].rpartition("\n")[2] for row in talks]
    assert answers == ["<answer>yes</answer>", "<answer>no</answer>", "<answer>no</answer>"] * len(groups)
    assert all(len({tuple(row["videos"]) for row in talks.select(range(at, at + 3))}) == 1 for at in range(0, 9, 3))


def test_a_format_without_a_place_for_them_says_how_many_it_leaves_out(by_video, exported, tmp_path, capsys):
    assert main(["export", "tevatron", by_video, "--to", str(tmp_path / "a")]) == 0
    count = read_manifest(by_video).tables(by_video).count("ranking_by_video")
    assert f"{count} groups of one video are left out: tevatron has no place" in capsys.readouterr().err

    assert main(["export", "trl", by_video, "--to", str(tmp_path / "b")]) == 0
    assert main(["export", "tevatron", str(exported / "out"), "--to", str(tmp_path / "c")]) == 0
    assert capsys.readouterr().err == ""
    assert not list((tmp_path / "c").glob("*by_video*"))


@pytest.fixture(scope="module")
def without_groups(made_once):
    return str(made_once("without_groups", lambda folder: write_tiny(folder, tiny_rows() | {"ranking": []})))


@pytest.mark.parametrize("name", [name for name in EXPORTS if name != "clamr"])  # which first wants judge.necessity
def test_an_export_that_would_hold_no_example_says_so_and_writes_nothing(name, without_groups, tmp_path, capsys):
    assert main(["export", name, without_groups, "--to", str(tmp_path / "to")]) == 2

    said = capsys.readouterr()
    assert said.err == (
        f"hardquery: {without_groups} holds no ranking group: an export would hold no example "
        "(its rejections say why)\n"
    )
    assert said.out == ""
    assert not (tmp_path / "to").exists()


def test_a_task_without_queries_that_are_held_out_says_so(tmp_path, capsys):
    rows = tiny_rows()
    rows["ranking"] = [("train", row) for _, row in rows["ranking"]]
    write_tiny(tmp_path / "out", rows)

    assert main(["export", "mteb", str(tmp_path / "out"), "--to", str(tmp_path / "to")]) == 2
    assert "holds no query out: a task would have none (emit.validation_fraction)" in capsys.readouterr().err
