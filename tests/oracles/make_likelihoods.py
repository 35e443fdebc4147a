"""Makes likelihoods.json: log-probabilities and their gradients with 120 digits.

Formulas here are the definitions, differences of distribution functions and sums of
exponentials, without regard to rounding; mpmath's exponents have no bounds.

    python -m tests.oracles.make_likelihoods
"""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath
from mpmath import mpf

FILE = Path(__file__).with_name("likelihoods.json")
DIGITS = 120

Real = mpmath.mpf
LogProb = Callable[[int, int | None, list[Real], Real], Real]
"""Of level, levels, parameters and log sigma; of a count, None, parameters and log sigma."""

LEVELS = {2: (0, 1), 17: (0, 8, 16), 256: (0, 1, 128, 254, 255)}
# Numbers that a float32 holds exactly; none is 1/2, where two bins of 256 meet and a scale of
# 1e-6 would magnify the rounding of x. The first and the last log sigma are 1e-6 and 1e2.
MEANS = (0.0, 1.0, 0.50390625, -0.375, 2.0)
LOGITS = (-80.0, -20.25, -1.5, 0.015625, 3.0, 80.0)
LOG_SIGMAS = (-13.8125, -5.5, -1.5, 0.0, 4.625)
# Means from e^-80 to 1e6, two of them close to a count; inverse dispersions from 1e8 to 1e-8.
COUNTS = {None: (0, 1, 1000, 1_000_000)}
LOG_MEANS = (-80.0, -18.5, -1.5, 3.0, 6.90625, 13.8125)
LOG_COEFFICIENTS = (-9.25, -1.5, 0.0, 9.25)


@dataclass(frozen=True)
class Family:
    """A likelihood with some arguments, its definition, and where to look at it.

    Arguments:
        name: Of its file.
        arguments: Of its class.
        log_prob: What training maximises; None where it is the mass.
        log_mass: Probability of the level's bin.
        settings: Parameters per value.
        log_sigmas: One zero for a likelihood without a scale.
        levels: Which levels of which grids; which counts of None.
    """

    name: str
    arguments: dict[str, Any]
    log_prob: LogProb | None
    log_mass: LogProb
    settings: list[tuple[float, ...]]
    log_sigmas: tuple[float, ...]
    levels: Mapping[int | None, tuple[int, ...]]


def sigmoid(value: Real) -> Real:
    return 1 / (1 + mpmath.exp(-value))


def identity(value: Real) -> Real:
    return value


def gaussian_tail(z: Real) -> Real:
    return mpmath.erfc(z / mpmath.sqrt(2)) / 2


def logistic_tail(z: Real) -> Real:
    return 1 / (1 + mpmath.exp(z))


def laplace_tail(z: Real) -> Real:
    return mpmath.exp(-z) / 2 if z > 0 else 1 - mpmath.exp(z) / 2


def student_tail(nu: float) -> Callable[[Real], Real]:
    def tail(z: Real) -> Real:
        if z < 0:
            return 1 - tail(-z)
        y = nu / (nu + z**2)
        return mpmath.betainc(mpf(nu) / 2, mpf(1) / 2, 0, y, regularized=True) / 2

    return tail


def student_density(nu: float) -> Callable[[Real], Real]:
    def density(z: Real) -> Real:
        norm = mpmath.sqrt(nu) * mpmath.beta(mpf(nu) / 2, mpf(1) / 2)
        return (1 + z**2 / nu) ** (-(mpf(nu) + 1) / 2) / norm

    return density


def gaussian_density(z: Real) -> Real:
    return mpmath.npdf(z)


def laplace_density(z: Real) -> Real:
    return mpmath.exp(-abs(z)) / 2


def bin_mass(
    tail: Callable[[Real], Real], level: int, levels: int, mean: Real, scale: Real
) -> Real:
    low = (mpf(2 * level - 1) / (2 * (levels - 1)) - mean) / scale
    high = (mpf(2 * level + 1) / (2 * (levels - 1)) - mean) / scale
    if level == 0:
        return tail(-high)
    if level == levels - 1:
        return tail(low)
    # On the side where the tails are small, where 120 digits of them suffice.
    return tail(low) - tail(high) if low + high > 0 else tail(-high) - tail(-low)


def of_bins(tail: Callable[[Real], Real], link: Callable[[Real], Real]) -> LogProb:
    def log_mass(level: int, levels: int, params: list[Real], log_sigma: Real) -> Real:
        return mpmath.log(bin_mass(tail, level, levels, link(params[0]), mpmath.exp(log_sigma)))

    return log_mass


def of_density(density: Callable[[Real], Real], link: Callable[[Real], Real]) -> LogProb:
    def log_prob(level: int, levels: int, params: list[Real], log_sigma: Real) -> Real:
        z = (mpf(level) / (levels - 1) - link(params[0])) / mpmath.exp(log_sigma)
        return mpmath.log(density(z)) - log_sigma

    return log_prob


def categorical(level: int, levels: int, params: list[Real], log_sigma: Real) -> Real:
    return params[level] - mpmath.log(sum(mpmath.exp(param) for param in params))


def bitwise_categorical(level: int, levels: int, params: list[Real], log_sigma: Real) -> Real:
    # The last digit is the first parameter.
    digits = reversed(f"{level:08b}")
    chances = [
        sigmoid(param if digit == "1" else -param)
        for digit, param in zip(digits, params, strict=True)
    ]
    return mpmath.log(mpmath.fprod(chances))


def logistic_mixture(level: int, levels: int, params: list[Real], log_sigma: Real) -> Real:
    count = len(params) // 3
    weights = [mpmath.exp(param) for param in params[:count]]
    total = mpf(0)
    for k, weight in enumerate(weights):
        # From data in [-1, 1] to data in [0, 1].
        mean = (params[count + k] + 1) / 2
        scale = mpmath.exp(-7 + mpmath.log1p(mpmath.exp(params[2 * count + k] + 7))) / 2
        total += weight * bin_mass(logistic_tail, level, levels, mean, scale)
    return mpmath.log(total / sum(weights))


def beta_density(level: int, levels: int, params: list[Real], log_sigma: Real) -> Real:
    a, b = beta_shapes(params, log_sigma)
    t = (level + mpf(1) / 2) / levels
    # From t to x, which is spread over less by a bin.
    return beta_log_density(t, a, b) + mpmath.log(mpf(levels - 1) / levels)


def beta_mass(level: int, levels: int, params: list[Real], log_sigma: Real) -> Real:
    a, b = beta_shapes(params, log_sigma)
    low, high = mpf(level) / levels, mpf(level + 1) / levels
    if a + b < 1000:
        return mpmath.log(mpmath.betainc(a, b, low, high, regularized=True))
    # Where mpmath's series do not end; and a pole is in the other part.
    if a < 1 and level == 0:
        return mpmath.log1p(-mpmath.exp(beta_integral(a, b, high, mpf(1))))
    if b < 1 and level == levels - 1:
        return mpmath.log1p(-mpmath.exp(beta_integral(a, b, mpf(0), low)))
    return beta_integral(a, b, low, high)


def beta_shapes(params: list[Real], log_sigma: Real) -> tuple[Real, Real]:
    phi = mpmath.exp(-2 * log_sigma)
    return phi * sigmoid(params[0]), phi * sigmoid(-params[0])


def beta_log_density(t: Real, a: Real, b: Real) -> Real:
    log_norm = mpmath.loggamma(a) + mpmath.loggamma(b) - mpmath.loggamma(a + b)
    return (a - 1) * mpmath.log(t) + (b - 1) * mpmath.log1p(-t) - log_norm


def beta_integral(a: Real, b: Real, low: Real, high: Real) -> Real:
    """Logarithm of the density's integral, in panels that grow with the distance from its top."""
    mode = min(max((a - 1) / (a + b - 2), mpf(0)), mpf(1))
    top = min(max(mode, low), high)
    slope = (a - 1) / top - (b - 1) / (1 - top)
    bend = (a - 1) / top**2 + (b - 1) / (1 - top) ** 2
    width = 1 / (abs(slope) + mpmath.sqrt(abs(bend)))
    steps = [sign * width * 2**power for power in range(12) for sign in (-1, 1)]
    points = sorted({low, high, top, *(top + step for step in steps if low < top + step < high)})
    log_top = beta_log_density(top, a, b)
    with mpmath.workdps(40):
        total = mpmath.quad(lambda t: mpmath.exp(beta_log_density(t, a, b) - log_top), points)
    return log_top + mpmath.log(total)


def poisson(count: int, levels: None, params: list[Real], log_sigma: Real) -> Real:
    return count * params[0] - mpmath.exp(params[0]) - mpmath.loggamma(count + 1)


def negative_binomial(count: int, levels: None, params: list[Real], log_sigma: Real) -> Real:
    mean, theta = mpmath.exp(params[0]), mpmath.exp(-2 * log_sigma)
    ways = mpmath.loggamma(count + theta) - mpmath.loggamma(theta) - mpmath.loggamma(count + 1)
    chance = mean / (theta + mean)
    return ways + theta * mpmath.log1p(-chance) + count * mpmath.log(chance)


def zero_inflated_negative_binomial(
    count: int, levels: None, params: list[Real], log_sigma: Real
) -> Real:
    counted = mpmath.exp(negative_binomial(count, levels, params[:1], log_sigma))
    lost = sigmoid(params[1])
    return mpmath.log(lost * (count == 0) + sigmoid(-params[1]) * counted)


MIXTURES = [
    (0.0, 0.0, -0.5, 0.5, -2.0, -3.0),
    (3.0, -80.0, -1.0, 80.0, -80.0, 80.0),
    (80.0, 0.0, 1.0, -1.0, 4.0, -20.25),
    (-80.0, 80.0, 1.0078125, -1.0, -13.8125, -13.8125),
    (-1.5, 1.5, 0.0, 1.0, 80.0, -80.0),
]
BITS = [
    (0.0,) * 8,
    (80.0, -80.0, 80.0, -80.0, 80.0, -80.0, 80.0, -80.0),
    (-1.5, 0.25, 20.25, -20.25, 3.0, -0.5, 0.0, 1.0),
]
CLASSES = [
    (0.0,) * 17,
    tuple(10.0 * k - 80.0 for k in range(17)),
    tuple(80.0 * (-1) ** k for k in range(17)),
    (80.0, *(0.25 * k for k in range(15)), -80.0),
]


def families() -> Iterator[Family]:
    without_scale = {"log_prob": None, "log_sigmas": (0.0,)}
    yield Family(
        name="categorical",
        arguments={"levels": 17},
        log_mass=categorical,
        settings=CLASSES,
        levels={17: LEVELS[17]},
        **without_scale,
    )
    yield Family(
        name="bitwise_categorical",
        arguments={},
        log_mass=bitwise_categorical,
        settings=BITS,
        levels={256: LEVELS[256]},
        **without_scale,
    )
    for levels, chosen in LEVELS.items():
        yield Family(
            name="logistic_mixture",
            arguments={"levels": levels, "components": 2},
            log_mass=logistic_mixture,
            settings=MIXTURES,
            levels={levels: chosen},
            **without_scale,
        )
    yield Family(
        name="poisson",
        arguments={},
        log_mass=poisson,
        settings=[(mean,) for mean in LOG_MEANS],
        levels=COUNTS,
        **without_scale,
    )
    yield Family(
        name="negative_binomial",
        arguments={},
        log_prob=None,
        log_mass=negative_binomial,
        settings=[(mean,) for mean in LOG_MEANS],
        log_sigmas=LOG_COEFFICIENTS,
        levels=COUNTS,
    )
    yield Family(
        name="zero_inflated_negative_binomial",
        arguments={},
        log_prob=None,
        log_mass=zero_inflated_negative_binomial,
        settings=list(itertools.product(LOG_MEANS, (-80.0, 0.5, 80.0))),
        log_sigmas=LOG_COEFFICIENTS,
        levels=COUNTS,
    )
    for levels, chosen in LEVELS.items():
        yield Family(
            name="beta",
            arguments={"levels": levels},
            log_prob=beta_density,
            log_mass=beta_mass,
            settings=[(logit,) for logit in LOGITS],
            log_sigmas=(*LOG_SIGMAS, 6.90625),
            levels={levels: chosen},
        )
    for nu in (1.5, 4.0, 100.0):
        yield Family(
            name="student_t",
            arguments={"degrees": nu, "link": "identity"},
            log_prob=of_density(student_density(nu), identity),
            log_mass=of_bins(student_tail(nu), identity),
            settings=[(mean,) for mean in MEANS],
            log_sigmas=LOG_SIGMAS,
            levels={256: (0, 128, 255)},
        )
    for link, settings in ((identity, MEANS), (sigmoid, LOGITS)):
        for name, density, tail in (
            ("gaussian", gaussian_density, gaussian_tail),
            ("laplace", laplace_density, laplace_tail),
        ):
            yield Family(
                name=name,
                arguments={"link": link.__name__},
                log_prob=of_density(density, link),
                log_mass=of_bins(tail, link),
                settings=[(setting,) for setting in settings],
                log_sigmas=LOG_SIGMAS,
                levels={256: (0, 128, 255)},
            )
        for name, tail in (
            ("discretized_gaussian", gaussian_tail),
            ("discretized_logistic", logistic_tail),
        ):
            for levels, chosen in LEVELS.items():
                yield Family(
                    name=name,
                    arguments={"levels": levels, "link": link.__name__},
                    log_prob=None,
                    log_mass=of_bins(tail, link),
                    settings=[(setting,) for setting in settings],
                    log_sigmas=LOG_SIGMAS,
                    levels={levels: chosen},
                )


def slope(function: Callable[[Real], Real], at: Real) -> float | None:
    """Derivative, or None at a kink."""
    step = mpf(10) ** -20
    ahead = (function(at + step) - function(at)) / step
    behind = (function(at) - function(at - step)) / step
    if abs(ahead - behind) > mpf(10) ** -3 * (1 + abs(ahead)):
        return None
    return float(mpmath.nstr((ahead + behind) / 2, 13))


def gradient(
    function: LogProb, level: int, levels: int, params: list[Real], log_sigma: Real
) -> list[float | None]:
    """Derivatives with respect to each parameter and to log sigma."""

    def changed(place: int) -> Callable[[Real], Real]:
        def one(value: Real) -> Real:
            given = [*params, log_sigma]
            given[place] = value
            return function(level, levels, given[:-1], given[-1])

        return one

    return [slope(changed(i), at) for i, at in enumerate([*params, log_sigma])]


def rows(family: Family) -> Iterator[list[Any]]:
    """Level, levels, parameters, log sigma; then log_prob, its gradient, log_mass if other."""
    trained = family.log_prob or family.log_mass
    for (levels, chosen), setting, log_sigma in itertools.product(
        family.levels.items(), family.settings, family.log_sigmas
    ):
        for level in chosen:
            given = (level, levels, [mpf(value) for value in setting], mpf(log_sigma))
            yield [
                level,
                levels,
                setting,
                log_sigma,
                float(trained(*given)),
                gradient(trained, *given),
                float(family.log_mass(*given)) if family.log_prob else None,
            ]


def main() -> None:
    mpmath.mp.dps = DIGITS
    vectors = [
        {"likelihood": family.name, "arguments": family.arguments, "rows": list(rows(family))}
        for family in families()
    ]
    lines = ",\n".join(json.dumps(vector, separators=(",", ":")) for vector in vectors)
    FILE.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
