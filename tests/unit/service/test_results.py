"""What is concluded from the rows of a study."""

import math

import pytest

from tests.trials import trial_config
from tune_vae.science.health import Kind
from tune_vae.service.results import StudyResults, TrialRow


def row(trial: int, *values: float, kind: str = "healthy", state: str = "ended") -> TrialRow:
    """A row of a study; finished if it has values."""
    return TrialRow(
        config=trial_config(trial),
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
