"""What is left of gamma functions and powers, against arithmetic with 60 digits."""

import mpmath
import pytest
import torch

from tune_vae.science.saddlepoint import deviance, digamma_gap, stirling_remainder

# Both sides of the place where the series takes over.
ARGUMENTS = [1e-30, 1e-8, 1e-3, 0.3, 1.0, 1.5, 2.0, 5.0, 9.99, 10.01, 50.0, 1e4, 1e8, 1e12]

every_dtype = pytest.mark.parametrize(
    ("dtype", "relative", "absolute"),
    [(torch.float64, 1e-12, 1e-14), (torch.float32, 2e-4, 2e-6)],
    ids=["float64", "float32"],
)


@pytest.fixture(autouse=True)
def _sixty_digits() -> None:
    mpmath.mp.dps = 60


def exact_remainder(log_z: mpmath.mpf) -> mpmath.mpf:
    z = mpmath.exp(log_z)
    return mpmath.loggamma(z) - (z - 0.5) * log_z + z - mpmath.log(2 * mpmath.pi) / 2


@every_dtype
def test_stirling_remainder_and_its_slope_are_exact(
    dtype: torch.dtype, relative: float, absolute: float, device: torch.device
) -> None:
    log_z = torch.tensor(ARGUMENTS, dtype=dtype, device=device).log().requires_grad_()
    remainder = stirling_remainder(log_z.exp(), log_z)
    (slope,) = torch.autograd.grad(remainder.sum(), log_z)
    at = [mpmath.mpf(one) for one in log_z.tolist()]
    exact = [float(exact_remainder(one)) for one in at]
    assert remainder.tolist() == pytest.approx(exact, rel=relative, abs=absolute)
    exact = [float(mpmath.diff(exact_remainder, one)) for one in at]
    assert slope.tolist() == pytest.approx(exact, rel=relative, abs=20 * absolute)


def test_stirling_remainder_of_a_number_that_has_underflowed_is_that_of_its_logarithm() -> None:
    log_z = torch.tensor(-300.0, requires_grad=True)
    remainder = stirling_remainder(log_z.exp(), log_z)
    (slope,) = torch.autograd.grad(remainder, log_z)
    assert remainder.item() == pytest.approx(float(exact_remainder(mpmath.mpf(-300))))
    assert slope.item() == pytest.approx(-0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_digamma_gap_is_exact_to_a_millionth(dtype: torch.dtype, device: torch.device) -> None:
    z = torch.tensor(ARGUMENTS, dtype=dtype, device=device)
    exact = [
        float(one * (mpmath.log(one) - mpmath.digamma(one))) for one in map(mpmath.mpf, z.tolist())
    ]
    assert digamma_gap(z, z.log()).tolist() == pytest.approx(exact, abs=1e-6)
    assert all(0.5 <= one <= 1 for one in exact)


@every_dtype
@pytest.mark.parametrize("p", [1e-12, 0.3, 1.0, 1e6])
def test_deviance_and_its_slope_are_exact_however_near_the_two_are(
    p: float, dtype: torch.dtype, relative: float, absolute: float, device: torch.device
) -> None:
    ratios = [1e-20, 0.5, 0.818, 0.819, 0.99, 1 - 1e-5, 1.0, 1 + 1e-5, 1.01, 1.222, 1.223, 2, 1e6]
    p_ = torch.tensor(p, dtype=dtype, device=device)
    q = (p_ * torch.tensor(ratios, dtype=dtype, device=device)).requires_grad_()
    got = deviance(p_, q, excess=p_ - q, log_ratio=p_.log() - q.log())
    (slope,) = torch.autograd.grad(got.sum(), q)
    exact_p, exact_q = mpmath.mpf(p_.item()), [mpmath.mpf(one) for one in q.tolist()]
    exact = [float(exact_p * mpmath.log(exact_p / one) - exact_p + one) for one in exact_q]
    assert got.tolist() == pytest.approx(exact, rel=relative, abs=0)
    assert min(exact) == 0
    exact = [float(1 - exact_p / one) for one in exact_q]
    assert slope.tolist() == pytest.approx(exact, rel=relative, abs=absolute)


def test_deviance_of_nothing_is_what_was_expected() -> None:
    q, log_q = torch.tensor(2.0), torch.tensor(2.0).log()
    zero, log_zero = torch.tensor(0.0, requires_grad=True), torch.tensor(-300.0)
    got = deviance(zero, q, excess=zero - q, log_ratio=log_zero - log_q)
    assert got.item() == 2.0
    (slope,) = torch.autograd.grad(got, zero)
    assert slope.isfinite()
