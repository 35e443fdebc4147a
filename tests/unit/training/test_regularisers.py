"""Free bits, a target for the rate, and the scale of the first weights."""

import math

import pytest
import torch

from tests.factories import member
from tests.unit.training.test_pack import BATCH, LATENTS, batch, build
from tune_vae.data import Splits
from tune_vae.science.history import EpochReport
from tune_vae.science.schedules.linear import Linear
from tune_vae.science.vae import VAE
from tune_vae.training.pack import Knobs, Pack, fresh_row
from tune_vae.training.trainer import Trainer, build_vae

SEVERE = {"beta": 30.0, "epochs": 40, "lr": 1e-3}
"""A KL weight under which nothing survives on digits unless it is protected."""


def last_report(data: Splits, **changes: object) -> EpochReport:
    for reports in Trainer([member(**(SEVERE | changes))], data):
        (report,) = reports
    return report


def test_free_bits_protect_each_latent(few_digits: Splits) -> None:
    assert last_report(few_digits).rate_nats < 0.1
    report = last_report(few_digits, free_bits=0.5)
    assert all(0.35 < rate < 0.6 for rate in report.rate_per_latent_nats)


def test_free_bits_in_total_protect_their_sum_alone(few_digits: Splits) -> None:
    report = last_report(few_digits, free_bits_total=2.0)
    assert report.train_rate_nats == pytest.approx(2.0, rel=0.15)
    assert max(report.rate_per_latent_nats) > 5 * min(report.rate_per_latent_nats)


@pytest.mark.parametrize("target", [1.0, 4.0])
def test_rate_is_led_to_its_target(few_digits: Splits, target: float) -> None:
    report = last_report(few_digits, kl_target=target, schedule=Linear(warmup=0.5))
    assert report.train_rate_nats == pytest.approx(target, rel=0.1)


def gradient(vae: VAE, data: Splits, knobs: Knobs, weight: float) -> torch.Tensor:
    """What the pack's first update says of the gradient: Adam's first moment is a tenth of it."""
    pack = Pack(vae, [fresh_row(vae)], [knobs])
    x, noise, _ = batch(data, 1)
    pack.step(x, noise, torch.tensor([weight]))
    return 10 * pack.row(0)["first"]


@pytest.mark.parametrize(
    ("free", "total", "target"),
    [(0.0, 0.0, 0.0), (0.02, 0.0, 0.0), (0.0, 0.1, 0.0), (0.0, 9.0, 0.0), (0.02, 0.0, 5.0)],
)
def test_loss_is_as_written(digits: Splits, free: float, total: float, target: float) -> None:
    """Its gradient against the formula, written out for one model with Python's own max."""
    vae = build(3)
    beta, weight = 3.0, 0.7
    knobs = Knobs(beta, 1e-3, 0.0, math.inf, free, total, target)
    got = gradient(vae, digits, knobs, weight)

    x, noise, _ = batch(digits, 1)
    terms = vae(x[0], noise[0])
    rates = [terms.rate_BM[:, m].sum() / BATCH for m in range(LATENTS)]
    if free:
        # The test would not see the difference if all rates lay on one side.
        assert len({bool(rate > free) for rate in rates}) == 2
    charged = sum(rate if rate > free else torch.tensor(free) for rate in rates)
    charged = charged if charged > total else torch.tensor(total)
    charge = abs(charged - weight * target) if target else weight * charged
    loss = terms.distortion_B.sum() / BATCH + beta * charge
    loss.backward()
    wanted = torch.cat([p.grad.reshape(-1) for p in vae.parameters()])
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def test_init_scale_multiplies_weights_and_not_biases() -> None:
    one, half = (build_vae(member(init_scale=s), (1, 8, 8)) for s in (1.0, 0.5))
    for (name, a), (_, b) in zip(one.named_parameters(), half.named_parameters(), strict=True):
        torch.testing.assert_close(b, a if name.endswith("bias") else 0.5 * a)


def test_members_of_one_pack_may_differ_in_all_of_them(few_digits: Splits) -> None:
    members = [
        member(0, epochs=2),
        member(1, epochs=2, free_bits=0.3),
        member(2, epochs=2, free_bits_total=3.0),
        member(3, epochs=2, kl_target=2.0, beta=10.0),
        member(4, epochs=2, init_scale=0.5),
    ]
    packed = [reports for reports in Trainer(members, few_digits)][-1]
    for one, report in zip(members, packed, strict=True):
        (alone,) = [reports for reports in Trainer([one], few_digits)][-1]
        assert report.rate_nats == pytest.approx(alone.rate_nats, rel=1e-4)
        assert report.neg_elbo == pytest.approx(alone.neg_elbo, rel=1e-4)
