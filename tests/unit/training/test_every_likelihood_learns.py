"""Every likelihood with every sigma mode, schedule and network trains on real images.

A pack holds a member for each schedule, so that it meets them all at once; alone each pair is
trained with one of the schedules, and with all of them among the slow tests.
"""

import itertools
import math
from dataclasses import fields, replace

import pytest
import torch

from tests.discovery import component_classes
from tests.factories import member, small
from tune_vae.data import Splits
from tune_vae.science.likelihoods import Domain, Likelihood, Measure
from tune_vae.science.networks import Network
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.schedules import Schedule
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.shared import Shared
from tune_vae.training.trainer import Member, Trainer

LEVELS, EPOCHS, IMAGES = 17, 3, 200


def made(kind: type) -> Likelihood:
    """A likelihood as a study on digits would state it."""
    levels = {"levels": LEVELS} if "levels" in {field.name for field in fields(kind)} else {}
    likelihood: Likelihood = kind(**levels)
    return likelihood


LIKELIHOODS = [made(kind) for kind in component_classes("science.likelihoods")]
SIGMAS: list[Sigma] = [kind() for kind in component_classes("science.sigmas")]
SCHEDULES: list[Schedule] = [kind() for kind in component_classes("science.schedules")]
PAIRS: list[tuple[Likelihood, Sigma | None]] = [
    (likelihood, sigma)
    for likelihood in LIKELIHOODS
    for sigma in (SIGMAS if likelihood.has_scale else [None])
    if sigma is None or likelihood.has_optimal_scale or not sigma.needs_optimal_scale
]


def label(value: object) -> str:
    return type(value).__name__


@pytest.fixture(scope="session")
def images(digits: Splits) -> Splits:
    return Splits(digits.train[:IMAGES], digits.validation[:64], digits.test[:64], LEVELS)


def as_wanted(images: Splits, likelihood: Likelihood) -> Splits:
    """The images; for a likelihood of counts, how much ink there is on each pixel."""
    if likelihood.domains != {Domain.COUNTS}:
        return images
    splits = (images.train, images.validation, images.test)
    return Splits(*(split.int() for split in splits), levels=None)


NETWORKS = [small(kind) for kind in component_classes("science.networks")]


def of(likelihood: Likelihood, sigma: Sigma | None, schedule: Schedule, trial: int) -> Member:
    return member(
        trial,
        network=Mlp(hidden=(16,)),
        likelihood=likelihood,
        sigma=sigma,
        schedule=schedule,
        epochs=EPOCHS,
        batch_size=50,
        lr=1e-2,
    )


def check_that_they_learn(members: list[Member], data: Splits, device: torch.device) -> None:
    trainer = Trainer(members, data, device=device)
    before = [scores["neg_elbo"] for scores in trainer.scores()]
    proper = members[0].likelihood.measure(data.levels) is not Measure.IMPROPER
    for reports in trainer:
        for report in reports:
            assert report.finite
            assert report.skipped == 0
            assert math.isfinite(report.neg_elbo)
            assert math.isfinite(report.bits_per_dim) == proper
            assert math.isfinite(report.bits_per_dim_calibrated)
    for report, at_first in zip(reports, before, strict=True):
        assert report.neg_elbo < at_first, SCHEDULES[report.trial]


@pytest.mark.parametrize(("likelihood", "sigma"), PAIRS, ids=label)
def test_pack_of_all_schedules_learns(
    images: Splits, device: torch.device, likelihood: Likelihood, sigma: Sigma | None
) -> None:
    members = [of(likelihood, sigma, schedule, k) for k, schedule in enumerate(SCHEDULES)]
    check_that_they_learn(members, as_wanted(images, likelihood), device)


@pytest.mark.parametrize(
    ("pair", "schedule"), list(zip(PAIRS, itertools.cycle(range(len(SCHEDULES))), strict=False))
)
def test_one_learns_alone(
    images: Splits,
    device: torch.device,
    pair: tuple[Likelihood, Sigma | None],
    schedule: int,
) -> None:
    one = of(*pair, SCHEDULES[schedule], schedule)
    check_that_they_learn([one], as_wanted(images, pair[0]), device)


@pytest.mark.parametrize(
    ("network", "likelihood"),
    [
        (network, likelihood)
        for network in NETWORKS
        for likelihood in LIKELIHOODS
        if network.domains & likelihood.domains
    ],
    ids=label,
)
def test_network_learns_with_every_likelihood_of_its_data(
    images: Splits, device: torch.device, network: Network, likelihood: Likelihood
) -> None:
    sigma = Shared() if likelihood.has_scale else None
    pair = [
        replace(of(likelihood, sigma, SCHEDULES[0], k), network=network, epochs=1)
        for k in range(2)
    ]
    check_that_they_learn(pair, as_wanted(images, likelihood), device)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", range(len(SCHEDULES)))
@pytest.mark.parametrize(("likelihood", "sigma"), PAIRS, ids=label)
def test_each_learns_alone(
    images: Splits,
    device: torch.device,
    likelihood: Likelihood,
    sigma: Sigma | None,
    schedule: int,
) -> None:
    one = of(likelihood, sigma, SCHEDULES[schedule], schedule)
    check_that_they_learn([one], as_wanted(images, likelihood), device)
