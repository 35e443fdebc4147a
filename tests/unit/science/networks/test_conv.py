import pytest
import torch

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
    with pytest.raises(ValueError, match="at least one positive width"):
        Conv(channels=channels)
