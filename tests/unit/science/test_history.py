"""What is remembered of a trial, and which epoch was its best."""

import json
import math
from dataclasses import asdict, replace

import pytest

from tests.factories import history, report
from tune_vae.science.history import OBJECTIVES, EpochReport, Rollback


def test_report_survives_json() -> None:
    before = report(3, rate_nats=0.1 + 0.2, sigma=0.5)
    after = EpochReport.from_dict(json.loads(json.dumps(before.to_dict())))
    assert after == before
    assert isinstance(after.rate_per_latent_nats, tuple)


def test_report_of_a_later_version_is_read_without_its_new_numbers() -> None:
    assert EpochReport.from_dict(report().to_dict() | {"probe_accuracy": 0.9}) == report()


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ({}, False),
        ({"finite": False}, True),
        ({"neg_elbo": math.nan}, True),
        ({"neg_elbo": -math.inf}, True),
        ({"bits_per_dim": math.nan, "sigma": math.nan}, False),
    ],
    ids=str,
)
def test_epoch_is_lost_by_a_loss_and_by_no_other_number(
    change: dict[str, float], lost: bool
) -> None:
    assert report(**change).lost is lost


def test_rollback_tells_where_it_was_lost_and_how_it_went_on() -> None:
    back = Rollback(step=153, epoch=7, resumed=6, lr_before=0.1, lr_after=0.05)
    assert str(replace(back, resumed=0)).endswith("lr 0.1 → 0.05, began again")
    assert str(replace(back, step=None)).startswith("lost in epoch 7, lr")
    assert Rollback(**json.loads(json.dumps(asdict(back)))) == back


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_is_a_number_of_the_report(objective: str) -> None:
    assert report(**{objective: 0.125}).value(objective) == 0.125


def test_epochs_are_kept_in_order() -> None:
    reports = [report(1), report(2), report(3)]
    kept = history(reports)
    assert list(kept) == reports
    assert len(kept) == 3
    assert kept.last is reports[2]


@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_epoch_out_of_order_is_refused(epoch: int) -> None:
    with pytest.raises(ValueError, match=f"expected epoch 3, got {epoch}"):
        history([report(1), report(2)]).add(report(epoch))


def test_history_until_an_epoch_is_what_it_was_then() -> None:
    whole = history(report(n) for n in range(1, 6))
    then = whole.until(3)
    assert then == history(report(n) for n in range(1, 4))
    then.add(report(4, rate_nats=99.0))
    assert [one.rate_nats for one in whole] == [8.0] * 5


def test_history_is_finished_with_its_last_epoch() -> None:
    assert not history([report(1)], epochs=2).finished
    assert history([report(1), report(2)], epochs=2).finished


def test_best_is_the_lowest_objective_and_the_first_among_equals() -> None:
    values = [3.0, 2.0, 2.5, 2.0]
    reports = [report(i + 1, bits_per_dim=value) for i, value in enumerate(values)]
    assert history(reports).best is reports[1]
    assert history(reports, objective="mse").best is reports[0]


def test_best_is_chosen_by_the_study_objective() -> None:
    reports = [report(1, mse=0.5, rate_nats=1.0), report(2, mse=0.1, rate_nats=9.0)]
    assert history(reports, objective="mse").best is reports[1]
    assert history(reports, objective="rate_nats").best is reports[0]


def test_epoch_under_warm_up_is_never_the_best() -> None:
    early = report(1, bits_per_dim=1.0, kl_weight=0.5)
    # Full weight at its end does not make an epoch comparable that began without.
    cyclical = report(2, bits_per_dim=1.0, kl_weight=1.0, kl_weight_low=0.0)
    late = report(3, bits_per_dim=2.0)
    assert history([early]).best is None
    assert history([early, cyclical, late]).best is late


def test_of_several_objectives_the_latest_comparable_epoch_counts() -> None:
    reports = [
        report(1, rate_nats=0.1, mse=9.0),
        report(2, rate_nats=3.0, mse=1.0),
        report(3, kl_weight=0.5),
        report(4, neg_elbo=math.nan),
    ]
    assert history(reports, objective=None).best is reports[1]
    assert history([report(1, kl_weight=0.5)], objective=None).best is None


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
def test_epoch_without_a_finite_objective_is_never_the_best(lost: float) -> None:
    good = report(2, bits_per_dim=3.0)
    assert history([report(1, bits_per_dim=lost), good]).best is good
