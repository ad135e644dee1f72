import math

import numpy as np
import pytest

from tests.support.vectors import asked, ragged, unit
from transforms.protocols.embed import Embedding
from transforms.search.late_interaction import mean_max_sim, search_tokens
from transforms.search.pack import Pack, open_pack, write_pack
from transforms.search.pooling import pooled_by_ward, pooled_in_order
from transforms.search.tokens import decoded

DIMS = 48
ENTRIES = ragged(400, levels=2, dims=DIMS)
QUERIES = asked(9, 8, DIMS)


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Pack:
    path = str(tmp_path_factory.mktemp("late") / "pack")
    write_pack(path, ENTRIES)
    return open_pack(path)


def by_whole_numbers(pack: Pack, query: np.ndarray) -> list[float]:
    """Scores of a query with all documents: sums of 64-bit integers, and one fp32 multiplication a product."""
    scale = math.floor((2**24 / (127 * math.sqrt(DIMS)) - math.sqrt(DIMS) / 2) / (1 + 2**-22))
    placed = np.rint(query.astype(np.float64) * scale).astype(np.int64)
    tokens, scores = pack.tokens, []
    for document in range(len(pack)):
        total = 0
        for level in range(2):
            group = 2 * document + level
            rows = slice(tokens.starts[group], tokens.starts[group + 1])
            products = tokens.codes[rows].astype(np.int64) @ placed.T
            assert abs(products).max() <= 2**24
            cosines = products.astype(np.float32) * tokens.scales[rows, None]
            total += sum(round(1024 * float(largest)) for largest in cosines.max(axis=0))
        scores.append(total / (len(query) * scale * 1024))
    return scores


def test_scores_are_those_of_whole_numbers_in_64_bits(pack):
    assert mean_max_sim(pack.tokens, QUERIES).tolist() == [by_whole_numbers(pack, query) for query in QUERIES]


def test_the_best_are_in_order_with_ties_in_the_order_of_rows(pack):
    hits = search_tokens(pack.tokens, None, QUERIES, 30, 2000, [None] * len(QUERIES))

    tied = 0
    for hit, query in zip(hits, QUERIES, strict=True):
        scores = by_whole_numbers(pack, query)
        assert hit.rows.tolist() == sorted(range(len(scores)), key=lambda row: (-scores[row], row))[:30]
        assert hit.scores.tolist() == [scores[row] for row in hit.rows]
        tied += sum(np.diff(hit.scores) == 0)
    assert tied > 0


@pytest.mark.parametrize(("columns", "block"), [(1, 1), (10, 50), (1000, 100_000)])
def test_scores_have_the_same_bytes_for_any_block(pack, columns, block):
    assert np.array_equal(
        mean_max_sim(pack.tokens, QUERIES, columns=columns, block=block), mean_max_sim(pack.tokens, QUERIES)
    )


def test_the_score_is_the_sum_over_levels_of_the_mean_of_largest_cosines(pack):
    def exact(query: np.ndarray, document: Embedding) -> float:
        levels = np.split(document.vectors.astype(np.float64), np.cumsum(document.levels)[:-1])
        return sum(float((query.astype(np.float64) @ level.T).max(axis=1).mean()) for level in levels)

    expected = [[exact(query, document) for _, document in ENTRIES] for query in QUERIES]
    assert np.abs(mean_max_sim(pack.tokens, QUERIES) - expected).max() < 0.01  # int8 codes
    again = [
        (video_id, Embedding(decoded_of(pack, row), ENTRIES[row][1].levels))
        for row, (video_id, _) in enumerate(ENTRIES)
    ]
    expected = [[exact(query, document) for _, document in again] for query in QUERIES]
    assert np.abs(mean_max_sim(pack.tokens, QUERIES) - expected).max() < 2e-4  # the query's grid


def decoded_of(pack: Pack, row: int) -> np.ndarray:
    bounds = pack.tokens.document_starts
    return decoded(pack.tokens.codes[bounds[row] : bounds[row + 1]])


def test_sentence_transformers_maxsim_of_normalised_lengths_is_the_score_of_a_level(tmp_path):
    import torch
    from sentence_transformers.util import similarity

    path = str(tmp_path / "pack")
    write_pack(path, ragged(60, levels=1, dims=DIMS))
    pack = open_pack(path)

    documents = [torch.from_numpy(decoded_of(pack, row)) for row in range(len(pack))]
    theirs = similarity.maxsim(list(map(torch.from_numpy, QUERIES)), documents, length_normalize=True)

    assert np.abs(mean_max_sim(pack.tokens, QUERIES) - theirs.numpy()).max() < 1e-4  # the query's grid


def test_two_stages_are_one_where_the_first_takes_all(pack):
    wanted = list(range(len(QUERIES)))

    one = search_tokens(pack.tokens, None, QUERIES, 25, 2000, wanted)
    two = search_tokens(pack.tokens, pack.pooled, QUERIES, 25, len(pack), wanted)

    for a, b in zip(one, two, strict=True):
        assert (a.rows.tolist(), a.scores.tolist(), a.wanted) == (b.rows.tolist(), b.scores.tolist(), b.wanted)


def test_two_stages_rank_by_full_scores_what_pooled_vectors_find(pack):
    hits = search_tokens(pack.tokens, pack.pooled, QUERIES, 20, 60, [None] * len(QUERIES))

    full, pooled = mean_max_sim(pack.tokens, QUERIES), mean_max_sim(pack.pooled, QUERIES)
    for hit, scores, rough in zip(hits, full, pooled, strict=True):
        chosen = np.argsort(-rough, kind="stable")[:60]
        assert hit.rows.tolist() == sorted(chosen.tolist(), key=lambda row: (-scores[row], row))[:20]
        assert hit.scores.tolist() == scores[hit.rows].tolist()


def test_a_positive_is_scored_though_the_first_stage_misses_it_and_changes_no_candidate(pack):
    full, pooled = mean_max_sim(pack.tokens, QUERIES), mean_max_sim(pack.pooled, QUERIES)
    last = np.argmin(pooled, axis=1).tolist()

    named = search_tokens(pack.tokens, pack.pooled, QUERIES, 20, 60, last)
    unnamed = search_tokens(pack.tokens, pack.pooled, QUERIES, 20, 60, [None] * len(QUERIES))

    assert [hit.wanted for hit in named] == [row[own] for row, own in zip(full, last, strict=True)]
    for a, b, own in zip(named, unnamed, last, strict=True):
        assert (a.rows.tolist(), a.scores.tolist()) == (b.rows.tolist(), b.scores.tolist())
        assert own not in a.rows


def test_vectors_are_pooled_in_order_to_means_of_parts_of_nearly_equal_length():
    vectors = np.arange(20, dtype=np.float32).reshape(10, 2)

    assert pooled_in_order(vectors, 4)[:, 0].tolist() == [2.0, 7.0, 12.0, 17.0]  # of 3, 2, 3 and 2
    assert pooled_in_order(vectors[:2], 4).tolist() == vectors[:2].tolist()


def test_vectors_that_cancel_out_are_pooled_to_the_first():
    assert pooled_in_order(np.array([[1, 0], [-1, 0]], np.float32), 1).tolist() == [[1.0, 0.0]]


def test_wards_clusters_are_those_of_sentence_transformers_and_in_the_order_of_time():
    import torch
    from sentence_transformers.multi_vector_encoder.modules import token_pooling as pooling

    rng = np.random.default_rng(0)
    centres = rng.standard_normal((12, 32))
    vectors = unit(centres[rng.integers(0, 12, 160)] + 0.4 * rng.standard_normal((160, 32)))

    ours = unit(pooled_by_ward(vectors, 20))

    theirs = pooling.HierarchicalTokenPooling(8, num_protected_tokens=0).pool_one(torch.from_numpy(vectors)).numpy()
    assert ours.shape == theirs.shape == (20, 32)
    matches = ours @ theirs.T
    assert sorted(matches.argmax(axis=1)) == list(range(20))
    assert matches.max(axis=1).min() > 1 - 1e-5
    owners = (vectors @ ours.T).argmax(axis=1)
    assert owners[0] == 0  # the first vector's cluster comes first


def test_wards_clusters_keep_equal_vectors_together_and_a_small_document_whole():
    one, other, third = np.eye(3, dtype=np.float32)
    vectors = np.stack([third, one, other, one, third, third])

    assert pooled_by_ward(vectors, 3).tolist() == np.stack([third, one, other]).tolist()
    assert pooled_by_ward(vectors, 6).tolist() == vectors.tolist()
    assert pooled_by_ward(vectors, 1).shape == (1, 3)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        pooled_by_ward(vectors, 0)
