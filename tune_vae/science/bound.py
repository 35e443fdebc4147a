r"""A tighter bound of the evidence than the elbo.

Shapes: S posterior samples, B batch, M latent, C H W image.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from tune_vae.science.vae import VAE

__all__ = ["Bound", "importance_weighted"]

AT_ONCE = 1024
"""Decoded examples that are held at once; at least one sample of each example of the batch."""


class Bound(NamedTuple):
    """Lower bounds of the log-evidence of each example, nats, in float64.

    Attributes:
        log_prob_B: As the likelihood states it; a density or improper for some.
        log_mass_B: Of the 8-bit (or L-level) image or of the counts; NaN for a likelihood that
            is improper on such data.
    """

    log_prob_B: Tensor
    log_mass_B: Tensor


def importance_weighted(
    vae: VAE,
    x_BCHW: Tensor,
    noise_SBM: Tensor,
    label_B: Tensor | None = None,
    *,
    levels: int | None,
) -> Bound:
    r"""The bound of S weighted posterior samples.

    $$ \log p(x) \ge \mathbb E \log \frac1S \sum_{s=1}^S
       \frac{p(x|z_s)\, p(z_s)}{q(z_s|x)},\quad z_s \sim q(z|x) $$

    With one sample it is the elbo in expectation; its expectation never falls with S and
    tends to the evidence. By how much it rises says what the posterior's shape costs: the
    elbo, hence beta and the encoder, is judged by `score`, the decoder and the prior by this.

    References:
        | Importance Weighted Autoencoders (Burda et al., 2016)
        | https://arxiv.org/abs/1509.00519

    Arguments:
        vae: The model, in evaluation mode.
        x_BCHW: Examples.
        noise_SBM: Standard normal noise, a row for each sample; the same for all trials, so
            that differences between trials are paired.
        label_B: Classes of the examples, for a conditional model: the evidence is then that of
            an example given its label.
        levels: L, number of grey levels; None for counts.

    Returns:
        A bound for each example. `Estimate.of` gives their mean with its standard error, and
        `bits_per_dim` of minus the mean of `log_mass_B` compares with every other likelihood.
    """
    samples, batch, _ = noise_SBM.shape
    together = max(1, AT_ONCE // batch)
    parts = [
        _log_weights(vae, x_BCHW, noise_SBM[start : start + together], label_B, levels=levels)
        for start in range(0, samples, together)
    ]
    prob_SB, mass_SB = (torch.cat(part) for part in zip(*parts, strict=True))
    return Bound(*(w_SB.logsumexp(0) - math.log(samples) for w_SB in (prob_SB, mass_SB)))


def _log_weights(
    vae: VAE, x_BCHW: Tensor, noise_SBM: Tensor, label_B: Tensor | None, *, levels: int | None
) -> tuple[Tensor, Tensor]:
    """Logarithms of p(x, z) / q(z|x), as stated and as mass, each `SB`, float64."""
    samples, batch, _ = noise_SBM.shape
    noise_nM = noise_SBM.flatten(0, 1)
    x_nCHW = x_BCHW.expand(samples, *x_BCHW.shape).flatten(0, 1)
    terms = vae(x_nCHW, noise_nM, None if label_B is None else label_B.repeat(samples))
    log_prior_n = vae.expected().log_prob(terms.latent_BM).double()
    log_normal_nM = -0.5 * (noise_nM.square() + terms.log_variance_BM + math.log(2 * math.pi))
    shift_n = log_prior_n - log_normal_nM.double().sum(1)
    mass = vae.likelihood.log_mass(x_nCHW, terms.params, terms.log_sigma, levels=levels)
    log_mass_n = mass.flatten(1).sum(1) - terms.scale_nats_B
    return (
        (shift_n - terms.distortion_B).view(samples, batch),
        (shift_n + log_mass_n).view(samples, batch),
    )
