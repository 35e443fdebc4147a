"""Makes rates.json: rates, KL weights and schedules with 80 digits.

Formulas here are the definitions, differences of log-densities and sums of densities, without
regard to rounding; mpmath's exponents have no bounds.

    python -m tests.oracles.make_rates
"""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mpmath
from mpmath import mpf

FILE = Path(__file__).with_name("rates.json")
DIGITS = 80

Real = mpmath.mpf
Row = tuple[float, ...]
Schedule = Callable[[Real], Real]

# Numbers that a float32 holds exactly: close to 1e-6 and 1e-3 from 0, and prior scales, as
# log-variances, of close to 1e-3, 1 and 1e3. 13.8125 and 13.8134765625 differ by 2^-10.
MEANS = (0.0, 2.0**-20, -0.75, 1000.0)
LOG_VARIANCES = (-16.0, -3.21875, -(2.0**-20), 0.0, 2.0**-10, 13.8134765625, 16.0)
PRIOR_MEANS = (0.0, 2.0**-20, 1000.0)
PRIOR_LOG_VARIANCES = (-13.8125, 0.0, 2.0**-20, 13.8125)


def log_density(z: Real, mean: Real, log_variance: Real) -> Real:
    scale = mpmath.exp(log_variance / 2)
    return mpmath.log(mpmath.npdf(z, mean, scale))


def rate(mean: Real, log_variance: Real, prior_mean: Real, prior_log_variance: Real) -> Real:
    """Mean of log q - log p under q, which is a quadratic in the distance from q's mean.

    The mean of a quadratic under a standard normal is exactly the one of its values at -1 and 1.
    """
    scale = mpmath.exp(log_variance / 2)
    values = [
        log_density(z, mean, log_variance) - log_density(z, prior_mean, prior_log_variance)
        for z in (mean - scale, mean + scale)
    ]
    return sum(values) / 2


def slope(given: list[Real], place: int) -> Real:
    """Derivative of the rate with respect to one of its arguments."""

    def changed(value: Real) -> Real:
        return rate(*given[:place], value, *given[place + 1 :])

    return mpmath.diff(changed, given[place], h=1e-30)


def rates() -> Iterator[list[Any]]:
    """The four arguments, the rate and its four derivatives."""
    for row in itertools.product(MEANS, LOG_VARIANCES, PRIOR_MEANS, PRIOR_LOG_VARIANCES):
        given = [mpf(value) for value in row]
        yield [*row, number(rate(*given)), [number(slope(given, place)) for place in range(4)]]


def number(value: Real) -> float:
    """As a float; what is left of differences that are 0 is 0."""
    return 0.0 if abs(value) < mpf(10) ** -40 else float(value)


POSTERIORS = [
    ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ((1.5, -0.25, 3.0), (-3.21875, 1.0, -16.0)),
]
MIXTURES = [
    # Logarithms of the weights but for a constant; means; log-variances.
    ((0.0, 0.0), [(-1.0, 0.0, 2.0), (1.0, 0.5, -2.0)], [(0.0, -1.0, 0.5), (-0.5, 0.0, 1.0)]),
    ((0.0, -80.0), [(0.0, 0.0, 0.0), (1.5, -0.25, 3.0)], [(0.0,) * 3, (-8.0,) * 3]),
    ((2.0, 0.0, -1.5), [(300.0,) * 3, (-300.0,) * 3, (0.0,) * 3], [(-4.0,) * 3] * 3),
    ((1.0, 0.0, -1.0), [(0.0,) * 3] * 3, [(-13.8125,) * 3, (0.0,) * 3, (13.8125,) * 3]),
]
LATENTS = [(0.0, 0.0, 0.0), (1.5, -0.25, 3.0), (-40.0, 2.0, 300.0)]


def log_densities(latent: Row, means: Row, log_variances: Row) -> list[Real]:
    given = zip(latent, means, log_variances, strict=True)
    return [log_density(mpf(z), mpf(m), mpf(v)) for z, m, v in given]


def log_prob_of_first(count: int, latent: Row, mixture: tuple[Row, list[Row], list[Row]]) -> Real:
    """Log-density of the first latents under a mixture."""
    weights = [mpmath.exp(logit) for logit in mixture[0]]
    each = [
        mpmath.exp(sum(log_densities(latent, means, log_variances)[:count]))
        for means, log_variances in zip(*mixture[1:], strict=True)
    ]
    return mpmath.log(mpmath.fdot(weights, each) / sum(weights))


def mixture_rates() -> Iterator[list[Any]]:
    """Logits, means and log-variances of a mixture; mean and log-variance of a posterior; z.

    Then, of each latent, log q(z_m) - log p(z_m | z_1 … z_{m-1}); and log p(z).
    """
    for mixture, posterior, latent in itertools.product(MIXTURES, POSTERIORS, LATENTS):
        first = [log_prob_of_first(count, latent, mixture) for count in range(4)]
        parts = [
            log_q - (after - before)
            for log_q, (before, after) in zip(
                log_densities(latent, *posterior), itertools.pairwise(first), strict=True
            )
        ]
        yield [*mixture, *posterior, latent, [number(part) for part in parts], number(first[-1])]


def betas() -> Iterator[list[Any]]:
    """beta_norm, data values, latents, beta."""
    for norm, values, latents in itertools.product(
        (1e-3, 0.0255, 1.0, 10.0), (1, 560, 784, 3072, 36601), (1, 3, 20, 128)
    ):
        yield [norm, values, latents, float(mpf(norm) * values / latents)]


def climb(shape: str, u: Real, steepness: float = 10.0) -> Real:
    if shape == "linear":
        return u
    if shape == "cosine":
        return (1 - mpmath.cos(mpmath.pi * u)) / 2

    def logistic(u: Real) -> Real:
        return 1 / (1 + mpmath.exp(-mpf(steepness) * (u - mpf(1) / 2)))

    return (logistic(u) - logistic(mpf(0))) / (logistic(mpf(1)) - logistic(mpf(0)))


def warmed_up(shape: str, warmup: float, steepness: float = 10.0) -> Schedule:
    return lambda t: climb(shape, min(t / mpf(warmup), mpf(1)), steepness)


def cycling(cycles: int, ramp: float, shape: str) -> Schedule:
    def weight(t: Real) -> Real:
        cycle = min(mpmath.floor(t * cycles), cycles - 1)
        return climb(shape, min((t * cycles - cycle) / mpf(ramp), mpf(1)))

    return weight


def schedules() -> Iterator[tuple[str, dict[str, Any], int | None, Schedule]]:
    """Name, arguments, optimiser steps of the training (None if of no account), definition."""
    yield "constant", {}, None, lambda t: mpf(1)
    for warmup in (0.1, 0.3, 1.0):
        yield "linear", {"warmup": warmup}, None, warmed_up("linear", warmup)
        yield "cosine", {"warmup": warmup}, None, warmed_up("cosine", warmup)
        for steepness in (0.01, 10.0, 100.0):
            arguments = {"warmup": warmup, "steepness": steepness}
            yield "sigmoid", arguments, None, warmed_up("sigmoid", warmup, steepness)
    for shape in ("linear", "sigmoid", "cosine"):
        for cycles, ramp in ((1, 1.0), (3, 0.3), (4, 0.5)):
            arguments = {"cycles": cycles, "ramp": ramp, "shape": shape}
            yield "cyclical", arguments, None, cycling(cycles, ramp, shape)
        # 1000 steps are all, two thirds, a quarter, a tenth and a hundredth of these.
        for steps, share in ((1000, 0.5), (1500, 0.5), (4000, 0.25), (10_000, 0.1), (10**5, 0.1)):
            yield "auto", {"steps": 1000, "shape": shape}, steps, warmed_up(shape, share)


# Of powers of 2, so that the beginnings of cycles are met exactly.
PROGRESS = (0.0, 2.0**-20, 0.03125, 0.0625, 0.125, 0.25, 0.28125, 0.5, 0.625, 0.75, 0.96875, 1.0)


def main() -> None:
    mpmath.mp.dps = DIGITS
    vectors = {
        "rates": list(rates()),
        "mixtures": list(mixture_rates()),
        "betas": list(betas()),
        "schedules": [
            {
                "schedule": name,
                "arguments": arguments,
                "steps": steps,
                "rows": [[t, number(weight(mpf(t)))] for t in PROGRESS],
            }
            for name, arguments, steps, weight in schedules()
        ],
    }
    parts = []
    for name, rows in vectors.items():
        lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
        parts.append(f'"{name}":[\n{lines}\n]')
    FILE.write_text("{" + ",\n".join(parts) + "}\n")


if __name__ == "__main__":
    main()
