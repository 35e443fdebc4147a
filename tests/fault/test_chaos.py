"""What the chaos run counts, and a small one of it."""

import pytest

from tests.fault.chaos.__main__ import Plan, run
from tests.fault.chaos.counts import Counts, lives, repeated
from tests.fault.chaos.diary import Entry
from tests.stores import MLFLOW_WARNINGS

FLAWLESS = Counts(
    trials=8, ended=8, lost=0, duplicated=0, failed=0, logged_twice=0, missing=0, interrupted=3,
    repeated=1, repeated_in_all=2,
)  # fmt: skip


def life(name: str, first: int, last: int, trial: str = "a") -> list[Entry]:
    return [Entry(trial, name, step) for step in range(first, last + 1)]


@pytest.mark.parametrize(
    ("second", "epochs"),
    [
        # The first came to the 3rd of the 10 steps of epoch 3; of which its checkpoint knows.
        (31, 0),
        (21, 1),
        (11, 2),
        (1, 3),
    ],
)
def test_epochs_are_repeated_that_were_begun_before(second: int, epochs: int) -> None:
    entries = life("x", 1, 23) + life("y", second, 60)
    assert list(repeated(entries, steps=10)) == [epochs]


def test_epoch_that_was_done_is_not_repeated_by_who_begins_the_next() -> None:
    entries = life("x", 1, 20) + life("y", 21, 25) + life("z", 21, 40)
    assert list(repeated(entries, steps=10)) == [0, 1]


def test_trials_do_not_repeat_each_other() -> None:
    entries = life("x", 1, 20) + life("x", 1, 20, trial="b")
    assert list(repeated(entries, steps=10)) == []
    assert lives(entries) == {"a": [(1, 20)], "b": [(1, 20)]}


@pytest.mark.parametrize(
    "flaw", ["lost", "duplicated", "failed", "logged_twice", "missing", "repeated"]
)
def test_any_flaw_is_one(flaw: str) -> None:
    assert FLAWLESS.flawless
    assert not Counts(**vars(FLAWLESS) | {flaw: 2}).flawless
    assert not Counts(**vars(FLAWLESS) | {"ended": 7}).flawless


def test_same_seed_plans_the_same() -> None:
    import random

    plan = Plan(seed=3)
    events = plan.events(random.Random(3))
    assert events == plan.events(random.Random(3)) != plan.events(random.Random(4))
    kinds = [kind for _, kind in events]
    assert len(kinds) == 40
    assert (kinds.count("restart"), kinds.count("outage")) == (5, 5)


@pytest.mark.slow
@MLFLOW_WARNINGS
def test_small_study_survives_a_little_chaos() -> None:
    counts, happened = run(Plan(seed=5, trials=8, kills=5, restarts=1, outages=1))
    assert counts.flawless, counts
    assert happened.total() == 7
