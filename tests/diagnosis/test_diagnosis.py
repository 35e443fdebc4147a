"""The right cause comes first, on real trainings that were spoilt on purpose.

`make_curves` trains them; README.md has the score on trainings that nobody looked at before.
"""

import pytest

from tests.diagnosis.curves import CAUSES, Row, curve_of, load
from tune_vae.science.curve import Reduction
from tune_vae.science.diagnosis import Cause, diagnose

TRAININGS = load()


def test_every_way_is_there_with_three_seeds() -> None:
    assert {(rows[0].way, rows[0].seed) for rows in TRAININGS} == {
        (way, seed) for way in CAUSES for seed in range(3)
    }
    assert set(CAUSES.values()) == set(Cause)


@pytest.mark.parametrize("rows", TRAININGS, ids=lambda rows: f"{rows[0].way} {rows[0].seed}")
def test_right_cause_comes_first(rows: list[Row]) -> None:
    assert diagnose(curve_of(rows)).first.cause is CAUSES[rows[0].way]


def test_log_alone_tells_most_causes_and_calls_hardly_any_spoilt_training_healthy() -> None:
    """Without N and M, a likelihood cannot be told by its distortion, and nothing else is lost."""
    told = {
        (rows[0].way, rows[0].seed): diagnose(curve_of(rows, sized=False)).first.cause
        for rows in TRAININGS
    }
    needs_size = {"improper", "scale_fixed"}
    wrong = {key for key, cause in told.items() if cause is not CAUSES[key[0]]}
    assert {way for way, _ in wrong} <= needs_size
    healthy = {way for (way, _), cause in told.items() if cause is Cause.HEALTHY}
    assert healthy == {"healthy", "healthy_binary", "improper"}


@pytest.mark.parametrize("rows", TRAININGS, ids=lambda rows: f"{rows[0].way} {rows[0].seed}")
def test_weight_and_reduction_are_inferred(rows: list[Row]) -> None:
    """Of the trainings that the trainer weighted by a constant; collapsed rates say too little."""
    told = diagnose(curve_of(rows, sized=False))
    if all(row.loss == row.loss for row in rows):
        mean = rows[0].way == "mean"
        assert told.reduction is (Reduction.MIXED if mean else Reduction.SUM)
    if rows[0].way in ("healthy", "healthy_binary", "underfitting", "overfitting", "improper"):
        assert told.weight is not None
        assert told.weight.constant
        assert told.weight.last == pytest.approx(1.0, rel=0.02)
    if rows[0].way == "warm_up":
        assert told.weight is not None
        assert told.weight.rising
