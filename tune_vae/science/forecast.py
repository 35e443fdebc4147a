r"""What a VAE will do with data, from the spectrum of their covariance, before it is trained.

A VAE with a linear decoder, a Gaussian of variance σ² and the weight β of the rate has its optimum
in closed form (probabilistic PCA at β = 1). Each principal direction of the data, of variance λ,
is a channel of its own: with $s = \beta\sigma^2$ it is used if λ > s, is then told with the error
s, and costs $\tfrac12 \ln(\lambda/s)$ nats.

A deeper decoder does better, so that its distortion stays below the forecast's; where its latents
fall silent is the same, because that is decided by the smallest of movements around the mean.
"""

import math
from dataclasses import dataclass

from tune_vae.science.spectrum import Spectrum

__all__ = ["LinearForecast", "Outlook"]


@dataclass(frozen=True)
class Outlook:
    """What is forecast at one β.

    Arguments:
        beta: β, not normalised.
        sigma: Scale of the decoder.
        used: Latents that carry anything.
        rate_nats: R of all latents.
        squared_error: Summed over the values of an example.
        bits_per_dim: Rate and distortion at β = 1 under the Gaussian whose variance is the
            squared error per value, as mass of one of `levels` levels; NaN without levels.
    """

    beta: float
    sigma: float
    used: int
    rate_nats: float
    squared_error: float
    bits_per_dim: float


@dataclass(frozen=True)
class LinearForecast:
    r"""The optimum of a linear VAE along β.

    $$ R = \tfrac12 \sum_{i \le M} \Bigl(\ln\frac{\lambda_i}{s}\Bigr)_+,\qquad
       E = \sum_{i \le M} \min(\lambda_i, s) + \sum_{i > M} \lambda_i,\qquad
       s = \beta \sigma^2 $$

    References:
        | Don't Blame the ELBO! (Lucas et al., 2019), https://arxiv.org/abs/1911.02469
        | Probabilistic Principal Component Analysis (Tipping & Bishop, 1999)
        | https://doi.org/10.1111/1467-9868.00196

    Arguments:
        spectrum: Of the training data; at least `latents` eigenvalues, or all there are.
        latents: M.
        sigma: Fixed scale of the decoder; None for one that is fitted.
        levels: Levels of the data, from which their mass follows; None for no bits.

    Raises:
        ValueError: The data do not vary at all.
    """

    spectrum: Spectrum
    latents: int
    sigma: float | None = None
    levels: int | None = 256

    def __post_init__(self) -> None:
        if not self.spectrum.total > 0:
            raise ValueError("all examples are the same; there is nothing that a latent could tell")

    @property
    def critical_beta(self) -> float:
        r"""β from which on no latent is used: $\lambda_1 / \sigma^2$.

        With a fitted scale the variance is then that of the data per value.
        """
        variance = self.sigma**2 if self.sigma else self.spectrum.total / self.spectrum.values
        return self.spectrum.eigenvalues[0] / variance

    def at(self, beta: float) -> Outlook:
        """The forecast at one β, which must be positive."""
        variance = self.sigma**2 if self.sigma else self._fitted_variance(beta)
        used, rate, error = self._terms(beta * variance)
        return Outlook(
            beta=beta,
            sigma=math.sqrt(variance),
            used=used,
            rate_nats=rate,
            squared_error=error,
            bits_per_dim=self._bits(rate, error),
        )

    def _terms(self, told: float) -> tuple[int, float, float]:
        """Used latents, rate and squared error when used directions are told with error s."""
        used = [value for value in self.spectrum.eigenvalues[: self.latents] if value > told]
        rate = 0.5 * sum(math.log(value / told) for value in used)
        return len(used), rate, len(used) * told + self.spectrum.beyond(len(used))

    def _fitted_variance(self, beta: float) -> float:
        r"""The σ² of least $\tfrac N2 \ln \sigma^2 + E / 2\sigma^2 + \beta R$.

        There $\sigma^2 = E / N$, and with k latents in use that is $T_k / (N - \beta k)$, where
        $T_k$ is the variance beyond the first k directions. Each k that agrees with itself is a
        stationary point; the best of them is taken.
        """
        values, best, least = self.spectrum.values, self.spectrum.total, math.inf
        for used in range(min(self.latents, len(self.spectrum.eigenvalues)) + 1):
            beyond = self.spectrum.beyond(used)
            if values <= beta * used or not beyond > 0:
                break
            variance = beyond / (values - beta * used)
            truly_used, rate, error = self._terms(beta * variance)
            if truly_used != used:
                continue
            loss = 0.5 * values * math.log(variance) + error / (2 * variance) + beta * rate
            if loss < least:
                best, least = variance, loss
        return best if least < math.inf else self.spectrum.total / values

    def _bits(self, rate: float, error: float) -> float:
        if self.levels is None or not error > 0:
            return math.nan
        values = self.spectrum.values
        density = 0.5 * values * math.log(2 * math.pi * math.e * error / values)
        return (rate + density + values * math.log(self.levels - 1)) / (values * math.log(2))
