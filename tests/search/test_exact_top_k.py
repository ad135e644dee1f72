import os
import subprocess
import sys
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest

from tests.support.vectors import clustered, ragged, unit
from transforms.search.grid import grid_scale, on_grid
from transforms.search.pack import write_pack
from transforms.search.top_k import best, top_k

QUERIES, DOCUMENTS = clustered(3000, 20, 96)


def by_whole_numbers(grid: str, k: int) -> list[tuple[list[int], list[float]]]:
    """The k best of every query, by Python's own integers and sorting."""
    asked, placed = (on_grid(vectors, grid).astype(np.int64) for vectors in (QUERIES, DOCUMENTS))
    unit_of_scores = grid_scale(grid, 96) ** 2
    found = []
    for query in asked:
        scores = (placed @ query).tolist()
        rows = sorted(range(len(scores)), key=lambda row: (-scores[row], row))[:k]
        found.append((rows, [scores[row] / unit_of_scores for row in rows]))
    return found


@pytest.mark.parametrize("grid", ["grid64", "grid32"])
def test_the_best_are_those_of_whole_numbers_in_64_bits_with_ties_in_the_order_of_rows(grid):
    hits = top_k(QUERIES, DOCUMENTS, 50, grid)

    expected = by_whole_numbers(grid, 50)
    assert [(hit.rows.tolist(), hit.scores.tolist()) for hit in hits] == expected
    tied = sum(a == b for _, scores in expected for a, b in pairwise(scores))
    assert tied >= 20  # the same document twice


@pytest.mark.parametrize(("grid", "off"), [("grid64", 2e-8), ("grid32", 1e-3)])
def test_scores_are_cosines_as_near_as_the_grid_is(grid, off):
    hits = top_k(QUERIES, DOCUMENTS, 10, grid)

    exact = QUERIES.astype(np.float64) @ DOCUMENTS.astype(np.float64).T
    assert max(np.abs(hit.scores - row[hit.rows]).max() for hit, row in zip(hits, exact, strict=True)) < off


def test_a_wanted_document_is_scored_wherever_it_ranks():
    wanted = [int(np.argmin(DOCUMENTS @ query)) for query in QUERIES[:3]]

    hits = top_k(QUERIES[:4], DOCUMENTS, 5, wanted=[*wanted, None])

    everything = top_k(QUERIES[:3], DOCUMENTS, len(DOCUMENTS))
    assert [hit.wanted for hit in hits] == [*(hit.scores[-1] for hit in everything), None]
    assert all(row not in hit.rows for row, hit in zip(wanted, hits, strict=False))


def test_on_the_grid_no_unit_vector_is_longer_than_its_products_allow():
    rng = np.random.default_rng(0)
    for dims in (1, 3, 384, 4096):
        vectors = unit(np.concatenate([rng.standard_normal((50, dims)), np.ones((1, dims)), np.eye(dims)[:1]]))
        for grid, most in (("grid32", 2**24), ("grid64", 2**53)):
            placed = on_grid(vectors, grid).astype(np.float64)
            assert (placed == np.rint(placed)).all()
            assert np.square(placed).sum(axis=1).max() <= most


def test_the_cut_that_a_sample_suggests_loses_nothing():
    rng = np.random.default_rng(0)
    many_ties = np.floor(rng.exponential(20, 5000))
    ascending = np.arange(5000.0)
    hidden = np.where(np.arange(5000) % 16 == 1, 1.0, 0.0)  # the sample sees none of the best
    for scores in (many_ties, ascending, hidden, np.zeros(5000)):
        for k in (1, 10, 150, 4999, 6000):
            expected = sorted(range(5000), key=lambda place: (-scores[place], place))[:k]
            assert best(scores, k).tolist() == expected


# Kernels of OpenBLAS and what a processor needs for each; another one would end the process.
KERNELS = {"Prescott": "pni", "Nehalem": "sse4_2", "Sandybridge": "avx", "Haswell": "avx2", "SkylakeX": "avx512vl"}


def test_results_have_the_same_bytes_for_any_kernel_threads_and_blocks(tmp_path):
    about = Path("/proc/cpuinfo")
    flags = set(about.read_text().split()) if about.exists() else set()
    kernels = [kernel for kernel, flag in KERNELS.items() if flag in flags][-3:]
    if len(kernels) < 3:
        pytest.skip("OpenBLAS has fewer than three kernels for this processor")
    pack = str(tmp_path / "pack")
    write_pack(pack, ragged(400, levels=2, dims=48))
    exact, plain = set(), set()
    for kernel, threads in product(kernels, ("1", "2")):
        blas = {"OPENBLAS_CORETYPE": kernel, "OPENBLAS_NUM_THREADS": threads, "PYTHONPATH": os.pathsep.join(sys.path)}
        env = {**os.environ, **blas}
        run = subprocess.run(
            [sys.executable, "-m", "tests.support.search_digest", pack],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        lines = [line.split() for line in run.stdout.splitlines()]
        assert len(lines) == 3  # block sizes
        exact |= {line[0] for line in lines}
        plain |= {line[1] for line in lines}

    assert len(exact) == 1
    assert len(plain) > 1  # the kernels do differ
