"""What a model is worth: scores at beta = 1 that can be compared between trials.

Shapes: B batch, M latent, C H W image.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from tune_vae.science.bins import bin_width, gaussian_log_mass
from tune_vae.science.vae import VAE

__all__ = ["ACTIVE_VARIANCE", "Scores", "calibrated_log_sigma", "score"]

ACTIVE_VARIANCE = 0.01
"""A latent is active when the variance of its posterior mean over the data exceeds this
(Burda et al., 2016, https://arxiv.org/abs/1509.00519)."""

CALIBRATION_VALUES = 8192
CALIBRATION_ROUNDS = ((0.6, 1024), (0.6, 1024), (0.6, 2048), (0.15, CALIBRATION_VALUES))
"""How far from the log scale to look, and at how many values."""


class Scores(NamedTuple):
    """Scores of a batch, per example.

    Attributes:
        rate_BM: KL per latent, nats.
        distortion_B: Negative log-likelihood as training sees it, nats; a density or improper
            for some likelihoods.
        mass_nats_B: Negative log-probability of the 8-bit (or L-level) image or of the counts,
            nats; NaN for a likelihood that is improper on such data.
        calibrated_nats_B: The same for the decoder's mean under a discretised Gaussian.
        squared_error_B: Squared error of the decoder's mean, averaged over the data values.
        log_sigma_B: Logarithm of the decoder's scale, averaged over the data values.
        mean_BM: Posterior means.
    """

    rate_BM: Tensor
    distortion_B: Tensor
    mass_nats_B: Tensor
    calibrated_nats_B: Tensor
    squared_error_B: Tensor
    log_sigma_B: Tensor
    mean_BM: Tensor


def score(
    vae: VAE,
    x_BCHW: Tensor,
    noise_BM: Tensor,
    calibrated_log_sigma: Tensor,
    label_B: Tensor | None = None,
    *,
    levels: int | None,
) -> Scores:
    """Scores of a batch of images in [0, 1] with `levels` levels, or of counts.

    Arguments:
        vae: The model, in evaluation mode.
        x_BCHW: Examples.
        noise_BM: Standard normal noise of the posterior sample; the same for all trials, so
            that differences between trials are paired.
        calibrated_log_sigma: From `calibrated_log_sigma`, fitted on training images.
        label_B: Classes of the examples, for a conditional model.
        levels: L, number of grey levels; None for counts.
    """
    terms = vae(x_BCHW, noise_BM, label_B)
    likelihood = vae.likelihood
    mass = likelihood.log_mass(x_BCHW, terms.params, terms.log_sigma, levels=levels)
    mean = likelihood.mean(terms.params)
    calibrated = gaussian_log_mass(
        x_BCHW.double(), mean.double(), calibrated_log_sigma.double(), levels=levels
    )
    return Scores(
        rate_BM=terms.rate_BM,
        distortion_B=terms.distortion_B,
        mass_nats_B=terms.scale_nats_B - mass.flatten(1).sum(1),
        calibrated_nats_B=-calibrated.flatten(1).sum(1),
        squared_error_B=(x_BCHW - mean).square().flatten(1).mean(1),
        log_sigma_B=terms.log_sigma.expand_as(x_BCHW).flatten(1).mean(1),
        mean_BM=terms.mean_BM,
    )


def calibrated_log_sigma(
    vae: VAE,
    x_BCHW: Tensor,
    noise_BM: Tensor,
    label_B: Tensor | None = None,
    *,
    levels: int | None,
) -> Tensor:
    r"""The one log sigma under which the decoder's means explain `x` best, after discretising.

    The minimum of the discretised Gaussian's negative log-likelihood over at most
    `CALIBRATION_VALUES` evenly spaced values, within a factor of 4 of the root mean squared
    error. In each of a few rounds a curve is laid through the costs at three scales and left for
    its lowest point. It is that of a Gaussian whose bins have no width, $a + b s + g e^{-2s}$ in
    the log scale s: where they are narrow it is the cost itself. The first rounds find the place
    on few values, the last one the digits on all of them. What is found costs less than 1e-5
    nats more than the best, and at most 1e-4 where bins are much wider than most errors.

    Arguments:
        x_BCHW: Training images (never validation images: a scale fitted to what it scores
            would flatter the model).
        noise_BM, label_B: See `score`.
        levels: See `score`.

    Returns:
        Scalar, float64.
    """
    # In the model's own precision: it decides the fourth digit of sigma, the score its eighth.
    mean_BCHW = vae.likelihood.mean(vae(x_BCHW, noise_BM, label_B).params)
    # A bin of width w hides an error of w²/12, also when every mean lies in its own bin.
    within_bin = bin_width(levels) ** 2 / 12
    mean, x = (_spaced(one, CALIBRATION_VALUES) for one in (mean_BCHW, x_BCHW))
    centre = log_sigma = 0.5 * ((x - mean).square().mean() + within_bin).log()
    for reach, values in CALIBRATION_ROUNDS:
        mean, x = (_spaced(one, values) for one in (mean_BCHW, x_BCHW))
        tried_3 = torch.stack((log_sigma - reach, log_sigma, log_sigma + reach))
        cost_3 = -gaussian_log_mass(x, mean, tried_3[:, None], levels=levels).mean(1)
        lowest = _lowest(cost_3, reach).clamp(-2.8 * reach, 2.8 * reach)
        log_sigma = (log_sigma + lowest).clamp(centre - math.log(4), centre + math.log(4))
    return log_sigma.double()


def _lowest(cost_3: Tensor, reach: float) -> Tensor:
    """Where a + b s + g exp(-2s) through three costs at -reach, 0 and reach is lowest."""
    left, middle, right = cost_3.unbind()
    left, right = left - middle, right - middle
    falling, rising = math.expm1(-2 * reach), math.expm1(2 * reach)
    g = (left + right) / (falling + rising)
    b = (right - g * falling) / reach
    bowl = (g > 0) & (b > 0)
    ratio = torch.where(bowl, 2 * g / b, 1.0)
    # One that only falls is followed to where it falls.
    down = torch.where(left < right, -math.inf, math.inf)
    return torch.where(bowl, 0.5 * ratio.log(), down)


def _spaced(values_BCHW: Tensor, most: int) -> Tensor:
    """At most so many of all values, from every place within an example."""
    places = values_BCHW[0].numel()
    stride = -(-values_BCHW.numel() // most)
    while math.gcd(stride, places) > 1:
        stride += 1
    return values_BCHW.flatten()[::stride]
