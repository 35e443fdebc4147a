"""One scale for each colour, learned with the weights."""

from dataclasses import dataclass

from tune_vae.science.sigmas import Scale, Sigma, check_positive
from tune_vae.science.sigmas.shared import LearnedScale

__all__ = ["PerChannel"]


@dataclass(frozen=True)
class PerChannel(Sigma):
    r"""A learned log sigma per channel, each with a soft lower bound at -6.

    Colours that are harder to predict get a wider scale. With one channel it is `shared`, and
    like there Adam moves each by about one learning rate per step. Where a single number is
    reported, it is the geometric mean.

    References:
        | Rybkin et al. (2021), section 4.1, with one scale per channel instead of one for all
        | https://arxiv.org/abs/2006.13202

    Arguments:
        start: Sigma of every channel before training, positive and finite.

    Example:
        >>> PerChannel(start=0.5).build((3, 32, 32)).free_log_sigma.shape
        torch.Size([3, 1, 1])
    """

    start: float = 1.0

    def __post_init__(self) -> None:
        check_positive("start", self.start)

    def build(self, shape: tuple[int, int, int]) -> Scale:
        return LearnedScale((shape[0], 1, 1), start=self.start)

    def pack_key(self) -> object:
        return PerChannel
