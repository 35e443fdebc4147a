"""Critical betas against scipy's distributions, derived by finite differences, and the elbo."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import linalg, optimize, stats

from tune_vae.science.critical_beta import critical_beta
from tune_vae.science.likelihoods import Domain, Likelihood
from tune_vae.science.likelihoods.categorical import Categorical
from tune_vae.science.likelihoods.discretized_gaussian import DiscretizedGaussian
from tune_vae.science.likelihoods.discretized_logistic import DiscretizedLogistic
from tune_vae.science.likelihoods.laplace import Laplace
from tune_vae.science.likelihoods.negative_binomial import NegativeBinomial
from tune_vae.science.likelihoods.poisson import Poisson
from tune_vae.science.likelihoods.zero_inflated_negative_binomial import (
    ZeroInflatedNegativeBinomial,
)
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.sigmas.per_gene import PerGene
from tune_vae.science.sigmas.per_pixel import PerPixel
from tune_vae.science.sigmas.shared import Shared

Array = NDArray[np.float64]
LogProb = Callable[[Array, Array, Array], Array]
"""Of examples x `[n, N]`, outputs `[n, N]` and log scales: nats of each value, by scipy."""


def levels(examples: int, values: int, *, seed: int = 0) -> Array:
    """Images of one factor, on 17 levels, in the middle of the range."""
    dice = np.random.default_rng(seed)
    factor = dice.normal(size=(examples, 1)) * dice.uniform(0.03, 0.15, (1, values))
    noise = 0.08 * dice.normal(size=factor.shape)
    return np.clip(np.round(16 * (0.5 + factor + noise)), 2, 14) / 16


def counts(examples: int, values: int, *, seed: int = 0) -> Array:
    """Counts of two types of cell and of many depths."""
    dice = np.random.default_rng(seed)
    shares = dice.dirichlet(np.full(values, 2.0), 2)[dice.integers(0, 2, examples)]
    depth = dice.gamma(4.0, 6.0 * values, (examples, 1)) / 4
    return dice.poisson(shares * depth * dice.gamma(5.0, 0.2, shares.shape)).astype(float)


def of_bins(family: stats.rv_continuous) -> LogProb:
    """Differences of distribution functions, which have digits enough in the middle."""

    def log_prob(x: Array, out: Array, log_scale: Array) -> Array:
        scale, half = np.exp(log_scale), 1 / 32
        low = np.where(x <= half, -np.inf, x - half)
        high = np.where(x >= 1 - half, np.inf, x + half)
        below = family.cdf((high - out) / scale) - family.cdf((low - out) / scale)
        return np.asarray(np.log(below))

    return log_prob


def means(x: Array, out: Array, library: str) -> Array:
    if library == "none":
        return np.exp(out)
    return np.exp(out - np.logaddexp.reduce(out, axis=1, keepdims=True)) * x.sum(1, keepdims=True)


def of_poisson(library: str) -> LogProb:
    return lambda x, out, _: np.asarray(stats.poisson.logpmf(x, means(x, out, library)))


def of_negative_binomial(library: str) -> LogProb:
    def log_prob(x: Array, out: Array, log_sigma: Array) -> Array:
        theta, mean = np.exp(-2 * log_sigma), means(x, out, library)
        return np.asarray(stats.nbinom.logpmf(x, theta, theta / (theta + mean)))

    return log_prob


@dataclass(frozen=True)
class Truth:
    """Scores and information by finite differences, at the best constant output."""

    log_prob: LogProb
    x: Array
    out: Array
    log_sigma: Array

    @classmethod
    def of(
        cls, log_prob: LogProb, x: Array, start: Array, log_sigma: Array, *, free: bool
    ) -> "Truth":
        values = x.shape[1]

        def split(point: Array) -> tuple[Array, Array]:
            return point[:values], point[values:].reshape(log_sigma.shape) if free else log_sigma

        def loss(point: Array) -> float:
            out, scale = split(point)
            return float(-log_prob(x, np.broadcast_to(out, x.shape), scale).sum(1).mean())

        begin = np.concatenate([start, log_sigma.ravel()]) if free else start
        found = optimize.minimize(loss, begin, method="BFGS", options={"gtol": 1e-7}).x
        return cls(log_prob, x, *split(found))

    def nats(self, out: Array) -> Array:
        return self.log_prob(self.x, np.broadcast_to(out, self.x.shape), self.log_sigma).sum(1)

    def factors(self) -> tuple[Array, Array]:
        """Scores `[n, N]` and H."""
        step, axes = 1e-4, np.eye(self.x.shape[1])
        scores = [self.nats(self.out + step * e) - self.nats(self.out - step * e) for e in axes]

        def mean(*moves: Array) -> float:
            return float(self.nats(self.out + step * sum(moves)).mean())

        crossed = [
            [mean(a, b) - mean(a, -b) - mean(-a, b) + mean(-a, -b) for b in axes] for a in axes
        ]
        return np.stack(scores, 1) / (2 * step), -np.array(crossed) / (4 * step**2)

    def critical(self) -> tuple[float, Array, Array]:
        """The largest eigenvalue; the best encoder u of the examples; the best decoder w."""
        scores, information = self.factors()
        inverse = linalg.pinvh(information, rtol=1e-5)
        eigenvalues, vectors = linalg.eigh(scores @ inverse @ scores.T / len(scores))
        encoder = vectors[:, -1] * np.sqrt(len(scores))
        return float(eigenvalues[-1]), encoder, inverse @ (scores * encoder[:, None]).mean(0)

    def gain(self, a: float, encoder: Array, move: Array, beta: float) -> float:
        """Of β R + D by a latent of means a·u and of the variance that costs least for them."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(40)
        variance = 1 - a**2
        distortion = 0.0
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            z = a * encoder + np.sqrt(variance) * node
            moved = self.log_prob(self.x, self.out + z[:, None] * move, self.log_sigma)
            distortion -= weight * float(moved.sum(1).mean())
        rate = 0.5 * (a**2 * (encoder**2).mean() + variance - 1 - np.log(variance))
        return float(-self.nats(self.out).mean()) - distortion - beta * rate


PLAIN = DiscretizedGaussian(levels=17, link="identity")
ALONE = NegativeBinomial(library="none")
SHARED, DEEP = of_negative_binomial("observed"), of_negative_binomial("none")
NORMAL, LOGISTIC = of_bins(stats.norm), of_bins(stats.logistic)
CASES: dict[str, tuple[Likelihood, Sigma | None, LogProb, float | Array]] = {
    "gaussian fixed": (PLAIN, Fixed(0.1), NORMAL, 0.1),
    "gaussian sigmoid": (DiscretizedGaussian(17), Fixed(0.1), NORMAL, 0.1),
    "logistic": (DiscretizedLogistic(17), Fixed(0.05), LOGISTIC, 0.05),
    "poisson": (Poisson(), None, of_poisson("observed"), 1.0),
    "poisson, no library": (Poisson(library="none"), None, of_poisson("none"), 1.0),
    "negative binomial fixed": (NegativeBinomial(), Fixed(0.4), SHARED, 0.4),
    "negative binomial too wide": (NegativeBinomial(), Fixed(2.0), SHARED, 2.0),
    "negative binomial shared": (NegativeBinomial(), Shared(), SHARED, 0.4),
    "negative binomial per gene": (NegativeBinomial(), PerGene(), SHARED, np.full(6, 0.4)),
    "negative binomial, no library": (ALONE, Shared(), DEEP, 0.4),
}


@pytest.mark.parametrize(
    ("likelihood", "sigma", "log_prob", "scale"), CASES.values(), ids=list(CASES)
)
def test_point_is_where_the_elbo_of_a_tiny_latent_changes_sign(
    likelihood: Likelihood, sigma: Sigma | None, log_prob: LogProb, scale: float | Array
) -> None:
    counted = Domain.COUNTS in likelihood.domains
    x = counts(120, 6) if counted else levels(120, 6)
    start = np.log(x.mean(0)) if counted else x.mean(0)
    free = not (sigma is None or isinstance(sigma, Fixed))
    truth = Truth.of(log_prob, x, start, np.log(np.asarray(scale)), free=free)
    expected, encoder, move = truth.critical()
    found = critical_beta(torch.from_numpy(x)[:, None, None], likelihood, sigma)
    assert found.why == ""
    assert found.beta == pytest.approx(expected, rel=2e-3)
    # Of a latent this small the best decoder moves by a times H⁻¹ c.
    assert truth.gain(0.02, encoder, 0.02 * move, 0.98 * found.beta) > 0
    for share in (0.5, 0.8, 1.0, 1.2, 1.5):
        assert truth.gain(0.02, encoder, 0.02 * share * move, 1.02 * found.beta) < 0


@pytest.mark.parametrize("examples", [300, 20], ids=["many", "fewer than values"])
def test_point_of_a_poisson_is_the_covariance_less_the_library_in_units_of_the_mean(
    examples: int,
) -> None:
    x = counts(examples, 30)
    library = x.sum(1, keepdims=True)
    share = x.sum(0) / library.sum()
    away = (x - library * share) / np.sqrt(library.mean() * share)
    expected = np.linalg.eigvalsh(away.T @ away / examples)[-1]
    tensor = torch.from_numpy(np.hstack([x, np.zeros((examples, 2))]))[:, None, None]
    assert critical_beta(tensor, Poisson(), None).beta == pytest.approx(expected)
    plain = (x - x.mean(0)) / np.sqrt(x.mean(0))
    expected = np.linalg.eigvalsh(plain.T @ plain / examples)[-1]
    found = critical_beta(tensor, Poisson(library="none"), None)
    assert found.beta == pytest.approx(expected)


def test_fine_bins_in_the_middle_have_the_point_of_a_gaussian() -> None:
    dice = np.random.default_rng(0)
    x = np.round(255 * (0.5 + 0.05 * dice.normal(size=(400, 12)) * np.linspace(0.2, 1, 12))) / 255
    largest = np.linalg.eigvalsh(np.cov(x, rowvar=False, bias=True))[-1]
    tensor = torch.from_numpy(x)[:, None, None]
    for sigma in (0.02, 0.1):
        found = critical_beta(tensor, DiscretizedGaussian(256), Fixed(sigma))
        assert found.beta == pytest.approx(largest / sigma**2, rel=2e-2 * (0.02 / sigma) ** 2)
    fitted = critical_beta(tensor, DiscretizedGaussian(256), Optimal())
    within_bin = 1 / 255**2 / 12
    assert fitted.beta == pytest.approx(largest / (x.var(0).mean() - within_bin), rel=5e-3)


BLACK = torch.cat([torch.zeros(60, 1, 2, 2), torch.ones(20, 1, 2, 2)])


@pytest.mark.parametrize(
    ("x", "likelihood", "sigma", "why"),
    [
        (BLACK[:9], Poisson(), None, "all examples are the same"),
        (BLACK, Categorical(levels=2), None, "gives 2 numbers for each value"),
        (BLACK, ZeroInflatedNegativeBinomial(), Shared(), "gives 2 numbers for each value"),
        (BLACK, DiscretizedLogistic(2), PerPixel(), "its scale moves with the latents"),
        (BLACK, DiscretizedGaussian(2), Shared(), "a learned scale that begins narrow"),
        (BLACK, Laplace(), Optimal(), "is not worked out"),
        (BLACK, DiscretizedGaussian(2), PerGene(), "is not worked out"),
        # Of two levels and a wide scale the best mean is far beyond black.
        (BLACK, DiscretizedGaussian(2), Fixed(5.0), "for 100% of the variance of the data"),
    ],
)
def test_what_is_not_sound_is_refused_with_a_reason(
    x: torch.Tensor, likelihood: Likelihood, sigma: Sigma | None, why: str
) -> None:
    found = critical_beta(x, likelihood, sigma)
    assert found.beta is None
    assert why in found.why
