"""Scores of sets of images, against closed forms, scipy, expectations and graded damage."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from torch import Tensor

from tune_vae.data import Splits, scale
from tune_vae.errors import DataError
from tune_vae.science.samples import (
    ROWS,
    PrincipalSpace,
    frechet_distance,
    overlap,
    sample_distance,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def exactly(mean_D: Tensor, covariance_DD: Tensor, count: int = 200, seed: int = 0) -> Tensor:
    """A set whose mean and covariance are those, to rounding."""
    x_nD = normal(count, len(mean_D), seed=seed)
    x_nD = x_nD - x_nD.mean(0)
    white_nD = torch.linalg.solve_triangular(
        torch.linalg.cholesky(x_nD.T @ x_nD / (count - 1)), x_nD.T, upper=False
    ).T
    return mean_D + white_nD @ torch.linalg.cholesky(covariance_DD).T


def by_scipy(a_nD: Tensor, b_mD: Tensor) -> float:
    a, b = a_nD.numpy(), b_mD.numpy()
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    shift = a.mean(0) - b.mean(0)
    return float(shift @ shift + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root))


# Fréchet distance


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dimension", [2, 7, 50])
def test_distance_is_that_of_scipys_matrix_root(seed: int, dimension: int) -> None:
    a = normal(120, dimension, seed=seed) @ normal(dimension, dimension, seed=seed + 100)
    b = normal(90, dimension, seed=seed + 200) @ normal(dimension, dimension, seed=seed + 300)
    b += normal(dimension, seed=seed + 400)
    assert frechet_distance(a, b).item() == pytest.approx(by_scipy(a, b), rel=1e-8)


def test_distance_of_commuting_covariances_is_that_of_their_spreads() -> None:
    """With common axes it is the squared distance of means and of standard deviations."""
    axes = torch.linalg.qr(normal(6, 6)).Q
    sd_a, sd_b = torch.arange(1.0, 7.0).double(), torch.tensor([2.0, 2, 1, 7, 0.1, 6]).double()
    mean_a, mean_b = normal(6, seed=1), normal(6, seed=2)
    a = exactly(mean_a, axes * sd_a.square() @ axes.T, seed=3)
    b = exactly(mean_b, axes * sd_b.square() @ axes.T, seed=4)
    expected = (mean_a - mean_b).square().sum() + (sd_a - sd_b).square().sum()
    torch.testing.assert_close(frechet_distance(a, b), expected)


def test_distance_of_a_set_from_itself_is_nothing() -> None:
    a = 1e3 * normal(300, 50)
    scale = a.square().sum(1).mean()
    assert abs(frechet_distance(a, a[torch.randperm(300)])) < 1e-12 * scale


def test_distance_of_a_set_from_itself_moved_is_the_squared_move() -> None:
    a, move = normal(100, 8), normal(8, seed=1)
    torch.testing.assert_close(frechet_distance(a, a + move), move.square().sum())


def test_distance_sees_no_order_and_no_rotation() -> None:
    a, b = normal(60, 5), 2 * normal(80, 5, seed=1) + 1
    turn = torch.linalg.qr(normal(5, 5, seed=2)).Q
    expected = frechet_distance(a, b)
    torch.testing.assert_close(frechet_distance(b, a), expected)
    torch.testing.assert_close(frechet_distance(a @ turn, b @ turn), expected)


def test_distance_to_a_constant_set_is_its_variance_and_the_squared_shift() -> None:
    a = normal(100, 4)
    point = torch.full((1, 4), 3.0, dtype=torch.float64)
    expected = a.var(0).sum() + (a.mean(0) - point).square().sum()
    torch.testing.assert_close(frechet_distance(a, point.expand(7, 4)), expected)


def test_sets_smaller_than_their_dimension_have_a_distance() -> None:
    """Embedded in more dimensions, nothing changes."""
    a, b = normal(4, 3), normal(5, 3, seed=1)
    into = torch.linalg.qr(normal(40, 3, seed=2)).Q.T
    torch.testing.assert_close(frechet_distance(a @ into, b @ into), frechet_distance(a, b))


@pytest.mark.parametrize(("count", "dimension"), [(1000, 20), (2000, 50)])
def test_bias_of_equal_distributions_is_as_stated(count: int, dimension: int) -> None:
    found = torch.stack(
        [
            frechet_distance(
                normal(count, dimension, seed=2 * i), normal(count, dimension, seed=2 * i + 1)
            )
            for i in range(20)
        ]
    )
    stated = dimension * (dimension + 5) / (2 * count)
    # The next order of 1/n is some percent here.
    assert found.mean().item() == pytest.approx(stated, rel=0.04)


def test_distance_can_be_descended() -> None:
    a, b = normal(50, 3), 2 * normal(50, 3, seed=1)
    a.requires_grad_()
    (slope,) = torch.autograd.grad(frechet_distance(a, b), a)
    with torch.no_grad():
        assert frechet_distance(a - slope, b) < frechet_distance(a, b)


def test_distances_of_many_sets_are_those_of_each() -> None:
    a, b = normal(3, 30, 4), normal(30, 4, seed=1)
    together = torch.func.vmap(frechet_distance, in_dims=(0, None))(a, b)
    torch.testing.assert_close(together, torch.stack([frechet_distance(one, b) for one in a]))


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_distance_of_what_is_not_finite_is_missing(broken: float) -> None:
    a, b = normal(30, 3), normal(30, 3, seed=1)
    b[4, 1] = broken
    assert frechet_distance(a, b).isnan()
    assert frechet_distance(b, a).isnan()


def test_one_example_has_no_distance() -> None:
    with pytest.raises(ValueError, match="a set of 1 has no covariance; give at least 2"):
        frechet_distance(normal(1, 3), normal(5, 3))


# Principal space


@pytest.mark.parametrize("count", [40, 400], ids=["fewer images than values", "more"])
def test_space_is_that_of_scikit_learn(count: int, device: torch.device) -> None:
    x = (normal(count, 100) @ normal(100, 100, seed=1) + 3).reshape(count, 4, 5, 5)
    new = normal(7, 4, 5, 5, seed=2)
    space = PrincipalSpace.fit(x.to(device), directions=20)
    theirs = PCA(20, whiten=True, svd_solver="full").fit(x.flatten(1).numpy())
    # A direction and its opposite are the same.
    got, expected = space.project(new.to(device)).cpu(), theirs.transform(new.flatten(1).numpy())
    torch.testing.assert_close(got.abs(), torch.from_numpy(expected).abs())


def test_projected_training_images_have_unit_covariance(digits: Splits) -> None:
    x = scale(digits.train, digits.levels)
    h = PrincipalSpace.fit(x).project(x)
    torch.testing.assert_close(h.mean(0), torch.zeros(50).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(torch.cov(h.T), torch.eye(50).double(), atol=1e-9, rtol=0)


def test_directions_without_variance_are_left_out() -> None:
    x = normal(100, 3, seed=1) @ normal(3, 64, seed=2)
    x[:, 5] = 0.25
    space = PrincipalSpace.fit(x.reshape(-1, 1, 8, 8).float())
    assert space.directions == 3
    assert space.project(x.reshape(-1, 1, 8, 8)).isfinite().all()


def test_images_that_are_all_the_same_have_no_space() -> None:
    with pytest.raises(DataError, match="20 images that are all the same have no principal"):
        PrincipalSpace.fit(torch.full((20, 1, 4, 4), 0.3))


def test_a_space_without_directions_is_refused() -> None:
    with pytest.raises(ValueError, match="directions must be at least 1, got 0"):
        PrincipalSpace.fit(normal(20, 1, 4, 4), directions=0)


# Overlap


def by_definition(real: Tensor, generated: Tensor, k: int) -> tuple[float, float]:
    radius = np.sort(cdist(real, real), axis=1)[:, k]
    within = cdist(real, generated) <= radius[:, None]
    return within.any(1).mean(), within.sum() / (k * len(generated))


@pytest.mark.parametrize(("n", "m"), [(40, 70), (ROWS + 90, 200)])
@pytest.mark.parametrize("k", [1, 5])
def test_overlap_is_its_definition(n: int, m: int, k: int, device: torch.device) -> None:
    real, generated = normal(n, 4), 1.2 * normal(m, 4, seed=1) + 0.5
    got = overlap(real.to(device), generated.to(device), neighbours=k)
    coverage, density = by_definition(real, generated, k)
    assert got.coverage.item() == pytest.approx(coverage, rel=1e-12)
    assert got.density.item() == pytest.approx(density, rel=1e-12)
    assert 0 < coverage < 1


@pytest.mark.parametrize("dimension", [2, 50])
@pytest.mark.parametrize("k", [1, 5])
def test_overlap_of_equal_distributions_is_as_expected(k: int, dimension: int) -> None:
    n, repetitions = 150, 40
    scores = [
        overlap(
            normal(n, dimension, seed=2 * i), normal(n, dimension, seed=2 * i + 1), neighbours=k
        )
        for i in range(repetitions)
    ]
    coverage = torch.stack([score.coverage for score in scores])
    density = torch.stack([score.density for score in scores])
    nobody = math.prod((n - 1 - j) / (2 * n - 1 - j) for j in range(k))
    for found, expected in ((coverage, 1 - nobody), (density, 1.0)):
        error = found.std() / math.sqrt(repetitions)
        assert abs(found.mean() - expected) < 4 * error


def test_a_copy_covers_everything_also_what_is_there_many_times() -> None:
    real = normal(10, 3).repeat(8, 1)
    assert overlap(real, real.flip(0)).coverage == 1.0


def test_far_samples_cover_nothing() -> None:
    assert overlap(normal(50, 3), normal(50, 3, seed=1) + 100) == (0.0, 0.0)


def test_a_mode_left_out_costs_its_share_of_the_coverage() -> None:
    modes = torch.arange(4).repeat_interleave(100)[:, None] * 100.0
    real, generated = modes + normal(400, 2), modes + normal(400, 2, seed=1)
    whole = overlap(real, generated).coverage
    assert overlap(real, generated[:100]).coverage.item() == pytest.approx(
        overlap(real[:100], generated[:100]).coverage.item() / 4
    )
    assert whole > 0.95


def test_overlap_of_what_is_not_finite_is_missing() -> None:
    generated = normal(20, 3)
    generated[0, 0] = math.nan
    assert all(score.isnan() for score in overlap(normal(20, 3, seed=1), generated))


@pytest.mark.parametrize("k", [0, 20])
def test_impossible_neighbourhoods_are_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"neighbours must be from 1 to 19 .* got {k}"):
        overlap(normal(20, 3), normal(20, 3), neighbours=k)


# Real images


def blurred(x: Tensor, passes: int) -> Tensor:
    for _ in range(passes):
        x = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return x


def grades(x: Tensor, labels: Tensor | None = None) -> dict[str, list[Tensor]]:
    """The same images, from untouched to badly damaged, in several ways."""
    noise = normal(*x.shape, seed=5).to(x)
    mean, count = x.mean(0, keepdim=True), len(x)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(6))
    return {
        "blurred": [blurred(x, passes) for passes in range(4)],
        "noisy": [(x + sigma * noise).clamp(0, 1) for sigma in (0, 0.1, 0.2, 0.4)],
        "towards the mean image": [x + share * (mean - x) for share in (0, 0.3, 0.6, 1)],
        "partly the mean image": [
            torch.cat([x[: count - bad], mean.expand(bad, -1, -1, -1)])
            for bad in (0, count // 4, count // 2, count)
        ],
        "few images repeated": [
            x[torch.arange(count) % kinds] for kinds in (count, count // 5, count // 20, 1)
        ],
        "averages of pairs": [(1 - w) * x + w * x[order] for w in (0, 0.2, 0.35, 0.5)],
    }


@pytest.mark.parametrize("damage", grades(torch.zeros(40, 1, 1, 1)))
def test_the_more_damage_to_real_images_the_further(digits: Splits, damage: str) -> None:
    fit, real, held_out = (
        scale(images, digits.levels) for images in (digits.train, digits.validation, digits.test)
    )
    space = PrincipalSpace.fit(fit)
    distances = [sample_distance(space, real, x).item() for x in grades(held_out)[damage]]
    assert distances == sorted(distances)
    assert distances[-1] > 1.2 * distances[0]


def test_distance_and_coverage_see_what_the_other_does_not(digits: Splits) -> None:
    fit, real, held_out = (
        scale(images, digits.levels) for images in (digits.train, digits.validation, digits.test)
    )
    space = PrincipalSpace.fit(fit)
    h, mean = space.project(real), fit.mean(0).expand_as(real)
    untouched = sample_distance(space, real, held_out)
    assert sample_distance(space, real, mean) > 5 * untouched
    assert overlap(h, space.project(mean)).coverage > 0.9
    normal_like = normal(len(real), space.directions)
    assert frechet_distance(h, normal_like) < 1.1 * untouched
    assert overlap(h, normal_like).coverage < 0.7 < overlap(h, space.project(held_out)).coverage


def test_sets_of_different_sizes_are_refused(digits: Splits) -> None:
    x = scale(digits.validation, digits.levels)
    space = PrincipalSpace.fit(x)
    with pytest.raises(ValueError, match="must be equal; got 250 real and 249 generated"):
        sample_distance(space, x, x[1:])
