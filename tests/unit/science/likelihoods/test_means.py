"""The mean of every likelihood whose mean has a formula, against 60 digits."""

import mpmath
import pytest
import torch
from mpmath import mpf

from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.likelihoods.bernoulli import Bernoulli
from tune_vae.science.likelihoods.beta import Beta
from tune_vae.science.likelihoods.discretized_gaussian import DiscretizedGaussian
from tune_vae.science.likelihoods.discretized_logistic import DiscretizedLogistic
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.likelihoods.laplace import Laplace
from tune_vae.science.likelihoods.negative_binomial import NegativeBinomial
from tune_vae.science.likelihoods.poisson import Poisson
from tune_vae.science.likelihoods.student_t import StudentT
from tune_vae.science.likelihoods.zero_inflated_negative_binomial import (
    ZeroInflatedNegativeBinomial,
)

LOGITS = [-80.0, -20.25, -1.5, -1e-6, 0.0, 1e-6, 3.0, 20.25, 80.0]
precisions = pytest.mark.parametrize(
    ("dtype", "relative"), [(torch.float64, 1e-9), (torch.float32, 2e-4)], ids=str
)


def chance(logit: float) -> mpf:
    return 1 / (1 + mpmath.exp(-mpf(logit)))


@pytest.mark.parametrize(
    "likelihood",
    [
        Bernoulli(),
        Gaussian(),
        Laplace(),
        StudentT(),
        DiscretizedGaussian(),
        DiscretizedLogistic(),
        Beta(),
    ],
    ids=lambda likelihood: type(likelihood).__name__,
)
@precisions
def test_mean_of_a_grey_value(likelihood: Likelihood, dtype: torch.dtype, relative: float) -> None:
    got = likelihood.mean(torch.tensor(LOGITS, dtype=dtype)[:, None, None])[:, 0]
    with mpmath.workdps(60):
        # A beta distribution is spread over the bins of all levels, from -h to 1 + h.
        half = mpf(1) / 510 if isinstance(likelihood, Beta) else mpf(0)
        exact = [float(chance(logit) * (1 + 2 * half) - half) for logit in LOGITS]
    assert got.tolist() == pytest.approx(exact, rel=relative, abs=1e-300)


@pytest.mark.parametrize(
    "likelihood", [Poisson(), NegativeBinomial(), ZeroInflatedNegativeBinomial()], ids=repr
)
@precisions
def test_mean_of_a_count(likelihood: Likelihood, dtype: torch.dtype, relative: float) -> None:
    outputs, dropouts, counts = [-3.0, 0.5, 12.0, 12.5], [-80.0, -1.0, 0.0, 6.0], [0, 7, 1000, 3]
    zero_inflated = likelihood.params_per_value == 2
    params = torch.tensor([[outputs, dropouts][: likelihood.params_per_value]], dtype=dtype)
    x = torch.tensor([counts], dtype=dtype)
    got = likelihood.mean(likelihood.conditioned(params, x))[0]
    with mpmath.workdps(60):
        weights = [mpmath.exp(mpf(output)) for output in outputs]
        exact = [
            float(sum(counts) * weight / sum(weights) * (chance(-dropout) if zero_inflated else 1))
            for weight, dropout in zip(weights, dropouts, strict=True)
        ]
    assert got.tolist() == pytest.approx(exact, rel=relative)
