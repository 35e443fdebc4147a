"""Geometry of two objectives, against brute force, Monte Carlo and Optuna's own."""

import itertools
import math
import random

import numpy as np
import pytest
from optuna._hypervolume import compute_hypervolume
from optuna.study._multi_objective import _fast_non_domination_rank

from tune_vae.service.front import dominates, fronts, hypervolume, knee, net_order, undominated

SEEDS = range(20)


def cloud(seed: int, count: int = 12, objectives: int = 2, *, whole: bool = True) -> list[tuple]:
    """Points with many ties if `whole`."""
    draw = random.Random(seed)
    return [
        tuple(draw.randint(0, 5) if whole else draw.random() for _ in range(objectives))
        for _ in range(count)
    ]


def ranks(vectors: list[tuple], margins: list[float] | None = None) -> list[int]:
    found = fronts(vectors, margins)
    return [next(n for n, front in enumerate(found) if i in front) for i in range(len(vectors))]


def longest_chain(vectors: list[tuple], margins: list[float]) -> list[int]:
    """A vector's front is the length of the longest chain of vectors above it, each beating the
    next: a truth about partial orders that peels nothing."""

    def beats(a: tuple, b: tuple) -> bool:
        gaps = [y - x for x, y in zip(a, b, strict=True)]
        return min(gaps) >= 0 and any(g > m for g, m in zip(gaps, margins, strict=True))

    def depth(i: int) -> int:
        above = [j for j in range(len(vectors)) if beats(vectors[j], vectors[i])]
        return max((depth(j) + 1 for j in above), default=0)

    return [depth(i) for i in range(len(vectors))]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_fronts_are_those_of_optuna_and_of_the_longest_chains(seed: int, objectives: int) -> None:
    vectors = cloud(seed, objectives=objectives)
    expected = _fast_non_domination_rank(np.array(vectors, float))
    assert ranks(vectors) == expected.tolist() == longest_chain(vectors, [0.0] * objectives)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("margins", [[1.0, 1.0], [0.0, 2.0], [1.5, 0.0]])
def test_fronts_with_margins_are_those_of_the_longest_chains(
    seed: int, margins: list[float]
) -> None:
    vectors = cloud(seed)
    assert ranks(vectors, margins) == longest_chain(vectors, margins)


def test_dominance_with_margins_is_a_strict_partial_order() -> None:
    vectors = list(itertools.product(range(4), repeat=2))
    for margins in ([0.0, 0.0], [1.0, 0.5]):
        better = {(a, b) for a in vectors for b in vectors if dominates(a, b, margins)}
        assert better
        assert not any((b, a) in better for a, b in better)
        assert all((a, d) in better for a, b in better for c, d in better if b == c)


def test_difference_within_the_margin_beats_nobody() -> None:
    assert dominates((1.0, 1.0), (1.0, 1.2))
    assert not dominates((1.0, 1.0), (1.0, 1.2), (0.2, 0.2))
    assert dominates((1.0, 1.0), (1.0, 1.3), (0.2, 0.2))
    assert not dominates((1.01, 1.0), (1.0, 9.0), (0.2, 0.2))


def test_equal_vectors_share_a_front() -> None:
    assert fronts([(1, 1), (1, 1), (2, 2)]) == [[0, 1], [2]]
    assert fronts([]) == []


def test_infinity_is_worse_than_every_number() -> None:
    vectors = [(math.inf, math.inf), (5.0, math.inf), (9.0, 9.0), (1.0, 1.0)]
    assert ranks(vectors) == [2, 1, 1, 0]


@pytest.mark.parametrize("seed", SEEDS)
def test_each_next_of_the_net_is_the_farthest_from_those_before(seed: int) -> None:
    points = np.array(cloud(seed, whole=False))
    order = net_order(points.tolist())
    assert sorted(order) == list(range(len(points)))
    assert order[0] == points[:, 0].argmin()
    scaled = points / np.ptp(points, axis=0)
    gaps = np.linalg.norm(scaled[:, None] - scaled[None], axis=-1)
    for n in range(1, len(order)):
        nearest = gaps[:, order[:n]].min(axis=1)
        assert nearest[order[n]] == pytest.approx(nearest.max())


def test_net_leaves_what_is_not_finite_for_last() -> None:
    assert net_order([(1.0, math.inf), (2.0, 2.0), (1.0, 3.0)]) == [2, 1, 0]


@pytest.mark.parametrize("seed", SEEDS)
def test_hypervolume_is_that_of_optuna_and_of_counted_cells(seed: int) -> None:
    points, reference = cloud(seed, count=6), (5, 4)
    better = np.array([p for p in points if p[0] < 5 and p[1] < 4], float).reshape(-1, 2)
    cells = sum(any(x <= a and y <= b for x, y in points) for a in range(5) for b in range(4))
    area = hypervolume(points, reference)
    assert area == cells
    if len(better):
        assert area == pytest.approx(compute_hypervolume(better, np.array(reference, float)))


def test_hypervolume_of_a_known_curve() -> None:
    # Above x·y = 1 between 1/4 and 4, within [0, 4]²: 16 - 1 - ln 16.
    curve = [(x, 1 / x) for x in np.linspace(0.25, 4, 20_001)]
    assert hypervolume(curve, (4.0, 4.0)) == pytest.approx(15 - math.log(16), abs=5e-3)


def test_hypervolume_of_nothing_is_nothing() -> None:
    assert hypervolume([], (1, 1)) == 0
    assert hypervolume([(1, 0), (0, 1), (2, 2)], (1, 1)) == 0


def test_knee_of_a_hyperbola_is_where_its_slope_is_that_of_the_chord() -> None:
    # 1/x over [1, 9] scaled to a square: the tangent is parallel to the chord at x = 3.
    xs = np.linspace(1, 9, 801)
    found = knee([(x, 1 / x) for x in xs])
    assert found is not None
    assert xs[found] == pytest.approx(3.0, abs=0.02)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_knee_does_not_depend_on_units(scale: float) -> None:
    assert knee([(0, 10 * scale), (1, 2 * scale), (4, 1 * scale), (10, 0)]) == 1


@pytest.mark.parametrize(
    "vectors", [[], [(0, 1)], [(0, 1), (1, 0)], [(0, 2), (1, 1), (2, 0)], [(0, 4), (3, 3), (4, 0)]]
)
def test_front_without_a_bend_has_no_knee(vectors: list[tuple]) -> None:
    assert knee(vectors) is None


@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize("seed", SEEDS)
def test_what_nothing_beats_is_the_first_front_in_order(seed: int, objectives: int) -> None:
    vectors = cloud(seed, 40, objectives)
    found = undominated(vectors)
    assert sorted(found) == fronts(vectors)[0]
    assert [vectors[i] for i in found] == sorted(vectors[i] for i in found)
