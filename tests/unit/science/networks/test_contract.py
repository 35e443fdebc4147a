"""What every network guarantees, checked on every file of the family."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.discovery import component_classes, is_frozen
from tune_vae.science.dropout import Dropout
from tune_vae.science.networks import Network

Shape = tuple[int, int, int]

every_network = pytest.mark.parametrize(
    "network", [make() for make in component_classes("science.networks")], ids=repr
)
SHAPES = [(c, h, w) for c in (1, 3) for h, w in ((8, 8), (28, 28), (28, 20), (13, 9), (128, 128))]
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
def test_examples_of_a_batch_do_not_see_each_other(network: Network) -> None:
    for part, given in zip(
        network.build((1, 8, 8), LATENTS, 2),
        (torch.rand(BATCH, 1, 8, 8), torch.randn(BATCH, LATENTS)),
        strict=True,
    ):
        torch.testing.assert_close(part(given)[1:2], part(given[1:2]), rtol=1e-4, atol=1e-5)


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


def plain(built: tuple[nn.Module, nn.Module]) -> list[nn.Module]:
    return [module for part in built for module in part.modules()]


@every_network
def test_dropout_follows_every_hidden_layer_and_nothing_else(network: Network) -> None:
    dropping = replace(network, dropout=0.25)
    for part in dropping.build((1, 8, 8), LATENTS, 1):
        modules = [module for module in part.modules() if not list(module.children())]
        hidden = [i for i, module in enumerate(modules) if isinstance(module, nn.ReLU)]
        dropped = [i for i, module in enumerate(modules) if isinstance(module, Dropout)]
        assert hidden
        assert dropped == [i + 1 for i in hidden]
        assert all(modules[i].rate == 0.25 for i in dropped)
    assert not any(isinstance(module, Dropout) for module in plain(network.build((1, 8, 8), 2, 1)))


@every_network
def test_dropout_changes_training_and_not_evaluation(network: Network) -> None:
    """Beside a model of the same weights without it."""
    x, z = torch.rand(BATCH, 1, 8, 8), torch.randn(BATCH, LATENTS)
    for dropping, without, given in zip(
        replace(network, dropout=0.5).build((1, 8, 8), LATENTS, 1),
        network.build((1, 8, 8), LATENTS, 1),
        (x, z),
        strict=True,
    ):
        with torch.no_grad():
            for ours, theirs in zip(dropping.parameters(), without.parameters(), strict=True):
                theirs.copy_(ours)
        assert not torch.equal(dropping(given), without(given))
        assert not torch.equal(dropping(given), dropping(given))
        assert torch.equal(dropping.eval()(given), without(given))


@every_network
@pytest.mark.parametrize("factor", [0.01, 0.5, 1.5, 4.0])
def test_factor_widens_the_decoder_only(network: Network, factor: float) -> None:
    """Beside a network whose decoder has these widths without a factor."""
    (name, widths), *_ = (item for item in vars(network).items() if isinstance(item[1], tuple))
    wide = tuple(max(1, round(factor * width)) for width in widths)

    def shapes(one: Network) -> list[list[torch.Size]]:
        built = one.build((1, 8, 8), LATENTS, 2)
        return [[parameter.shape for parameter in part.parameters()] for part in built]

    encoder, decoder = shapes(replace(network, decoder_factor=factor))
    assert encoder == shapes(network)[0]
    assert decoder == shapes(replace(network, **{name: wide}))[1]
    check_shapes(
        replace(network, decoder_factor=factor).build((3, 13, 9), LATENTS, 2), (3, 13, 9), 2
    )


@every_network
@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_dropout_that_is_no_share_is_refused(network: Network, dropout: float) -> None:
    with pytest.raises(ValueError, match=f"dropout must be at least 0 and below 1, got {dropout}"):
        replace(network, dropout=dropout)


@every_network
@pytest.mark.parametrize("factor", [0.0, -1.0, 16.5, float("nan")])
def test_factor_without_a_decoder_is_refused(network: Network, factor: float) -> None:
    with pytest.raises(ValueError, match=f"above 0 and at most 16, got {factor}"):
        replace(network, decoder_factor=factor)
