"""Resizing against Pillow through torchvision, as reference codes use it, and against torch."""

import pytest
import torch
from torchvision.transforms import Compose, PILToTensor, Resize, ToPILImage

from tune_vae.data.resizing import resized


def images(*shape: int) -> torch.Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


SHAPES = [(5, 3, 32, 32), (5, 1, 28, 20), (5, 1, 105, 105), (2, 3, 20, 40)]


@pytest.mark.parametrize("size", [28, 64, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_levels_are_those_of_torchvision_on_pictures(shape: tuple[int, ...], size: int) -> None:
    given = images(*shape)
    official = Compose([ToPILImage(), Resize((size, size)), PILToTensor()])
    new = resized(given, size)
    assert new.dtype == torch.uint8
    assert torch.equal(new, torch.stack([official(image) for image in given]))


@pytest.mark.parametrize("shape", SHAPES)
def test_levels_are_within_two_roundings_of_torch(shape: tuple[int, ...]) -> None:
    given = images(*shape)
    real = torch.nn.functional.interpolate(
        given.double(), size=(28, 28), mode="bilinear", antialias=True
    )
    # Pillow rounds to levels twice, after the rows and after the columns.
    assert (resized(given, 28).double() - real).abs().max() < 1.02


@pytest.mark.parametrize("size", [None, 16])
def test_nothing_to_do_changes_nothing(size: int | None) -> None:
    given = images(2, 3, 16, 16)
    assert torch.equal(resized(given, size), given)
