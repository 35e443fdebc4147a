"""One probability for every grey level."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tune_vae.science.bins import check_levels, draw_index
from tune_vae.science.likelihoods import Likelihood, Measure

__all__ = ["Categorical"]


@dataclass(frozen=True)
class Categorical(Likelihood):
    r"""Categorical distribution over the levels, which knows nothing of their order.

    $$ \log P(x = k / (L - 1)) = \eta_k - \log \sum_j e^{\eta_j} $$

    The decoder gives L logits for each value, so that its last layer and the memory of a
    training step are L times those of other likelihoods.

    References:
        | Pixel Recurrent Neural Networks (van den Oord et al., 2016), section 3.3
        | https://arxiv.org/abs/1601.06759

    Arguments:
        levels: L, number of grey levels of the data, at least 2.

    Example:
        >>> zero = torch.zeros(())
        >>> Categorical(levels=4).log_prob(torch.ones(1, 1), torch.zeros(1, 4, 1), zero).exp()
        tensor([[0.2500]])
    """

    levels: int = 256

    def __post_init__(self) -> None:
        check_levels(self.levels)

    @property
    def params_per_value(self) -> int:
        return self.levels

    def measure(self, levels: int | None) -> Measure:
        return Measure.MASS if levels == self.levels else Measure.IMPROPER

    def log_prob(self, x: Tensor, params: Tensor, log_sigma: Tensor) -> Tensor:
        level = (x * (self.levels - 1)).round().long().clamp(0, self.levels - 1)
        return params.log_softmax(1).gather(1, level.unsqueeze(1)).squeeze(1)

    def mean(self, params: Tensor) -> Tensor:
        grid = torch.linspace(0, 1, self.levels, dtype=params.dtype, device=params.device)
        return (params.softmax(1).movedim(1, -1) * grid).sum(-1)

    def sample(self, params: Tensor, log_sigma: Tensor, generator: torch.Generator) -> Tensor:
        return draw_index(params, generator).squeeze(1).to(params.dtype) / (self.levels - 1)
