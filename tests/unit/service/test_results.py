"""What is concluded from the rows of a study."""

import math
from dataclasses import replace

import pytest

from tests.trials import trial_config
from tune_vae.science.health import Kind
from tune_vae.service.results import StudyResults
from tune_vae.service.rows import TrialRow


def row(trial: int, *values: float, kind: str = "healthy", state: str = "ended") -> TrialRow:
    """A row of a study; finished if it has values."""
    return TrialRow(
        config=trial_config(trial, lr=1e-3 * (trial + 1)),
        state=state,
        finished=bool(values),
        kind=kind if state == "ended" else "",
        reason="",
        values=values,
        best=None,
        last=None,
        epoch=4,
    )


def study(*rows: TrialRow, objective: tuple[str, ...] = ("bits_per_dim",)) -> StudyResults:
    return StudyResults("study", objective, planned=10, rows=rows)


def numbers(rows: list[TrialRow]) -> list[int]:
    return [row.trial for row in rows]


def test_winner_is_the_finished_trial_of_the_lowest_value() -> None:
    found = study(row(0, 3.0), row(1, 2.5), row(2, 2.7))
    assert found.winner is not None
    assert found.winner.trial == 1


def test_trials_that_did_not_finish_never_win() -> None:
    found = study(row(0, kind="hopeless"), row(1, 3.0), row(2, state="running"))
    assert found.winner is not None
    assert found.winner.trial == 1
    assert numbers(found.front) == [1]


@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf])
def test_value_that_is_not_finite_never_wins(value: float) -> None:
    assert numbers(study(row(0, value), row(1, 3.0)).front) == [1]


def test_study_without_a_finished_trial_has_no_winner() -> None:
    found = study(row(0, kind="collapsed"), row(1, state="waiting"))
    assert found.winner is None
    assert found.front == []
    assert found.best(3) == []


def test_of_trials_that_tie_the_first_wins_and_all_are_shown() -> None:
    found = study(row(0, 2.6), row(1, 2.5), row(2, 2.5))
    assert found.winner is not None
    assert found.winner.trial == 1
    assert numbers(found.front) == [1, 2]


def test_front_holds_the_trials_that_no_other_beats_in_both_objectives() -> None:
    pair = ("rate_nats", "mse")
    rows = [row(0, 1.0, 9.0), row(1, 5.0, 5.0), row(2, 9.0, 1.0), row(3, 5.0, 6.0), row(4, 9.0, 9)]
    found = study(*rows, objective=pair)
    assert numbers(found.front) == [0, 1, 2]
    assert found.winner is None


def test_front_keeps_trials_that_are_equal_in_both_objectives() -> None:
    found = study(row(0, 2.0, 3.0), row(1, 2.0, 3.0), objective=("rate_nats", "mse"))
    assert numbers(found.front) == [0, 1]


def test_no_trial_of_the_front_is_dominated_and_all_others_are() -> None:
    # A coarse lattice has many ties in one coordinate.
    rows = [row(n, (7 * n) % 5, (11 * n * n) % 7) for n in range(30)]
    front = study(*rows, objective=("rate_nats", "mse")).front

    def beats(one: TrialRow, other: TrialRow) -> bool:
        pairs = list(zip(one.values, other.values, strict=True))
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    assert not any(beats(one, other) for one in front for other in front)
    left_out = [row for row in rows if row not in front]
    assert left_out
    assert all(any(beats(one, other) for one in front) for other in left_out)


def test_counts_are_of_ended_trials_by_verdict_in_the_order_of_the_kinds() -> None:
    found = study(
        row(0, kind="diverged"),
        row(1, 2.0),
        row(2, kind="diverged"),
        row(3, kind="failed"),
        row(4, state="running"),
        row(5, state="waiting"),
    )
    assert found.counts == {Kind.HEALTHY: 1, Kind.DIVERGED: 2, Kind.FAILED: 1}
    assert list(found.counts) == [Kind.HEALTHY, Kind.DIVERGED, Kind.FAILED]
    assert numbers(found.ended) == [0, 1, 2, 3]


def test_best_trials_are_sorted_by_the_first_objective_and_cut() -> None:
    found = study(row(0, 3.0), row(1, 1.0), row(2, kind="collapsed"), row(3, 2.0))
    assert numbers(found.best(2)) == [1, 3]
    assert numbers(found.best(9)) == [1, 3, 0]


PAIR = ("rate_nats", "mse")


def tradeoff(*values: tuple[float, float]) -> StudyResults:
    return study(*(row(n, *pair) for n, pair in enumerate(values)), objective=PAIR)


def test_knee_is_the_trial_where_the_front_bends() -> None:
    found = tradeoff((10, 0.0), (1, 0.2), (0, 1.0), (9, 0.9))
    assert found.knee is not None
    assert found.knee.trial == 1
    assert study(row(0, 1.0), row(1, 2.0), row(2, 3.0)).knee is None


def test_each_budget_of_rate_is_given_the_best_trial_that_keeps_it() -> None:
    found = tradeoff((0.5, 9), (3, 7), (3.5, 6), (40, 1), (41, 5))
    assert [(budget, one.trial) for budget, one in found.rate_picks] == [(0.5, 0), (5, 2), (50, 3)]
    turned = study(
        *(row(n, mse, rate) for n, (mse, rate) in enumerate([(9, 0.5), (1, 40)])),
        objective=PAIR[::-1],
    )
    assert [(budget, one.trial) for budget, one in turned.rate_picks] == [(0.5, 0), (50, 1)]
    assert study(row(0, 1.0, 2.0), objective=("bits_per_dim", "mse")).rate_picks == []


def test_course_of_two_objectives_is_the_share_of_the_box_that_is_dominated() -> None:
    # The box is [0, 4]²: corners add nothing, (2, 2) dominates 4 of 16, (1, 3) two more of them.
    found = tradeoff((0, 4), (4, 0), (2, 2), (3, 3), (1, 3))
    assert (found.ideal, found.reference) == ((0, 0), (4, 4))
    assert found.course == [0, 0, 4 / 16, 4 / 16, 5 / 16]


def test_course_of_one_objective_is_its_way_from_the_worst_to_the_best() -> None:
    found = study(row(0, kind="collapsed"), row(1, 6.0), row(2, 5.0), row(3, 2.0), row(4, 3.0))
    assert found.course == [None, 0.0, 0.25, 1.0, 1.0]
    assert study(row(0, 3.0)).course == [1.0]
    assert tradeoff((1, 1)).course == [1.0]


def test_trials_are_counted_in_the_order_in_which_they_ended() -> None:
    late, early = (replace(row(n, 3.0 - n), ended_at=at) for n, at in ((0, 20.0), (1, 10.0)))
    assert study(late, early).idle == 1
    assert study(replace(late, ended_at=5.0), early).idle == 0


@pytest.mark.parametrize(
    ("values", "idle"),
    [
        ([3.0], 0),
        ([3.0, 4.0, 5.0], 2),
        ([5.0, 4.0, 3.0], 0),
        # 0.01 is less than 0.2 % of the way from 9 to 2.99, 0.02 is more.
        ([9.0, 3.0, 2.995, 2.99], 2),
        ([9.0, 3.0, 2.98], 0),
        # Small steps add up.
        ([9.0, 3.0, 2.995, 2.99, 2.985], 0),
        ([], 0),
    ],
)
def test_only_notable_improvements_end_the_idle_time(values: list[float], idle: int) -> None:
    assert study(*(row(n, value) for n, value in enumerate(values))).idle == idle


def test_all_but_broken_trials_count_as_idle() -> None:
    kinds = ["collapsed", "diverged", "hopeless", "failed"]
    ended = [row(n, kind=kind) for n, kind in enumerate(kinds)]
    assert study(*ended).idle == 3
    assert study(*ended, row(9, state="running")).idle == 3


def test_study_stalls_only_when_it_has_patience_and_that_is_over() -> None:
    found = study(row(0, 3.0), row(1, 4.0), row(2, kind="hopeless"))
    assert not found.stalled
    assert [replace(found, patience=n).stalled for n in (1, 2, 3)] == [True, True, False]


def test_idle_time_of_two_objectives_ends_with_a_larger_front() -> None:
    grown = [(0, 4), (4, 0), (3, 3), (3.5, 3.5), (1, 1)]
    assert tradeoff(*grown[:4]).idle == 1
    assert tradeoff(*grown).idle == 0


def test_repeats_wanted_are_those_of_the_best_and_pending_those_that_have_not_ended() -> None:
    found = replace(
        study(row(0, 3.0), row(1, 1.0), row(2, 2.0), row(3, kind="collapsed")), seeds=3, top=2
    )
    assert [config.label for config in found.wanted] == ["1/2", "1/3", "2/2", "2/3"]
    assert found.pending == found.wanted
    ended = [replace(row(0, 1.5), config=config) for config in found.wanted[:2]]
    waits = replace(row(0, state="waiting"), config=found.wanted[2])
    assert replace(found, repeats=[*ended, waits]).pending == found.wanted[2:]
    assert replace(found, seeds=1).wanted == []
    assert study(row(0, kind="collapsed")).wanted == []


def test_finalists_are_those_with_repeats_and_stand_by_their_means() -> None:
    found = study(row(0, 1.0), row(1, 2.0), row(2, 3.0), row(3, 4.0))
    means = {3: 5.0, 0: 7.0, 2: 6.0}
    again = [
        replace(row(0, mean), config=found.rows[trial].config.repeated(1))
        for trial, mean in means.items()
    ]
    assert [one.row.trial for one in replace(found, repeats=again).finalists] == [3, 2, 0]
    assert found.finalists == []
