"""What follows from a curve, and where it is kept."""

import math
from pathlib import Path

import pytest
import torch

from tests.trials import study, trial_config
from tune_vae.service.scouted import Scouted, keep, recall, scouting
from tune_vae.spec.known_good import USUAL_LR, known_good
from tune_vae.training.scout import Sighting

# With N 64 and M 4, beta is 16 times beta_norm.
CONFIG = trial_config(likelihood={"laplace": {}})


def seen(beta: float, rate: float, bits: float, own: float = math.nan) -> Sighting:
    return Sighting(beta, rate, 20.0, 0.04, own, bits)


def scouted(*curve: Sighting) -> Scouted:
    return Scouted(CONFIG, "digest", curve, 2.0)


LIVELY = (seen(0.16, 20.0, 2.6), seen(1.6, 8.0, 2.4), seen(16.0, 1.0, 2.5), seen(160.0, 0.01, 2.6))


def test_bounds_reach_from_below_the_fewest_bits_to_half_of_the_collapse() -> None:
    one = scouted(*LIVELY)
    assert one.best == LIVELY[1]
    # From 1 to 0.01 nats the rate falls by 100 where β rises by 10: 0.1 lies half-way.
    assert one.collapse == pytest.approx(1.0 * math.sqrt(10))
    assert one.bounds == pytest.approx((0.01, 0.5 * math.sqrt(10)))


def test_own_bits_come_before_calibrated_ones() -> None:
    own = scouted(seen(1.0, 9.0, 2.0, own=3.0), seen(2.0, 8.0, 2.5, own=2.9))
    assert own.best == own.curve[1]


def test_decoder_that_never_dies_is_bounded_by_what_was_seen_and_a_dead_one_not_at_all() -> None:
    assert scouted(*LIVELY[:3]).collapse is None
    assert scouted(*LIVELY[:3]).bounds == pytest.approx((0.01, 1.0))
    for curve in ((), LIVELY[3:]):
        assert scouted(*curve).bounds is None
    # Where a latent comes and goes nothing is said of a collapse.
    assert scouted(*reversed(LIVELY)).collapse is None


def test_best_beta_is_a_first_trial_where_the_study_holds_it() -> None:
    first = scouted(*LIVELY).first_trial
    assert first
    # β 1.6 of N 64 and M 4.
    wide = {
        "beta_norm": {"log_uniform": [0.01, 10]},
        "likelihood": {"choice": ["bernoulli", "laplace"]},
        "sigma": "optimal",
    }
    spec = study(known_good=True, search=wide)
    (*_, (name, parameters)) = known_good(spec, values=64, seen=[first])
    assert "scout of laplace" in name
    assert parameters == {
        "likelihood": "laplace",
        "beta_norm": pytest.approx(0.1),
        "lr": USUAL_LR,
    }
    for other in (
        wide | {"beta_norm": {"log_uniform": [0.2, 10]}},
        wide | {"likelihood": "bernoulli"},
        wide | {"sigma": "fixed"},
    ):
        names = [
            one
            for one, _ in known_good(study(known_good=True, search=other), values=64, seen=[first])
        ]
        assert name not in names


def test_scout_that_saw_no_life_suggests_nothing() -> None:
    for curve in ((), LIVELY[3:]):
        assert scouted(*curve).first_trial is None


@pytest.mark.parametrize(
    ("peak", "lrs", "beta", "lr"),
    [
        (20.0, (1e-4, 0.3), 60.0, 1e-3),
        (1.0, (3e-3, 0.3), 10.0, 3e-3),
        (math.nan, (1e-5, 1e-4), 100.0, 1e-4),
    ],
)
def test_scout_goes_beyond_the_collapse_of_a_gaussian_at_a_usual_learning_rate(
    peak: float, lrs: tuple[float, float], beta: float, lr: float
) -> None:
    config = scouting(trial_config(trial=7), peak=peak, lrs=lrs)
    assert (config.beta, config.lr) == pytest.approx((beta, lr))
    assert (config.trial, config.schedule) == (0, {"constant": {}})


def test_curve_is_read_back_for_the_same_data_and_settings_only(tmp_path: Path) -> None:
    spec, one = study(tmp_path), scouted(*LIVELY)
    assert recall(spec, CONFIG, "digest") is None
    keep(spec, one, {"theta": torch.zeros(2)})
    assert repr(recall(spec, CONFIG, "digest")) == repr(one)
    assert recall(spec, CONFIG, "other data") is None
    assert recall(spec, trial_config(lr=0.5, likelihood={"laplace": {}}), "digest") is None
