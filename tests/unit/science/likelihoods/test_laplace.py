"""What is special to the Laplace distribution; its numbers are checked in `test_oracles.py`."""

import math

import pytest
import torch

from tune_vae.science.likelihoods.laplace import Laplace


def test_optimal_scale_is_the_mean_absolute_error() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(20, 5, generator=generator, dtype=torch.float64)
    params = torch.randn(20, 1, 5, generator=generator, dtype=torch.float64)
    log_sigma = Laplace(link="identity").optimal_log_sigma(x, params)
    torch.testing.assert_close(log_sigma.exp(), (x - params[:, 0]).abs().mean())


def test_standard_deviation_is_the_scale_times_the_root_of_2() -> None:
    params, log_sigma = torch.full((1, 1, 100_000), 0.3), torch.tensor(-1.0)
    sample = Laplace().sample(params, log_sigma, torch.Generator().manual_seed(0))
    assert sample.std().item() == pytest.approx(math.sqrt(2) * math.exp(-1), rel=0.02)


def test_pull_of_a_value_does_not_grow_with_its_distance() -> None:
    params = torch.zeros(3, 1, 1, requires_grad=True)
    x = torch.tensor([[0.1], [1.0], [100.0]])
    log_prob = Laplace(link="identity").log_prob(x, params, torch.tensor(0.0))
    (gradient,) = torch.autograd.grad(log_prob.sum(), params)
    assert gradient.flatten().tolist() == [1.0, 1.0, 1.0]
