"""The time that a study has left, against a search that is played to its end."""

import heapq
from dataclasses import replace

import pytest

from tests.unit.snapshots import config, results, row
from tune_vae.service.outlook import seconds_left
from tune_vae.service.results import StudyResults

PACE, EPOCHS, START = 3.0, 20, 1e9


def played(trials: int, workers: int, until: float) -> tuple[StudyResults, float]:
    """A search in which every epoch takes as long, as it stands; and when it ends."""
    free, rows = [0.0] * workers, []
    for trial in range(trials):
        began = heapq.heappop(free)
        end = began + PACE * EPOCHS
        heapq.heappush(free, end)
        if end <= until:
            rows.append(replace(row(trial), started=START + began, ended_at=START + end))
        elif began <= until:
            epoch = int((until - began) / PACE)
            rows.append(replace(row(trial), state="running", started=START + began, epoch=epoch))
    return results(*rows, planned=trials), max(free)


@pytest.mark.parametrize(
    ("trials", "workers", "until"),
    [(8, 1, 15.0), (8, 1, 303.0), (8, 2, 99.0), (9, 3, 120.0), (4, 4, 30.0), (5, 5, 57.0)],
)
def test_it_is_that_of_a_search_whose_epochs_are_alike(
    trials: int, workers: int, until: float
) -> None:
    found, end = played(trials, workers, until)
    assert seconds_left(found, START + until) == pytest.approx(end - until)


def test_trials_to_come_get_as_far_as_those_that_ended() -> None:
    stopped = [
        replace(row(trial), epoch=5, started=START, ended_at=START + 10.0) for trial in (0, 1)
    ]
    now = replace(row(2), state="running", epoch=2, started=START)
    found = results(*stopped, now, planned=6)
    # 24 seconds for 12 epochs; three are left of this trial, and five of each of three others.
    assert seconds_left(found, START + 4.0) == pytest.approx(2.0 * (3 + 3 * 5))
    far = results(*stopped, replace(now, epoch=6), planned=3)
    # One that is farther already runs to its end: 14 of 20 epochs, of 32 seconds for 16.
    assert seconds_left(far, START + 12.0) == pytest.approx(2.0 * 14)


def test_repeats_run_all_their_epochs() -> None:
    timed = replace(row(0), started=START, ended_at=START + 40.0)
    winner = replace(timed, finished=True, values=(3.0,))
    again = replace(timed, config=config(0).repeated(1), state="running", epoch=5, ended_at=None)
    found = results(winner, planned=1, repeats=[again], seeds=3, top=1)
    # 50 seconds for 25 epochs; 15 are left of this repeat, and 20 of the one after it.
    assert seconds_left(found, START + 10.0) == pytest.approx(2.0 * 35)


@pytest.mark.parametrize("change", [{"attempts": 2}, {"epoch": 0}, {"started": None}])
def test_it_is_unknown_while_nothing_is_timed(change: dict[str, int | None]) -> None:
    one = replace(row(0), state="running", started=START, epoch=3)
    assert seconds_left(results(one), START + 9.0) is not None
    assert seconds_left(results(replace(one, **change)), START + 9.0) is None  # type: ignore[arg-type]
    assert seconds_left(results(replace(one, state="waiting")), START + 9.0) is None
    assert seconds_left(results(replace(one, state="ended")), START + 9.0) is None
