"""Drawn shapes against what geometry says of their area, place and brightness."""

import pytest
import torch

from tune_vae.data.datasets.synthetic import Synthetic

ALL = 3 * 4 * 16 * 16 * 5


@pytest.fixture(scope="module")
def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    """Levels `[n, H, W]` and factors of 3,000 large images."""
    data = Synthetic(size=64, examples=3000).load()
    assert data.factors
    images = torch.cat([data.train, data.validation, data.test])
    return images[:, 0].double(), torch.cat(data.factors)


def test_brightness_is_that_of_shade_and_area(drawn: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, factors = drawn
    shape, scale, _, _, shade = factors.double().unbind(1)
    radius = 64 * (0.10 + 0.04 * scale)
    of_unit_radius = torch.tensor([4, torch.pi, 2], dtype=torch.float64)[shape.long()]
    area = of_unit_radius * radius**2
    bright = 255 * (0.4 + 0.15 * shade)
    torch.testing.assert_close(images.sum((1, 2)) / bright, area, rtol=0.02, atol=0)
    assert torch.equal(images.amax((1, 2)), bright.round())


def test_centre_of_mass_is_the_place(drawn: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, factors = drawn
    pixel = torch.arange(64, dtype=torch.float64) + 0.5
    total = images.sum((1, 2))
    for axis, factor in ((1, factors[:, 2]), (2, factors[:, 3])):
        centre = (images.sum(axis) * pixel).sum(1) / total
        place = 64 * (0.25 + factor.double() / 30)
        torch.testing.assert_close(centre, place, rtol=0, atol=0.1)


def test_shapes_are_told_apart_by_their_corners(
    drawn: tuple[torch.Tensor, torch.Tensor],
) -> None:
    images, factors = drawn
    # Share of the bounding square that is covered: 1, pi/4, 1/2.
    share = (images > 0.5 * images.amax((1, 2), keepdim=True)).double().sum((1, 2))
    share /= (2 * 64 * (0.10 + 0.04 * factors[:, 1].double())) ** 2
    expected = torch.tensor([1, torch.pi / 4, 0.5], dtype=torch.float64)[factors[:, 0]]
    assert (share - expected).abs().max() < 0.15


def test_every_combination_is_there_once() -> None:
    data = Synthetic(size=8, examples=ALL).load()
    assert data.factors
    assert data.labels
    factors = torch.cat(data.factors)
    assert len(torch.unique(factors, dim=0)) == ALL
    assert (factors.amax(0) + 1).tolist() == [3, 4, 16, 16, 5]
    assert factors.amin(0).tolist() == [0] * 5
    assert torch.equal(torch.cat(data.labels), factors[:, 0])


def test_no_two_images_are_alike() -> None:
    data = Synthetic(size=16, examples=ALL).load()
    whole = torch.cat([data.train, data.validation, data.test])
    assert len({image.numpy().tobytes() for image in whole}) == ALL


def test_seed_draws_others_and_the_split_seed_does_not() -> None:
    def drawn(**seeds: int) -> set[bytes]:
        data = Synthetic(size=16, examples=300, validation=50, test=50, **seeds).load()
        whole = torch.cat([data.train, data.validation, data.test])
        return {image.numpy().tobytes() for image in whole}

    assert drawn(split_seed=1) == drawn()
    assert drawn(seed=1) != drawn()


def test_levels_do_not_change_between_versions() -> None:
    assert (
        Synthetic(size=16, examples=40, validation=5, test=5).load().digest() == "e2df692e1f1783e5"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"size": 7}, "size must be at least 8, got 7"), ({"examples": ALL + 1}, "at most 15360")],
)
def test_impossible_drawings_are_refused(arguments: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Synthetic(**arguments)
