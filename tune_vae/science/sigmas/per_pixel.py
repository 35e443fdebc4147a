"""A scale for each value of each image, from the decoder."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.sigmas import Scale, Sigma, check_positive, soft_bounds

__all__ = ["DecodedScale", "PerPixel"]


@dataclass(frozen=True)
class PerPixel(Sigma):
    r"""Log sigma as one more output of the decoder for each value.

    $$ \log \sigma = \log \sigma_0 + f(z) $$

    with f the decoder's output and $\sigma_0$ the start. It has soft bounds at -6 and 6: a
    density has no largest value, so that without the lower one a decoder that meets a pixel
    exactly would be paid without end for it; the upper one, far beyond any use, keeps a
    decoder that explodes finite.

    The paper found that one shared scale often gives better images.

    References:
        | Rybkin et al. (2021), section 4
        | https://arxiv.org/abs/2006.13202
        | Diagnosing and Enhancing VAE Models (Dai & Wipf, 2019), on scales that run to 0
        | https://arxiv.org/abs/1903.05789
        | Leveraging the Exact Likelihood of Deep Latent Variable Models (Mattei & Frellsen, 2018)
        | https://arxiv.org/abs/1802.04826

    Arguments:
        start: $\sigma_0$, sigma where the decoder answers 0, positive and finite. An untrained
            decoder answers near 0.

    Example:
        >>> PerPixel(start=0.5).build((1, 8, 8)).log_start
        tensor(-0.6931)
    """

    start: float = 1.0

    params_per_value: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_positive("start", self.start)

    def build(self, shape: tuple[int, int, int]) -> Scale:
        return DecodedScale(start=self.start)

    def pack_key(self) -> object:
        return PerPixel


class DecodedScale(Scale):
    """Log sigma from the decoder, with soft bounds at -6 and 6.

    Arguments:
        start: Sigma where the decoder answers 0.
    """

    log_start: Tensor

    def __init__(self, *, start: float) -> None:
        super().__init__()
        self.register_buffer("log_start", torch.tensor(math.log(start)))

    def forward(self, x: Tensor, params: Tensor, free: Tensor, likelihood: Likelihood) -> Tensor:
        return soft_bounds(self.log_start + free[:, 0])
