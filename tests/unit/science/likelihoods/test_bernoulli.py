"""The Bernoulli against arithmetic with 60 digits."""

import mpmath
import pytest
import torch

from tune_vae.science.likelihoods import Measure
from tune_vae.science.likelihoods.bernoulli import Bernoulli

LOGITS = [-80.0, -25.0, -3.0, -1e-7, 0.0, 0.5, 20.5, 25.0, 80.0]


def exact_log_prob(x: float, logit: float) -> float:
    with mpmath.workdps(60):
        probability = 1 / (1 + mpmath.exp(-mpmath.mpf(logit)))
        return float(x * mpmath.log(probability) + (1 - x) * mpmath.log1p(-probability))


@pytest.mark.parametrize(
    ("dtype", "relative"), [(torch.float64, 1e-12), (torch.float32, 2e-4)], ids=str
)
@pytest.mark.parametrize("x", [0.0, 0.25, 1.0])
def test_log_prob_is_exact_in_both_tails(
    x: float, dtype: torch.dtype, relative: float, device: torch.device
) -> None:
    logits = torch.tensor(LOGITS, dtype=dtype, device=device)[:, None, None]
    got = Bernoulli().log_prob(
        torch.full((len(LOGITS), 1), x, dtype=dtype, device=device),
        logits,
        torch.zeros((), dtype=dtype, device=device),
    )
    exact = [exact_log_prob(x, logit) for logit in logits.flatten().tolist()]
    # Below the smallest normal float32 nothing is promised.
    assert got.flatten().tolist() == pytest.approx(exact, rel=relative, abs=1e-37)


def test_probabilities_of_black_and_white_add_up_however_sharp_the_pixel() -> None:
    logits = torch.tensor(LOGITS, dtype=torch.float64)[:, None, None]
    zero = torch.zeros((), dtype=torch.float64)
    black = Bernoulli().log_prob(torch.zeros(len(LOGITS), 1).double(), logits, zero)
    white = Bernoulli().log_prob(torch.ones(len(LOGITS), 1).double(), logits, zero)
    torch.testing.assert_close(
        black.exp() + white.exp(), torch.ones_like(black), rtol=0, atol=1e-15
    )


@pytest.mark.parametrize(
    ("levels", "measure"), [(2, Measure.MASS), (17, Measure.IMPROPER), (256, Measure.IMPROPER)]
)
def test_it_is_a_probability_for_binary_data_only(levels: int, measure: Measure) -> None:
    assert Bernoulli().measure(levels) is measure


def test_grey_values_have_no_normalised_log_prob() -> None:
    """The integral over [0, 1] is below 1 wherever the pixel is not sharp."""
    x = torch.linspace(0, 1, 1001, dtype=torch.float64)[None]
    density = Bernoulli().log_prob(
        x, torch.zeros(1, 1, 1001, dtype=torch.float64), torch.zeros(())
    )
    assert torch.trapezoid(density.exp(), x).item() == pytest.approx(0.5)
