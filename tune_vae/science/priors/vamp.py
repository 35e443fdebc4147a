"""The mixture of posteriors of learned pseudo-inputs."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from tune_vae.science.priors import Components, Encode, Prior, PriorModel

__all__ = ["Vamp"]


@dataclass(frozen=True)
class Vamp(Prior):
    r"""VampPrior: $p(z) = \sum_c \pi_c\, q(z | u_c)$ with pseudo-inputs $u_c$ that are learned.

    The best prior for a given encoder is its posterior averaged over the data; this is that
    average over C made-up examples instead. Each step encodes them beside the batch, and the
    encoder learns from both.

    Pseudo-inputs are what the encoder sees. They are kept in the range of the data by a link on
    numbers that are drawn from a standard normal and then learned: a sigmoid for values in
    [0, 1], a softplus for logarithms of counts. The components begin nearly alike, because to an
    untrained encoder noise is noise, and part within some hundred steps. In training, dropout
    applies to pseudo-inputs as to any example.

    With more than one component the rate is an estimate; see `Components.rate_nats`.

    References:
        | VAE with a VampPrior (Tomczak & Welling, 2018)
        | https://arxiv.org/abs/1705.07120

    Arguments:
        components: C, at least 1. The paper takes 500, for images of 28×28 in long trainings.
        learned_weights: Whether the weights are learned; else each is 1/C, as in the paper.

    Example:
        >>> prior = Vamp(components=3).build((1, 8, 8), 2)
        >>> prior(lambda x: (x.sum((2, 3)), x.sum((2, 3)))).mean_CM.shape
        torch.Size([3, 1])
    """

    components: int = 50
    learned_weights: bool = False

    encodes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.components < 1:
            raise ValueError(f"components must be at least 1, got {self.components}")

    def build(
        self, shape: tuple[int, int, int], latent_dim: int, *, counts: bool = False
    ) -> PriorModel:
        return VampPrior(
            self.components, shape, learned_weights=self.learned_weights, counts=counts
        )


class VampPrior(PriorModel):
    logits: Tensor

    def __init__(
        self,
        components: int,
        shape: tuple[int, int, int],
        *,
        learned_weights: bool,
        counts: bool,
    ) -> None:
        super().__init__()
        self.counts = counts
        self.free_inputs = nn.Parameter(torch.randn(components, *shape))
        if learned_weights:
            self.logits = nn.Parameter(torch.zeros(components))
        else:
            self.register_buffer("logits", torch.zeros(components))

    def inputs(self) -> Tensor:
        """The pseudo-inputs, `[C, ...]`, as an encoder sees examples."""
        return softplus(self.free_inputs) if self.counts else self.free_inputs.sigmoid()

    def forward(self, encode: Encode) -> Components:
        mean_CM, log_variance_CM = encode(self.inputs())
        return Components(mean_CM, log_variance_CM, self.logits.log_softmax(0))
