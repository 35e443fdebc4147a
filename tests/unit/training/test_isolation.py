"""Whether members of a pack reach each other is found out before they train."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from tests.factories import member
from tune_vae.data import Splits
from tune_vae.science.networks import Network
from tune_vae.science.networks.mlp import Mlp
from tune_vae.training import isolation
from tune_vae.training.isolation import LeakError, ensure_isolated, leaks
from tune_vae.training.trainer import Trainer, build_vae

SHAPE = (1, 8, 8)


class Identity(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(*_: object) -> None:
        pass


class Mix(Identity):
    """A fault as of a kernel: the gradients of a pack are mixed."""

    generate_vmap_rule = False

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad

    @staticmethod
    def vmap(info: object, in_dims: tuple[int | None], x: Tensor) -> tuple[Tensor, int | None]:
        (dim,) = in_dims
        return Spread.apply(x), dim


class Spread(Identity):
    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        # Nothing but what is not finite gets through.
        return grad + 0 * grad.sum()


class Layer(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = Mix.apply(x)
        return mixed


@dataclass(frozen=True)
class Leaky(Network):
    """Right, but for what a NaN does."""

    def build(
        self, shape: tuple[int, int, int], latent_dim: int, params_per_value: int
    ) -> tuple[nn.Module, nn.Module]:
        encoder, decoder = Mlp((8,)).build(shape, latent_dim, params_per_value)
        return encoder, nn.Sequential(decoder, Layer())


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    isolation._sound.clear()
    yield
    isolation._sound.clear()


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_sound_pack_is_found_sound(autocast: torch.dtype | None) -> None:
    vae = build_vae(member(0), SHAPE)
    assert not leaks(vae, size=3, batch=8, autocast=autocast)


def test_gradient_that_reaches_another_member_is_a_leak() -> None:
    vae = build_vae(member(0, network=Leaky()), SHAPE)
    assert leaks(vae, size=3, batch=8)
    with pytest.raises(LeakError, match=r"in a pack of 3, a NaN .* \(cpu, torch.float32, "):
        ensure_isolated("leaky", vae, size=3, batch=8)


def test_single_trial_needs_no_trial_run() -> None:
    ensure_isolated("leaky", build_vae(member(0, network=Leaky()), SHAPE), size=1, batch=8)


def test_combination_is_tried_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[int, int]] = []

    def note(vae: object, *, size: int, batch: int, autocast: object) -> bool:
        tried.append((size, batch))
        return False

    monkeypatch.setattr(isolation, "leaks", note)
    vae = build_vae(member(0), SHAPE)
    for size, batch in [(2, 8), (2, 8), (4, 8), (2, 16), (4, 8)]:
        ensure_isolated("sound", vae, size=size, batch=batch)
    assert tried == [(2, 8), (4, 8), (2, 16)]


def test_trainer_refuses_a_pack_that_leaks_and_trains_its_members_alone(
    few_digits: Splits,
) -> None:
    members = [member(k, network=Leaky(), epochs=1) for k in range(2)]
    with pytest.raises(LeakError):
        Trainer(members, few_digits)
    for one in members:
        ((report,),) = Trainer([one], few_digits)
        assert report.finite
