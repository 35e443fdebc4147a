r"""Probability of a grey level's bin under a continuous distribution, in logarithms.

A value x of L levels stands for the bin $[x - h, x + h]$, $h = 1/(2(L-1))$; the first and the
last bin are open, so that the masses of all levels sum to 1. Counts have no largest value: for
them `levels` is None, $h = 1/2$, and only the bin of 0 is open.

Every formula is exact in both tails, for bins much wider and much narrower than the scale, in
float32 as in float64, and has finite gradients wherever its value is finite. A difference of
distribution functions has none of these virtues.

Lengths below are in units of the scale: c is the distance of a bin's centre from the mean, d is
half the bin's width.
"""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = [
    "bin_width",
    "check_levels",
    "draw_index",
    "gauss_legendre",
    "gaussian_log_mass",
    "laplace_log_mass",
    "log1mexp",
    "log_mass_of_bins",
    "log_of_share",
    "logistic_log_mass",
    "nearest_level",
    "sheppard",
]


def check_levels(levels: int) -> None:
    """Refuse a number of levels that leaves nothing to tell apart."""
    if levels < 2:
        raise ValueError(f"levels must be at least 2, got {levels}")


def bin_width(levels: int | None) -> float:
    """Distance between two neighbouring levels; 1 for counts, whose `levels` is None."""
    return 1 / (levels - 1) if levels else 1.0


def draw_index(logits: Tensor, generator: torch.Generator) -> Tensor:
    """An index along dimension 1, kept as a dimension, with probabilities softmax(logits)."""
    # Of exponential clocks that run at the speed of each probability the first to ring.
    ring = torch.empty_like(logits).exponential_(generator=generator)
    return (logits - ring.log()).argmax(1, keepdim=True)


def gauss_legendre(function: Callable[[float], Tensor], *, points: int = 6) -> Tensor:
    """Mean of a smooth function over [-1, 1], from an even number of points."""
    (node, weight), *others = _nodes(points)
    mean = weight * (function(node) + function(-node))
    for node, weight in others:
        mean = mean + weight * (function(node) + function(-node))
    return mean


@cache
def _nodes(points: int) -> list[tuple[float, float]]:
    """The positive half of the Legendre polynomial's roots, with half their weights."""
    found = []
    for k in range(points // 2, 0, -1):
        root = math.cos(math.pi * (k - 0.25) / (points + 0.5))
        for _ in range(10):  # Newton's method.
            before, value = 1.0, root
            for n in range(2, points + 1):
                before, value = value, ((2 * n - 1) * root * value - (n - 1) * before) / n
            slope = points * (before - root * value) / (1 - root**2)
            root -= value / slope
        found.append((root, 1 / ((1 - root**2) * slope**2)))
    return found


def nearest_level(value: Tensor, *, levels: int) -> Tensor:
    """The level in [0, 1] in whose bin a value lies."""
    return (value.clamp(0, 1) * (levels - 1)).round() / (levels - 1)


def sheppard(squared_error: Tensor, *, levels: int) -> Tensor:
    """Mean squared error of levels, less the variance that their bins add to it.

    At least a quarter of the error, because where bins are wider than errors the difference
    says nothing.
    """
    within_bin = bin_width(levels) ** 2 / 12
    return torch.maximum(squared_error - within_bin, 0.25 * squared_error)


def gaussian_log_mass(x: Tensor, mean: Tensor, log_sigma: Tensor, *, levels: int | None) -> Tensor:
    r"""Log-probability of a bin under a normal distribution.

    $$ \log\left[\Phi\left(\tfrac{x + h - \mu}{\sigma}\right)
               - \Phi\left(\tfrac{x - h - \mu}{\sigma}\right)\right] $$

    Arguments:
        x: Data in [0, 1] on the grid of `levels`, or counts.
        mean: Means, broadcastable to `x`.
        log_sigma: Logarithm of the scale, broadcastable to `x`.
        levels: L, at least 2; None for counts.

    Returns:
        Nats, of the shape of `x`.

    Example:
        >>> grid = torch.linspace(0, 1, 4)
        >>> mass = gaussian_log_mass(grid, torch.tensor(0.3), torch.tensor(-1.0), levels=4).exp()
        >>> round(mass.sum().item(), 5)
        1.0
    """
    return log_mass_of_bins(x, mean, log_sigma, levels, _gaussian_tail, _gaussian_inside)


def logistic_log_mass(x: Tensor, mean: Tensor, log_scale: Tensor, *, levels: int | None) -> Tensor:
    r"""Log-probability of a bin under a logistic distribution of scale s.

    $$ \log(1 - e^{-2h/s}) + \log \varsigma\left(\tfrac{x + h - \mu}{s}\right)
                           + \log \varsigma\left(-\tfrac{x - h - \mu}{s}\right),\quad
       \varsigma(u) = 1 / (1 + e^{-u}) $$

    Of an open bin the side that it has is left, and neither the other one nor the first term.

    Arguments and result as in `gaussian_log_mass`.
    """
    half = bin_width(levels) / 2
    inverse = (-log_scale).exp()
    first, last = _open_bins(x, levels)
    away = x - mean
    below, above = logsigmoid((away + half) * inverse), logsigmoid((half - away) * inverse)
    width, log_width = 2 * half * inverse, math.log(2 * half) - log_scale
    tiny = width < 1e-4
    wide = (-torch.expm1(-torch.where(tiny, 1.0, width))).log()
    between = torch.where(tiny, log_width - width / 2, wide)
    return (
        torch.where(first | last, 0.0, between)
        + torch.where(last, 0.0, below)
        + torch.where(first, 0.0, above)
    )


def laplace_log_mass(x: Tensor, mean: Tensor, log_scale: Tensor, *, levels: int | None) -> Tensor:
    r"""Log-probability of a bin under a Laplace distribution of scale b.

    Beside the mean it is $\tfrac12 e^{-(|x - \mu| - h)/b} (1 - e^{-2h/b})$, around it
    $1 - \tfrac12 (e^{-(h - |x - \mu|)/b} + e^{-(h + |x - \mu|)/b})$.

    Arguments and result as in `gaussian_log_mass`.
    """
    return log_mass_of_bins(x, mean, log_scale, levels, _laplace_tail, _laplace_inside)


def log1mexp(t: Tensor, log_t: Tensor) -> Tensor:
    """Logarithm of 1 - exp(-t) for t ≥ 0, also for a t too small to be told from 0.

    After Mächler (2012), https://cran.r-project.org/package=Rmpfr/vignettes/log1mexp-note.pdf.

    Arguments:
        t: At least 0.
        log_t: Its logarithm.
    """
    tiny, small = t < 0.05, t < math.log(2.0)
    square = t.square()
    series = log_t - t / 2 + square / 24 * (1 - square / 120)
    near = (-torch.expm1(-torch.where(small & ~tiny, t, 0.5))).log()
    far = torch.log1p(-torch.exp(-torch.where(small, 1.0, t)))
    return torch.where(tiny, series, torch.where(small, near, far))


def log_mass_of_bins(
    x: Tensor,
    mean: Tensor,
    log_scale: Tensor,
    levels: int | None,
    log_tail: Callable[[Tensor], Tensor],
    log_inside: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """Log-probability of a bin under a symmetric distribution.

    Arguments:
        x, mean, log_scale, levels: As in `gaussian_log_mass`.
        log_tail: Of z, the logarithm of P(Z > z).
        log_inside: Of c ≥ 0, d and log d, which are of one shape once broadcast, the logarithm of
            P(c - d < Z < c + d). It must be finite, with finite gradients, for every c and d.
    """
    half = bin_width(levels) / 2
    inverse = (-log_scale).exp()
    first, last = _open_bins(x, levels)
    away = x - mean
    # An open bin is a tail; this is how far from the mean it begins.
    begins = torch.where(first, -away - half, away - half) * inverse
    # All are symmetric, so the sign of c is of no account; neither is its derivative at 0.
    c, d, log_d = away.abs() * inverse, half * inverse, math.log(half) - log_scale
    inside = log_inside(c, d, log_d)
    return torch.where(first | last, log_tail(begins), inside)


def _open_bins(x: Tensor, levels: int | None) -> tuple[Tensor, Tensor]:
    """Which values stand for the first bin, and which for the last one."""
    half = bin_width(levels) / 2
    return x <= half, x >= (1 - half if levels else math.inf)


def log_of_share(inside: Tensor, outside: Tensor) -> Tensor:
    """Logarithm of `inside` = 1 - `outside`, from whichever is smaller."""
    most = outside < 0.5
    nearly_all = torch.log1p(-torch.where(most, outside, 0.0))
    return torch.where(most, nearly_all, torch.where(most, 1.0, inside).log())


def _log_half_erfcx(z: Tensor) -> Tensor:
    """Logarithm of the normal distribution's tail beyond z ≥ 0, less its factor exp(-z²/2)."""
    scaled: Tensor = torch.special.erfcx(math.sqrt(0.5) * z)
    return (0.5 * scaled).log()


def _gaussian_tail(z: Tensor) -> Tensor:
    right = z > 0
    far = torch.where(right, z, 1.0)
    beyond = -0.5 * far.square() + _log_half_erfcx(far)
    nearly_all = torch.log1p(-0.5 * torch.erfc(-math.sqrt(0.5) * torch.where(right, 0.0, z)))
    return torch.where(right, beyond, nearly_all)


def _gaussian_inside(c: Tensor, d: Tensor, log_d: Tensor) -> Tensor:
    narrow = (d < 0.25) & (c * d < 0.25)
    around = (c < d) & ~narrow
    beside = ~(narrow | around)
    root = math.sqrt(0.5)

    # Density at the centre times width times the mean of exp(-cdu - d²u²/2) over u in [-1, 1].
    near, half = torch.where(narrow, c, 0.0), torch.where(narrow, d, 0.1)
    mean = gauss_legendre(lambda u: torch.exp(-u * near * half - 0.5 * (u * half).square()))
    log_narrow = -0.5 * near.square() + log_d + mean.log() + 0.5 * math.log(2 / math.pi)

    c_, d_ = torch.where(around, c, 0.0), torch.where(around, d, 1.0)
    left, right = root * (d_ - c_), root * (d_ + c_)
    log_around = log_of_share(
        0.5 * (torch.erf(left) + torch.erf(right)), 0.5 * (torch.erfc(left) + torch.erfc(right))
    )

    c_, d_ = torch.where(beside, c, 2.0), torch.where(beside, d, 1.0)
    begin, end = _log_half_erfcx(c_ - d_), _log_half_erfcx(c_ + d_)
    # How much rarer the far end's tail is; the squares are subtracted in one product, because
    # apart they would cancel.
    t = 2 * c_ * d_ + begin - end
    log_beside = -0.5 * (c_ - d_).square() + begin + log1mexp(t, t.log())
    return torch.where(narrow, log_narrow, torch.where(around, log_around, log_beside))


def _laplace_tail(z: Tensor) -> Tensor:
    right = z > 0
    nearly_all = torch.log1p(-0.5 * torch.where(right, 0.0, z).exp())
    return torch.where(right, -z - math.log(2.0), nearly_all)


def _laplace_inside(c: Tensor, d: Tensor, log_d: Tensor) -> Tensor:
    around = c < d
    left, right = torch.where(around, d - c, 1.0), torch.where(around, d + c, 1.0)
    log_around = log_of_share(
        -0.5 * (torch.expm1(-left) + torch.expm1(-right)), 0.5 * ((-left).exp() + (-right).exp())
    )
    log_beside = d - c - math.log(2.0) + log1mexp(2 * d, math.log(2.0) + log_d)
    return torch.where(around, log_around, log_beside)
