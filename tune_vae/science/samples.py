r"""How near a set of generated images is to a set of real ones.

Both scores look at the images in a space that is fitted to the training images alone, so that
every trial of a study is measured with the same rule, without a network and without labels.

Shapes: n, m examples, N values of one image, D directions.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from tune_vae.errors import DataError

__all__ = ["Overlap", "PrincipalSpace", "frechet_distance", "overlap", "sample_distance"]

DEGENERATE = 1e-6
"""A direction whose variance is a smaller share of the largest is no direction of the data."""

ROWS = 512
"""Examples whose distances to all others are held at once."""


@dataclass(frozen=True, eq=False)
class PrincipalSpace:
    r"""The first principal components of the data, each scaled to unit variance.

    $$ h = \Lambda^{-1/2} U^\top (x - \bar x),\quad \mathrm{Cov}(x) \approx U \Lambda U^\top $$

    Arguments:
        centre_N: Mean image $\bar x$, float64.
        basis_ND: $U \Lambda^{-1/2}$, float64.

    Example:
        >>> x = torch.randn(100, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> x[..., 0, 0] = 1.0
        >>> space = PrincipalSpace.fit(x)
        >>> space.project(x).shape
        torch.Size([100, 15])
        >>> space.project(x).std(0)[:3]
        tensor([1.0000, 1.0000, 1.0000], dtype=torch.float64)
    """

    centre_N: Tensor
    basis_ND: Tensor

    @classmethod
    @torch.no_grad()
    def fit(cls, x: Tensor, *, directions: int = 50) -> Self:
        """The space of some images.

        Arguments:
            x: Training images, `[n, ...]`; some thousand suffice. The time grows with the third
                power of n or of N, whichever is smaller.
            directions: D, at least 1; fewer if the data vary in fewer.

        Raises:
            DataError: All images are the same.
        """
        if directions < 1:
            raise ValueError(f"directions must be at least 1, got {directions}")
        x_nN = x.flatten(1).double()
        centre_N = x_nN.mean(0)
        centred_nN = x_nN - centre_N
        count, values = centred_nN.shape
        # The two products share their eigenvalues; the smaller one is decomposed.
        wide = count < values
        product = centred_nN @ centred_nN.T if wide else centred_nN.T @ centred_nN
        squares, vectors = torch.linalg.eigh(product)
        squares, vectors = squares.flip(0)[:directions], vectors.flip(1)[:, :directions]
        kept = int((squares > DEGENERATE * squares[0]).sum())
        if not kept:
            raise DataError(
                f"{count} images that are all the same have no principal components; "
                "give images that differ"
            )
        squares, vectors = squares[:kept], vectors[:, :kept]
        unit_ND = centred_nN.T @ vectors / squares.sqrt() if wide else vectors
        return cls(centre_N, unit_ND * (count - 1) ** 0.5 / squares.sqrt())

    @property
    def directions(self) -> int:
        """D."""
        return self.basis_ND.shape[1]

    def project(self, x: Tensor) -> Tensor:
        """Coordinates of images `[n, ...]`, shape `nD`, float64."""
        return (x.flatten(1).double() - self.centre_N) @ self.basis_ND


def frechet_distance(a_nD: Tensor, b_mD: Tensor) -> Tensor:
    r"""Squared Fréchet distance of two sets, as if both were normally distributed.

    $$ \|\mu_a - \mu_b\|^2 + \mathrm{tr}\,(C_a + C_b)
       - 2\, \mathrm{tr}\,(C_a^{1/2} C_b C_a^{1/2})^{1/2} $$

    No matrix has its root taken: with $C_a = R_a^\top R_a$ from a QR decomposition of the
    centred set, the last trace is the sum of the singular values of $R_a R_b^\top$. So nothing
    is squared and rounded, and sets of fewer than D examples do no harm.

    References:
        | The Fréchet distance between multivariate normal distributions (Dowson & Landau, 1982)
        | https://doi.org/10.1016/0047-259X(82)90077-X

    Arguments:
        a_nD, b_mD: Two sets of at least 2 examples each.

    Returns:
        Scalar, at least 0 but for rounding, float64; NaN if a value is not finite.

    Example:
        >>> a = torch.tensor([[-1.0], [1.0]])
        >>> frechet_distance(a, 3 * a + 5)  # 5², and (3 - 1)² times the variance 2
        tensor(33., dtype=torch.float64)
    """
    for set_nD in (a_nD, b_mD):
        if len(set_nD) < 2:
            raise ValueError(f"a set of {len(set_nD)} has no covariance; give at least 2 examples")
    finite = a_nD.isfinite().all() & b_mD.isfinite().all()
    # The decompositions raise on what is not finite.
    a_nD, b_mD = (torch.where(finite, x.double(), 0.0) for x in (a_nD, b_mD))
    shift_D = a_nD.mean(0) - b_mD.mean(0)
    root_a, root_b = _root_of_covariance(a_nD), _root_of_covariance(b_mD)
    overlap = torch.linalg.svdvals(root_a @ root_b.mT).sum()
    distance = shift_D.square().sum() + root_a.square().sum() + root_b.square().sum() - 2 * overlap
    return torch.where(finite, distance, torch.nan)


def _root_of_covariance(x_nD: Tensor) -> Tensor:
    """A triangle R with $R^T R$ the covariance."""
    centred_nD = (x_nD - x_nD.mean(0)) / (len(x_nD) - 1) ** 0.5
    root: Tensor = torch.linalg.qr(centred_nD).R
    return root


def sample_distance(space: PrincipalSpace, real: Tensor, generated: Tensor) -> Tensor:
    r"""Squared Fréchet distance of generated from real images in the whitened principal space.

    Smaller is better. Each direction counts in units of the data's own spread in it, so that
    detail weighs as much as the coarse shape.

    It knows means and covariances only: draws from a normal distribution with those of the data
    score like real images, though none of them looks real. `overlap` in the same space tells
    them apart.

    It is biased upwards: two sets of n from the same normal distribution are about
    $D(D + 5) / 2n$ apart, 1.4 with 1,000 images and D = 50. The bias is the same for all trials
    of a study because both sets must have the same size; numbers of different sizes or data
    sets compare with nothing.

    References:
        | GANs Trained by a Two Time-Scale Update Rule (Heusel et al., 2017), for the distance
        | https://arxiv.org/abs/1706.08500

    Arguments:
        space: Fitted on training images.
        real: Held-out images, `[n, ...]`.
        generated: As many generated ones. Whether they are the decoder's means or draws from it
            changes the score; treat all trials alike.

    Returns:
        Scalar, float64; NaN if a value is not finite.
    """
    if len(real) != len(generated):
        raise ValueError(
            f"the score depends on the sizes of the sets, so they must be equal; got {len(real)} "
            f"real and {len(generated)} generated images"
        )
    return frechet_distance(space.project(real), space.project(generated))


class Overlap(NamedTuple):
    """How two sets fill each other's neighbourhoods.

    Attributes:
        coverage: Share of the real examples that have a generated one in their neighbourhood,
            in [0, 1]. What the generator leaves out lowers it.
        density: In how many real neighbourhoods a generated example lies, over k; at least 0,
            and above 1 where generated examples crowd where real ones do. What does not look
            real lowers it.
    """

    coverage: Tensor
    density: Tensor


def overlap(real_nD: Tensor, generated_mD: Tensor, *, neighbours: int = 5) -> Overlap:
    r"""Coverage and density of a generated set.

    The neighbourhood of a real example is the ball that reaches its k-th nearest other real
    example. In a small set these balls are wide: in 50 directions the neighbourhoods of a few
    hundred images nearly all hold the mean image, which then covers them. So coverage is read
    beside the distance and never alone.

    Two sets of n from the same distribution have the expected coverage
    $1 - \prod_{j=0}^{k-1} \frac{n-1-j}{2n-1-j}$, 0.97 for k = 5, and the expected density 1.

    References:
        | Reliable Fidelity and Diversity Metrics for Generative Models (Naeem et al., 2020)
        | https://arxiv.org/abs/2002.09797

    Arguments:
        real_nD: More than k real examples in a space where distances have a meaning, such as
            the principal space.
        generated_mD: Generated examples.
        neighbours: k, at least 1.

    Returns:
        Scalars, float64; NaN if a value is not finite.

    Example:
        >>> real = torch.arange(10.0)[:, None]
        >>> coverage, density = overlap(real, real[:5] + 0.1, neighbours=1)
        >>> round(coverage.item(), 6), density.item()
        (0.6, 2.0)
    """
    if not 1 <= neighbours < len(real_nD):
        raise ValueError(
            f"neighbours must be from 1 to {len(real_nD) - 1} for {len(real_nD)} real examples, "
            f"got {neighbours}"
        )
    covered, inside = [], []
    for start in range(0, len(real_nD), ROWS):
        chunk_nD = real_nD[start : start + ROWS]
        # One more, because each example is its own nearest.
        radius = _distances(chunk_nD, real_nD).kthvalue(neighbours + 1, dim=1, keepdim=True).values
        within = _distances(chunk_nD, generated_mD) <= radius
        covered.append(within.any(1))
        inside.append(within.sum(1))
    coverage = torch.cat(covered).double().mean()
    density = torch.cat(inside).double().sum() / (neighbours * len(generated_mD))
    finite = real_nD.isfinite().all() & generated_mD.isfinite().all()
    return Overlap(*(torch.where(finite, score, torch.nan) for score in (coverage, density)))


def _distances(a_nD: Tensor, b_mD: Tensor) -> Tensor:
    # Through a matrix product, the distance of an example from itself would not be 0.
    return torch.cdist(a_nD.double(), b_mD.double(), compute_mode="donot_use_mm_for_euclid_dist")
