"""Exports for the training libraries of others, read back as those read them."""

import csv
import json

import datasets
import pytest
from tiny_output import tiny_rows, write_tiny

from pipeline.outputs.errors import UnwritableExport
from pipeline.outputs.export.formats import EXPORTS

PEERS = [name for name in EXPORTS if name not in ("rankvideo", "clamr")]  # the latter needs what labels rest on


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
