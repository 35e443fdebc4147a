"""Similarity of images, against scikit-image's numbers and the definition window by window."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tune_vae.science.images import psnr, ssim

PAIRS = json.loads((Path(__file__).parents[2] / "oracles" / "ssim.json").read_text())


def image(pair: dict[str, Any], which: str) -> Tensor:
    levels = torch.tensor(list(bytes.fromhex(pair[which])), dtype=torch.float64)
    return levels.reshape(1, *pair["shape"]) / 255


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair['kind']} {pair['shape']}")
def test_similarity_is_that_of_scikit_image(pair: dict[str, Any], device: torch.device) -> None:
    x, y = image(pair, "x").to(device), image(pair, "y").to(device)
    assert ssim(x, y).item() == pytest.approx(pair["ssim"], rel=1e-9)
    assert ssim(x.float(), y.float()).item() == pytest.approx(pair["ssim"], rel=1e-5)


def by_definition(x: np.ndarray, y: np.ndarray, size: int) -> float:
    """One channel, one window after the other."""
    offsets = np.arange(size) - size // 2
    weights = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    found = []
    for i in range(x.shape[0] - size + 1):
        for j in range(x.shape[1] - size + 1):
            a, b = x[i : i + size, j : j + size], y[i : i + size, j : j + size]
            m, n = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - m) ** 2).sum(), (weights * (b - n) ** 2).sum()
            both = (weights * (a - m) * (b - n)).sum()
            found.append(
                (2 * m * n + 1e-4)
                * (2 * both + 9e-4)
                / ((m**2 + n**2 + 1e-4) * (var_a + var_b + 9e-4))
            )
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("height", "width", "size"), [(8, 8, 7), (7, 9, 7), (28, 6, 5), (2, 2, 1), (13, 12, 11)]
)
def test_small_images_have_the_largest_odd_window_that_fits(
    height: int, width: int, size: int
) -> None:
    x, y = noise(2, 1, height, width), noise(2, 1, height, width, seed=1)
    expected = [by_definition(a[0].numpy(), b[0].numpy(), size) for a, b in zip(x, y, strict=True)]
    torch.testing.assert_close(ssim(x, y), torch.tensor(expected).double())


def test_channels_are_averaged() -> None:
    x, y = noise(4, 3, 12, 12), noise(4, 3, 12, 12, seed=1)
    each = torch.stack([ssim(x[:, [c]], y[:, [c]]) for c in range(3)])
    torch.testing.assert_close(ssim(x, y), each.mean(0))


def test_flat_images_differ_by_their_brightness_alone() -> None:
    dark, bright = torch.full((1, 1, 16, 16), 0.2), torch.full((1, 1, 16, 16), 0.8)
    expected = (2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4)
    assert ssim(dark, bright).item() == pytest.approx(expected, rel=1e-6)


def test_similarity_is_one_for_equal_images_and_falls_with_noise() -> None:
    x, added = noise(5, 1, 16, 16), noise(5, 1, 16, 16, seed=1) - 0.5
    similarity = [ssim(x, x + sigma * added) for sigma in (0.0, 0.01, 0.1, 0.5, 1.0)]
    torch.testing.assert_close(similarity[0], torch.ones(5).double())
    for less, more in pairwise(similarity):
        assert (more < less).all()
    torch.testing.assert_close(ssim(x + added, x), similarity[-1])


def test_similarities_of_many_models_are_those_of_each() -> None:
    x, y = noise(3, 1, 12, 12), noise(2, 3, 1, 12, 12, seed=1)
    together = torch.func.vmap(ssim, in_dims=(None, 0))(x, y)
    torch.testing.assert_close(together, torch.stack([ssim(x, one) for one in y]))


def test_similarity_can_be_ascended() -> None:
    x, y = noise(1, 1, 9, 9), noise(1, 1, 9, 9, seed=1)
    assert torch.autograd.gradcheck(lambda y: ssim(x, y), y.requires_grad_())


def test_signal_to_noise_ratio_is_that_of_the_peak() -> None:
    """An error of a tenth of the peak is 20 decibels; half an error is 6.02 more."""
    mse = torch.tensor([0.01, 0.0025, 1.0, 0.0], dtype=torch.float64)
    expected = torch.tensor([20.0, 20 + 20 * math.log10(2), 0.0, math.inf], dtype=torch.float64)
    torch.testing.assert_close(psnr(mse), expected)
