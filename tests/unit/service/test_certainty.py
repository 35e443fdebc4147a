"""What is said of the best trials, after repeats that leave no doubt about it."""

from dataclasses import replace

import pytest

from tests.unit.snapshots import repeat, row
from tune_vae.science.health import Kind
from tune_vae.service.certainty import certainty
from tune_vae.service.results import StudyResults
from tune_vae.service.rows import TrialRow

ONE_SEED = "One seed was run of each trial: differences between the best may be chance."
FIRST, SECOND, THIRD = (row(n, Kind.HEALTHY, 3.0 + n / 10) for n in range(3))
PAIR = ("rate_nats", "mse")


def repeats(of: TrialRow, *values: float | tuple[float, float]) -> list[TrialRow]:
    pairs = (one if isinstance(one, tuple) else (one,) for one in values)
    return [repeat(of, count, *pair) for count, pair in enumerate(pairs, start=1)]


def study(*again: TrialRow, trials: tuple[TrialRow, ...] = (FIRST, SECOND, THIRD)) -> StudyResults:
    return StudyResults("tiny", ("bits_per_dim",), 3, trials, repeats=again)


def told(*again: TrialRow) -> str:
    return certainty(study(*again))


def test_one_seed_may_be_chance() -> None:
    assert told() == ONE_SEED
    assert certainty(study(trials=(row(0, Kind.COLLAPSED),))) == ""


def test_winner_is_better_than_each_other_by_more_than_the_error() -> None:
    # Two values 0.02 apart have a standard error of 0.01; t of two degrees of freedom is 4.303.
    found = study(
        *repeats(FIRST, 4.0, 4.02), *repeats(SECOND, 3.0, 3.02), *repeats(THIRD, 3.5, 3.52)
    )
    assert found.proven
    assert found.winner == SECOND
    assert certainty(found) == (
        "Trial 1 is better than trial 2: difference 0.5 ± 0.061, than trial 0: difference 1 ± "
        "0.061 (means over other seeds, 95% Welch intervals)."
    )


def test_lead_within_the_error_of_one_rival_proves_nothing() -> None:
    found = study(
        *repeats(FIRST, 4.0, 4.02), *repeats(SECOND, 3.0, 3.02), *repeats(THIRD, 3.0, 3.1)
    )
    assert not found.proven
    assert found.winner == SECOND
    assert certainty(found).startswith("Trial 1 cannot be told apart from trial 2: difference")
    assert "trial 0" not in certainty(found)


def test_rival_that_is_worse_but_uncertain_counts_as_well() -> None:
    """The third in order may be less certain than the second."""
    found = study(
        *repeats(FIRST, 3.0, 3.02), *repeats(SECOND, 3.5, 3.52), *repeats(THIRD, 2.0, 9.0)
    )
    assert not found.proven
    assert certainty(found).startswith("Trial 0 cannot be told apart from trial 2: difference")


def test_one_other_seed_gives_no_error() -> None:
    found = study(*repeats(FIRST, 4.0), *repeats(SECOND, 3.0))
    assert (found.proven, found.winner) == (False, SECOND)
    assert certainty(found) == ("One other seed of each gives no error: run three seeds or more.")


def test_single_finalist_has_nothing_to_be_better_than() -> None:
    found = study(*repeats(FIRST, 4.0, 4.02))
    assert (found.proven, found.winner) == (False, FIRST)
    assert certainty(found) == "Trial 0 is the only finalist."


def test_finalist_that_loses_a_seed_cannot_win_however_good_the_others_are() -> None:
    collapsed = repeat(FIRST, 3, kind=Kind.COLLAPSED)
    found = study(*repeats(FIRST, 1.0, 1.02), collapsed, *repeats(SECOND, 3.0, 3.02))
    assert (found.proven, found.winner) == (False, SECOND)
    assert certainty(found) == (
        "Trial 1 alone has a value for every seed. Seeds were lost: trial 0: 1 of 4 seeds "
        "collapsed."
    )
    nobody = study(collapsed, repeat(SECOND, 1, kind=Kind.DIVERGED))
    assert (nobody.proven, nobody.winner) == (False, FIRST)
    assert certainty(nobody).startswith("No finalist has a value for every seed. Seeds were lost")


def test_nothing_is_concluded_before_all_repeats_have_ended() -> None:
    whole = [*repeats(FIRST, 4.0, 4.02), *repeats(SECOND, 3.0, 3.02)]
    runs = replace(whole[-1], state="running", finished=False, values=(), kind="")
    found = study(*whole[:-1], runs)
    assert (found.proven, found.winner) == (False, FIRST)
    assert certainty(found) == "3 of 4 repeats of the finalists have ended: too early to tell."


def test_trial_found_since_is_not_beaten_by_what_was_repeated_before() -> None:
    found = study(*repeats(SECOND, 3.0, 3.02), *repeats(THIRD, 4.0, 4.02))
    assert (found.proven, found.winner) == (False, FIRST)
    assert certainty(found).startswith("Trial 0 was found since the others were repeated")


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (((1.0, 9.0), (1.02, 9.02)), "All finalists differ in rate_nats or mse by more than"),
        (((1.0, 5.0), (1.5, 5.5)), "Neither in rate_nats nor mse can be told apart: trials 0 and"),
    ],
)
def test_finalists_of_a_front_are_compared_in_both_objectives(
    other: tuple[tuple[float, float], ...], sentence: str
) -> None:
    ends = row(0, Kind.HEALTHY, 1.0, 5.0), row(1, Kind.HEALTHY, 5.0, 1.0)
    again = [*repeats(ends[0], (1.0, 5.0), (1.02, 5.02)), *repeats(ends[1], *other)]
    found = StudyResults("tiny", PAIR, 2, ends, repeats=again)
    assert (found.winner, found.proven) == (None, False)
    assert certainty(found).startswith(sentence)
