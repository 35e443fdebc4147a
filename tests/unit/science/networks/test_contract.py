"""What every network guarantees, checked on every file of the family."""

import math

import pytest
import torch
from torch import nn

from tests.discovery import component_classes, is_frozen
from tune_vae.science.networks import Network

Shape = tuple[int, int, int]

every_network = pytest.mark.parametrize(
    "network", [make() for make in component_classes("science.networks")], ids=repr
)
SHAPES = [(c, h, w) for c in (1, 3) for h, w in ((8, 8), (28, 28), (28, 20), (13, 9))]
BATCH, LATENTS = 3, 5


def check_shapes(built: tuple[nn.Module, nn.Module], shape: Shape, params: int) -> None:
    encoder, decoder = built
    assert encoder(torch.rand(BATCH, *shape)).shape == (BATCH, 2 * LATENTS)
    out = decoder(torch.randn(BATCH, LATENTS))
    assert out.reshape(BATCH, params, *shape).isfinite().all()
    assert out.numel() == BATCH * params * math.prod(shape)


@every_network
def test_network_is_a_frozen_value(network: Network) -> None:
    assert is_frozen(type(network))
    assert len({network, type(network)(**vars(network))}) == 1


@every_network
@pytest.mark.parametrize("params", [1, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_encoder_and_decoder_fit_the_images(network: Network, shape: Shape, params: int) -> None:
    check_shapes(network.build(shape, LATENTS, params), shape, params)


@every_network
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 2), (3, 7, 28), (1, 64, 3)], ids=str)
def test_image_that_is_too_small_is_refused_in_words(network: Network, shape: Shape) -> None:
    refusal = ""
    try:
        built = network.build(shape, LATENTS, 1)
    except ValueError as error:
        refusal = str(error)
    if refusal:
        assert f"{shape[1]}x{shape[2]}" in refusal
    else:
        check_shapes(built, shape, 1)


@every_network
def test_global_generator_decides_the_weights(network: Network) -> None:
    def weights(seed: int) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            built = nn.ModuleList(network.build((1, 8, 8), LATENTS, 1))
        return nn.utils.parameters_to_vector(built.parameters())

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@every_network
def test_every_weight_takes_part(network: Network) -> None:
    encoder, decoder = network.build((1, 8, 8), LATENTS, 1)
    outputs = encoder(torch.rand(BATCH, 1, 8, 8)).sum() + decoder(torch.randn(64, LATENTS)).sum()
    for part in torch.autograd.grad(outputs, [*encoder.parameters(), *decoder.parameters()]):
        assert part.ne(0).any()
