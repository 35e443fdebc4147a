"""Coin flip per value, with the decoder's output as its log-odds."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from tune_vae.science.likelihoods import Likelihood, Measure

__all__ = ["Bernoulli"]


@dataclass(frozen=True)
class Bernoulli(Likelihood):
    r"""Bernoulli distribution with logit $\eta$, also known as binary cross-entropy.

    $$ \log p(x) = x \log s(\eta) + (1 - x) \log s(-\eta),\quad s(\eta) = 1 / (1 + e^{-\eta}) $$

    A probability for binary data only. On grey values the formula still trains a network, but
    its number is not normalised (Loaiza-Ganem & Cunningham, 2019, https://arxiv.org/abs/1907.06845)
    and is never ranked.

    Example:
        >>> Bernoulli().log_prob(torch.ones(1, 1), torch.zeros(1, 1, 1), torch.tensor(0.0)).exp()
        tensor([[0.5000]])
    """

    def measure(self, levels: int | None) -> Measure:
        return Measure.MASS if levels == 2 else Measure.IMPROPER

    def log_prob(self, x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        logit = params[:, 0]
        # x * logit - softplus(logit) is cheaper by one function and wrong for a logit beyond 20,
        # where torch's softplus answers the logit itself.
        return x * logsigmoid(logit) + (1 - x) * logsigmoid(-logit)

    def mean(self, params: Tensor) -> Tensor:
        return params[:, 0].sigmoid()

    def sample(self, params: Tensor, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(self.mean(params), generator=generator)
