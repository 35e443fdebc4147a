"""One step of K models, and what a sick one does to the others: nothing.

Shapes: K member of a pack, B batch, M latent, C H W image.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tune_vae.data import Splits, scale
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.vae import VAE, Terms
from tune_vae.training.pack import Knobs, Pack, Row, fresh_row

LATENTS, BATCH = 4, 16
KNOBS = Knobs(beta=1.0, lr=1e-3, weight_decay=0.0, grad_clip=math.inf)


def build(seed: int = 0, *, log_sigma: float | None = None, sigma: Sigma | None = None) -> VAE:
    """A model, perhaps with a decoder that is far too sure of itself.

    At a log sigma of -24 the loss is finite and the norm of its gradient overflows; at -44 the
    loss overflows.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = VAE(
            network=Mlp(hidden=(8,)),
            likelihood=Gaussian(),
            sigma=sigma or Fixed(sigma=0.3 if log_sigma is None else math.exp(log_sigma)),
            shape=(1, 8, 8),
            latent_dim=LATENTS,
        )
    return vae


def pack(vaes: Sequence[VAE], knobs: Sequence[Knobs] | None = None) -> Pack:
    return Pack(build(99), [fresh_row(vae) for vae in vaes], knobs or [KNOBS] * len(vaes))


def batch(digits: Splits, members: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """The same images and noise for every member, at the full KL weight."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(digits.train), (BATCH,), generator=generator)
    x = scale(digits.train[chosen], digits.levels)
    noise = torch.randn(BATCH, LATENTS, generator=generator)
    return x.repeat(members, 1, 1, 1, 1), noise.repeat(members, 1, 1), torch.ones(members)


def equal(one: Row, other: Row) -> bool:
    flat = [value for key, value in one.items() if key != "buffers"]
    mirror = [value for key, value in other.items() if key != "buffers"]
    flat += list(one["buffers"].values())
    mirror += [other["buffers"][name] for name in one["buffers"]]
    return all(torch.equal(a, b) for a, b in zip(flat, mirror, strict=True))


def gradient_norm(vae: VAE, x: Tensor, noise: Tensor, beta: float) -> float:
    terms = vae(x, noise)
    loss = terms.distortion_B.mean() + beta * terms.rate_BM.sum(1).mean()
    parts = torch.autograd.grad(loss, list(vae.parameters()))
    return torch.cat([part.flatten() for part in parts]).norm().item()


@pytest.mark.parametrize("members", [1, 3])
def test_step_measures_rate_distortion_and_gradient_of_each_member(
    digits: Splits, members: int
) -> None:
    vaes = [build(seed) for seed in range(members)]
    knobs = [Knobs(0.5 + k, 1e-3, 0.0, math.inf) for k in range(members)]
    x, noise, weight_K = batch(digits, members)
    measured_K5 = pack(vaes, knobs).step(x, noise, 0.5 * weight_K)
    assert measured_K5.shape == (members, 5)
    for k, vae in enumerate(vaes):
        terms = vae(x[k], noise[k])
        expected = [
            terms.rate_BM.sum(1).mean().item(),
            terms.distortion_B.mean().item(),
            gradient_norm(vae, x[k], noise[k], 0.5 * (0.5 + k)),
            0.0,
            1.0,
        ]
        assert measured_K5[k].tolist() == pytest.approx(expected, rel=1e-4)


def test_step_is_that_of_torch_adamw_on_the_same_loss(digits: Splits) -> None:
    knobs = [Knobs(2.0, 3e-3, 0.1, math.inf), Knobs(0.1, 1e-2, 0.0, math.inf)]
    trained = pack([build(0), build(1)], knobs)
    singles = [build(0), build(1)]
    optimizers = [
        torch.optim.AdamW(vae.parameters(), lr=knob.lr, weight_decay=knob.weight_decay)
        for vae, knob in zip(singles, knobs, strict=True)
    ]
    for step in range(5):
        x, noise, weight_K = batch(digits, 2, seed=step)
        trained.step(x, noise, weight_K)
        for k, (vae, optimizer) in enumerate(zip(singles, optimizers, strict=True)):
            terms = vae(x[k], noise[k])
            loss = terms.distortion_B.mean() + knobs[k].beta * terms.rate_BM.sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for k, vae in enumerate(singles):
        expected = fresh_row(vae)["theta"]
        torch.testing.assert_close(trained.row(k)["theta"], expected, rtol=1e-3, atol=1e-5)


def test_gradient_beyond_the_clip_is_shortened_to_it(digits: Splits) -> None:
    """Adam hides the length of its first gradient from the weights, not from its moments."""
    x, noise, weight_K = batch(digits, 3)
    knobs = [Knobs(1.0, 1e-3, 0.0, clip) for clip in (math.inf, 0.5, 1e9)]
    clipped = pack([build(0)] * 3, knobs)
    norm = clipped.step(x, noise, weight_K)[0, 2].item()
    assert norm > 0.5
    first = [clipped.row(k)["first"].norm().item() for k in range(3)]
    assert first == pytest.approx([0.1 * norm, 0.1 * 0.5, 0.1 * norm], rel=1e-4)


def test_gradient_of_zero_survives_the_clip() -> None:
    """A silent model at its optimum: grey images, posterior at the prior."""
    vae = build(0)
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
    still = pack([vae, vae], [Knobs(1.0, 1e-3, 0.0, 1.0)] * 2)
    grey = torch.full((2, BATCH, 1, 8, 8), 0.5)
    measured = still.step(grey, torch.zeros(2, BATCH, LATENTS), torch.ones(2))
    assert measured[:, 2:].tolist() == [[0.0, 0.0, 1.0]] * 2
    assert not still.row(0)["theta"].any()


@pytest.mark.parametrize("healthy_alone", [1, 2])
def test_culprit_dies_victim_skips_and_the_others_step_as_ever(
    digits: Splits, healthy_alone: int
) -> None:
    healthy = [build(seed) for seed in range(healthy_alone)]
    victim, culprit = build(5, log_sigma=-24.0), build(6, log_sigma=-44.0)
    mixed = pack([victim, *healthy, culprit])
    members = mixed.size
    before = [mixed.row(k) for k in range(members)]
    x, noise, weight_K = batch(digits, members)
    measured = mixed.step(x, noise, weight_K)

    skipped_K, alive_K = measured[:, 3].tolist(), measured[:, 4].tolist()
    assert skipped_K == [1.0, *[0.0] * healthy_alone, 1.0]
    assert alive_K == [1.0, *[1.0] * healthy_alone, 0.0]
    assert measured[0, :3].isfinite().all()
    assert equal(mixed.row(0), before[0])
    assert torch.equal(mixed.row(members - 1)["theta"], before[-1]["theta"])
    assert mixed.row(0)["alive"]
    assert not mixed.row(members - 1)["alive"]

    undisturbed = pack([build(7), *healthy, build(8)])
    undisturbed.step(x, noise, weight_K)
    for k in range(1, members - 1):
        assert equal(mixed.row(k), undisturbed.row(k))
        assert not torch.equal(mixed.row(k)["theta"], before[k]["theta"])


@pytest.mark.parametrize("others", [0, 1])
def test_dead_member_stays_dead_when_its_loss_comes_back(digits: Splits, others: int) -> None:
    x, noise, weight_K = batch(digits, 1 + others)
    trained = pack([build(k) for k in range(1 + others)])
    poison = x.clone()
    poison[0] = math.inf
    assert trained.step(poison, noise, weight_K)[0, 4] == 0
    corpse = trained.row(0)
    measured = trained.step(x, noise, weight_K)
    assert measured[0, :2].isfinite().all()
    assert measured[:, 4].tolist() == [0.0] + [1.0] * others
    assert equal(trained.row(0), corpse)
    assert corpse["theta"].isfinite().all()


@pytest.mark.parametrize("others", [0, 2])
def test_victim_recovers_when_its_gradient_does(digits: Splits, others: int) -> None:
    x, noise, weight_K = batch(digits, 1 + others)
    trained = pack([build(k) for k in range(1 + others)])
    before = trained.row(0)["theta"]
    vast = weight_K.clone()
    vast[0] = 1e25
    skipped = trained.step(x, noise, vast)
    assert skipped[0, 3:].tolist() == [1.0, 1.0]
    assert torch.equal(trained.row(0)["theta"], before)
    trained.step(x, noise, weight_K)
    assert not torch.equal(trained.row(0)["theta"], before)
    assert trained.row(0)["updates"] == 1


@pytest.mark.parametrize("members", [1, 3])
def test_evaluation_sees_each_member_and_changes_nothing(digits: Splits, members: int) -> None:
    vaes = [build(k, sigma=Optimal()) for k in range(members)]
    trained = Pack(build(sigma=Optimal()), [fresh_row(vae) for vae in vaes], [KNOBS] * members)
    x, noise, weight_K = batch(digits, members)
    trained.step(x, noise, weight_K)
    before = [trained.row(k) for k in range(members)]

    def rate(vae: VAE, x: Tensor, noise: Tensor) -> Tensor:
        terms: Terms = vae(x, noise)
        return terms.rate_BM.sum(1)

    shared = trained.evaluate(rate, x[0], noise[0], in_dims=(None, None))
    own = trained.evaluate(rate, x, noise, in_dims=(0, 0))
    assert shared.shape == (members, BATCH)
    assert not shared.requires_grad
    torch.testing.assert_close(shared, own)
    assert all(equal(trained.row(k), before[k]) for k in range(members))


@pytest.mark.parametrize("members", [1, 3])
def test_training_updates_the_buffers_of_each_member(digits: Splits, members: int) -> None:
    vaes = [build(k, sigma=Optimal()) for k in range(members)]
    trained = Pack(build(sigma=Optimal()), [fresh_row(vae) for vae in vaes], [KNOBS] * members)
    x, noise, weight_K = batch(digits, members)
    trained.step(x, noise, weight_K)
    for k, vae in enumerate(vaes):
        vae.train()(x[k], noise[k])
        assert trained.row(k)["buffers"]["scale.batches"] == 1
        torch.testing.assert_close(trained.row(k)["buffers"]["scale.variance"], vae.scale.variance)


def test_keeping_some_members_leaves_their_rows_bit_for_bit(digits: Splits) -> None:
    trained = pack([build(k) for k in range(4)], [Knobs(1.0, 1e-3 * k, 0, 1.0) for k in range(4)])
    trained.step(*batch(digits, 4))
    before = [trained.row(k) for k in range(4)]
    trained.keep([3, 1])
    assert trained.size == 2
    assert equal(trained.row(0), before[3])
    assert equal(trained.row(1), before[1])
    assert [knobs.lr for knobs in trained.knobs] == [3e-3, 1e-3]


@pytest.mark.parametrize("k", [0, 1, 2])
def test_member_is_put_back_bit_for_bit_and_the_others_stay(digits: Splits, k: int) -> None:
    """At another learning rate: 0, which freezes it."""
    vaes = [build(seed, sigma=Optimal()) for seed in range(3)]
    trained = Pack(build(sigma=Optimal()), [fresh_row(vae) for vae in vaes], [KNOBS] * 3)
    x, noise, weight_K = batch(digits, 3)
    trained.step(x, noise, weight_K)
    early = trained.row(k)
    poison = x.clone()
    poison[k] = math.inf
    trained.step(x, noise, weight_K)
    trained.step(poison, noise, weight_K)
    late = [trained.row(other) for other in range(3)]
    assert not any(torch.equal(late[k][name], early[name]) for name in ("theta", "first", "alive"))
    assert not late[k]["buffers"]["scale.variance"].isfinite()

    trained.put(k, early, replace(KNOBS, lr=0.0))
    assert equal(trained.row(k), early)
    assert all(equal(trained.row(other), late[other]) for other in range(3) if other != k)
    trained.step(x, noise, weight_K)
    frozen = [torch.equal(trained.row(o)["theta"], late[o]["theta"]) for o in range(3) if o != k]
    assert not any(frozen)
    assert torch.equal(trained.row(k)["theta"], early["theta"])
    assert trained.row(k)["updates"] == 2


def test_kept_members_keep_their_knobs(digits: Splits) -> None:
    """Learning rate 0 freezes one member, wherever it lies."""
    trained = pack(
        [build(k) for k in range(3)], [Knobs(1.0, lr, 0, 1.0) for lr in (1e-3, 1e-3, 0)]
    )
    frozen = trained.row(2)["theta"]
    trained.keep([1, 2])
    trained.step(*batch(digits, 2))
    assert torch.equal(trained.row(1)["theta"], frozen)
    assert not torch.equal(trained.row(0)["theta"], fresh_row(build(1))["theta"])


def test_row_is_a_copy(digits: Splits) -> None:
    trained = pack([build(0), build(1)])
    row = trained.row(0)
    before = row["theta"].clone()
    trained.step(*batch(digits, 2))
    assert torch.equal(row["theta"], before)
