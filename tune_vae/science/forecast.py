r"""What a VAE will do with data, from the spectrum of their covariance, before it is trained.

With a linear decoder and a Gaussian of variance σ² the optimum is known in closed form; at β = 1
it is probabilistic PCA. Each principal direction of the data, of variance λ, is a channel of its
own, and with $s = \beta\sigma^2$ it is used if λ > s, is then told with the error s, and costs
$\tfrac12 \ln(\lambda/s)$ nats.

A deeper decoder at its optimum does better, so that its distortion stays below the forecast's, but
a training need not reach it. Where the latents fall silent is the same, because that is decided by
the smallest of movements around the mean; see `collapse_point`.
"""

import math
from dataclasses import dataclass

from tune_vae.science.sigmas import LOWEST
from tune_vae.science.spectrum import Spectrum
from tune_vae.science.units import bits_per_dim

__all__ = ["LinearForecast", "Outlook"]

_LEAST_VARIANCE = math.exp(2 * LOWEST)


@dataclass(frozen=True)
class Outlook:
    """What is forecast at one KL weight.

    Arguments:
        told: s, the squared error with which a direction is told.
        used: Latents that carry anything.
        rate_nats: R of all latents.
        squared_error: Summed over the values of an example.
        sigma: Of the Gaussian that is fitted to this error.
        bits_per_dim: Rate and distortion at β = 1 under that Gaussian, as mass of a level; NaN
            without levels, or if there are only two.
    """

    told: float
    used: int
    rate_nats: float
    squared_error: float
    sigma: float
    bits_per_dim: float


@dataclass(frozen=True)
class LinearForecast:
    r"""The optimum of a linear VAE, along s = βσ².

    $$ R = \tfrac12 \sum_{i \le M} \Bigl(\ln\frac{\lambda_i}{s}\Bigr)_+,\qquad
       E = \sum_{i \le M} \min(\lambda_i, s) + \sum_{i > M} \lambda_i $$

    Which β that is depends on the scale: $\beta = s / \sigma^2$, where a fitted one is
    $\sigma^2 = E / N$.

    The mass of a level is its density times its width, but for the first and the last, to which
    the tails of the Gaussian count. If the errors are normal such a value costs 1 nat, whatever
    the scale: its mass is $\Phi(z)$ of a normal z, which is uniform, and $-\ln$ of it 1 in the
    mean.

    References:
        | Don't Blame the ELBO! (Lucas et al., 2019), https://arxiv.org/abs/1911.02469
        | Probabilistic Principal Component Analysis (Tipping & Bishop, 1999)
        | https://doi.org/10.1111/1467-9868.00196

    Arguments:
        spectrum: Of the training data; at least `latents` eigenvalues, or all there are.
        latents: M.
        levels: Levels of the data, from which their mass follows; None for no bits.
        edge: Share of the values that are of the first or the last level.

    Raises:
        ValueError: The data do not vary at all.

    Example:
        >>> forecast = LinearForecast(Spectrum((4.0, 1.0), total=6.0, values=3, rows=9), 2)
        >>> forecast.at(2.0, sigma=1.0).used, forecast.at(2.0, sigma=1.0).squared_error
        (1, 4.0)
    """

    spectrum: Spectrum
    latents: int
    levels: int | None = 256
    edge: float = 0.0

    def __post_init__(self) -> None:
        if not self.spectrum.total > 0:
            raise ValueError(
                "all examples are the same; there is nothing that a latent could tell"
            )

    def at(self, beta: float, sigma: float | None = None) -> Outlook:
        """The forecast at one β.

        Arguments:
            beta: Positive, not normalised.
            sigma: Scale of the decoder; None for one that is fitted.
        """
        return self.where(self._told(beta) if sigma is None else beta * sigma**2)

    def where(self, told: float) -> Outlook:
        """The forecast where used directions are told with this squared error, above 0."""
        used = [value for value in self.spectrum.eigenvalues[: self.latents] if value > told]
        rate = 0.5 * sum(math.log(value / told) for value in used)
        error = len(used) * told + self.spectrum.beyond(len(used))
        variance = self._variance(error)
        return Outlook(
            told=told,
            used=len(used),
            rate_nats=rate,
            squared_error=error,
            sigma=math.sqrt(variance),
            bits_per_dim=self._bits(rate, error, variance),
        )

    def beta(self, outlook: Outlook, sigma: float | None = None) -> float:
        """The β that leads there; the inverse of `at`."""
        return outlook.told / (sigma or outlook.sigma) ** 2

    def _told(self, beta: float) -> float:
        r"""The s of a fitted scale: $s = \beta E(s) / N$.

        With k latents in use $E = k s + T_k$, where $T_k$ is the variance beyond the first k
        directions, so that $s = \beta T_k / (N - \beta k)$. As E/s falls with s, one k agrees
        with itself, unless the latents tell everything: then the scale falls to its least.
        """
        values, known = self.spectrum.values, self.spectrum.eigenvalues[: self.latents]
        for used in range(len(known) + 1):
            room = values - beta * used
            told = beta * self.spectrum.beyond(used) / room if room > 0 else 0.0
            next_is_silent = used == len(known) or known[used] <= told
            if told > 0 and next_is_silent:
                return max(told, beta * _LEAST_VARIANCE)
        return beta * _LEAST_VARIANCE

    def _variance(self, error: float) -> float:
        return max(error / self.spectrum.values, _LEAST_VARIANCE)

    def _bits(self, rate: float, error: float, variance: float) -> float:
        if self.levels is None or self.levels == 2:
            return math.nan
        values = self.spectrum.values
        inner = 0.5 * (math.log(2 * math.pi * variance) + error / values / variance)
        inner += math.log(self.levels - 1)
        return bits_per_dim(rate + values * ((1 - self.edge) * inner + self.edge), values)
