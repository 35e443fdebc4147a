import pytest
import torch
from torch import nn

from tune_vae.science.networks.resnet import Resnet


def blocks(part: nn.Module) -> list[nn.Module]:
    return [module for module in part.modules() if hasattr(module, "branch")]


def test_every_level_has_its_blocks() -> None:
    for part in Resnet(channels=(4, 8, 16), blocks=3).build((1, 32, 24), 4, 2):
        assert len(blocks(part)) == 9
        (widths,) = {
            tuple(norm.num_channels for norm in norms(block)) for block in blocks(part)[:3]
        }
        assert len(widths) == 2


def norms(part: nn.Module) -> list[nn.GroupNorm]:
    return [module for module in part.modules() if isinstance(module, nn.GroupNorm)]


def test_block_whose_branch_says_nothing_is_the_identity() -> None:
    """Nothing stands in the way of the path around the branch."""
    encoder, _ = Resnet(channels=(8,), blocks=2).build((1, 8, 8), 4, 1)
    x = torch.randn(2, 8, 4, 4)
    for block in blocks(encoder):
        before = block(x)
        assert not torch.equal(before, x)
        last = [module for module in block.modules() if isinstance(module, nn.Conv2d)][-1]
        with torch.no_grad():
            last.weight.zero_()
            last.bias.zero_()
        assert torch.equal(block(x), x)


def test_normalisation_comes_before_activation_and_convolution() -> None:
    encoder, _ = Resnet(channels=(8,)).build((1, 8, 8), 4, 1)
    (block,) = blocks(encoder)
    kinds = [type(module) for module in block.modules() if not list(module.children())]
    assert kinds == 2 * [nn.GroupNorm, nn.ReLU, nn.Conv2d]


@pytest.mark.parametrize("width", [1, 3, 4, 7, 8, 12, 20, 32, 96])
def test_groups_have_at_least_four_channels_where_there_are(width: int) -> None:
    """In a map of one pixel, a group of one channel would be 0 whatever comes in."""
    for norm in norms(Resnet(channels=(width,)).build((1, 8, 8), 4, 1)[0]):
        assert width % norm.num_groups == 0
        assert width // norm.num_groups >= min(4, width)
        assert norm.num_groups <= 8
        if width >= 8 and width % 4 == 0:
            assert norm.num_groups > 1


def test_single_number_is_not_normalised_away() -> None:
    encoder, decoder = Resnet(channels=(1,)).build((1, 2, 2), 4, 1)
    assert not norms(encoder)
    assert encoder(torch.rand(1, 1, 2, 2)).shape == (1, 8)
    assert decoder(torch.randn(1, 4)).shape == (1, 1, 2, 2)


@pytest.mark.parametrize("side", range(4, 20))
def test_every_size_is_restored_by_the_mirror(side: int) -> None:
    encoder, decoder = Resnet(channels=(4, 4)).build((1, side, 23 - side), 4, 1)
    assert encoder(torch.rand(2, 1, side, 23 - side)).shape == (2, 8)
    assert decoder(torch.randn(2, 4)).shape == (2, 1, side, 23 - side)


def test_image_that_is_halved_to_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"3 levels needs images of at least 8 pixels .* got 7x8"):
        Resnet().build((1, 7, 8), 4, 1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"channels": ()}, "channels must name at least 1 positive width"),
        ({"channels": (8, 0)}, r"positive width, got \[8, 0\]"),
        ({"blocks": 0}, "blocks must be at least 1, got 0"),
    ],
)
def test_network_without_channels_or_blocks_is_refused(
    arguments: dict[str, object], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        Resnet(**arguments)
