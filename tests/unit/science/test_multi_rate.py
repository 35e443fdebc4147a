"""A network that is gated by β, before it is trained."""

import math

import pytest
import torch
from torch import nn

from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.multi_rate import PACE, POSITION, position, with_gates
from tune_vae.science.networks import Network
from tune_vae.science.networks.conv import Conv
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.networks.resnet import Resnet
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.vae import VAE


def model(network: Network, *, classes: int = 0) -> VAE:
    torch.manual_seed(0)
    return VAE(
        network=network,
        likelihood=Gaussian(),
        sigma=Fixed(0.2),
        shape=(1, 8, 8),
        latent_dim=3,
        classes=classes,
    )


def put(vae: VAE, beta: float) -> VAE:
    dict(vae.named_buffers())[POSITION].fill_(position(beta, 0.1, 100.0))
    return vae


def test_position_is_even_in_ratios() -> None:
    places = [position(beta, 0.1, 100.0) for beta in (0.1, math.sqrt(10), 100.0)]
    assert places == pytest.approx([-1, 0, 1])


NETWORKS = [Mlp(hidden=(16, 8)), Mlp(hidden=()), Conv(channels=(4, 8)), Resnet(channels=(4, 8))]


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_untrained_gates_leave_the_encoder_and_most_of_the_decoder_as_they_are(
    network: Network,
) -> None:
    plain, gated = model(network), with_gates(model(network), 0.1, 100.0)
    names = [name for name, _ in plain.named_parameters()]
    assert [name for name, _ in gated.named_parameters()][: len(names)] == names
    x, latent = torch.rand(5, 1, 8, 8), torch.randn(5, 3)
    for beta in (0.1, 100.0):
        put(gated, beta)
        for mine, other in zip(gated.encode(x), plain.encode(x), strict=True):
            torch.testing.assert_close(mine, other)
        # Three latents that die where β is at -0.3, 0.5 and 1.3 of a range from -1 to 1.
        ends = [0.1 * 1000 ** ((1 + place) / 2) for place in (-0.3, 0.5, 1.3)]
        share = torch.tensor([max(0.0, 1 - beta / end) for end in ends]).sqrt()
        torch.testing.assert_close(
            gated.decode(latent), plain.decode(share * latent), rtol=1e-3, atol=2e-3
        )


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_every_gate_moves_what_the_model_says(network: Network) -> None:
    gated = put(with_gates(model(network), 0.1, 100.0), 30.0)
    terms = gated(torch.rand(6, 1, 8, 8), torch.randn(6, 3))
    (terms.distortion_B.sum() + terms.rate_BM.sum()).backward()
    gates = {name: p for name, p in gated.named_parameters() if name.startswith("gates.")}
    layers = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    found = [m for part in (gated.encoder, gated.decoder) for m in part.modules()]
    # Two for each layer but the last, and two for the latents.
    assert len(gates) == 2 * sum(isinstance(module, layers) for module in found)
    for name, parameter in gates.items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_latent_beyond_its_place_is_silent_and_what_a_model_is_told_is_not() -> None:
    gated = with_gates(model(Mlp(hidden=(8,)), classes=2), 0.1, 100.0)
    with torch.no_grad():
        gated.get_parameter("gates.place_M").copy_(torch.tensor([-9.0, 0.0, 0.0]) / PACE)
    put(gated, 100.0)
    one, other = torch.tensor([[1.0, 2.0, -3.0]]), torch.tensor([[1.0, -2.0, 5.0]])
    labels = [torch.tensor([label]) for label in (0, 1)]
    same = gated.decode(one, label_B=labels[0]) - gated.decode(other, label_B=labels[0])
    # A root is 0.001 where its argument is 1e-6.
    assert same.abs().max() < 0.02
    apart = gated.decode(one, label_B=labels[0]) - gated.decode(one, label_B=labels[1])
    assert apart.abs().max() > 0.05
