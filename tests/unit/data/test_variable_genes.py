"""The measure of variable genes against scanpy, a plain loop, and what it should find."""

import math
import statistics

import numpy as np
import pytest
import scipy.sparse

from tune_vae.data.variable_genes import most_variable, residual_variance

cell, gene = np.meshgrid(np.arange(40), np.arange(600), indexing="ij")
MADE = (cell * cell * gene + 3 * gene * gene + cell) % 97 // (11 + gene % 23)
MADE = MADE * ((cell + 2 * gene) % 3 == 0) + 40 * ((cell == 3) & (gene % 50 == 7))

# scanpy 1.11.5: scanpy.experimental.pp.highly_variable_genes(AnnData(MADE),
# flavor="pearson_residuals", n_top_genes=20, inplace=False)
SCANPY_TOP = [46, 69, 92, 115, 116, 139, 161, 184, 232, 254]
SCANPY_TOP += [276, 277, 391, 415, 460, 461, 552, 554, 575, 598]
SCANPY_VARIANCES = [1.87774388, 3.95269231, 2.89132985, 2.97476003, 2.30329615, 3.37970227]


def by_loops(table: list[list[int]], theta: float) -> list[float]:
    """The formula of the paper, one residual after the other."""
    total, bound = sum(map(sum, table)), math.sqrt(len(table))
    variances = []
    for column in zip(*table, strict=True):
        residuals = []
        for value, row in zip(column, table, strict=True):
            mean = sum(row) * sum(column) / total
            residual = (value - mean) / math.sqrt(mean + mean * mean / theta)
            residuals.append(max(-bound, min(bound, residual)))
        variances.append(statistics.pvariance(residuals))
    return variances


def test_scanpy_says_the_same() -> None:
    counts = scipy.sparse.csr_matrix(MADE)
    np.testing.assert_allclose(residual_variance(counts)[:6], SCANPY_VARIANCES, atol=5e-9)
    assert most_variable(counts, 20).tolist() == SCANPY_TOP


@pytest.mark.parametrize("theta", [1.0, 100.0])
@pytest.mark.parametrize("genes", [1, 256, 257, 600])
def test_each_gene_has_its_own_number_however_many_there_are(genes: int, theta: float) -> None:
    table = MADE[:, :genes] + 1
    found = residual_variance(scipy.sparse.csr_matrix(table), theta)
    np.testing.assert_allclose(found, by_loops(table.tolist(), theta), rtol=1e-10)


def test_counting_alone_gives_one_and_more_is_found() -> None:
    """Of genes alike in all cells but two rare ones, which only the first third of cells has."""
    random = np.random.default_rng(0)
    cells, genes, rare = 3000, 60, [17, 41]
    share = np.geomspace(1e-4, 1e-1, genes)
    depth = random.uniform(200, 5000, cells)[:, None]
    mean = depth * share / share.sum()
    mean[:, rare] = depth * 1e-3 * np.where(np.arange(cells) < cells // 3, 3, 0)[:, None]
    counted = random.poisson(mean * random.gamma(100, 1 / 100, mean.shape))
    counts = scipy.sparse.csr_matrix(counted)
    variance = residual_variance(counts)
    others = np.delete(variance, rare)
    # The mean of 3,000 squares of unit variance has a standard error of 0.03 or somewhat more.
    assert np.abs(others - 1).max() < 0.2
    assert abs(others.mean() - 1) < 0.03
    assert most_variable(counts, 2).tolist() == rare
    # Plain variance would be blind to them.
    assert not set(rare) & set(np.argsort(-counted.var(axis=0))[:20])


def test_cells_and_genes_without_a_count_are_no_trouble() -> None:
    table = np.zeros((6, 5))
    table[:5, :3] = np.arange(15).reshape(5, 3) ** 2 % 7
    variance = residual_variance(scipy.sparse.csr_matrix(table))
    assert variance[3:].tolist() == [0, 0]
    assert (variance[:3] > 0).all()
    assert residual_variance(scipy.sparse.csr_matrix((4, 3))).tolist() == [0, 0, 0]


def test_among_equals_the_first_genes_are_kept() -> None:
    twins = np.tile(np.arange(8)[:, None] % 3, (1, 90))
    assert most_variable(scipy.sparse.csr_matrix(twins), 40).tolist() == list(range(40))
