"""What is special to likelihoods with parameters for each level, bit or component."""

import pytest
import torch

from tune_vae.science.bins import logistic_log_mass
from tune_vae.science.likelihoods import Likelihood, Measure
from tune_vae.science.likelihoods.bitwise_categorical import BitwiseCategorical
from tune_vae.science.likelihoods.categorical import Categorical
from tune_vae.science.likelihoods.logistic_mixture import LogisticMixture

ZERO = torch.zeros(())
GRID = torch.arange(256, dtype=torch.float64)[None] / 255


def random_params(likelihood: Likelihood, count: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (count, likelihood.params_per_value, 1)
    return 2 * torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    "likelihood", [Categorical(), BitwiseCategorical(), LogisticMixture()], ids=repr
)
def test_on_another_number_of_levels_it_has_no_number(likelihood: Likelihood) -> None:
    params = random_params(likelihood)
    assert likelihood.measure(256) is Measure.MASS
    assert likelihood.measure(17) is Measure.IMPROPER
    assert likelihood.log_mass(torch.zeros(1, 1), params, ZERO, levels=17).isnan().all()


@pytest.mark.parametrize("likelihood", [Categorical(), BitwiseCategorical()], ids=repr)
def test_mean_is_that_of_all_levels(likelihood: Likelihood) -> None:
    params = random_params(likelihood)
    log_mass = likelihood.log_prob(GRID, params.expand(-1, -1, 256), ZERO)
    expected = (log_mass.exp() * GRID).sum(1, keepdim=True)
    torch.testing.assert_close(likelihood.mean(params), expected)


def test_untrained_decoder_thinks_all_levels_equal() -> None:
    for likelihood in (Categorical(), BitwiseCategorical()):
        params = torch.zeros(1, likelihood.params_per_value, 256, dtype=torch.float64)
        mass = likelihood.log_prob(GRID, params, ZERO).exp()
        torch.testing.assert_close(mass, torch.full_like(mass, 1 / 256))


def test_bits_of_a_level_are_told_from_the_last_to_the_first() -> None:
    for level in (0, 1, 127, 128, 200, 255):
        bits = [(level >> bit) & 1 for bit in range(8)]
        params = 40 * (2 * torch.tensor(bits, dtype=torch.float32) - 1)[None, :, None]
        best = BitwiseCategorical().log_prob(GRID.float(), params.expand(-1, -1, 256), ZERO)
        assert best.argmax() == level
        torch.testing.assert_close(BitwiseCategorical().mean(params).item(), level / 255)


def test_mixture_of_equal_components_is_one_discretised_logistic() -> None:
    params = torch.zeros(1, 9, 256, dtype=torch.float64)
    params[:, 3:6], params[:, 6:] = 0.2, -2.0
    mixture = LogisticMixture(components=3, floor=-20.0).log_prob(GRID, params, ZERO)
    mean, log_scale = (
        torch.tensor(0.6).double(),
        torch.tensor(-2.0).double() - torch.tensor(2).log(),
    )
    one = logistic_log_mass(GRID, mean, log_scale, levels=256)
    torch.testing.assert_close(mixture, one, rtol=0, atol=1e-6)


def test_mean_of_a_mixture_is_that_of_its_levels_within_half_a_bin() -> None:
    likelihood = LogisticMixture(components=4)
    params = random_params(likelihood, count=50)
    mass = likelihood.log_prob(GRID.expand(50, -1), params.expand(-1, -1, 256), ZERO).exp()
    expected = (mass * GRID).sum(1, keepdim=True)
    assert (likelihood.mean(params) - expected).abs().max() < 0.5 / 255


def test_mean_of_a_mixture_does_not_jump_where_its_formula_changes() -> None:
    """At a scale of 1 in units of the data, log 2 in those of the parameters."""
    likelihood = LogisticMixture(components=1, floor=-20.0)
    log_scale = 0.6931471805599453 + torch.tensor([-1e-6, 1e-6], dtype=torch.float64)
    for mean in (-40.0, -1.0, 0.3, 1.0, 40.0):
        params = torch.zeros(2, 3, 1, dtype=torch.float64)
        params[:, 1], params[:, 2] = mean, log_scale[:, None]
        low, high = likelihood.mean(params).flatten().tolist()
        assert low == pytest.approx(high, abs=1e-6, rel=2e-5)


def test_scales_of_a_mixture_stay_above_their_floor() -> None:
    likelihood = LogisticMixture(levels=256, components=1, floor=-3.0)
    params = torch.tensor([0.0, 0.0, -500.0], dtype=torch.float64)[None, :, None]
    sharpest = likelihood.log_prob(torch.full((1, 1), 128 / 255).double(), params, ZERO)
    expected = logistic_log_mass(
        torch.tensor(128 / 255).double(),
        torch.tensor(0.5).double(),
        torch.tensor(-3.0).double() - torch.tensor(2.0).double().log(),
        levels=256,
    )
    torch.testing.assert_close(sharpest[0, 0], expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"components": 0}, "components must be at least 1, got 0"),
        ({"floor": 1.0}, "floor must be at least -20 and at most 0, got 1.0"),
        ({"floor": float("nan")}, "floor must be at least -20 and at most 0, got nan"),
        ({"levels": 1}, "levels must be at least 2, got 1"),
    ],
)
def test_mixture_without_a_meaning_is_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogisticMixture(**arguments)
