"""Runs are read as their lines say, however they are cut into blocks and whatever parts their columns."""

import pytest

from pipeline.outputs.errors import UnreadableOutput
from pipeline.outputs.run_lines import blocks, qrels_of, rankings
from transforms.storage.trec import TrecError

RUN = "".join(f"q{q} Q0 v{rank * q % 7} {rank} {9.25 - rank} tag\n" for q in (1, 2, 11, 3) for rank in (1, 2, 3))
DUE = {f"q{q}": [(f"v{r * q % 7}", r, 9.25 - r) for r in (1, 2, 3)] for q in (1, 2, 11, 3)}


def read(folder, text, size=1 << 20):
    (folder / "run.trec").write_text(text, newline="")
    return [
        (query, block.placed(i)) for block in blocks(str(folder), size=size) for i, query in enumerate(block.queries)
    ]


@pytest.mark.parametrize("size", [1, 20, 64, 100, 1000])
def test_a_query_is_in_one_block_however_small_blocks_are(tmp_path, size):
    assert dict(read(tmp_path, RUN, size)) == DUE
    assert len(read(tmp_path, RUN, size)) == len(DUE)
    assert dict(rankings(str(tmp_path))) == DUE


@pytest.mark.parametrize(
    "other",
    [RUN.replace(" ", "\t"), RUN.replace("\n", "\r\n"), RUN.replace(" Q0 ", "  Q0 "), RUN.rstrip("\n"), f" {RUN}"],
    ids=["tabs", "carriage returns", "two spaces", "no last newline", "a space before"],
)
def test_white_space_of_any_kind_parts_columns(tmp_path, other):
    assert dict(read(tmp_path, other)) == DUE


@pytest.mark.parametrize(
    "line",
    [
        "q9 Q0 v 1 2.0",
        "q9 Q0 v 1 2.0 tag more",
        "q9 Q0 a\tb 1 2.0 tag",
        "q9 Q0 a\u00a0b 1 2.0 tag",
        "q9 Q0  1 2.0 tag",
        "q9 Q0 v 1 2.0 ",
        "q9 Q0 v 1.0 2.0 tag",
        "q9 Q0 v 0x1 2.0 tag",
        "q9 Q0 v one 2.0 tag",
        "q9 Q0 v 1 high tag",
        "q9 Q0 v 9223372036854775808 2.0 tag",
        "",
    ],
)
def test_a_line_of_another_form_is_named_and_what_is_before_it_is_read(tmp_path, line):
    (tmp_path / "run.trec").write_text(f"{RUN}{line}\nq4 Q0 v 1 2.0 tag\n")
    found = []

    with pytest.raises(UnreadableOutput, match="line 13: must be 'qid Q0 docid rank score tag'"):
        found.extend(rankings(str(tmp_path)))

    assert dict(found) == DUE


def test_what_only_python_reads_as_numbers_is_read(tmp_path):
    assert read(tmp_path, "q Q0 v +1 1_0.5 tag\nq Q0 w 2 nan tag\n")[0][1][0] == ("v", 1, 10.5)


def test_ids_of_any_letters_are_read(tmp_path):
    assert read(tmp_path, "запрос Q0 视频 1 2.0 tag\n") == [("запрос", [("视频", 1, 2.0)])]


def test_qrels_are_read_by_columns_or_as_they_are(tmp_path):
    qrels = tmp_path / "qrels.trec"
    for text in ("q 0 a 1\nq 0 b 0\n", "q\t0\ta\t1\n\nq 0 b 0.0\n", "\ufeffq 0 a 1\nq 0 b 0\n"):
        qrels.write_text(text)
        assert qrels_of(str(tmp_path)) == {"q": {"a": 1, "b": 0}}

    qrels.write_text("q 0 a 1\nq 0 a 1\n")
    with pytest.raises(TrecError, match="listed twice"):
        qrels_of(str(tmp_path))
