"""MNIST and its two ways to binarise."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from tests.unit.data.datasets.samples import SAMPLES, write_idx
from tune_vae.data import Splits
from tune_vae.data.datasets.mnist import Mnist
from tune_vae.errors import DataError


@pytest.fixture
def greys(tmp_path: Path) -> Path:
    """784 images of each part, image i with the grey value i % 256 all over."""
    grey = (torch.arange(768) % 256).to(torch.uint8)[:, None, None].expand(-1, 28, 28)
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", grey)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", grey[:, 0, 0])
    return tmp_path


def load(
    root: Path, binarised: Literal["none", "static", "stochastic"], *, draw_seed: int = 0
) -> Splits:
    return Mnist(root=str(root), binarised=binarised, draw_seed=draw_seed, validation=256).load()


def test_grey_values_stay_by_default(greys: Path) -> None:
    data = load(greys, "none")
    assert data.levels == 256
    assert data.labels is not None
    for images, labels in zip((data.train, data.validation, data.test), data.labels, strict=True):
        assert torch.equal(images, labels.byte()[:, None, None, None].expand(-1, 1, 28, 28))


def test_static_binarisation_is_one_from_128_on(greys: Path) -> None:
    data = load(greys, "static")
    assert data.levels == 2
    assert data.labels is not None
    for images, labels in zip((data.train, data.validation, data.test), data.labels, strict=True):
        bright = labels.double() / 255 > 0.5
        assert torch.equal(images, bright.byte()[:, None, None, None].expand(-1, 1, 28, 28))


def test_stochastic_binarisation_is_one_as_often_as_the_value_is_grey(greys: Path) -> None:
    data = load(greys, "stochastic")
    assert data.levels == 2
    assert data.labels is not None
    ones = torch.zeros(256, dtype=torch.float64)
    drawn = torch.zeros(256, dtype=torch.float64)
    for images, labels in zip((data.train, data.validation, data.test), data.labels, strict=True):
        ones.index_add_(0, labels, images.double().sum((1, 2, 3)))
        drawn.index_add_(0, labels, torch.full(labels.shape, 784.0, dtype=torch.float64))
    assert drawn.tolist() == [6 * 784] * 256
    probability = torch.arange(256, dtype=torch.float64) / 255
    error = (probability * (1 - probability) / drawn).sqrt()
    assert ones[0] == 0
    assert ones[255] == drawn[255]
    assert ((ones / drawn - probability).abs() <= 4.5 * error).all()
    # Together they are thirty times as sharp: a rule off by one grey level would show.
    assert abs(float(ones.sum() / drawn.sum()) - 0.5) < 4 * float((error**2).mean() / 256) ** 0.5


def test_draw_is_fixed_by_its_seed_and_not_by_the_split(greys: Path) -> None:
    data = load(greys, "stochastic")
    assert load(greys, "stochastic").digest() == data.digest()
    assert load(greys, "stochastic", draw_seed=1).digest() != data.digest()
    other = Mnist(root=str(greys), binarised="stochastic", split_seed=5, validation=256).load()
    assert torch.equal(other.test, data.test)

    def pictures(one: Splits) -> list[bytes]:
        return sorted(image.numpy().tobytes() for image in torch.cat([one.train, one.validation]))

    assert pictures(other) == pictures(data)
    # Training and test images of the same grey are drawn apart.
    assert not torch.equal(torch.cat([data.train, data.validation]).sum(), data.test.sum())


def test_files_of_fashion_mnist_are_not_taken_for_digits(tmp_path: Path) -> None:
    SAMPLES["fashion_mnist"](tmp_path)
    with pytest.raises(DataError, match=f"expected {tmp_path}/MNIST/raw/train-images-idx3-ubyte"):
        Mnist(root=str(tmp_path)).load()


def test_default_split_is_that_of_binarised_digits() -> None:
    assert Mnist().validation == replace(Mnist(), limit=1).validation == 10_000
