"""A scale for each image, stated at its own price."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tune_vae.science.bins import gaussian_log_mass
from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.sigmas import LOWEST, Scale, Sigma, soft_lower_bound
from tune_vae.science.sigmas.optimal import check_decay, share_of_newest

__all__ = ["PerImage"]


@dataclass(frozen=True)
class PerImage(Sigma):
    r"""The most probable scale of each image alone, as a latent of its own.

    A scale that is fitted to the image it scores must be told to the decoder. Log sigma is
    rounded to a grid $s_i = -6 + i\delta$, $i = 0, 1, \dots$, and stating its cell costs
    $-\log P(s_i)$ under a normal prior of log sigma, counted cell by cell, whose mean and
    variance are running averages over training batches. Since

    $$ p(x|z) = \sum_i P(s_i)\, p(x|z, s_i) \ge P(s)\, p(x|z, s) $$

    for every s of the grid, distortion and code together are an upper bound of
    $-\log p(x|z)$, in evaluation as in training: a posterior of s that is a single point.

    The step. Of N values with a Gaussian error the Fisher information of log sigma is 2N, so
    that a scale off by $\epsilon$ costs $N \epsilon^2$ nats; rounding is off by
    $\delta^2 / 12$ in the mean square. A cell of width $\delta$ has a probability in proportion
    to $\delta$. Hence

    $$ \text{cost} = \frac{N \delta^2}{12} - \log \delta + \dots,\quad
       \frac{N \delta}{6} = \frac{1}{\delta},\quad \delta = \sqrt{6 / N}, $$

    where rounding costs half a nat per image. Other likelihoods have other informations (N for
    a Laplace distribution, whose best step is wider by $\sqrt 2$ and would save 0.1 nats).

    All of it has a derivative of 0, or is detached: of the optimum, because it is one; of the
    code, because it is constant within a cell.

    References:
        | Rybkin et al. (2021), appendix on a variance for each image
        | https://arxiv.org/abs/2006.13202
        | Modeling by Shortest Data Description (Rissanen, 1978), on the precision of parameters
        | https://doi.org/10.1016/0005-1098(78)90005-5
        | Keeping Neural Networks Simple (Hinton & van Camp, 1993), on codes in two parts
        | https://doi.org/10.1145/168304.168306

    Arguments:
        decay: Weight of the past in the running averages, in [0, 1). The first batches are
            averaged evenly until their number exceeds 1 / (1 - decay).

    Example:
        >>> round(PerImage().build((1, 28, 28)).step, 4)
        0.0875
    """

    decay: float = 0.98

    needs_optimal_scale: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_decay(self.decay)

    def build(self, shape: tuple[int, int, int]) -> Scale:
        return PerImageScale(self.decay, values=math.prod(shape))


class PerImageScale(Scale):
    """Rounded scales and their prior.

    Attributes:
        step: δ.
        mean, variance: Of log sigma over images. Before any training the prior spans scales
            from the bound to well above the range of images.
        batches: Number of training batches seen.
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, decay: float, *, values: int) -> None:
        super().__init__()
        self.decay = decay
        self.step = math.sqrt(6 / values)
        self.register_buffer("mean", torch.tensor(-2.0))
        self.register_buffer("variance", torch.tensor(4.0))
        self.register_buffer("batches", torch.tensor(0.0))

    def forward(self, x: Tensor, params: Tensor, free: Tensor, likelihood: Likelihood) -> Tensor:
        best_B = torch.vmap(likelihood.optimal_log_sigma)(x[:, None], params.detach()[:, None])
        log_sigma_B = soft_lower_bound(best_B)
        if self.training:
            self._add_to_prior(log_sigma_B)
        return (LOWEST + self.step * self._cell(log_sigma_B)).reshape(-1, 1, 1, 1)

    def code_nats(self, log_sigma: Tensor) -> Tensor:
        # Cells are counts from 0 on, with all that lies below the first one in it.
        mean = (self.mean - LOWEST) / self.step
        # No prior is narrower than the error of one estimate, 1 / (2N) = δ² / 12 in the square.
        variance = (self.variance / self.step**2).clamp(min=1 / 12)
        cell_B = self._cell(log_sigma).flatten()
        return -gaussian_log_mass(cell_B, mean, 0.5 * variance.log(), levels=None)

    def _cell(self, log_sigma: Tensor) -> Tensor:
        return ((log_sigma - LOWEST) / self.step).round()

    def _add_to_prior(self, log_sigma_B: Tensor) -> None:
        self.batches.add_(1.0)
        share = share_of_newest(self.batches, self.decay)
        away = log_sigma_B.mean() - self.mean
        # The variance of a mixture: within the parts, and of their means.
        within = log_sigma_B.var(correction=0) - self.variance
        self.variance.add_(share * (within + (1 - share) * away.square()))
        self.mean.add_(share * away)
