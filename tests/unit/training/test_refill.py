"""A place that became free in a pack is taken by another trial, and nobody else notices."""

from collections.abc import Mapping

import pytest

from tests.factories import member
from tests.unit.training.states import same
from tests.unit.training.test_pack_equals_singles import check_equal, different_members
from tune_vae.data import Splits
from tune_vae.science.history import EpochReport
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.training.trainer import Member, Trainer

COMMON = {"epochs": 4, "sigma": Optimal()}
LEAVES, AFTER = 1, 2


def newcomer(**changes: object) -> Member:
    return member(9, **(COMMON | {"seed": 99, "lr": 4e-3, "beta": 0.3} | changes))


def trained(
    data: Splits,
    admitted: Member | None,
    state: Mapping[str, object] | None = None,
) -> tuple[dict[int, list[EpochReport]], Trainer]:
    """Four members, of which one leaves after two epochs."""
    run = Trainer(different_members(**COMMON), data)
    told: dict[int, list[EpochReport]] = {}
    for epoch, reports in enumerate(run, 1):
        for report in reports:
            told.setdefault(report.trial, []).append(report)
        if epoch == AFTER:
            run.retire(LEAVES)
            assert run.vacancies == 1
            if admitted:
                run.admit(admitted, state)
                assert run.vacancies == 0
                assert run.living == [0, admitted.trial, 2, 3]
    return told, run


def scores(reports: list[EpochReport]) -> list[object]:
    return [(r.epoch, r.train_rate_nats, r.train_distortion_nats, r.bits_per_dim) for r in reports]


def test_newcomer_trains_as_it_would_alone(few_digits: Splits) -> None:
    told, run = trained(few_digits, newcomer())
    alone = [report for (report,) in Trainer([newcomer()], few_digits)]
    check_equal(told[9], alone, 1e-4)
    assert [report.epoch for report in told[LEAVES]] == [1, 2]
    assert run.appraise(9, run.state(9)).known()


def test_others_are_bit_for_bit_the_same_whoever_takes_the_place(few_digits: Splits) -> None:
    one, _ = trained(few_digits, newcomer())
    two, _ = trained(few_digits, newcomer(seed=5, lr=1e-4, beta=50.0, epochs=3))
    for trial in (0, 2, 3):
        assert scores(one[trial]) == scores(two[trial])
    # Also beside one that is lost.
    three, _ = trained(few_digits, newcomer(lr=1e12))
    assert not three[9][-1].finite
    for trial in (0, 2, 3):
        assert scores(one[trial]) == scores(three[trial])


def test_others_are_the_same_as_without_a_newcomer(few_digits: Splits) -> None:
    one, _ = trained(few_digits, newcomer())
    without, _ = trained(few_digits, None)
    for trial in (0, 2, 3):
        check_equal(one[trial], without[trial], 1e-4)


def test_newcomer_goes_on_after_its_last_epoch(few_digits: Splits) -> None:
    run = iter(alone := Trainer([newcomer()], few_digits))
    next(run)
    state = alone.state(9)
    rest = [report for (report,) in run]
    told, _ = trained(few_digits, newcomer(), state)
    check_equal(told[9][:2], rest[:2], 1e-4)
    assert [report.epoch for report in told[9]] == [2, 3, 4]


def test_member_of_another_graph_is_no_newcomer(few_digits: Splits) -> None:
    with pytest.raises(ValueError, match="one pack key"):
        trained(few_digits, newcomer(latent_dim=3))


def test_pack_of_which_all_left_goes_on_with_those_that_came(few_digits: Splits) -> None:
    run = Trainer([member(k, seed=k, **COMMON | {"epochs": 1}) for k in range(2)], few_digits)
    told = []
    for reports in run:
        told += [(report.trial, report.epoch) for report in reports]
        if len(told) == 2:
            run.admit(newcomer(epochs=2))
            before = run.state(9)
    assert told == [(0, 1), (1, 1), (9, 1), (9, 2)]
    assert not same(before["theta"], run.state(9)["theta"])
