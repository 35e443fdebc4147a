"""A scale for each gene in each cell, from the decoder."""

from dataclasses import dataclass
from typing import ClassVar

from tune_vae.science.sigmas import Scale, Sigma, check_positive
from tune_vae.science.sigmas.per_pixel import DecodedScale

__all__ = ["PerGeneCell"]


@dataclass(frozen=True)
class PerGeneCell(Sigma):
    r"""`per_pixel` under the name that it has for counts, the `gene-cell` dispersion of scVI.

    Sigma is the coefficient of variation beyond Poisson: $\mathrm{Var}\,x = \mu + \sigma^2
    \mu^2$, so that the inverse dispersion $\theta = \sigma^{-2}$ of an untrained decoder is near
    1, as in scVI. Log sigma has soft bounds at -6, where counts are as good as Poisson, and 6.

    References:
        | Deep generative modeling for single-cell transcriptomics (Lopez et al., 2018)
        | https://doi.org/10.1038/s41592-018-0229-2

    Arguments:
        start: Sigma where the decoder answers 0, positive and finite.
    """

    start: float = 1.0

    params_per_value: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_positive("start", self.start)

    def build(self, shape: tuple[int, int, int]) -> Scale:
        return DecodedScale(start=self.start)

    def pack_key(self) -> object:
        return PerGeneCell
