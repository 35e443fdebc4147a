"""When the owner of a search gives out no more trials, on real Optuna and MLflow."""

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.factories import report
from tests.stores import MLFLOW_WARNINGS
from tests.trials import DIGEST, LEVELS, SHAPE, study
from tests.unit.training.test_checkpoint import checkpoint
from tune_vae import api
from tune_vae.api.searching import prepared
from tune_vae.errors import StorageError
from tune_vae.science.health import Kind, Verdict
from tune_vae.service.desk import DataFacts, Desk
from tune_vae.service.journey import Fault, TrialResult
from tune_vae.service.ledger.looking import read_rows
from tune_vae.service.owner import _process_start, owner
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig
from tune_vae.training.checkpoint import CheckpointStore, load

pytestmark = MLFLOW_WARNINGS

HEALTHY = Verdict(Kind.HEALTHY, "as it should be")


@pytest.fixture
def place(folder: Path, empty_mlflow: Path) -> Path:
    shutil.copy(empty_mlflow, folder / "mlflow.db")
    return folder


@contextmanager
def desk_of(spec: StudySpec) -> Iterator[Desk]:
    desk = Desk(spec, DataFacts(SHAPE, LEVELS, DIGEST))
    yield desk
    assert desk.close()


def test_search_of_these_digits_trains_nothing_that_their_spectrum_says_is_dead(
    place: Path,
) -> None:
    spec = study(
        place,
        search={
            "beta_norm": {"choice": [0.01, 0.1, 1000.0]},
            "likelihood": {"choice": ["gaussian", "bernoulli"]},
            "sigma": {"choice": ["optimal", {"fixed": {"sigma": 0.2}}]},
        },
        sampler="RandomSampler",
        objective="bits_per_dim_calibrated",
        budget={"trials": 8},
    )
    spec, facts = prepared(spec)
    desk = Desk(spec, facts)
    given = [config for _ in range(9) for config in desk.ask() or []]
    assert len(given) == 8
    assert {config.beta_norm for config in given} == {0.01, 0.1}
    assert desk.has_work()
    passed_over = desk.snapshot(0).results.foretold
    assert passed_over > 0
    assert desk.close()
    assert api.results(spec).foretold == passed_over
    client = MlflowClient(spec.storage.tracking)
    experiment = client.get_experiment_by_name(spec.name)
    assert experiment is not None
    pages = client.search_runs([experiment.experiment_id], "tags.`tune_vae.kind` = 'trial'")
    assert len(pages) == 8


def search(desk: Desk, *values: float) -> int:
    """Run trials that reach these values one after the other; returns how many were given out."""
    for count, value in enumerate(values):
        pack = desk.ask()
        if pack is None:
            return count
        (config,) = pack
        last = report(config.epochs, trial=config.trial, bits_per_dim=value)
        desk.report(last, HEALTHY)
        desk.commit(TrialResult(config.trial, HEALTHY, True, (value,), last, last))
    return len(values)


def test_study_ends_when_improvements_no_longer_come_and_goes_on_with_more_patience(
    place: Path,
) -> None:
    spec = study(place, known_good=True, budget={"trials": 30, "patience": 3})
    with desk_of(spec) as desk:
        assert search(desk, 9.0, 4.0, 5.0, 6.0, 3.0, 3.5, 2.9999, 3.1, 3.2, 3.3) == 8
        assert not desk.has_work()
        assert desk.snapshot(0).results.stalled
    with desk_of(spec) as again:
        assert not again.has_work()
        assert again.ask() is None
    more = study(place, known_good=True, budget={"trials": 30, "patience": 4})
    with desk_of(more) as later:
        assert later.has_work()
        assert search(later, 3.3, 3.4) == 1

    client = MlflowClient(spec.storage.tracking)
    experiment = client.get_experiment_by_name(spec.name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`tune_vae.kind` = 'trial'")
    tagged = {
        run.data.tags["tune_vae.trial"]: run.data.tags.get("tune_vae.known_good") for run in runs
    }
    assert tagged.pop("0") == "optimal sigma at beta 1"
    assert tagged == {str(n): None for n in range(1, 9)}


def test_files_of_a_search_that_ended_are_whole_without_their_logs(folder: Path) -> None:
    # Both stores are made here, as by a user's first search.
    spec = study(folder, budget={"trials": 3})
    with desk_of(spec) as desk:
        assert search(desk, 4.0, 3.0, 2.0) == 3
    # The desk's connections are still open, as when Ray ends its process.
    (folder / "copied").mkdir()
    for name in ("studies.db", "mlflow.db"):
        assert (folder / f"{name}-wal").exists(), "there was no log to be settled"
        shutil.copy(folder / name, folder / "copied")
    there = study(folder / "copied", budget={"trials": 3})
    assert [row.state for row in api.results(there).rows] == ["ended"] * 3
    client = MlflowClient(there.storage.tracking)
    experiment = client.get_experiment_by_name(spec.name)
    assert experiment is not None
    pages = client.search_runs([experiment.experiment_id], "tags.`tune_vae.kind` = 'trial'")
    assert len(pages) == 3


def test_best_checkpoint_of_a_trial_that_ended_gets_its_plain_name(place: Path) -> None:
    spec = study(place, budget={"trials": 2})
    with desk_of(spec) as desk:
        for _ in range(2):
            (config,) = desk.ask() or []
            save_and_report(desk, spec, config)
            store = CheckpointStore(spec.storage.checkpoints, spec.name)
            assert store.unpublished() == {config.trial}
            last = report(config.epochs, trial=config.trial, bits_per_dim=2.0)
            desk.commit(TrialResult(config.trial, HEALTHY, True, (2.0,), last, last))
            assert store.unpublished() == set()
            best = load(store.path(config.trial, "best.pt"))
            assert best["epoch"] == config.epochs


def test_trial_that_another_machine_took_over_is_not_published_by_the_one_that_lost_it(
    place: Path,
) -> None:
    spec = study(place, budget={"trials": 1})
    with desk_of(spec) as sleeper:
        (config,) = sleeper.ask() or []
        save_and_report(sleeper, spec, config)
        # Taken over while it slept; its last word comes too late.
        sleeper._ledger.release()
        last = report(config.epochs, trial=config.trial, bits_per_dim=2.0)
        sleeper.commit(TrialResult(config.trial, HEALTHY, True, (2.0,), last, last))
        assert CheckpointStore(spec.storage.checkpoints, spec.name).unpublished() == {0}


def test_kill_between_the_end_of_a_trial_and_its_plain_name_is_made_good(place: Path) -> None:
    spec = study(place, budget={"trials": 2})
    with desk_of(spec) as desk:
        (config,) = desk.ask() or []
        save_and_report(desk, spec, config)
        last = report(config.epochs, trial=config.trial, bits_per_dim=2.0)
        desk._ledger.commit(TrialResult(config.trial, HEALTHY, True, (2.0,), last, last))
        (other,) = desk.ask() or []
        save_and_report(desk, spec, other)
        store = CheckpointStore(spec.storage.checkpoints, spec.name)
        assert store.unpublished() == {0, 1}
    with desk_of(spec):
        # The other one goes on.
        assert store.unpublished() == {1}
        assert load(store.path(0, "best.pt"))["epoch"] == config.epochs


def test_place_for_checkpoints_that_cannot_be_used_is_told_before_anything_is_written(
    place: Path,
) -> None:
    (place / "checkpoints").write_text("a file where the folder should be")
    spec = study(place)
    with pytest.raises(StorageError, match=r"cannot use .*/checkpoints"):
        Desk(spec, DataFacts(SHAPE, LEVELS, DIGEST))
    assert read_rows(spec) is None


def save_and_report(desk: Desk, spec: StudySpec, config: TrialConfig) -> None:
    """What a worker does in the last epoch, which is the best."""
    attempts = desk.attempts([config.trial])
    store = CheckpointStore(spec.storage.checkpoints, spec.name, attempts)
    state = checkpoint(config.epochs) | {"reports": []}
    store.save_last(config.trial, state)
    store.save_best(config.trial, state)
    desk.report(report(config.epochs, trial=config.trial, bits_per_dim=2.0), HEALTHY)


@contextmanager
def standing_still() -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A process of this machine that is stopped, and its name as an owner."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    process.send_signal(signal.SIGSTOP)
    host, _, _ = owner().split(" ", 2)
    try:
        yield f"{host} {process.pid} {_process_start(process.pid)}", process
    finally:
        process.kill()
        process.wait()


def test_worker_that_is_silent_for_a_lease_loses_its_trial_and_then_its_life(place: Path) -> None:
    spec = study(place, budget={"trials": 1})
    with desk_of(spec) as desk, standing_still() as (worker, process):
        (config,) = desk.ask() or []
        attempts = desk.attempts([config.trial], worker, "cpu")
        last = report(1, trial=config.trial)
        assert not desk.report(last, HEALTHY, attempts[config.trial]).stop
        desk._let_go_of_silent()
        assert desk.holds(config.trial, attempts[config.trial])

        desk._grace_seconds = 0.5
        time.sleep(0.3)
        desk.alive(worker, [config.trial])
        time.sleep(0.3)
        desk._let_go_of_silent()
        assert desk.holds(config.trial, attempts[config.trial])
        time.sleep(0.6)
        desk._let_go_of_silent()
        assert not desk.holds(config.trial, attempts[config.trial])
        assert [(row.state, row.epoch) for row in read_rows(spec) or []] == [("waiting", 1)]
        assert process.poll() is None

        # Whoever takes it up is not disturbed by what the first one does when it wakes.
        (again,) = desk.ask() or []
        assert again == config
        newer = desk.attempts([again.trial], owner(), "cpu")
        assert newer[again.trial] > attempts[config.trial]
        result = TrialResult(config.trial, HEALTHY, True, (1.0,), last, last)
        desk.alive(worker, [config.trial])
        assert desk.report(report(2, trial=0), HEALTHY, attempts[config.trial]).stop
        desk.commit(result, attempts[config.trial])
        desk.fail(attempts, Fault.PROCESS, "its worker died")
        assert [(row.state, row.epoch) for row in read_rows(spec) or []] == [("running", 1)]
        assert desk.holds(again.trial, newer[again.trial])
        finish_of(desk, again, newer)
        assert [row.state for row in read_rows(spec) or []] == ["ended"]


def finish_of(desk: Desk, config: TrialConfig, attempts: dict[int, int]) -> None:
    last = report(config.epochs, trial=config.trial, bits_per_dim=2.0)
    assert not desk.report(last, HEALTHY, attempts[config.trial]).stop
    result = TrialResult(config.trial, HEALTHY, True, (2.0,), last, last)
    desk.commit(result, attempts[config.trial])


def test_worker_that_stays_silent_is_ended(place: Path) -> None:
    with desk_of(study(place)) as desk, standing_still() as (worker, process):
        (config,) = desk.ask() or []
        desk.attempts([config.trial], worker, "cpu")
        desk._grace_seconds = 0.3
        for _ in range(2):
            time.sleep(0.5)
            desk._let_go_of_silent()
        assert process.wait(10) == -signal.SIGKILL


def test_who_slept_itself_takes_no_trial_from_anybody(place: Path) -> None:
    with desk_of(study(place)) as desk:
        (config,) = desk.ask() or []
        attempts = desk.attempts([config.trial], owner(), "cpu")
        desk._grace_seconds, desk._beat_seconds = 0.2, 0.1
        time.sleep(0.5)
        desk._let_go_of_silent()
        assert desk.holds(config.trial, attempts[config.trial])


def test_worker_is_given_pack_after_pack_and_trials_for_free_places(place: Path) -> None:
    spec = study(place, train={"pack": 3}, budget={"trials": 7}, sampler="RandomSampler")
    with desk_of(spec) as desk:
        pack, attempts = desk.give("one") or ([], {})
        assert sorted(attempts) == [config.trial for config in pack] == [0, 1, 2]
        more, theirs = desk.refill("one", beside=0, places=2)
        assert sorted(theirs) == [config.trial for config in more] == [3, 4]
        assert {config.member().pack_key() for config in [*pack, *more]} == {
            pack[0].member().pack_key()
        }
        # No more than the budget says, and none beside a trial that nobody trains here.
        assert desk.refill("one", beside=99, places=1) == ([], {})
        last, _ = desk.refill("one", beside=3, places=5)
        assert [config.trial for config in last] == [5, 6]
        assert desk.refill("one", beside=3, places=1) == ([], {})
        assert desk.give("two") is None


def test_trials_of_a_worker_that_died_are_taken_up_again_with_those_of_its_free_places(
    place: Path,
) -> None:
    spec = study(place, train={"pack": 2}, budget={"trials": 6})
    with desk_of(spec) as desk:
        assert desk.give("one")
        assert desk.refill("one", beside=0, places=1)[1]
        assert desk.give("two")
        assert desk.bury("one")
        # Those that wait come before others, in packs of their own.
        assert desk.refill("two", beside=3, places=1) == ([], {})
        again = [config.trial for _ in range(3) for config in desk.give("two")[0]]
        assert sorted(again) == [0, 1, 2]
        assert desk.give("two")


def test_trial_that_runs_alone_is_not_followed_by_others_one_by_one(place: Path) -> None:
    spec = study(
        place,
        search={
            "beta_norm": {"log_uniform": [1e-3, 10.0]},
            "likelihood": "gaussian",
            "sigma": "optimal",
        },
        known_good=True,
        train={"pack": 3},
        budget={"trials": 7},
    )
    with desk_of(spec) as desk:
        (first,), _ = desk.give("one") or ([], {})
        assert first.known_good
        assert desk.refill("one", beside=first.trial, places=1) == ([], {})
        pack, _ = desk.give("one") or ([], {})
        assert len(pack) == 3
        assert desk.refill("one", beside=pack[0].trial, places=1)[0]


def test_trials_that_are_given_to_a_worker_while_it_dies_are_not_lost(place: Path) -> None:
    spec = study(place, train={"pack": 2}, budget={"trials": 2})
    with desk_of(spec) as desk:
        assert not desk.bury("one")
        assert desk.give("one") == ([], {})
        again = [config.trial for _ in range(2) for config in desk.give("two")[0]]
        assert sorted(again) == [0, 1]


def test_search_is_not_refilled_when_it_stops(place: Path) -> None:
    spec = study(place, train={"pack": 2}, budget={"trials": 6})
    with desk_of(spec) as desk:
        assert desk.give("one")
        desk.stop()
        assert desk.refill("one", beside=0, places=1) == ([], {})
        assert desk.give("two") is None


def wait_until_drawn(desk: Desk) -> None:
    for thread in threading.enumerate():
        if thread.name == "ahead":
            thread.join(30)


def test_short_trials_of_two_workers_are_drawn_ahead_and_each_is_given_once(place: Path) -> None:
    spec = study(place, budget={"trials": 9}, sampler="RandomSampler")
    given: list[int] = []
    ready = 0
    with desk_of(spec) as desk:
        for _ in range(5):
            for worker in ("one", "two"):
                taken = desk.take(worker, owner(), "cpu")
                ready += taken is not None
                found = taken or desk.give(worker, owner(), "cpu")
                wait_until_drawn(desk)
                for config in found[0] if found else []:
                    assert found
                    given.append(config.trial)
                    attempt = found[1][config.trial]
                    assert desk.holds(config.trial, attempt)
                    row = next(row for row in read_rows(spec) or [] if row.trial == config.trial)
                    assert row.place.endswith(", cpu")
                    last = report(config.epochs, trial=config.trial)
                    result = TrialResult(config.trial, HEALTHY, True, (3.0,), last, last)
                    assert not desk.report(last, HEALTHY, attempt).stop
                    desk.commit(result, attempt)
        assert given == list(range(9))
        assert ready >= 5
        assert not desk.has_work()


def test_trial_that_was_drawn_ahead_is_left_to_the_next_search(place: Path) -> None:
    spec = study(place, budget={"trials": 9}, sampler="RandomSampler")
    with desk_of(spec) as desk:
        for worker in ("one", "two", "one"):
            desk.take(worker)
            assert desk.give(worker)
            wait_until_drawn(desk)
        desk.stop()
        assert desk.take("two") is None
        assert desk.give("two") is None
    with desk_of(spec) as later:
        again = [config.trial for _ in range(4) for config in later.ask() or []]
        assert sorted(again) == [0, 1, 2, 3]
