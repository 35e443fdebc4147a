"""What `check_network` says of networks that people write."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from tests.discovery import component_classes
from tests.own_modules import Fronted
from tune_vae.errors import TuneVaeError
from tune_vae.science.networks import Network
from tune_vae.science.networks.conv import Conv
from tune_vae.science.networks.mlp import Mlp
from tune_vae.testing import NetworkFault, check_network

SMALL = (1, 8, 8)
Parts = tuple[nn.Module, nn.Module]
Shape = tuple[int, int, int]


def fault_of(network: object, **settings: object) -> str:
    with pytest.raises(NetworkFault) as refused:
        check_network(network, **({"shape": SMALL} | settings))
    first, *lines = str(refused.value).splitlines()
    assert first.endswith("cannot be trained:")
    (line,) = lines
    return line


@pytest.mark.parametrize("network", component_classes("science.networks"))
def test_every_network_of_ours_keeps_the_contract(network: type[Network]) -> None:
    assert check_network(network, shape=SMALL) == []
    assert check_network(network(dropout=0.2, decoder_factor=0.5), shape=(3, 13, 9)) == []


@pytest.mark.parametrize(
    ("front", "says"),
    [
        ("Replaced", "puts new tensors in the place of `0.mean`, and training loses them"),
        ("Loose", "keeps the tensor `gain` of Loose to itself"),
        ("Mixing", "mixes the examples of a batch in evaluation"),
        ("Shaking", "answers differently each time in evaluation"),
        ("Infinite", "returns what is not finite"),
        ("Steep", "has a gradient that is not finite"),
        ("Spare", "does not use `0.spare`"),
        ("Frozen", "has parameters without `requires_grad` (`0.gain`)"),
        ("Failing", "fails on [6, 1, 8, 8]: KeyError: 'the third layer is missing'"),
    ],
)
def test_fault_of_a_module_is_told_in_a_line(front: str, says: str) -> None:
    assert fault_of(Fronted(front)).startswith(f"- the encoder {says}")


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(NetworkFault) as refused:
        check_network(Fronted("Unasked"), shape=SMALL)
    assert "changes its buffers in evaluation" in str(refused.value)
    assert "answers differently each time" in str(refused.value)


def test_fault_is_both_an_error_of_ours_and_a_failed_assertion() -> None:
    """So that pytest shows it as a failure, and the command line in words."""
    assert issubclass(NetworkFault, AssertionError)
    assert issubclass(NetworkFault, TuneVaeError)


@pytest.mark.parametrize("front", ["Plain", "RunningMean", "Unsaved"])
def test_sound_module_draws_no_remark(front: str) -> None:
    assert check_network(Fronted(front), shape=SMALL) == []


def test_batch_norm_is_remarked_and_allowed() -> None:
    (remark,) = check_network(Fronted("BatchNorm"), shape=SMALL)
    assert "batch norm" in remark
    assert "nn.GroupNorm" in remark


@pytest.mark.parametrize(
    ("front", "why"),
    [
        ("Branching", "depends on the values of a tensor"),
        ("Numbering", "takes a number out of a tensor"),
        ("Leaving", "leaves torch"),
        ("Dropout", "draws from torch's global generator"),
        ("AveragingBatchNorm", "takes a number out of a tensor"),
    ],
)
def test_module_that_cannot_be_lifted_is_trained_alone(front: str, why: str) -> None:
    remark = check_network(Fronted(front), shape=SMALL)[-1]
    assert "`vmap` cannot lift it, so train it with `pack: 1`" in remark
    assert why in remark


def test_dropout_of_torch_cannot_be_repeated() -> None:
    first, _ = check_network(Fronted("Dropout"), shape=SMALL)
    assert "cannot be repeated" in first
    assert "tune_vae.science.dropout.Dropout" in first


def test_check_leaves_the_generator_as_it_was() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    check_network(Fronted("Dropout"), shape=SMALL)
    assert torch.equal(torch.rand(2), expected)


class Unbuilt(Network):
    pass


@dataclass(frozen=True)
class Abstract(Network):
    width: int = 3


@dataclass(frozen=True)
class Wide(Network):
    """Its decoder forgets that there may be several parameters for a value."""

    width: int

    def build(self, shape: Shape, latent_dim: int, params_per_value: int) -> Parts:
        encoder, decoder = Mlp().build(shape, latent_dim, 1)
        return encoder, decoder


@dataclass(frozen=True)
class Narrow(Network):
    """Its encoder gives the means only."""

    def build(self, shape: Shape, latent_dim: int, params_per_value: int) -> Parts:
        _, decoder = Mlp().build(shape, latent_dim, params_per_value)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, latent_dim)), decoder


@dataclass(frozen=True)
class Single(Network):
    def build(self, shape: Shape, latent_dim: int, params_per_value: int) -> Parts:
        return nn.Linear(64, 8), None


@dataclass(frozen=True)
class Pair(Network):
    """Its encoder returns two tensors, as in many a textbook."""

    def build(self, shape: Shape, latent_dim: int, params_per_value: int) -> Parts:
        _, decoder = Mlp().build(shape, latent_dim, params_per_value)
        return Heads(), decoder


class Heads(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, 0, 0, :4], x[:, 0, 1, :4]


@dataclass(frozen=True)
class Detached(Network):
    def build(self, shape: Shape, latent_dim: int, params_per_value: int) -> Parts:
        encoder, decoder = Mlp().build(shape, latent_dim, params_per_value)
        return nn.Sequential(encoder, Detach()), decoder


class Detach(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


@dataclass(frozen=True)
class Listed(Network):
    hidden: list[int] = field(default_factory=lambda: [8])

    def build(self, shape: Shape, latent_dim: int, params_per_value: int) -> Parts:
        return Mlp().build(shape, latent_dim, params_per_value)


@dataclass(frozen=True)
class Called(Network):
    act: type = nn.ReLU

    def build(self, shape: Shape, latent_dim: int, params_per_value: int) -> Parts:
        return Mlp().build(shape, latent_dim, params_per_value)


@dataclass(frozen=True)
class Seeded(Network):
    """Its weights are others each time, whatever the seed."""

    def build(self, shape: Shape, latent_dim: int, params_per_value: int) -> Parts:
        torch.seed()
        return Mlp(hidden=(8,)).build(shape, latent_dim, params_per_value)


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (nn.Linear(2, 2), "not below `tune_vae.science.networks.Network`"),
        (Unbuilt, "not a frozen dataclass: write `@dataclass(frozen=True)`"),
        (Abstract, "it lacks build"),
        (Wide, "missing 1 required positional argument: 'width'; give an instance, `Wide(…)`"),
        (Wide(3), "the decoder makes [6, 64] of [6, 4]; it must be [6, 128]"),
        (Narrow, "the encoder makes [6, 4] of [6, 1, 8, 8]; it must be [6, 8]: for each example"),
        (Single, "`build` must return two modules of torch, and one is None"),
        (Pair, "the encoder must return one tensor, and returns tuple"),
        (Detached, "the encoder cannot be differentiated"),
        (Listed, "write `tuple[int, ...]` instead of `list`"),
        (Called, "a study file cannot give its arguments"),
        (Seeded, "built twice with one seed it has different weights"),
    ],
)
def test_network_that_breaks_the_contract_is_told_how(network: object, says: str) -> None:
    assert says in fault_of(network)


def test_image_that_is_too_small_for_it_is_told() -> None:
    assert "it cannot be built for images of 1×4×4" in fault_of(Conv(), shape=(1, 4, 4))
