"""One scale for each place in an example, learned with the weights."""

from dataclasses import dataclass

from tune_vae.science.sigmas import Scale, Sigma, check_positive, soft_bounds
from tune_vae.science.sigmas.shared import LearnedScale

__all__ = ["PerGene"]


@dataclass(frozen=True)
class PerGene(Sigma):
    r"""A learned log sigma for each of the N values of an example, the same in all examples.

    For counts sigma is the coefficient of variation beyond Poisson, the root of the dispersion:
    $\mathrm{Var}\,x = \mu + \sigma^2 \mu^2$. One for each gene is the `gene` dispersion of scVI,
    whose inverse dispersion $\theta = \sigma^{-2}$ starts at random around 1, where sigma starts
    here too.

    Log sigma has soft bounds at -6 and 6. Near the lower one counts are as good as Poisson;
    the upper one is for genes that are 0 in all cells, which push sigma up for ever.

    References:
        | Deep generative modeling for single-cell transcriptomics (Lopez et al., 2018)
        | https://doi.org/10.1038/s41592-018-0229-2

    Arguments:
        start: Sigma of every value before training, positive and finite.

    Example:
        >>> PerGene().build((2000, 1, 1)).free_log_sigma.shape
        torch.Size([2000, 1, 1])
    """

    start: float = 1.0

    def __post_init__(self) -> None:
        check_positive("start", self.start)

    def build(self, shape: tuple[int, int, int]) -> Scale:
        return LearnedScale(shape, start=self.start, bound=soft_bounds)

    def pack_key(self) -> object:
        return PerGene
