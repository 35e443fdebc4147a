import pytest
import torch
from torch import nn

from tune_vae.science.networks.conv import Conv


@pytest.mark.parametrize("side", range(4, 20))
def test_every_size_is_restored_by_the_mirror(side: int) -> None:
    encoder, decoder = Conv(channels=(2, 3)).build((1, side, 23 - side), 4, 1)
    assert encoder(torch.rand(2, 1, side, 23 - side)).shape == (2, 8)
    assert decoder(torch.randn(2, 4)).shape == (2, 1, side, 23 - side)


@pytest.mark.parametrize(("height", "width"), [(7, 8), (8, 7), (28, 4)])
def test_image_that_three_layers_halve_to_nothing_is_refused(height: int, width: int) -> None:
    with pytest.raises(
        ValueError, match=f"3 layers needs images of at least 8 pixels .* got {height}x{width}"
    ):
        Conv(channels=(2, 2, 2)).build((1, height, width), 4, 1)


def test_smallest_image_is_allowed() -> None:
    encoder, _ = Conv(channels=(2, 2, 2)).build((1, 8, 8), 4, 1)
    assert encoder(torch.rand(1, 1, 8, 8)).shape == (1, 8)


def test_moving_an_image_by_the_stride_moves_the_features_by_one() -> None:
    encoder, _ = Conv(channels=(4,)).build((1, 16, 16), 2, 1)
    features = encoder[:2]
    x = torch.zeros(1, 1, 16, 16)
    x[..., 4:10, 4:10] = torch.rand(6, 6)
    torch.testing.assert_close(features(x.roll(2, dims=-1)), features(x).roll(1, dims=-1))


@pytest.mark.parametrize("channels", [(), (8, 0)])
def test_network_without_channels_is_refused(channels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least 1 positive width"):
        Conv(channels=channels)


@pytest.mark.parametrize("side", range(4, 20))
def test_layer_of_stride_1_keeps_the_size(side: int) -> None:
    network = Conv(channels=(2, 3, 4), strides=(1, 2, 2))
    encoder, decoder = network.build((1, side, 23 - side), 4, 1)
    assert encoder[:2](torch.rand(2, 1, side, 23 - side)).shape == (2, 2, side, 23 - side)
    assert decoder(torch.randn(2, 4)).shape == (2, 1, side, 23 - side)


def test_three_layers_of_the_calibrated_decoders_paper() -> None:
    """28 → 28 → 14 → 7 with 32, 64 and 128 channels, as in the authors' code."""
    encoder, decoder = Conv(channels=(32, 64, 128), strides=(1, 2, 2)).build((1, 28, 28), 20, 1)
    x, maps = torch.rand(1, 1, 28, 28), []
    for layer in encoder:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            maps.append(tuple(x.shape[1:]))
    assert maps == [(32, 28, 28), (64, 14, 14), (128, 7, 7)]
    assert decoder[:2](torch.randn(1, 20)).shape == (1, 128, 7, 7)
    assert Conv().build((1, 8, 8), 4, 1)[0][0].stride == (2, 2)


@pytest.mark.parametrize("strides", [(2,), (1, 2, 2), (1, 3), (0, 2)])
def test_strides_that_do_not_fit_are_refused(strides: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="strides must be 1 or 2 for each of the 2 channels"):
        Conv(channels=(2, 3), strides=strides)
