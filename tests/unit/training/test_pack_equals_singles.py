"""The central test: a trial does not know who trains beside it."""

import math
from dataclasses import replace

import pytest
import torch

from tests.discovery import component_classes
from tests.factories import member, small
from tune_vae.data import Splits
from tune_vae.science.history import EpochReport
from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.likelihoods.bernoulli import Bernoulli
from tune_vae.science.likelihoods.continuous_bernoulli import ContinuousBernoulli
from tune_vae.science.networks import Network
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.schedules.constant import Constant
from tune_vae.science.schedules.cyclical import Cyclical
from tune_vae.science.schedules.linear import Linear
from tune_vae.science.schedules.sigmoid import Sigmoid
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.sigmas.shared import Shared
from tune_vae.training.trainer import Member, Trainer

Curves = dict[int, list[EpochReport]]

EPOCHS = 5
NETWORKS = [small(kind) for kind in component_classes("science.networks")]

every_network = pytest.mark.parametrize("network", NETWORKS, ids=repr)
SIGMAS = [Fixed(sigma=0.2), Shared(start=0.5), Optimal()]
every_sigma_and_network = pytest.mark.parametrize(
    ("sigma", "network"),
    [
        # What a scale does is no business of the network; all pairs take minutes.
        pytest.param(
            sigma,
            network,
            marks=() if sigma == Optimal() or isinstance(network, Mlp) else pytest.mark.slow,
        )
        for sigma in SIGMAS
        for network in NETWORKS
    ],
    ids=repr,
)
every_precision = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=str
)


def different_members(**common: object) -> list[Member]:
    """Four trials that share a graph and nothing else."""
    common = {"epochs": EPOCHS} | common
    return [
        member(0, seed=10, beta=1.0, lr=1e-3, schedule=Constant(), **common),
        member(1, seed=11, beta=0.1, lr=5e-3, schedule=Linear(), weight_decay=0.1, **common),
        member(2, seed=12, beta=4.0, lr=2e-3, schedule=Cyclical(), grad_clip=5.0, **common),
        member(3, seed=13, beta=0.0, lr=1e-4, schedule=Sigmoid(), **common),
    ]


def curves(trainer: Trainer) -> Curves:
    told: Curves = {}
    for reports in trainer:
        for report in reports:
            told.setdefault(report.trial, []).append(report)
    return told


def check_equal(one: list[EpochReport], other: list[EpochReport], tolerance: float) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a.trial, a.epoch, a.step, a.finite) == (b.trial, b.epoch, b.step, b.finite)
        for name in (
            "train_rate_nats",
            "train_distortion_nats",
            "rate_nats",
            "distortion_nats",
            "bits_per_dim",
            "bits_per_dim_calibrated",
            "mse",
            "sigma",
            "grad_norm",
        ):
            # An absolute part for numbers that pass through 0, in nats and in digits of an image.
            assert getattr(a, name) == pytest.approx(
                getattr(b, name), rel=tolerance, abs=0.1 * tolerance, nan_ok=True
            ), name


@pytest.fixture(scope="module")
def handful(digits: Splits) -> Splits:
    """Eight batches of eight."""
    few = {"train": digits.train[:64], "validation": digits.validation[:32]}
    return replace(digits, **few, labels=None)


def check_pack(
    pack: list[Member], data: Splits, tolerance: float, **settings: torch.device | torch.dtype
) -> None:
    together = curves(Trainer(pack, data, **settings))
    assert len({reports[-1].rate_nats for reports in together.values()}) == len(pack)
    for one in pack:
        alone = curves(Trainer([one], data, **settings))
        assert len(alone[one.trial]) == EPOCHS
        check_equal(together[one.trial], alone[one.trial], tolerance)


@every_precision
@every_sigma_and_network
def test_member_of_a_pack_equals_the_same_trial_alone(
    handful: Splits,
    device: torch.device,
    sigma: Sigma,
    network: Network,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    pack = different_members(network=network, sigma=sigma, batch_size=8)
    check_pack(pack, handful, tolerance, device=device, dtype=dtype)


@every_network
def test_member_with_rounded_products_equals_the_same_trial_alone(
    handful: Splits, network: Network
) -> None:
    """To the accuracy of bfloat16: sums in another order are rounded elsewhere."""
    pack = different_members(network=network, batch_size=8, precision="bfloat16", epochs=2)
    together = curves(Trainer(pack, handful))
    for one in pack:
        alone = curves(Trainer([one], handful))[one.trial]
        exact = curves(Trainer([replace(one, precision="float32")], handful))[one.trial]
        for report, other, full in zip(together[one.trial], alone, exact, strict=True):
            for like in (other, full):
                assert report.bits_per_dim == pytest.approx(like.bits_per_dim, rel=0.01)
                assert report.distortion_nats == pytest.approx(like.distortion_nats, rel=0.02)
                assert report.rate_nats == pytest.approx(like.rate_nats, rel=0.2, abs=0.02)
            assert report.distortion_nats != full.distortion_nats


@pytest.mark.parametrize("likelihood", [ContinuousBernoulli(), Bernoulli()], ids=repr)
def test_pack_without_a_scale_equals_its_members_alone(
    handful: Splits, device: torch.device, likelihood: Likelihood
) -> None:
    pack = different_members(likelihood=likelihood, sigma=None, batch_size=8)
    check_pack(pack, handful, 1e-9, device=device, dtype=torch.float64)


@every_network
@pytest.mark.parametrize(
    "sickness", [{"lr": 1e30}, {"sigma": Fixed(sigma=1e-25)}], ids=["lr", "sigma"]
)
def test_member_that_is_lost_does_not_touch_its_neighbours(
    few_digits: Splits, network: Network, sickness: dict[str, object]
) -> None:
    """Bit for bit the same beside a sick member as beside a healthy one in its place."""
    healthy = different_members(network=network, epochs=4)
    sick = [*healthy]
    sick[1] = member(1, **({"network": network, "epochs": 4} | sickness))
    beside_sick = curves(Trainer(sick, few_digits))
    beside_healthy = curves(Trainer(healthy, few_digits))
    assert not beside_sick[1][-1].finite
    assert math.isnan(beside_sick[1][-1].neg_elbo) or beside_sick[1][-1].neg_elbo > 1e6
    for trial in (0, 2, 3):
        check_equal(beside_sick[trial], beside_healthy[trial], 0.0)
        alone = curves(Trainer([healthy[trial]], few_digits))
        check_equal(beside_sick[trial], alone[trial], 1e-4)


@every_precision
def test_members_that_leave_midway_do_not_touch_the_others(
    few_digits: Splits, dtype: torch.dtype, tolerance: float
) -> None:
    """One is retired after epoch 2, one has fewer epochs, one stays alone to the end."""
    pack = different_members(sigma=Optimal())
    pack[2] = member(2, sigma=Optimal(), epochs=3)
    trainer = Trainer(pack, few_digits, dtype=dtype)
    told: Curves = {one.trial: [] for one in pack}
    for reports in trainer:
        for report in reports:
            told[report.trial].append(report)
            if (report.trial, report.epoch) in ((0, 2), (3, 4)):
                trainer.retire(report.trial)
    assert {trial: len(reports) for trial, reports in told.items()} == {0: 2, 1: 5, 2: 3, 3: 4}
    for one in pack:
        alone = curves(Trainer([one], few_digits, dtype=dtype))[one.trial]
        check_equal(told[one.trial], alone[: len(told[one.trial])], tolerance)


def test_place_in_the_pack_does_not_matter(few_digits: Splits) -> None:
    pack = different_members(epochs=3)
    forth = curves(Trainer(pack, few_digits))
    back = curves(Trainer(pack[::-1], few_digits))
    for trial, reports in forth.items():
        check_equal(reports, back[trial], 1e-4)
