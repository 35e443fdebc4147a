"""One training for all β, against the optimum that a linear model has at each."""

from dataclasses import replace

import pytest
import torch

from tests.factories import member
from tune_vae.data import Splits
from tune_vae.errors import DataError
from tune_vae.science.forecast import LinearForecast
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.sigmas.shared import Shared
from tune_vae.science.spectrum import spectrum
from tune_vae.training.scout import scout

SIGMA = 0.1
LINEAR = member(
    network=Mlp(hidden=()),
    likelihood=Gaussian(link="identity"),
    sigma=Fixed(SIGMA),
    latent_dim=2,
    lr=1e-2,
    batch_size=256,
    epochs=300,
)


@pytest.fixture(scope="module")
def data() -> Splits:
    """Two directions and noise, of which the second dies at a tenth of the first's β."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(1024, 2, generator=generator) * torch.tensor([0.3, 0.1])
    directions = torch.linalg.qr(torch.randn(8, 2, generator=generator)).Q
    noise = 0.03 * torch.randn(1024, 8, generator=generator)
    x = (0.5 + factors @ directions.T + noise).clamp(0, 1)
    images = (255 * x).round().byte().reshape(-1, 1, 2, 4)
    return Splits(images, images, images, levels=256)


def test_curve_of_a_linear_model_gains_most_of_its_optimum_and_never_more(data: Splits) -> None:
    curve, _ = scout(LINEAR, data, 0.1, 30.0)
    forecast = LinearForecast(spectrum([data.train.double().flatten(1) / 255], 8), 2)
    assert [one.beta for one in curve] == sorted(one.beta for one in curve)
    assert (curve[0].beta, curve[-1].beta) == pytest.approx((0.1, 30.0))

    def gain(beta: float, rate: float, squared_error: float) -> float:
        """Nats of β R + D less than the mean image has."""
        saved = forecast.spectrum.total - squared_error
        return saved / (2 * SIGMA**2) - beta * rate

    for seen in curve:
        best = forecast.at(seen.beta, SIGMA)
        most = gain(seen.beta, best.rate_nats, best.squared_error)
        mine = gain(seen.beta, seen.rate_nats, 8 * seen.mse)
        # One draw of the noise, so that a little more may be seen than there is.
        assert mine < 1.02 * most + 0.01
        if seen.beta < 2:
            assert mine > 0.8 * most
    rates = [one.rate_nats for one in curve]
    assert rates == pytest.approx(sorted(rates, reverse=True), abs=0.05)
    # The second direction dies at β 1, the first at 9.
    assert max(rates[-3:]) < 0.02


def test_same_seed_sees_the_same_and_another_does_not(data: Splits) -> None:
    short = replace(LINEAR, epochs=2)
    told: list[int] = []
    first, state = scout(short, data, 0.1, 30.0, on_epoch=told.append)
    again, _ = scout(short, data, 0.1, 30.0)
    other, _ = scout(replace(short, seed=1), data, 0.1, 30.0)
    assert first == again != other
    assert told == [1, 2]
    assert state["theta"].isfinite().all()


def test_fitted_scale_is_that_of_each_beta(data: Splits) -> None:
    """A running average of all batches would be one scale for all."""
    short = replace(LINEAR, epochs=120, sigma=Optimal())
    curve, _ = scout(short, data, 0.05, 30.0)
    for seen in curve:
        # Of a Gaussian at its best scale the distortion is that of the squared error alone.
        fitted = 4 * (1 + torch.tensor(2 * torch.pi * seen.mse).log()).item()
        assert seen.distortion_nats == pytest.approx(fitted, abs=0.6)
    assert curve[-1].mse > 2 * curve[0].mse
    assert (
        scout(replace(short, epochs=1, sigma=Shared()), data, 0.05, 30.0)[0]
        == (scout(replace(short, epochs=1), data, 0.05, 30.0)[0])
    )


def test_lost_loss_leaves_no_curve_and_too_few_images_are_refused(data: Splits) -> None:
    lost, _ = scout(replace(LINEAR, lr=1e18, epochs=3), data, 0.1, 30.0)
    assert lost == ()
    with pytest.raises(DataError, match="batch_size 5000 exceeds the 1024 training images"):
        scout(replace(LINEAR, batch_size=5000), data, 0.1, 30.0)
