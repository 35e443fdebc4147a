"""A worker that stands still: its trial goes on without it, and waking it changes nothing."""

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from tests.fault.test_kill import place_for
from tests.searching import Workplace, killed_at_a_failure, wait_until
from tests.stores import MLFLOW_WARNINGS
from tune_vae.service.ledger.open_study import GRACE_SECONDS
from tune_vae.service.rows import TrialRow

pytestmark = [
    MLFLOW_WARNINGS,
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc to find processes"),
]

EPOCHS = 30


def row_of(place: Workplace, trial: int) -> TrialRow:
    return next(row for row in place.rows() if row.trial == trial)


def files_of(place: Workplace, trial: int) -> set[str]:
    folder = place.folder / "mlruns" / "checkpoints" / "small" / f"{trial:05d}"
    return {file.name for file in folder.iterdir()}


@pytest.mark.parametrize("wakes", [True, False])
def test_trial_of_a_worker_that_freezes_goes_on_without_it(
    tmp_path: Path, empty_mlflow: Path, wakes: bool
) -> None:
    place = place_for(
        tmp_path,
        empty_mlflow,
        train={"epochs": EPOCHS},
        budget={"trials": 4, "concurrency": 2, "cpus_per_trial": 0.5},
    )
    process = place.search()
    with killed_at_a_failure(process):
        wait_until(
            lambda: any(3 <= epoch < EPOCHS - 10 for epoch in place.epochs().values()),
            what="a trial under way",
            process=process,
        )
        trial, worker = freeze_one(place)
        row, files = row_of(place, trial), files_of(place, trial)
        wait_until(
            lambda: row_of(place, trial).attempts == 2,
            what="its trial is let go of",
            seconds=GRACE_SECONDS + 60,
            process=process,
        )
        if wakes:
            # Before it is ended, and when the other has gone on, if there was time for that.
            with contextlib.suppress(AssertionError):
                wait_until(
                    lambda: row_of(place, trial).epoch > row.epoch, what="goes on", seconds=45
                )
            os.kill(worker, signal.SIGCONT)
            # Time for several epochs.
            time.sleep(15)
            # Attempt and epoch are in the names.
            mine = {name for name in files_of(place, trial) if f"-{trial}-" in name}
            assert mine <= files
    ended = place.wait(process)
    assert ended.code == 0, ended.output
    assert "Traceback" not in ended.output
    rows = place.rows()
    assert len(rows) == 4
    assert all(row.finished and row.epoch == EPOCHS for row in rows)
    assert {row.trial: row.attempts for row in rows} == {n: 1 + (n == trial) for n in range(4)}
    place.assert_shown_exactly_once()
    place.assert_nothing_is_left_running()


def freeze_one(place: Workplace) -> tuple[int, int]:
    """Stop a worker for good; returns the trial that it had and its process."""
    worker = next(pid for pid, title in place.processes().items() if "Trainable" in title)
    os.kill(worker, signal.SIGSTOP)
    time.sleep(2)
    before = place.epochs()
    time.sleep(5)
    after = place.epochs()
    still = [n for n, epoch in before.items() if 0 < epoch == after[n] < EPOCHS]
    assert len(still) == 1, (before, after)
    return still[0], worker
