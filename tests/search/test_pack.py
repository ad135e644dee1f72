import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from schemas.fingerprint import sha256_file
from schemas.query import Candidates
from tests.support.vectors import asked, clustered, ragged, unit
from transforms.protocols.embed import Embedding
from transforms.search.array_file import ArrayWriter
from transforms.search.late_interaction import mean_max_sim
from transforms.search.pack import NotAPack, Pack, check_pack, open_pack, write_pack
from transforms.search.search import SearchOptions, search_many
from transforms.search.tokens import decoded, encoded
from transforms.search.vector_file import NotVectors, read_vectors, write_vectors

EXHAUSTIVE = SearchOptions()
TWO_STAGES = SearchOptions(first=40, exhaustive_below=0)


def of_one_vector(vectors: np.ndarray) -> list[tuple[str, Embedding]]:
    return [(f"v{row:05}", Embedding(vectors[row : row + 1], (1,))) for row in range(len(vectors))]


def packed(folder: Path, entries: list[tuple[str, Embedding]], space: str = "") -> Pack:
    write_pack(str(folder / "a.pack"), entries, space)
    return open_pack(str(folder / "a.pack"))


def embeddings(queries) -> list[Embedding]:
    return [Embedding(query, (len(query),)) for query in queries]


def test_a_single_vector_comes_back_bit_for_bit(tmp_path):
    _, (vector, *_) = clustered(1, 1, 64)
    write_vectors(str(tmp_path / "v.npz"), Embedding.of(vector))

    again = read_vectors(str(tmp_path / "v.npz"))

    assert (again.vectors.tobytes(), again.levels) == (Embedding.of(vector).vectors.tobytes(), (1,))


def test_several_vectors_come_back_as_directions_of_a_byte_a_coordinate(tmp_path):
    ((_, embedding),) = ragged(1, levels=2, dims=64)
    path = str(tmp_path / "v.npz")
    write_vectors(path, embedding)

    again = read_vectors(path)

    assert again.levels == embedding.levels
    assert np.abs(np.linalg.norm(again.vectors, axis=1) - 1).max() < 1e-6
    assert (again.vectors * embedding.vectors).sum(axis=1).min() > 0.9998
    assert os.path.getsize(path) < embedding.vectors.size + 800
    write_vectors(str(tmp_path / "again.npz"), again)
    assert sha256_file(str(tmp_path / "again.npz")) == sha256_file(path)  # codes of codes are the same


def test_codes_use_the_whole_byte_and_refuse_what_has_no_direction():
    codes = encoded(np.array([[0.5, -1.0, 0.25], [1e-30, 0, 0]]))

    assert codes.tolist() == [[64, -127, 32], [127, 0, 0]]
    assert decoded(codes)[1].tolist() == [1.0, 0.0, 0.0]
    for senseless in (0.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="zero or not finite"):
            encoded(np.full((1, 3), senseless))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"not at all\n", "cut in half", "of another kind"])
def test_a_file_that_is_no_vector_file_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "v.npz"
    write_vectors(str(path), ragged(1, levels=1, dims=64)[0][1])
    if content == "of another kind":
        np.savez(path, words=np.arange(3))
    else:
        path.write_bytes(content if isinstance(content, bytes) else path.read_bytes()[:400])

    with pytest.raises(NotVectors, match=r"v\.npz is no vector file") as refused:
        read_vectors(str(path))
    assert "\n" not in str(refused.value)


def test_there_is_no_vector_file_where_there_is_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_vectors(str(tmp_path / "v.npz"))


def test_a_pack_of_single_vectors_is_searched_by_cosine(tmp_path):
    queries, documents = clustered(300, 8, 64)
    pack = packed(tmp_path, of_one_vector(documents), "of these")

    found = search_many(pack, embeddings(queries[:, None]), 10, EXHAUSTIVE, ["v00007"] * 8)

    assert (len(pack), pack.space, pack.dims, pack.vectors.tobytes()) == (300, "of these", 64, documents.tobytes())
    for query, one in zip(queries.astype(np.float64), found, strict=True):
        cosines = documents.astype(np.float64) @ query
        rows = sorted(range(300), key=lambda row: (-np.round(cosines[row], 12), row))[:10]
        assert one.candidates.video_ids == tuple(f"v{row:05}" for row in rows)
        assert one.candidates.scores == pytest.approx(cosines[rows], abs=1e-7)
        assert one.positive_score == pytest.approx(cosines[7], abs=1e-7)


def test_a_pack_of_several_vectors_a_document_is_searched_by_mean_max_sim(tmp_path):
    entries, queries = ragged(120, levels=2, dims=32), asked(5, 6, 32)
    pack = packed(tmp_path, entries)

    found = search_many(pack, embeddings(queries), 10, EXHAUSTIVE, ["v00119", None, "elsewhere", "v00000", None])

    scores = mean_max_sim(pack.tokens, queries)
    for row, one in zip(scores, found, strict=True):
        assert list(one.candidates.scores) == sorted(row, reverse=True)[:10]
    assert [one.positive_score for one in found] == [scores[0][119], None, None, scores[3][0], None]


def test_candidates_do_not_depend_on_the_positive_that_is_named(tmp_path):
    entries, queries = ragged(120, levels=2, dims=32), embeddings(asked(5, 6, 32))
    pack = packed(tmp_path, entries)
    for options in (EXHAUSTIVE, TWO_STAGES):
        named = search_many(pack, queries, 10, options, ["v00100"] * 5)
        unnamed = search_many(pack, queries, 10, options)
        assert [one.candidates for one in named] == [one.candidates for one in unnamed]
        assert all(one.positive_score is not None for one in named)


def test_the_first_stage_takes_no_fewer_than_are_asked_for(tmp_path):
    pack = packed(tmp_path, ragged(120, levels=1, dims=32))

    (found,) = search_many(pack, embeddings(asked(1, 6, 32)), 100, TWO_STAGES)

    assert len(found.candidates) == 100


def test_a_query_finds_the_same_alone_and_in_company(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    vectors, (single, *_) = clustered(80, 1, 32)[1], clustered(80, 1, 32)[0]
    queries = [Embedding.of(single), *embeddings(asked(4, 6, 32))]
    for pack in (packed(one, of_one_vector(vectors)), packed(two, ragged(80, levels=1, dims=32))):
        for options in (EXHAUSTIVE, TWO_STAGES):
            together = search_many(pack, queries, 20, options, ["v00003"] * 5)
            alone = [search_many(pack, [query], 20, options, ["v00003"])[0] for query in queries]
            assert together == alone


def test_documents_of_one_vector_are_coded_where_any_has_several(tmp_path):
    _, vectors = clustered(3, 1, 32)
    entries = of_one_vector(vectors)
    entries[1] = ("v00001", Embedding(vectors[:2], (2,)))

    pack = packed(tmp_path, entries)

    assert pack.vectors is None
    assert pack.tokens.starts.tolist() == [0, 1, 3, 4]
    assert pack.tokens.codes.tolist() == encoded(vectors[[0, 0, 1, 2]]).tolist()


def test_the_first_stages_vectors_are_four_a_level_or_all_there_are(tmp_path):
    embedding = Embedding.of(np.random.default_rng(0).standard_normal((11, 16)), (8, 3))

    pack = packed(tmp_path, [("a", embedding)])

    assert pack.pooled.starts.tolist() == [0, 4, 7]
    means = unit(embedding.vectors[:8].reshape(4, 2, 16).mean(axis=1))
    assert (decoded(pack.pooled.codes)[:4] * means).sum(axis=1).min() > 0.999
    assert pack.pooled.codes[4:].tolist() == encoded(embedding.vectors[8:]).tolist()


def test_the_same_entries_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_pack(str(tmp_path / name), ragged(20, levels=2, dims=16), "space")
    assert sha256_file(str(tmp_path / "a")) == sha256_file(str(tmp_path / "b"))


def test_an_empty_pack_finds_nothing(tmp_path):
    pack = packed(tmp_path, [])

    (found,) = search_many(pack, [Embedding.of(np.ones(4))], 5, EXHAUSTIVE, ["v"])

    assert (len(pack), found.candidates, found.positive_score) == (0, Candidates(), None)
    assert search_many(pack, [], 5, EXHAUSTIVE) == []


def test_a_query_of_another_space_is_refused(tmp_path):
    pack = packed(tmp_path, of_one_vector(clustered(3, 1, 32)[1]))

    with pytest.raises(ValueError, match="a query of 16 dimensions for a pack of 32"):
        search_many(pack, [Embedding.of(np.ones(16))], 5, EXHAUSTIVE)


ONE = Embedding.of(np.ones(4))


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([("b", ONE), ("a", ONE)], "'a' comes after 'b'"),
        ([("a", ONE), ("a", ONE)], "'a' comes after 'a'"),
        ([("a", ONE), ("b", Embedding.of(np.ones(5)))], "'b' has 5 dimensions and 1 levels, 'a' 4 and 1"),
        ([("a", ONE), ("b", Embedding.of(np.ones((2, 4)), (1, 1)))], "'b' has 4 dimensions and 2 levels, 'a' 4 and 1"),
        ([("a\nb", ONE)], "is no id"),
        ([("", ONE)], "is no id"),
        ([("a", Embedding(np.ones((1, 4), np.float32), (1,)))], "'a' has a vector whose length is not 1"),
        ([("a", Embedding(np.full((1, 4), np.nan, np.float32), (1,)))], "'a' has a vector whose length is not 1"),
    ],
)
def test_entries_that_are_no_corpus_are_refused_and_nothing_is_left(tmp_path, entries, reason):
    with pytest.raises(ValueError, match=reason):
        write_pack(str(tmp_path / "p"), entries)
    assert list(tmp_path.iterdir()) == []


def damaged(path: Path, how: str) -> None:
    whole = path.read_bytes()
    if how == "foreign":
        path.write_bytes(b"\x7fELF" + whole)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "other arrays":
        with path.open("wb") as stream:
            writer = ArrayWriter(stream)
            writer.add("words", np.arange(3))
            writer.finish({})
    else:  # an array said to be larger than the file
        path.write_bytes(whole.replace(b'"shape": [20, ', b'"shape": [29, '))


@pytest.mark.parametrize("how", ["foreign", "empty", "cut", "other arrays", "wrong shape"])
def test_a_file_that_is_no_pack_is_named_in_one_line(tmp_path, how):
    write_pack(str(tmp_path / "p"), of_one_vector(clustered(20, 1, 32)[1]))
    damaged(tmp_path / "p", how)

    with pytest.raises(NotAPack, match=r"/p is no pack: ") as refused:
        open_pack(str(tmp_path / "p"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("levels", [1, 2])
def test_a_bit_that_turned_anywhere_in_a_pack_is_found(tmp_path, levels):
    entries = of_one_vector(clustered(3, 1, 8)[1]) if levels == 1 else ragged(3, levels=levels, dims=8)
    write_pack(str(tmp_path / "p"), entries)
    whole = (tmp_path / "p").read_bytes()
    check_pack(io.BytesIO(whole), "p")

    for place in range(len(whole)):
        turned = bytearray(whole)
        turned[place] ^= 1 << place % 8
        with pytest.raises(NotAPack, match="p is no pack: its bytes are not those that were written"):
            check_pack(io.BytesIO(turned), "p")
    for cut in (whole[:-1], whole[:40], b""):
        with pytest.raises(NotAPack):
            check_pack(io.BytesIO(cut), "p")


def test_search_needs_no_beam(tmp_path):
    modules = [f"transforms.search.{path.stem}" for path in Path("transforms/search").glob("[a-z]*.py")]
    write_pack(str(tmp_path / "p"), ragged(5, levels=1, dims=8))
    code = f"""
import sys
sys.modules["apache_beam"] = None
import importlib
for module in {modules}:
    importlib.import_module(module)
from transforms.search.pack import open_pack
from transforms.search.search import SearchOptions, search_many
from transforms.protocols.embed import Embedding
import numpy as np
(found,) = search_many(open_pack({str(tmp_path / "p")!r}), [Embedding.of(np.ones(8))], 3, SearchOptions())
print(len(found.candidates))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (run.stdout.strip(), run.stderr) == ("3", "")
    assert len(modules) >= 9
