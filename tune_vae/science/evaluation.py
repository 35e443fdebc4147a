"""What a model is worth: scores at beta = 1 that can be compared between trials.

Shapes: B batch, M latent, C H W image.
"""

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

    Golden-section search for the minimum of the discretised Gaussian's negative log-likelihood
    over at most `CALIBRATION_VALUES` evenly spaced values, within a factor of 4 of the root mean
    squared error. 14 steps leave 0.3 % of sigma, where the likelihood is flat to 1e-5 nats.

    Arguments:
        x_BCHW: Training images (never validation images: a scale fitted to what it scores
            would flatter the model).
        noise_BM, label_B: See `score`.
        levels: See `score`.

    Returns:
        Scalar, float64.
    """
    stride = -(-x_BCHW.numel() // CALIBRATION_VALUES)
    # In the model's own precision: it decides the fourth digit of sigma, the score its eighth.
    mean = vae.likelihood.mean(vae(x_BCHW, noise_BM, label_B).params).flatten()[::stride]
    x = x_BCHW.flatten()[::stride]
    # A bin of width w hides an error of w²/12, also when every mean lies in its own bin.
    within_bin = bin_width(levels) ** 2 / 12
    centre = 0.5 * ((x - mean).square().mean() + within_bin).log()

    def cost(log_sigma: Tensor) -> Tensor:
        return -gaussian_log_mass(x, mean, log_sigma, levels=levels).mean()

    golden = 0.5 * (5**0.5 - 1)
    low, high = centre - 1.39, centre + 1.39
    left, right = high - golden * (high - low), low + golden * (high - low)
    cost_left, cost_right = cost(left), cost(right)
    for _ in range(14):
        go_left = cost_left < cost_right
        low, high = torch.where(go_left, low, left), torch.where(go_left, right, high)
        probe = torch.where(go_left, high - golden * (high - low), low + golden * (high - low))
        cost_probe = cost(probe)
        left, right = torch.where(go_left, probe, right), torch.where(go_left, left, probe)
        cost_left, cost_right = (
            torch.where(go_left, cost_probe, cost_right),
            torch.where(go_left, cost_left, cost_probe),
        )
    return (0.5 * (low + high)).double()
