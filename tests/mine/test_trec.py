import gzip
from itertools import pairwise
from pathlib import Path

import ir_measures
import pytest
from ir_measures import RR, P, nDCG

from schemas.query import Candidate
from transforms.storage.trec import (
    TrecError,
    qrels_lines,
    queries_lines,
    read_qrels,
    read_queries,
    read_run,
    run_lines,
    write_lines,
)


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_run_is_read_best_first_whatever_its_order_and_ranks(tmp_path: Path):
    path = written(
        tmp_path / "run.trec",
        "q2 Q0 b 1 0.5 tag\nq1 Q0 b 7 1e1 tag\n\nq1  Q0\ta 3 -2.5 tag\nq1 Q0 c 9 11 tag\n",
    )
    assert read_run(path) == {
        "q2": [Candidate("b", 1, 0.5)],
        "q1": [Candidate("c", 1, 11.0), Candidate("b", 2, 10.0), Candidate("a", 3, -2.5)],
    }


def test_equal_scores_keep_their_stated_rank_then_the_smaller_id(tmp_path: Path):
    path = written(tmp_path / "run", "q Q0 a 2 1 t\nq Q0 c 1 1 t\nq Q0 d 1 1 t\n")
    assert [c.video_id for c in read_run(path)["q"]] == ["c", "d", "a"]


def test_a_gzipped_run_is_unpacked(tmp_path: Path):
    path = tmp_path / "run.trec.gz"
    path.write_bytes(gzip.compress(b"q Q0 a 1 1 t\n"))
    assert read_run(str(path)) == {"q": [Candidate("a", 1, 1.0)]}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("q Q0 a 1 1.0", "must be 'qid Q0 docid rank score tag'"),
        ("q Q0 a b 1 1.0 t", "must be 'qid Q0 docid rank score tag'"),
        ("q Q0 a first 1.0 t", "rank and score must be numbers, got 'first' '1.0'"),
        ("q Q0 a 1 high t", "rank and score must be numbers, got '1' 'high'"),
        ("q Q0 a 1 nan t", "the score must be finite, got 'nan'"),
        ("q Q0 x 2 0.5 t", "'x' of 'q' is listed twice"),
    ],
)
def test_a_bad_line_of_a_run_is_named_with_its_file_and_number(tmp_path: Path, line: str, what: str):
    path = written(tmp_path / "bad.trec", f"q Q0 x 1 1.0 t\n\n{line}\n")
    with pytest.raises(TrecError) as error:
        read_run(path)
    assert str(error.value).startswith(f"{path}, line 3: {what}")


def test_what_is_not_text_is_named_with_its_line(tmp_path: Path):
    path = tmp_path / "run.trec"
    path.write_bytes(b"q Q0 a 1 1.0 t\nq Q0 \xff 2 0.5 t\n")
    with pytest.raises(TrecError, match="line 2: not UTF-8"):
        read_run(str(path))


@pytest.mark.parametrize("read", [read_run, read_qrels, read_queries])
def test_a_missing_file_is_named(tmp_path: Path, read):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.trec"):
        read(str(tmp_path / "nowhere.trec"))


def test_qrels_are_read_and_their_faults_named(tmp_path: Path):
    assert read_qrels(written(tmp_path / "a", "q 0 v 1\nq 0 w -1\np 0 v 2\n")) == {
        "q": {"v": 1, "w": -1},
        "p": {"v": 2},
    }
    for line, what in (("q 0 v", "must be"), ("q 0 v 0.5", "rel must be a whole number"), ("q 0 v 0", "listed twice")):
        path = written(tmp_path / "b", f"q 0 v 1\n{line}\n")
        with pytest.raises(TrecError, match=f"line 2: .*{what}"):
            read_qrels(path)


def test_queries_are_read_and_their_faults_named(tmp_path: Path):
    assert read_queries(written(tmp_path / "a", "\ufeffq1\twho  won\tthe cup \r\nq2\t火箭\n")) == {
        "q1": "who  won\tthe cup",
        "q2": "火箭",
    }
    for line, what in (("q2 text", "id<TAB>text"), ("q2\t ", "id<TAB>"), ("q 2\tx", "id<TAB>"), ("q1\tx", "twice")):
        path = written(tmp_path / "b", f"q1\tx\n{line}\n")
        with pytest.raises(TrecError, match=f"line 2: .*{what}"):
            read_queries(path)


def test_whole_numbers_written_with_a_point_are_whole_numbers(tmp_path: Path):
    assert read_qrels(written(tmp_path / "a", "q 0 v 1.0\nq 0 w 0.0\nq 0 x -1e0\n")) == {"q": {"v": 1, "w": 0, "x": -1}}
    for line in ("q 0 v nan", "q 0 v inf", "q 0 v high"):
        with pytest.raises(TrecError, match="rel must be a whole number"):
            read_qrels(written(tmp_path / "b", line))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.csv", 'Query_id,query\nq1,"where did the flood, the great one, happen"\nq2,who won\n'),
        ("q.tsv", "\ufeffquery-id\ttext\nq1\twhere did the flood, the great one, happen\nq2\twho won\n"),
        ("q.tsv", "q1\twhere did the flood, the great one, happen\nq2\twho won\n"),
        (
            "q.jsonl",
            '{"_id": "q1", "text": "where did the flood, the great one, happen"}\n{"_id": "q2", "text": "who won"}',
        ),
    ],
)
def test_queries_are_read_as_public_collections_have_them(tmp_path: Path, name: str, text: str):
    expected = {"q1": "where did the flood, the great one, happen", "q2": "who won"}
    assert read_queries(written(tmp_path / name, text)) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "j.jsonl",
            '{"query_id": "q", "doc_id": "v", "relevance": 1}\n{"query_id": "q", "doc_id": "w", "relevance": 0.0}',
        ),
        ("j.csv", "query_id,doc_id,relevance\nq,v,1\nq,w,0\n"),
        ("j.tsv", "query-id\tcorpus-id\tscore\nq\tv\t1\nq\tw\t0\n"),
        ("j.tsv", "q\t0\tv\t1\nq\t0\tw\t0\n"),
    ],
)
def test_qrels_are_read_as_public_collections_have_them(tmp_path: Path, name: str, text: str):
    assert read_qrels(written(tmp_path / name, text)) == {"q": {"v": 1, "w": 0}}


def test_a_table_without_the_columns_that_are_needed_names_them(tmp_path: Path):
    with pytest.raises(TrecError, match=r"line 2: needs a value in each of the columns query_id, doc_id, relevance"):
        read_qrels(written(tmp_path / "j.csv", "query_id,doc\nq,v\n"))
    with pytest.raises(TrecError, match=r"j\.jsonl, line 1: not JSON: JSON is malformed"):
        read_qrels(written(tmp_path / "j.jsonl", "{oops"))
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        read_qrels(str(tmp_path / "none.csv"))


def test_a_gzipped_table_is_unpacked(tmp_path: Path):
    path = tmp_path / "q.csv.gz"
    path.write_bytes(gzip.compress(b"qid,query\nq1,who won\n"))
    assert read_queries(str(path)) == {"q1": "who won"}


def test_what_is_written_is_sorted_and_reads_back_the_same(tmp_path: Path):
    run = {"q2": [Candidate("b", 1, 0.1)], "q1": [Candidate("z", 1, 1 / 3), Candidate("a", 2, -1e-9)]}
    qrels = {"q2": {"b": 1}, "q1": {"z": 1, "a": 0}}
    path = str(tmp_path / "deep" / "file")
    write_lines(path, run_lines(run, "bm25"))
    assert Path(path).read_text().splitlines() == [
        "q1 Q0 z 1 0.3333333333333333 bm25",
        "q1 Q0 a 2 -1e-09 bm25",
        "q2 Q0 b 1 0.1 bm25",
    ]
    assert read_run(path) == run
    write_lines(path, qrels_lines(qrels))
    assert read_qrels(path) == qrels
    write_lines(path, queries_lines({"q2": "two\tthree\nfour ", "q1": "x"}))
    assert read_queries(path) == {"q1": "x", "q2": "two three four"}


def test_every_evaluator_sees_our_ranks_where_scores_tie(tmp_path: Path):
    tied = [Candidate(v, i + 1, s) for i, (v, s) in enumerate([("a", 1.0), ("b", 1.0), ("c", 1 - 1e-12), ("d", 0.5)])]
    path = str(tmp_path / "run")
    write_lines(path, run_lines({"q": tied}, "t"))
    scores = [c.score for c in read_run(path)["q"]]
    assert scores[0] == 1.0
    assert scores[3] == 0.5
    assert scores == sorted(scores, reverse=True)
    assert scores[2] == pytest.approx(1.0, rel=1e-6)
    run = list(ir_measures.read_trec_run(path))
    for rank, relevant in enumerate("abcd", start=1):
        found = ir_measures.calc_aggregate([RR, RR @ 10, P @ 1, nDCG @ 2], {"q": {relevant: 1}}, run)
        assert found[RR] == found[RR @ 10] == pytest.approx(1 / rank)
        assert found[P @ 1] == (rank == 1)
        assert (found[nDCG @ 2] > 0) == (rank <= 2)


def test_a_thousand_ties_at_zero_stay_apart():
    lines = list(run_lines({"q": [Candidate(f"v{i:04}", i + 1, 0.0) for i in range(1000)]}, "t"))
    scores = [float(line.split()[4]) for line in lines]
    assert all(a > b for a, b in pairwise(scores))
    assert scores[-1] == pytest.approx(0.0, abs=1e-40)
