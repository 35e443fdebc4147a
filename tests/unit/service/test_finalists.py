"""Mean, error and difference against SciPy, known truths by simulation, and who is repeated."""

import random
import statistics
from dataclasses import replace

import pytest
from scipy import stats

from tests.trials import trial_config
from tune_vae.service.finalists import (
    LEVEL,
    Estimate,
    Finalist,
    chosen,
    difference,
    estimate,
)
from tune_vae.service.rows import TrialRow

NAN = float("nan")


def row(trial: int, *values: float, kind: str = "healthy", **changes: object) -> TrialRow:
    """An ended trial, finished if it has values."""
    return TrialRow(
        config=trial_config(trial, **({"lr": 1e-4 * (trial + 1)} | changes)),
        state="ended",
        finished=bool(values),
        kind=kind,
        reason="",
        values=values,
        best=None,
        last=None,
        epoch=4,
    )


def finalist(trial: int, *seeds: float | tuple[float, ...] | str) -> Finalist:
    """One whose repeats reached these values, or ended for these reasons."""
    searched = row(trial, 3.0)
    repeats = []
    for count, reached in enumerate(seeds, start=1):
        values = (reached,) if isinstance(reached, float) else reached
        ended = row(0, kind=values) if isinstance(values, str) else row(0, *values)
        repeats.append(replace(ended, config=searched.config.repeated(count)))
    return Finalist(searched, tuple(repeats))


def numbers(rows: list[TrialRow]) -> list[int]:
    return [row.trial for row in rows]


# Mean, error and difference


@pytest.mark.parametrize("count", [2, 3, 7])
def test_mean_and_error_are_those_of_scipy(count: int) -> None:
    values = [random.Random(count).gauss(3.0, 0.5) for _ in range(count)]
    found = estimate(values)
    assert found.mean == pytest.approx(statistics.mean(values))
    assert found.error == pytest.approx(stats.sem(values))
    assert found.count == count


@pytest.mark.parametrize("counts", [(2, 2), (2, 5), (4, 4), (10, 3), (200, 300)])
@pytest.mark.parametrize("spreads", [(1.0, 1.0), (1.0, 0.1), (0.01, 3.0)])
def test_interval_of_the_difference_is_that_of_welch_in_scipy(
    counts: tuple[int, int], spreads: tuple[float, float]
) -> None:
    dice = random.Random(0)
    one, other = (
        [dice.gauss(mean, spread) for _ in range(count)]
        for mean, spread, count in zip((2.0, 2.5), spreads, counts, strict=True)
    )
    found = difference(estimate(one), estimate(other))
    test = stats.ttest_ind(other, one, equal_var=False)
    low, high = test.confidence_interval(LEVEL)
    assert found.mean - found.half_width == pytest.approx(low, rel=1e-5, abs=1e-6)
    assert found.mean + found.half_width == pytest.approx(high, rel=1e-5, abs=1e-6)
    assert found.real is bool(test.pvalue < 1 - LEVEL)


def test_value_alone_has_no_error_and_tells_nothing_apart() -> None:
    single = estimate([2.0])
    assert repr(single.error) == "nan"
    for other in (single, estimate([8.0, 8.1, 8.2])):
        assert not difference(single, other).real
        assert not difference(other, single).real
    assert str(single) == "2.0000"


def test_values_that_never_vary_differ_for_certain_or_not_at_all() -> None:
    two, three = Estimate(2.0, 0.0, 4), Estimate(3.0, 0.0, 4)
    assert difference(two, three).real
    assert not difference(two, two).real
    # One that never varies leaves the other its own freedom.
    one_sided = difference(two, Estimate(3.0, 0.1, 3))
    assert one_sided.half_width == pytest.approx(0.1 * stats.t.ppf(0.975, 2), rel=1e-5)


def apart_from_all(values: list[list[float]]) -> bool:
    first, *others = sorted(map(estimate, values), key=lambda one: one.mean)
    return all(difference(first, other).real for other in others)


def seeds(dice: random.Random, truths: list[float], count: int) -> list[list[float]]:
    return [[dice.gauss(truth, 1.0) for _ in range(count)] for truth in truths]


def test_equals_are_seldom_told_apart_and_others_mostly() -> None:
    """The rate of false winners, which 1 - LEVEL bounds, and of missed ones, over 500 studies."""
    dice, studies = random.Random(1), 500
    false = sum(apart_from_all(seeds(dice, [0.0, 0.0], 4)) for _ in range(studies))
    # Three standard errors of a rate of 5 %; Welch keeps a little below it.
    assert 0.01 * studies < false < 0.08 * studies
    right = sum(apart_from_all(seeds(dice, [0.0, 5.0, 5.0], 4)) for _ in range(studies))
    assert right > 0.95 * studies


def test_value_that_chose_a_finalist_is_too_good_and_its_repeats_are_not() -> None:
    dice = random.Random(2)
    chose, again = [], []
    for _ in range(300):
        searched = sorted((dice.gauss(0.0, 1.0), n) for n in range(30))
        best = finalist(searched[0][1], *(dice.gauss(0.0, 1.0) for _ in range(2)))
        chose.append(searched[0][0])
        again.append(best.estimates[0].mean)
    # The least of 30 standard normal values is -2.04 on average.
    assert statistics.mean(chose) == pytest.approx(-2.04, abs=0.15)
    assert statistics.mean(again) == pytest.approx(0.0, abs=0.15)


# Seeds


def test_mean_is_of_the_repeats_alone() -> None:
    one = finalist(4, 2.0, 2.5)
    assert one.row.values == (3.0,)
    assert one.estimates == (estimate([2.0, 2.5]),)
    assert str(one) == "2.2500 ± 0.25 over 2 other seeds"
    assert str(finalist(4, 2.0)) == "2.0000 over 1 other seed"


@pytest.mark.parametrize(
    ("ends", "lost"),
    [
        ((2.0, "collapsed"), "1 of 3 seeds collapsed"),
        (("never_formed", "diverged", "diverged"), "1 of 4 seeds never formed, 2 of 4 seeds "),
        ((2.0, (NAN,)), "1 of 3 seeds healthy without a value"),
    ],
)
def test_seeds_without_a_value_are_named_and_the_others_not_averaged(
    ends: tuple[float | str, ...], lost: str
) -> None:
    one = finalist(4, *ends)
    assert one.lost.startswith(lost)
    assert one.estimates == ()
    assert str(one) == one.lost


def test_repeats_that_have_not_ended_are_not_averaged_and_not_lost() -> None:
    whole = finalist(4, 2.0, 3.0)
    waiting = replace(whole.repeats[1], state="waiting", finished=False, kind="", values=())
    half = replace(whole, repeats=(whole.repeats[0], waiting))
    assert (half.ended, half.estimates, half.lost) == (False, (), "")
    assert str(half) == "1 of 2 repeats have ended"
    assert whole.ended


def test_each_objective_has_its_own_mean_and_difference() -> None:
    one, other = finalist(0, (1.0, 9.0), (2.0, 8.0)), finalist(1, (5.0, 9.0), (6.0, 8.0))
    assert one.estimates == (estimate([1.0, 2.0]), estimate([9.0, 8.0]))
    first, second = one.differences(other)
    assert (first.mean, second.mean) == (4.0, 0.0)
    assert other.differences(one)[0].mean == -4.0


# Who is repeated


def test_best_of_one_objective_are_chosen() -> None:
    rows = [row(0, 3.0), row(1, 1.0), row(2, 2.0), row(3, 1.0)]
    assert numbers(chosen([rows[1]], rows, 3)) == [1, 3, 2]
    assert numbers(chosen([rows[1]], rows, 9)) == [1, 3, 2, 0]
    assert chosen([], [], 3) == []


def test_of_trials_with_the_same_settings_the_best_is_chosen() -> None:
    rows = [row(n, value, lr=lr) for n, (value, lr) in enumerate([(3.0, 1), (1.0, 1), (2.0, 2)])]
    assert numbers(chosen([rows[1]], rows, 3)) == [1, 2]


def test_knee_of_a_front_and_its_neighbours_are_chosen() -> None:
    front = [row(n, *pair) for n, pair in enumerate([(0.0, 9), (1, 7), (2, 1), (5, 0.5), (9, 0)])]
    assert numbers(chosen(front, front, 1)) == [2]
    assert numbers(chosen(front, front, 3)) == [1, 2, 3]
    assert numbers(chosen(front, front, 9)) == [0, 1, 2, 3, 4]


def test_of_a_front_without_a_knee_those_far_apart_are_chosen() -> None:
    straight = [row(n, float(n), 8.0 - n) for n in range(9)]
    assert numbers(chosen(straight, straight, 3)) == [0, 4, 8]
    assert numbers(chosen(straight[:2], straight[:2], 1)) == [0]
