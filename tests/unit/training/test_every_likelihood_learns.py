"""Each likelihood and each sigma mode trains on real images, alone and beside another."""

import itertools
import math
from dataclasses import fields

import pytest
import torch

from tests.discovery import component_classes
from tests.factories import member
from tune_vae.data import Splits
from tune_vae.science.likelihoods import Likelihood, Measure
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.shared import Shared
from tune_vae.training.trainer import Member, Trainer

LEVELS = 17


def on_digits(make: type) -> Likelihood:
    """A likelihood as a study on digits would state it."""
    levels = {"levels": LEVELS} if "levels" in {field.name for field in fields(make)} else {}
    made: Likelihood = make(**levels)
    return made


LIKELIHOODS = [on_digits(make) for make in component_classes("science.likelihoods")]
SIGMAS = [make() for make in component_classes("science.sigmas")]


def check_that_it_learns(members: list[Member], data: Splits, device: torch.device) -> None:
    curves: dict[int, list[float]] = {one.trial: [] for one in members}
    trainer = Trainer(members, data, device=device)
    for one, scores in zip(members, trainer.scores(), strict=True):
        curves[one.trial].append(scores["neg_elbo"])
    for reports in trainer:
        for report in reports:
            assert report.finite
            assert report.skipped == 0
            proper = members[0].likelihood.measure(LEVELS) is not Measure.IMPROPER
            assert math.isfinite(report.bits_per_dim) == proper
            assert math.isfinite(report.bits_per_dim_calibrated)
            curves[report.trial].append(report.neg_elbo)
    for curve in curves.values():
        assert all(later < earlier for earlier, later in itertools.pairwise(curve))


@pytest.mark.parametrize("together", [1, 2], ids=["alone", "pack"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_every_likelihood_learns(
    few_digits: Splits, device: torch.device, likelihood: Likelihood, together: int
) -> None:
    members = [
        member(k, likelihood=likelihood, sigma=Shared(start=0.3), epochs=2, lr=3e-3 / (1 + k))
        for k in range(together)
    ]
    check_that_it_learns(members, few_digits, device)


@pytest.mark.parametrize("together", [1, 2], ids=["alone", "pack"])
@pytest.mark.parametrize("sigma", SIGMAS, ids=repr)
def test_every_sigma_mode_learns(
    few_digits: Splits, device: torch.device, sigma: Sigma, together: int
) -> None:
    members = [
        member(k, likelihood=Gaussian(), sigma=sigma, epochs=2, lr=3e-3 / (1 + k))
        for k in range(together)
    ]
    check_that_it_learns(members, few_digits, device)
