"""What mattered, against SciPy and studies of known cause."""

import math
import random

import pytest
from scipy import stats

from tests.unit.report.studies import finished
from tune_vae.report.influence import Influence, influences, ranks, shared_spread, spearman
from tune_vae.service.rows import TrialRow


@pytest.mark.parametrize("ties", [False, True])
def test_ranks_and_their_correlation_are_those_of_scipy(ties: bool) -> None:
    lot = random.Random(1)
    a, b = ([lot.gauss(0, 1) for _ in range(25)] for _ in range(2))
    if ties:
        a, b = ([float(round(value)) for value in column] for column in (a, b))
    assert ranks(a) == stats.rankdata(a).tolist()
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert spearman(a, [1.0] * 25) == 0.0


@pytest.mark.parametrize("ties", [False, True])
def test_share_of_the_spread_is_that_of_kruskal_and_wallis(ties: bool) -> None:
    lot = random.Random(2)
    groups = [lot.choice("abc") for _ in range(30)]
    values = [lot.gauss("abc".index(group), 1) for group in groups]
    values = [float(round(value)) for value in values] if ties else values
    by_group = [[v for v, g in zip(values, groups, strict=True) if g == name] for name in "abc"]
    h = stats.kruskal(*by_group).statistic
    assert shared_spread(ranks(values), groups) == pytest.approx((h - 3 + 1) / (30 - 3))


def study(count: int, seed: int = 0, noise: float = 0.05) -> list[TrialRow]:
    """beta_norm is best in the middle, sigma mode shifts a little, lr means nothing."""
    lot, rows = random.Random(seed), []
    for trial in range(count):
        beta, lr = 10 ** lot.uniform(-3, 1), 10 ** lot.uniform(-4, -1)
        sigma = lot.choice(["fixed", "optimal"])
        value = 3 + (math.log10(beta) + 1) ** 2 + 0.5 * (sigma == "fixed") + lot.gauss(0, noise)
        rows.append(finished(trial, value, beta_norm=beta, lr=lr, sigma={sigma: {}}))
    return rows


def test_knob_whose_best_is_in_the_middle_is_found_though_no_line_tells_it() -> None:
    by_knob = {one.knob: one for one in influences(study(40))}
    assert set(by_knob) == {"beta_norm", "lr", "decoder"}
    assert max(by_knob.values(), key=lambda one: one.share).knob == "beta_norm"
    assert by_knob["beta_norm"].certain
    assert by_knob["beta_norm"].share > 0.4
    assert abs(by_knob["beta_norm"].slope or 0.0) < 0.4
    assert not by_knob["lr"].certain


def test_knob_that_means_nothing_is_seldom_called_certain() -> None:
    called = 0
    for seed in range(60):
        (lr,) = (one for one in influences(study(20, seed=seed)) if one.knob == "lr")
        called += lr.certain
    # Expected are three; nine or more of sixty would come in less than one of 200 tries.
    assert called <= 8


def test_slope_has_the_sign_of_harm() -> None:
    rows = [finished(n, 3.0 + n, lr=1e-4 * (n + 1), beta_norm=10.0 / (n + 1)) for n in range(12)]
    slopes = {one.knob: one.slope for one in influences(rows)}
    assert slopes["lr"] == pytest.approx(1.0)
    assert slopes["beta_norm"] == pytest.approx(-1.0)


def test_likelihood_and_sigma_mode_are_one_knob_and_arguments_of_some_are_left_out() -> None:
    rows = [
        finished(
            n,
            3.0 + n % 3,
            likelihood={("gaussian", "laplace")[n % 2]: {}},
            schedule={"linear": {"warmup": 0.01 * n}} if n % 3 else {"constant": {}},
        )
        for n in range(12)
    ]
    assert {one.knob for one in influences(rows)} == {"decoder", "schedule", "beta_norm"}


def test_second_objective_has_shares_of_its_own() -> None:
    rows = [finished(n, 3.0, lr=1e-4 * (n + 1), beta_norm=0.1) for n in range(12)]
    lot = random.Random(0)
    two = [
        type(row)(**{**vars(row), "values": (lot.random(), float(n))})
        for n, row in enumerate(rows)
    ]
    assert influences(two, 1)[0] == Influence("lr", pytest.approx(0.87, abs=0.05), 0.005, 1.0)
    assert influences(two, 0)[0].share < 0.4


def test_too_few_trials_say_nothing() -> None:
    assert influences(study(7)) == []
