r"""The largest eigenvalues of the covariance of data.

Shapes: n rows, b rows of a batch, N values, l width of the sketch.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["EXACT_VALUES", "Spectrum", "largest_eigenvalue", "spectrum"]

EXACT_VALUES = 1024
"""Up to so many values the whole covariance is kept; beyond, a sketch of it."""


@dataclass(frozen=True)
class Spectrum:
    """What is known of the covariance of data.

    Arguments:
        eigenvalues: The largest, in falling order, none negative.
        total: Sum of all N eigenvalues, which is the sum of the values' variances.
        values: N.
        rows: Examples that were seen.
    """

    eigenvalues: tuple[float, ...]
    total: float
    values: int
    rows: int

    def beyond(self, count: int) -> float:
        """Sum of the eigenvalues after the first `count`."""
        return max(0.0, self.total - sum(self.eigenvalues[:count]))

    def directions(self, share: float) -> int | None:
        """The fewest that hold this share of the variance; None if more than are known do."""
        held = itertools.accumulate(self.eigenvalues)
        enough = (n for n, sum_ in enumerate(held, 1) if sum_ >= share * self.total)
        return next(enough, None)


def largest_eigenvalue(away_nN: Tensor) -> Tensor:
    """Largest eigenvalue of the covariance of centred data that are all at hand, a scalar."""
    # Both products have the same eigenvalues but for zeros; the smaller one is decomposed.
    wide = len(away_nN) < away_nN.shape[1]
    small = away_nN @ away_nN.T if wide else away_nN.T @ away_nN
    eigenvalues: Tensor = torch.linalg.eigvalsh(small)
    return eigenvalues[-1] / len(away_nN)


def spectrum(batches: Iterable[Tensor], count: int, *, seed: int = 0) -> Spectrum:
    r"""The `count` largest eigenvalues of the covariance of rows that pass by once.

    Of more than `EXACT_VALUES` values only a sketch $Y = C\,\Omega$ of the covariance C is
    accumulated, with $\Omega$ random and orthonormal, and C is approached from it (Nyström):

    $$ \hat C = Y (\Omega^T Y)^{-1} Y^T $$

    whose eigenvalues never exceed those of C. The width of the sketch is l = 3 `count` + 32, its
    memory 2·N·l numbers whatever the number of rows. Where the spectrum falls slowly the last
    eigenvalues come out too small.

    Arguments:
        batches: Rows, shape `[b, ...]`, in the same units; any number of batches of any size.
        count: How many eigenvalues are wanted; there may be fewer values than that.
        seed: Of the sketch.

    Raises:
        ValueError: There are no rows, or they hold numbers that are not finite.

    References:
        | Fixed-Rank Approximation of a Positive-Semidefinite Matrix from Streaming Data (Tropp
        | et al., 2017), https://arxiv.org/abs/1706.05736

    Example:
        >>> spectrum([torch.tensor([[2.0, 0.0], [-2.0, 0.0]])], 1)
        Spectrum(eigenvalues=(4.0,), total=4.0, values=2, rows=2)
    """
    rows = 0
    for batch in batches:
        x_bN = batch.flatten(1).double()
        if not rows:
            values = x_bN.shape[1]
            # Near the mean, so that what is subtracted in the end does not drown what remains.
            origin_N = x_bN.mean(0)
            basis_Nl = _basis(values, count, seed).to(x_bN.device)
            sketch_Nl = torch.zeros_like(basis_Nl)
            sum_N, squares_N = torch.zeros_like(origin_N), torch.zeros_like(origin_N)
        x_bN = x_bN - origin_N
        sketch_Nl += x_bN.T @ (x_bN @ basis_Nl)
        sum_N += x_bN.sum(0)
        squares_N += x_bN.square().sum(0)
        rows += len(x_bN)
    if not rows:
        raise ValueError("there are no rows to take a spectrum of")
    if not squares_N.isfinite().all():
        raise ValueError("the rows hold numbers that are not finite")
    mean_N = sum_N / rows
    sketch_Nl = sketch_Nl / rows - torch.outer(mean_N, mean_N @ basis_Nl)
    found = _eigenvalues(sketch_Nl, basis_Nl)[:count].clamp(min=0)
    return Spectrum(
        eigenvalues=tuple(found.tolist()),
        total=float((squares_N / rows - mean_N.square()).clamp(min=0).sum()),
        values=values,
        rows=rows,
    )


def _basis(values: int, count: int, seed: int) -> Tensor:
    """Ω: everything, if that is not too much, else random directions."""
    width = 3 * count + 32
    if values <= max(EXACT_VALUES, width):
        return torch.eye(values, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(values, width, generator=generator, dtype=torch.float64)
    basis: Tensor = torch.linalg.qr(gaussian).Q
    return basis


def _eigenvalues(sketch_Nl: Tensor, basis_Nl: Tensor) -> Tensor:
    """Of the Nyström approximation, falling. The sketch of everything is the covariance itself."""
    values, width = sketch_Nl.shape
    if values == width:
        exact: Tensor = torch.linalg.eigvalsh(sketch_Nl)
        return exact.flip(0)
    # A shift keeps the core positive definite; it is taken off again at the end.
    shift = torch.finfo(torch.float64).eps ** 0.5 * sketch_Nl.norm()
    shifted_Nl = sketch_Nl + shift * basis_Nl
    core_ll = basis_Nl.T @ shifted_Nl
    if not shift:
        return sketch_Nl.new_zeros(width)
    factor_ll = torch.linalg.cholesky(0.5 * (core_ll + core_ll.T))
    half_Nl = torch.linalg.solve_triangular(factor_ll, shifted_Nl.T, upper=False).T
    approached: Tensor = torch.linalg.svdvals(half_Nl).square() - shift
    return approached
