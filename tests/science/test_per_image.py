r"""A scale for each image pays when images differ, and costs its code when they do not.

The decoder is taken to know every mean, so that all there is to say is the noise: images of N
values are $\sigma_b$ times standard normal noise.
"""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import entropy, norm
from torch import Tensor

from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.sigmas import Scale
from tune_vae.science.sigmas.per_image import PerImage

VALUES, IMAGES = 256, 4000
SHAPE = (1, 16, 16)
LIKELIHOOD = Gaussian(link="identity")


def images(deviation: float, seed: int, count: int = IMAGES) -> Tensor:
    """Images with a log sigma of mean -1, where the soft bound is of no account."""
    generator = torch.Generator().manual_seed(seed)
    log_sigma = -1 + deviation * torch.randn(count, 1, 1, 1, generator=generator).double()
    noise = torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)
    return log_sigma.exp() * noise


def trained(x: Tensor, *, step: float = 1.0) -> Scale:
    """A scale whose prior knows the images, with its step multiplied by `step`."""
    scale = PerImage().build(SHAPE).double().train()
    scale.step *= step
    log_sigma(scale, x)
    return scale.eval()


def log_sigma(scale: Scale, x: Tensor) -> Tensor:
    zero = torch.zeros_like(x)[:, None]
    given: Tensor = scale(x, zero, zero[:, :0], LIKELIHOOD)
    return given


def nats_at(x: Tensor, log_sigma: Tensor) -> Tensor:
    """Negative log-likelihood of each image."""
    return -LIKELIHOOD.log_prob(x, torch.zeros_like(x)[:, None], log_sigma).flatten(1).sum(1)


def two_part(scale: Scale, x: Tensor) -> tuple[Tensor, Tensor]:
    """What an image costs under its own scale, and what it costs to state that."""
    own = log_sigma(scale, x)
    return nats_at(x, own), scale.code_nats(own)


def shared_nats(x: Tensor, x_train: Tensor) -> Tensor:
    """What an image costs under the one scale that fits the training images best."""
    return nats_at(x, 0.5 * x_train.square().mean().log())


@pytest.mark.parametrize("deviation", [0.15, 0.3, 0.6])
def test_where_noise_differs_a_scale_for_each_image_saves_more_than_its_code(
    deviation: float,
) -> None:
    r"""By as much as theory says.

    One scale for all costs $N \log(\mathrm{RMS} / \sigma_b)$ more than the right one, which is
    $N d^2$ in the mean of log-normal scales of deviation d. Own scales save half a nat by
    fitting and lose it by rounding; their cells cost the entropy of log sigma and of its
    estimate at the resolution of the grid.
    """
    x_train, x = images(deviation, 0), images(deviation, 1)
    distortion, code = two_part(trained(x_train), x)
    saved = shared_nats(x, x_train) - distortion - code
    variance = deviation**2 + 1 / (2 * VALUES)
    cells = 0.5 * math.log(2 * math.pi * math.e * variance) - math.log(math.sqrt(6 / VALUES))
    assert saved.mean() > 0
    assert code.mean().item() == pytest.approx(cells, abs=0.1)
    error = saved.std().item() / math.sqrt(IMAGES)
    assert saved.mean().item() == pytest.approx(VALUES * deviation**2 - cells, abs=4 * error)


def test_where_noise_is_equal_one_scale_for_all_is_cheaper() -> None:
    r"""By as much as theory says, which depends on where the one scale lies in its cell.

    In cells, an estimate is normal with a variance of 1/12 around the truth. Fitting saves half
    a nat, rounding by r cells costs $6 r^2$, the code costs the cells' entropy.
    """
    x_train, x = images(0.0, 0), images(0.0, 1)
    scale = trained(x_train)
    distortion, code = two_part(scale, x)
    lost = distortion + code - shared_nats(x, x_train)

    truth = (scale.mean.item() + 6) / scale.step
    cells = np.arange(math.floor(truth) - 4, math.floor(truth) + 6)
    estimate = norm(truth, math.sqrt(1 / 12))
    mass = np.diff(estimate.cdf(np.append(cells - 0.5, cells[-1] + 0.5)))
    rounding = estimate.expect(lambda t: 6 * (t - np.round(t)) ** 2, epsabs=1e-6, limit=500)
    expected = rounding - 0.5 + entropy(mass)
    assert 0.1 < expected
    error = lost.std().item() / math.sqrt(IMAGES)
    assert lost.mean().item() == pytest.approx(expected, abs=4 * error + 0.02)


@pytest.mark.parametrize("deviation", [0.0, 0.3])
def test_code_and_distortion_bound_the_sum_over_all_scales(deviation: float) -> None:
    r"""$-\log \sum_i P(s_i)\, p(x | s_i)$, with the prior's cells counted by scipy."""
    x = images(deviation, 1, count=200)
    scale = trained(images(deviation, 0))
    distortion, code = two_part(scale, x)
    grid = np.arange(-6, 2, scale.step)
    edges = np.concatenate([[-np.inf], grid[1:] - scale.step / 2, [np.inf]])
    deviation_of_prior = max(scale.variance.item(), 1 / (2 * VALUES)) ** 0.5
    prior = np.diff(norm.cdf(edges, loc=scale.mean.item(), scale=deviation_of_prior))
    cells = zip(grid, prior, strict=True)
    terms = [math.log(p) - nats_at(x, torch.tensor(s)) for s, p in cells if p > 0]
    exact = -torch.stack(terms).logsumexp(0)
    gap = distortion + code - exact
    assert (gap >= -1e-9).all()
    # The stated cell is a large part of the sum.
    assert 0.05 < gap.mean() < math.log(2)


def test_a_point_costs_a_fraction_of_a_nat_more_than_integrating_over_sigma() -> None:
    r"""$-\log \int p(x | s)\, p(s)\, ds$ by quadrature.

    The integral is the Laplace approximation's, so that the mean of the difference over the
    place of the optimum in its cell is $\tfrac12 + \tfrac12 \log(\pi / 6) = 0.177$ nats.
    """
    count = 300
    x, scale = images(0.3, 1, count), trained(images(0.3, 0))
    distortion, code = two_part(scale, x)
    mean, deviation = scale.mean.item(), scale.variance.item() ** 0.5
    square = x.square().flatten(1).sum(1).tolist()

    def log_joint(s: float, square: float) -> float:
        away = (s - mean) / deviation
        data = 0.5 * square * math.exp(-2 * s) + VALUES * (s + 0.5 * math.log(2 * math.pi))
        return -data - 0.5 * away**2 - math.log(deviation) - 0.5 * math.log(2 * math.pi)

    def integral(square: float) -> float:
        best, width = 0.5 * math.log(square / VALUES), 12 / math.sqrt(2 * VALUES)
        top = log_joint(best, square)
        area, _ = quad(lambda s: math.exp(log_joint(s, square) - top), best - width, best + width)
        return -top - math.log(area)

    exact = np.array([integral(one) for one in square])
    more = (distortion + code).numpy() - exact
    expected = 0.5 + 0.5 * math.log(math.pi / 6)
    assert more.mean() == pytest.approx(expected, abs=4 * more.std() / math.sqrt(count))
    assert expected == pytest.approx(0.1765, abs=1e-4)


def test_step_is_the_cheapest() -> None:
    r"""A step r times as wide costs $\tfrac12 (r^2 - 1) - \log r$ nats more."""
    x_train, x = images(0.6, 0), images(0.6, 1)

    def total(step: float) -> float:
        distortion, code = two_part(trained(x_train, step=step), x)
        return (distortion + code).mean().item()

    best = total(1.0)
    for step in (0.4, 0.6, 0.8, 1.25, 1.6, 2.2):
        more = total(step) - best
        assert more > 0
        assert more == pytest.approx(0.5 * (step**2 - 1) - math.log(step), abs=0.06), step
