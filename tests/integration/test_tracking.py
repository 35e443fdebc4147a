"""The tracker on a real MLflow store."""

import base64
import itertools
import json
import math
import re
import socket
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, ENDPOINT_NOT_FOUND

from tests.factories import report
from tests.stores import MLFLOW_WARNINGS
from tests.trials import DIGEST, EPOCHS, study, trial_config
from tests.unit.service.fakes import Diary, FakeLedger, FakeTracker
from tune_vae import load_vae, validate
from tune_vae.data import Splits
from tune_vae.errors import StorageError
from tune_vae.science.health import Kind, Limits, Verdict
from tune_vae.science.history import EpochReport, Rollback
from tune_vae.service.journey import TrialResult, run_pack
from tune_vae.service.tracking import (
    EPOCHS_IN_A_REQUEST,
    MlflowTracker,
    attach_report,
    experiment_link,
)
from tune_vae.service.tracking.client import client_of
from tune_vae.service.views import saved_views
from tune_vae.spec.study import Storage, StudySpec
from tune_vae.spec.trial import TrialConfig
from tune_vae.training.checkpoint import CheckpointStore

pytestmark = MLFLOW_WARNINGS

HEALTHY = Verdict(Kind.HEALTHY, "as it should be")
SHARED = "mlflow.sharedViewState."
_numbers = itertools.count()


@dataclass(frozen=True)
class Place:
    """A study of its own in the store that all tests of this file share."""

    spec: StudySpec
    store: CheckpointStore
    client: MlflowClient

    def tracker(self, **options: Any) -> MlflowTracker:
        return MlflowTracker(self.spec, digest=DIGEST, store=self.store, **options)

    def config(self, trial: int = 0, **changes: object) -> TrialConfig:
        return trial_config(trial, study=self.spec.name, **changes)

    def runs(self, kind: str = "trial") -> list[Run]:
        experiment = self.client.get_experiment_by_name(self.spec.name)
        if experiment is None:
            return []
        found = self.client.search_runs(
            [experiment.experiment_id], f"tags.`tune_vae.kind` = '{kind}'"
        )
        return sorted(found, key=lambda run: int(run.data.tags.get("tune_vae.trial", "0")))

    def run(self) -> Run:
        (run,) = self.runs()
        return run

    def steps(self, key: str = "val/bits_per_dim") -> list[int]:
        history = self.client.get_metric_history(self.run().info.run_id, key)
        return [metric.step for metric in history]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Path:
    folder = tmp_path_factory.mktemp("mlflow")
    (folder / "mlflow.db").write_bytes(empty_mlflow.read_bytes())
    return folder


@pytest.fixture
def place(shared: Path) -> Place:
    spec = study(shared, study=f"study-{next(_numbers)}")
    store = CheckpointStore(shared / "checkpoints", spec.name)
    return Place(spec, store, MlflowClient(spec.storage.tracking))


def reports(trial: int = 0, epochs: int = EPOCHS, begun: int = 0) -> list[EpochReport]:
    return [
        report(epoch, trial=trial, bits_per_dim=3.0 + 1 / epoch, sigma=0.2)
        for epoch in range(begun + 1, epochs + 1)
    ]


def result(trial: int = 0, verdict: Verdict = HEALTHY, epochs: int = EPOCHS) -> TrialResult:
    *_, last = reports(trial, epochs)
    return TrialResult(
        trial=trial,
        verdict=verdict,
        finished=verdict is HEALTHY,
        values=(last.bits_per_dim,),
        best=last if verdict is HEALTHY else None,
        last=last,
    )


def show(tracker: MlflowTracker, config: TrialConfig, epochs: int = EPOCHS) -> None:
    tracker.open(config)
    for one in reports(config.trial, epochs):
        tracker.log(one, HEALTHY)


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def test_trial_is_shown_with_its_parameters_its_curve_and_its_end(place: Place) -> None:
    tracker = place.tracker()
    show(tracker, place.config())
    tracker.conclude(result())
    assert tracker.close()
    run = place.run()
    assert run.info.status == "FINISHED"
    assert run.data.params["beta_norm"] == "0.01"
    assert run.data.params["likelihood"] == "gaussian"
    assert run.data.params["sigma"] == "optimal"
    assert run.data.params["schedule"] == "constant"
    assert run.data.params["network"] == "mlp(hidden=[16])"
    assert place.steps() == [1, 2, 3, 4]
    assert run.data.metrics["val/bits_per_dim"] == 3.25
    assert run.data.metrics["score/bits_per_dim"] == 3.25
    assert run.data.metrics["score/epoch"] == EPOCHS
    assert run.data.tags["why"] == "healthy"
    assert run.data.tags["verdict"] == "as it should be"
    assert run.data.tags["tune_vae.data_digest"] == DIGEST
    assert f"--trial {run.data.tags['tune_vae.trial']}" in run.data.tags["mlflow.note.content"]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (Kind.HEALTHY, "FINISHED"),
        (Kind.PARTIALLY_COLLAPSED, "FINISHED"),
        (Kind.COLLAPSED, "KILLED"),
        (Kind.EXPLODING, "FAILED"),
        (Kind.HOPELESS, "KILLED"),
        (Kind.DIVERGED, "FAILED"),
    ],
)
def test_status_of_a_run_tells_how_its_trial_ended(place: Place, kind: Kind, status: str) -> None:
    tracker = place.tracker()
    show(tracker, place.config(), epochs=2)
    tracker.conclude(result(verdict=Verdict(kind, "for a reason"), epochs=2))
    assert tracker.close()
    run = place.run()
    assert run.info.status == status
    assert run.data.tags["why"] == kind.value
    assert run.data.tags["verdict"] == "for a reason"
    assert "for a reason" in run.data.tags["mlflow.note.content"]


def test_broken_trial_is_shown_as_failed_with_its_reason(place: Place) -> None:
    tracker = place.tracker()
    show(tracker, place.config(), epochs=1)
    tracker.fail(place.config(), "ValueError: no such layer (nets.py:12)")
    assert tracker.close()
    assert place.run().info.status == "FAILED"
    assert place.run().data.tags["why"] == "failed"
    assert place.run().data.tags["verdict"] == "ValueError: no such layer (nets.py:12)"
    assert place.steps() == [1]


def test_epochs_that_are_told_twice_are_shown_once(place: Place) -> None:
    tracker = place.tracker()
    show(tracker, place.config())
    show(tracker, place.config())
    assert tracker.close()
    assert len(place.runs()) == 1
    assert place.steps() == [1, 2, 3, 4]


def test_epochs_that_come_out_of_order_are_all_shown(place: Place) -> None:
    tracker = place.tracker()
    tracker.open(place.config())
    for one in reversed(reports()):
        tracker.log(one, HEALTHY)
    assert tracker.close()
    assert sorted(place.steps()) == [1, 2, 3, 4]


def test_next_search_goes_on_with_the_run_and_repeats_nothing(place: Place) -> None:
    first = place.tracker()
    show(first, place.config(), epochs=2)
    assert first.close()
    assert place.run().info.status == "RUNNING"
    second = place.tracker()
    show(second, place.config())
    second.conclude(result())
    assert second.close()
    assert place.steps() == [1, 2, 3, 4]
    assert place.run().info.status == "FINISHED"
    assert len(place.runs("study")) == 1


def test_end_that_is_told_again_after_a_kill_is_shown_once(place: Place) -> None:
    for _ in range(2):
        tracker = place.tracker()
        show(tracker, place.config())
        tracker.conclude(result())
        assert tracker.close()
    assert place.run().info.status == "FINISHED"
    assert place.steps() == [1, 2, 3, 4]
    assert place.steps("score/bits_per_dim") == [0]


def test_run_that_another_machine_began_meanwhile_is_found(place: Place) -> None:
    here, there = place.tracker(), place.tracker()
    show(there, place.config(1))
    assert there.close()
    show(here, place.config(1))
    here.conclude(result(1))
    assert here.close()
    assert place.steps() == [1, 2, 3, 4]


def test_run_that_a_dying_server_began_without_an_answer_is_not_begun_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, lost = MlflowClient.create_run, []

    def begin_and_die(*args: Any, **options: Any) -> Run:
        run = begin(*args, **options)
        if "tune_vae.trial" in options["tags"] and not lost:
            lost.append(run)
            raise ConnectionError("connection reset by peer")
        return run

    monkeypatch.setattr(MlflowClient, "create_run", begin_and_die)
    tracker = place.tracker()
    show(tracker, place.config())
    tracker.conclude(result())
    assert tracker.close()
    assert lost
    assert place.run().info.run_id == lost[0].info.run_id
    assert place.run().data.params["likelihood"] == "gaussian"
    assert place.steps() == [1, 2, 3, 4]


def test_run_is_not_begun_by_a_machine_that_fell_asleep_after_it_looked_for_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, looked, awake, lost = MlflowClient.search_runs, threading.Event(), threading.Event(), []

    def look_and_sleep(*args: Any, **options: Any) -> Any:
        found = look(*args, **options)
        if threading.current_thread() is sleeper._spool._thread and "'1'" in str((args, options)):
            looked.set()
            awake.wait(60)
        return found

    monkeypatch.setattr(MlflowClient, "search_runs", look_and_sleep)
    sleeper = place.tracker(is_lost=lost.__contains__)
    show(sleeper, place.config(1), epochs=2)
    assert looked.wait(30)
    other = place.tracker()
    show(other, place.config(1))
    other.conclude(result(1))
    assert other.close()
    lost.append(1)
    awake.set()
    show(sleeper, place.config(2))
    assert sleeper.close()
    assert [run.info.status for run in place.runs()] == ["FINISHED", "RUNNING"]


def test_of_two_runs_that_machines_began_at_once_the_same_one_is_left(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when both begin to search and find that nothing was shown of a trial that ended."""
    look, both = MlflowClient.search_runs, threading.Barrier(2, timeout=60)

    def look_together(*args: Any, **options: Any) -> Any:
        found = look(*args, **options)
        if threading.current_thread().name == "mlflow" and "'0'" in str((args, options)):
            both.wait()
        return found

    trackers = [place.tracker(), place.tracker()]
    ended = (replace(result(), last=replace(reports()[-1], ended_at=1e9)), reports())
    with monkeypatch.context() as at_once:
        at_once.setattr(MlflowClient, "search_runs", look_together)
        for tracker in trackers:
            tracker.mend(place.config(), lambda: ended)
        wait_for(lambda: [run.info.status for run in place.runs()] == ["FINISHED"] * 2)
    for tracker in trackers:
        tracker.note("at the end")
        assert tracker.close()
    assert place.run().info.status == "FINISHED"
    assert sorted(place.steps()) == [1, 2, 3, 4]
    experiment = place.run().info.experiment_id
    models = place.client.search_logged_models([experiment])
    assert {model.source_run_id for model in models} <= {place.run().info.run_id}


def test_of_two_runs_of_a_trial_the_next_search_goes_on_with_the_fuller_one(place: Place) -> None:
    first = place.tracker()
    show(first, place.config())
    first.conclude(result())
    assert first.close()
    whole = place.run()
    tags = {key: tag for key, tag in whole.data.tags.items() if key.startswith("tune_vae.")}
    orphan = place.client.create_run(whole.info.experiment_id, tags=tags)
    assert place.tracker().close()
    assert place.run().info.run_id == whole.info.run_id
    assert place.client.get_run(orphan.info.run_id).info.lifecycle_stage == "deleted"


def test_queued_epochs_of_a_trial_that_went_on_elsewhere_are_left_to_others(
    place: Place,
) -> None:
    lost: list[int] = []
    here, there = place.tracker(is_lost=lost.__contains__), place.tracker()
    show(here, place.config(), epochs=1)
    wait_for(lambda: place.runs() and place.steps())
    lost.append(0)
    here.log(reports()[1], HEALTHY)
    here.log(reports()[2], HEALTHY)
    here.conclude(result(verdict=Verdict(Kind.COLLAPSED, "said by one who slept"), epochs=3))
    # Which trained these epochs once more, at another time.
    there.open(place.config())
    for one in reports(begun=1):
        there.log(replace(one, ended_at=1e9 + one.epoch), HEALTHY)
    there.conclude(result())
    assert there.close()
    assert here.close()
    assert sorted(place.steps()) == [1, 2, 3, 4]
    assert place.run().info.status == "FINISHED"
    assert place.run().data.tags["why"] == "healthy"


def test_epoch_that_two_processes_send_at_once_is_shown_once(place: Place) -> None:
    """As when a process dies whose request is still under way, and another takes up the trial."""
    dead, heir = place.tracker(), place.tracker()
    told = [replace(one, ended_at=1e9 + one.epoch) for one in reports()]
    dead.open(place.config())
    wait_for(place.runs)
    # Neither knows what the other will send.
    heir.open(place.config())
    for tracker in (heir, dead):
        wait_for(lambda tracker=tracker: tracker._spool._jobs.empty())
        for one in told[:3] if tracker is dead else told:
            tracker.log(one, HEALTHY)
    for tracker in (dead, heir):
        tracker.conclude(replace(result(), last=told[-1]))
        assert tracker.close()
    assert place.steps() == place.steps("sched/kl_weight") == [1, 2, 3, 4]
    assert place.steps("score/bits_per_dim") == [0]


def test_run_that_was_killed_before_it_had_parameters_gets_them_later(place: Place) -> None:
    tracker = place.tracker()
    tracker.open(place.config())
    assert tracker.close()
    run = place.run().info
    bare = place.client.create_run(
        run.experiment_id,
        tags={"tune_vae.kind": "trial", "tune_vae.trial": "1"},
    )
    later = place.tracker()
    later.open(place.config(1))
    assert later.close()
    assert place.client.get_run(bare.info.run_id).data.params["likelihood"] == "gaussian"
    assert len(place.runs()) == 2


def test_long_curve_needs_several_requests_and_is_complete(place: Place) -> None:
    epochs = 2 * EPOCHS_IN_A_REQUEST + 1
    tracker = place.tracker()
    show(tracker, place.config(epochs=epochs), epochs=epochs)
    assert tracker.close()
    assert place.steps() == list(range(1, epochs + 1))
    assert place.steps("time/epoch_seconds") == list(range(1, epochs + 1))


def test_number_that_is_not_finite_is_never_sent(place: Place, shared: Path) -> None:
    tracker = place.tracker()
    tracker.open(place.config())
    tracker.log(report(1, sigma=0.2), HEALTHY)
    bad = report(
        2,
        rate_nats=math.nan,
        neg_elbo=math.inf,
        mse=-math.inf,
        bits_per_dim=math.nan,
        sigma=math.nan,
        finite=False,
    )
    diverged = Verdict(Kind.DIVERGED, "loss not finite")
    tracker.log(bad, diverged)
    tracker.conclude(TrialResult(0, diverged, False, (), None, bad))
    assert tracker.close()
    assert place.steps() == [1]
    assert place.steps("sched/kl_weight") == [1, 2]
    with closing(sqlite3.connect(shared / "mlflow.db")) as database:
        for table in ("metrics", "latest_metrics"):
            (count,) = database.execute(
                f"SELECT count(*) FROM {table} WHERE is_nan OR abs(value) > 1e300"
            ).fetchone()
            assert count == 0


def train(place: Place, config: TrialConfig, data: Splits) -> TrialResult:
    """Train a trial for real, as a worker does, and show it; returns its result."""
    ledger, tracker = FakeLedger(Diary(), {}), place.tracker()
    tracker.open(config)
    for _ in run_pack(
        [config], data=data, limits=Limits(), ledger=ledger, tracker=tracker, store=place.store
    ):
        pass
    assert tracker.close()
    (result,) = ledger.results
    return result


@pytest.fixture
def models(place: Place) -> Callable[[], dict[str, Any]]:
    """The models of the study, by name."""

    def found() -> dict[str, Any]:
        experiment = place.client.get_experiment_by_name(place.spec.name)
        assert experiment is not None
        listed = place.client.search_logged_models([experiment.experiment_id])
        assert len({model.name for model in listed}) == len(listed)
        return {model.name: model for model in listed}

    return found


def images(place: Place) -> dict[tuple[str, int], list[str]]:
    """Endings of a run's images, by name and step, as MLflow's page reads them."""
    found: dict[tuple[str, int], list[str]] = {}
    for file in place.client.list_artifacts(place.run().info.run_id, "images"):
        key, _, step, _, _, *rest = Path(file.path).name.split("+")
        found.setdefault((key, int(step)), []).append(Path("+".join(rest)).suffix)
    return {key: sorted(endings) for key, endings in found.items()}


def all_images(*epochs: int) -> dict[tuple[str, int], list[str]]:
    names = ("reconstructions", "samples", "traversals")
    return {(f"drawn~{name}", n): [".png", ".webp"] for name in names for n in epochs}


def test_trial_is_drawn_before_it_begins_ever_more_seldom_and_at_its_end(
    place: Place, few_digits: Splits, tmp_path: Path
) -> None:
    train(place, place.config(epochs=6), few_digits)
    assert images(place) == all_images(0, 1, 2, 4, 6)
    assert place.run().data.tags["mlflow.loggedImages"] == "True"
    run = place.run().info.run_id
    # What a model draws before it is trained is not what it draws after six epochs.
    drawn = [
        Path(place.client.download_artifacts(run, file.path, str(tmp_path))).read_bytes()
        for file in place.client.list_artifacts(run, "images")
        if "~reconstructions" in file.path and file.path.endswith(".png")
    ]
    assert len(set(drawn)) == 5


def test_images_have_the_names_that_mlflow_gives_those_it_shows_by_step(
    place: Place, few_digits: Splits
) -> None:
    train(place, place.config(epochs=1), few_digits)
    run = place.run().info.run_id
    ours = [Path(file.path).name for file in place.client.list_artifacts(run, "images")]
    pixels = numpy.zeros((4, 4, 1), dtype=numpy.uint8)
    place.client.log_image(run, pixels, key="drawn/theirs", step=1, synchronous=True)
    listed = [Path(file.path).name for file in place.client.list_artifacts(run, "images")]
    theirs = [name for name in listed if name not in ours]

    def form(name: str) -> str:
        words = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", name)
        return re.sub(r"~\w+|\d+", "#", words)

    assert {form(name) for name in ours} == {form(name) for name in theirs}
    assert len({form(name) for name in theirs}) == 2


@pytest.mark.parametrize("shown", ["nothing", "half an epoch", "an epoch"])
def test_images_that_a_kill_kept_from_the_page_come_later_and_once(
    place: Place, few_digits: Splits, shown: str
) -> None:
    config = place.config(epochs=4)
    killed = place.tracker()
    killed.open(config)
    ledger = FakeLedger(Diary(), {})
    journey = run_pack(
        [config], data=few_digits, limits=Limits(), ledger=ledger,
        tracker=killed if shown != "nothing" else FakeTracker(Diary()), store=place.store,
    )  # fmt: skip
    next(journey)
    next(journey)
    assert killed.close()
    if shown == "half an epoch":
        folder = place.client.list_artifacts(place.run().info.run_id, "images")
        root = place.run().info.artifact_uri.removeprefix("file://")
        for file in folder[::2]:
            (Path(root) / file.path).unlink()
    assert (shown == "nothing") == (not images(place))
    result = train(place, config, few_digits)
    assert result.finished
    assert images(place) == all_images(0, 1, 2, 4)
    # Told again after its end, as when the ledger did not hear of it.
    again = place.tracker()
    again.open(config)
    again.conclude(result)
    assert again.close()
    assert images(place) == all_images(0, 1, 2, 4)


def test_best_and_last_checkpoint_are_models_with_their_scores_on_the_data(
    place: Place, few_digits: Splits, models: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    # The learning rate is far too high to end well.
    config = place.config(epochs=6, lr=0.1)
    result = train(place, config, few_digits)
    assert result.best is not None
    assert result.best.epoch < result.last.epoch, "choose a higher learning rate"
    points = place.client.get_metric_history(place.run().info.run_id, "val/mse")
    assert [point.step for point in points] == [1, 2, 3, 4, 5, 6]
    found = models()
    assert set(found) == {"000-best", "000-last"}
    for name, told in (("best", result.best), ("last", result.last)):
        model = found[f"000-{name}"]
        assert model.status == "READY"
        assert model.source_run_id == place.run().info.run_id
        assert model.params["likelihood"] == "gaussian"
        assert model.params["epoch"] == str(told.epoch)
        scores = {metric.key: metric for metric in model.metrics}
        assert scores["val/mse"].value == pytest.approx(told.mse, rel=1e-5)
        assert scores["val/mse"].step == told.epoch
        assert {score.dataset_digest for score in scores.values()} == {DIGEST}
        assert {score.dataset_name for score in scores.values()} == {"digits"}
        assert ("score/mse" in scores) == (name == "best")
        local = download_artifacts(
            artifact_uri=f"{model.artifact_location}/{name}.pt", dst_path=str(tmp_path / name)
        )
        assert load_vae(local).generate(3).shape == (3, 1, 8, 8)
        assert validate(local, few_digits)["mse"] == pytest.approx(told.mse, rel=1e-4)


def test_checkpoint_that_is_the_best_and_the_last_is_one_model(
    place: Place, few_digits: Splits, models: Callable[[], dict[str, Any]]
) -> None:
    result = train(place, place.config(epochs=1), few_digits)
    assert set(models()) == {"000-best"}
    for _ in range(2):
        again = place.tracker()
        again.open(place.config(epochs=1))
        again.conclude(result)
        assert again.close()
    assert set(models()) == {"000-best"}
    assert place.steps("score/mse") == [0]
    assert place.steps("val/mse") == [1]


def test_model_that_a_kill_left_half_made_is_completed(
    place: Place, few_digits: Splits, models: Callable[[], dict[str, Any]]
) -> None:
    opened = place.tracker()
    opened.open(place.config(epochs=1))
    assert opened.close()
    run = place.run().info
    place.client.create_logged_model(run.experiment_id, "000-best", run.run_id)
    train(place, place.config(epochs=1), few_digits)
    assert models()["000-best"].status == "READY"
    assert {metric.key for metric in models()["000-best"].metrics} >= {"val/mse", "score/mse"}


def test_request_that_was_done_and_not_answered_is_not_done_twice(
    place: Place,
    few_digits: Splits,
    models: Callable[[], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As of a server that is killed just before it says so, once in each kind of request."""
    kinds = [
        "create_logged_model",
        "create_run",
        "finalize_logged_model",
        "log_artifacts",
        "log_batch",
        "log_inputs",
        "log_model_artifacts",
        "log_outputs",
        "set_tag",
        "set_terminated",
    ]
    unanswered = []

    def once(kind: str) -> Callable[..., Any]:
        request = getattr(MlflowClient, kind)

        def done_in_silence(*args: Any, **options: Any) -> Any:
            answer = request(*args, **options)
            if kind not in unanswered:
                unanswered.append(kind)
                raise ConnectionError("the server went away")
            return answer

        return done_in_silence

    for kind in kinds:
        monkeypatch.setattr(MlflowClient, kind, once(kind))
    train(place, place.config(epochs=6, lr=0.1), few_digits)
    assert sorted(unanswered) == kinds
    assert place.run().info.status == "FINISHED"
    assert place.steps() == [1, 2, 3, 4, 5, 6]
    assert {name: model.status for name, model in models().items()} == {
        "000-best": "READY",
        "000-last": "READY",
    }
    outputs = place.run().outputs.model_outputs
    assert sorted(one.model_id for one in outputs) == sorted(
        model.model_id for model in models().values()
    )


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(ENDPOINT_NOT_FOUND, id="by a server of an earlier version, which knows none"),
        pytest.param(BAD_REQUEST, id="by its database, however often it is asked"),
    ],
)
def test_run_of_a_trial_whose_models_are_refused_ends_all_the_same(
    place: Place, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise MlflowException("no such endpoint", error_code=code)

    monkeypatch.setattr("tune_vae.service.tracking.spool.TRIES", 2)
    monkeypatch.setattr(MlflowClient, "search_logged_models", refuse)
    tracker = place.tracker()
    show(tracker, place.config())
    # Taken up again: what models it has is looked for.
    tracker.open(place.config())
    tracker.conclude(result())
    assert not tracker.close()
    assert "no such endpoint" in tracker.trouble
    assert place.run().info.status == "FINISHED"


def test_run_names_the_data_with_their_digest(place: Place) -> None:
    tracker = place.tracker()
    show(tracker, place.config())
    assert tracker.close()
    (dataset,) = place.run().inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("digits", DIGEST)


@pytest.mark.parametrize("shown", [0, 2, EPOCHS])
def test_mend_completes_a_run_that_a_kill_left_open(place: Place, shown: int) -> None:
    if shown:
        killed = place.tracker()
        show(killed, place.config(), epochs=shown)
        assert killed.close()
    tracker = place.tracker()
    tracker.mend(place.config(), lambda: (result(), reports()))
    assert tracker.close()
    assert place.run().info.status == "FINISHED"
    assert place.steps() == [1, 2, 3, 4]
    assert place.run().data.tags["why"] == "healthy"


BACK = Rollback(step=153, epoch=7, resumed=6, lr_before=0.1, lr_after=0.05)
TOLD = f"Rolled back: {BACK}"


def test_rollback_is_shown_at_once_and_at_the_end(place: Place) -> None:
    tracker = place.tracker()
    show(tracker, place.config(), epochs=2)
    tracker.roll_back(0, [BACK])
    wait_for(lambda: place.runs() and "rollbacks" in place.run().data.tags)
    wait_for(lambda: TOLD in place.run().data.tags["mlflow.note.content"])
    tracker.conclude(replace(result(), rollbacks=(BACK, BACK)))
    assert tracker.close()
    tags = place.run().data.tags
    assert tags["rollbacks"] == "2"
    assert tags["mlflow.note.content"].startswith("**healthy**: as it should be\n\n")
    assert tags["mlflow.note.content"].count(TOLD) == 2
    assert "--trial 0" in tags["mlflow.note.content"]


def test_trial_without_a_rollback_has_no_word_of_one(place: Place) -> None:
    tracker = place.tracker()
    show(tracker, place.config())
    tracker.conclude(result())
    assert tracker.close()
    assert "rollbacks" not in place.run().data.tags
    assert "Rolled back" not in place.run().data.tags["mlflow.note.content"]


def test_mend_shows_a_rollback_that_a_kill_kept_from_the_page(place: Place) -> None:
    tracker = place.tracker()
    tracker.mend(place.config(), lambda: (replace(result(), rollbacks=(BACK,)), reports()))
    assert tracker.close()
    assert place.run().data.tags["rollbacks"] == "1"
    assert TOLD in place.run().data.tags["mlflow.note.content"]


COURSE = (
    Verdict(Kind.WARMING_UP, "KL weight 0.3 of 1"),
    Verdict(Kind.WARMING_UP, "KL weight 0.9 of 1"),
    HEALTHY,
    Verdict(Kind.OVERFITTING, "worse than in epoch 3"),
)


def note_of(place: Place) -> list[str]:
    return place.run().data.tags["mlflow.note.content"].splitlines()


def tell(tracker: MlflowTracker, config: TrialConfig, epochs: int = EPOCHS) -> None:
    tracker.open(config)
    for one, verdict in zip(reports(config.trial, epochs), COURSE, strict=False):
        tracker.log(one, verdict)


def test_page_of_a_trial_has_its_verdict_and_how_it_came_to_be(place: Place) -> None:
    tracker = place.tracker()
    tell(tracker, place.config())
    tracker.conclude(result(verdict=COURSE[-1]))
    assert tracker.close()
    assert note_of(place) == [
        "**overfitting**: worse than in epoch 3",
        "",
        "| epochs | verdict | |",
        "|---|---|---|",
        "| 1–2 | warming up | KL weight 0.9 of 1 |",
        "| 3 | healthy | as it should be |",
        "| 4 | overfitting | worse than in epoch 3 |",
        "",
        f"Train it again: `tune-vae train {place.spec.file} --trial 0`",
    ]


def test_page_of_a_running_trial_says_how_it_is_doing(place: Place) -> None:
    tracker = place.tracker()
    tell(tracker, place.config(), epochs=2)
    assert tracker.close()
    head, *rest = note_of(place)
    assert head == "**warming up**: KL weight 0.9 of 1"
    assert "| 1–2 | warming up | KL weight 0.9 of 1 |" in rest


def test_course_of_verdicts_is_whole_again_after_a_resume(place: Place) -> None:
    first = place.tracker()
    tell(first, place.config(), epochs=2)
    assert first.close()
    second = place.tracker()
    # A worker that goes on tells all epochs of its checkpoint again.
    tell(second, place.config())
    second.conclude(result(verdict=COURSE[-1]))
    assert second.close()
    assert note_of(place)[4:7] == [
        "| 1–2 | warming up | KL weight 0.9 of 1 |",
        "| 3 | healthy | as it should be |",
        "| 4 | overfitting | worse than in epoch 3 |",
    ]


def test_pruners_verdict_is_the_last_of_the_course(place: Place) -> None:
    hopeless = Verdict(Kind.HOPELESS, "worse than the median")
    tracker = place.tracker()
    tell(tracker, place.config(), epochs=3)
    tracker.conclude(result(verdict=hopeless, epochs=3))
    assert tracker.close()
    assert note_of(place)[4:6] == [
        "| 1–2 | warming up | KL weight 0.9 of 1 |",
        "| 3 | hopeless | worse than the median |",
    ]


def test_mend_judges_the_course_anew(place: Place) -> None:
    silent = [report(n, rate_nats=0.001 if n < 3 else 8.0, sigma=0.2) for n in range(1, 5)]
    tracker = place.tracker()
    tracker.mend(place.config(), lambda: (result(), silent))
    assert tracker.close()
    rows = [line.split(" | ")[:2] for line in note_of(place)[4:6]]
    assert rows == [["| 1–2", "warming up"], ["| 3–4", "healthy"]]


def test_trial_that_broke_keeps_its_course_though_another_process_tells_its_end(
    place: Place,
) -> None:
    config = place.config()
    first = place.tracker()
    tell(first, config, epochs=2)
    assert first.close()
    state = {"theta": 0, "epoch": 2, "config": config.model_dump_json()}
    state |= {"reports": [one.to_dict() for one in reports(epochs=2)]}
    place.store.save_last(0, state)
    later = place.tracker()
    later.fail(config, "interrupted 4 times | its worker died")
    assert later.close()
    head, *rest = note_of(place)
    assert head == "**failed**: interrupted 4 times | its worker died"
    assert any(line.startswith("| 1–2 | healthy | ") for line in rest)


def test_note_of_a_flickering_trial_with_a_long_error_fits_into_a_tag(place: Place) -> None:
    epochs = 40
    tracker = place.tracker()
    tracker.open(place.config(epochs=epochs))
    for one in reports(epochs=epochs):
        kind = (Kind.WARMING_UP, Kind.HEALTHY)[one.epoch % 2]
        tracker.log(one, Verdict(kind, "a long sentence " * 100))
    tracker.fail(place.config(epochs=epochs), "an error of many words " * 500)
    assert tracker.close()
    assert place.run().info.status == "FAILED"
    note = place.run().data.tags["mlflow.note.content"]
    assert len(note) < 5000
    assert "Train it again" in note


def files_of(place: Place, run: str, folder: str = "report") -> list[str]:
    return [Path(file.path).name for file in place.client.list_artifacts(run, folder)]


def test_report_is_put_into_the_run_of_the_study(place: Place, tmp_path: Path) -> None:
    page, picture = tmp_path / "index.html", tmp_path / "curves.png"
    page.write_text("<p>one</p>")
    picture.write_bytes(b"png")
    tracker = place.tracker()
    show(tracker, place.config())
    assert tracker.close()
    (before,) = place.runs("study")
    assert attach_report(place.spec, [page, picture], "- **Trial 0** is best") == ""
    (after,) = place.runs("study")
    assert after.info.run_id == before.info.run_id
    assert after.info.status == before.info.status
    assert after.data.tags["mlflow.note.content"] == "- **Trial 0** is best"
    assert files_of(place, after.info.run_id) == ["curves.png", "index.html"]
    assert len(place.runs()) == 1


def test_report_of_a_study_without_a_run_makes_one_that_is_no_trial(
    place: Place, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text("<p>one</p>")
    for _ in range(2):
        assert attach_report(place.spec, [tmp_path / "index.html"], "words") == ""
    (run,) = place.runs("study")
    assert run.info.status == "FINISHED"
    assert place.runs() == []
    assert files_of(place, run.info.run_id) == ["index.html"]


def test_report_that_mlflow_does_not_take_says_why_and_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database at all, whatever its name says " * 99)
    spec = study(tmp_path)
    trouble = attach_report(spec, [], "words")
    assert "database" in trouble
    assert "\n" not in trouble


def test_mend_leaves_a_complete_run_as_it_is(place: Place) -> None:
    tracker = place.tracker()
    show(tracker, place.config())
    tracker.conclude(result())
    assert tracker.close()
    before = place.run()
    other = place.tracker()
    read: list[int] = []
    other.mend(place.config(), lambda: read.append(0) or (result(), reports()))
    assert other.close()
    # Not even its checkpoint is fetched, which may be large and far away.
    assert read == []
    after = place.run()
    assert after.info.end_time == before.info.end_time
    assert after.data.tags == before.data.tags


def test_trial_that_broke_while_mlflow_was_away_is_shown_with_its_epochs(place: Place) -> None:
    """Its process is gone, and with it what waited to be sent; its checkpoint is not."""
    config = place.config(7)
    state = {"theta": 0, "epoch": 2, "config": config.model_dump_json()}
    state |= {"reports": [one.to_dict() for one in reports(7, epochs=2)]}
    place.store.save_last(7, state)
    for _ in range(2):
        tracker = place.tracker()
        tracker.fail(config, "interrupted 4 times")
        assert tracker.close()
        assert place.steps() == [1, 2]
        assert place.run().info.status == "FAILED"
        assert place.run().data.tags["verdict"] == "interrupted 4 times"
        assert place.run().data.params["beta_norm"] == f"{config.beta_norm:.6g}"


def test_study_has_a_run_with_its_file_and_a_note(place: Place) -> None:
    tracker = place.tracker()
    tracker.note("**Best 3.25 bits/dim** (trial 0) · 3 healthy")
    assert tracker.close()
    (run,) = place.runs("study")
    assert run.info.status == "FINISHED"
    assert [file.path for file in place.client.list_artifacts(run.info.run_id)] == ["study.yaml"]
    experiment = place.client.get_experiment_by_name(place.spec.name)
    assert experiment is not None
    first, *rest, counts = experiment.tags["mlflow.note.content"].split(" · ")
    assert first == "**Best 3.25 bits/dim** (trial 0)"
    assert counts == "3 healthy"
    names = [link.partition("]")[0] for link in rest]
    assert names == ["[Leaderboard", "[Curves", "[Why", "[Decoders", "[Report"]
    assert all(f"(#/experiments/{experiment.experiment_id}/runs" in link for link in rest)
    assert f"/{run.info.run_id}/artifacts/report/index.html" in rest[-1]


def test_charts_are_as_high_as_most_trials_need(place: Place) -> None:
    def heights() -> tuple[dict[str, float], dict[str, float], set[int]]:
        experiment = place.client.get_experiment_by_name(place.spec.name)
        assert experiment is not None
        told = json.loads(experiment.tags[f"{SHARED}tv-curves"])
        packed = base64.b64decode(told["state"].removeprefix("deflate;"))
        bits, rate, *cards = json.loads(zlib.decompress(packed))["compareRunCharts"]
        assert (bits["metricKey"], rate["metricKey"]) == ("val/bits_per_dim", "val/rate")
        steps = {card["step"] for card in cards if card["type"] == "IMAGE"}
        return bits["range"], rate["range"], steps

    tracker = place.tracker()
    for trial in range(10):
        # The last one explodes; a row's rate is its number.
        scores = {"bits_per_dim": 2.0 + trial if trial < 9 else 1e6, "rate_nats": float(trial)}
        last = report(1, trial=trial, **scores)
        tracker.open(place.config(trial))
        tracker.log(last, HEALTHY)
        tracker.conclude(replace(result(trial, epochs=1), best=last, last=last))
    wait_for(lambda: len(place.runs()) == 10)
    assert heights() == ({}, {}, {0})
    tracker.note("**Best 2 bits/dim**")
    assert tracker.close()
    bits, rate, steps = heights()
    assert bits == pytest.approx({"yMin": 2.0 - 0.4, "yMax": 10.0 + 0.4})
    assert rate["yMin"] < 0.0
    assert 8.0 <= rate["yMax"] < 9.0
    # All ran to their ends.
    assert steps == {EPOCHS}


@pytest.mark.parametrize(
    ("epochs", "whole", "step"), [(60, 0.0, 8), (60, 0.4, 8), (60, 0.5, 60), (300, 0.1, 32)]
)
def test_drawings_are_shown_of_an_epoch_that_most_trials_come_to(
    epochs: int, whole: float, step: int
) -> None:
    told = json.loads(saved_views(0, epochs=epochs, whole=whole)[f"{SHARED}tv-curves"])
    packed = base64.b64decode(told["state"].removeprefix("deflate;"))
    cards = json.loads(zlib.decompress(packed))["compareRunCharts"]
    assert {card["step"] for card in cards if card["type"] == "IMAGE"} == {step}


def test_view_that_somebody_has_changed_stays_so(place: Place) -> None:
    assert place.tracker().close()
    experiment = place.client.get_experiment_by_name(place.spec.name)
    assert experiment is not None
    key = f"{SHARED}tv-why"
    mine = json.loads(experiment.tags[key])
    mine |= {"name": "mine", "updatedAt": mine["createdAt"] + 1}
    place.client.set_experiment_tag(experiment.experiment_id, key, json.dumps(mine))
    tracker = place.tracker()
    tracker.note("**Best**")
    assert tracker.close()
    tags = place.client.get_experiment(experiment.experiment_id).tags
    assert json.loads(tags[key]) == mine
    assert json.loads(tags[f"{SHARED}tv-curves"])["name"] == "2 Curves and trade-off"


def test_link_leads_to_the_experiment_of_the_study(place: Place) -> None:
    with pytest.raises(StorageError, match="has no study"):
        experiment_link(place.spec, "http://here:5000")
    tracker = place.tracker()
    assert tracker.close()
    experiment = place.client.get_experiment_by_name(place.spec.name)
    assert experiment is not None
    link = experiment_link(place.spec, "http://here:5000")
    assert link.startswith(f"http://here:5000/#/experiments/{experiment.experiment_id}/")


def test_run_that_somebody_deleted_costs_no_other_trial_its_page(place: Place) -> None:
    tracker = place.tracker()
    show(tracker, place.config(0), epochs=1)
    wait_for(place.runs)
    place.client.delete_run(place.run().info.run_id)
    show(tracker, place.config(1))
    tracker.conclude(result(0))
    tracker.conclude(result(1))
    assert not tracker.close(silence=30)
    assert "deleted" in tracker.trouble
    assert place.run().data.tags["tune_vae.trial"] == "1"
    assert place.run().info.status == "FINISHED"
    assert place.steps() == [1, 2, 3, 4]


def test_run_that_somebody_deleted_is_begun_anew_by_the_next_attempt(place: Place) -> None:
    tracker = place.tracker()
    show(tracker, place.config(), epochs=1)
    # What is sent between would be refused.
    wait_for(lambda: place.runs() and place.steps())
    place.client.delete_run(place.run().info.run_id)
    show(tracker, place.config())
    tracker.conclude(result())
    assert tracker.close(silence=30)
    assert place.run().info.status == "FINISHED"
    assert place.steps() == [1, 2, 3, 4]


def test_store_that_cannot_be_reached_is_told_and_does_not_hold_up_the_end(
    tmp_path: Path,
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spec = study(tmp_path, storage={"tracking": f"http://127.0.0.1:{port}"})
    tracker = MlflowTracker(
        spec, digest=DIGEST, store=CheckpointStore(tmp_path / "checkpoints", spec.name)
    )
    begin = time.monotonic()
    show(tracker, trial_config())
    tracker.conclude(result())
    assert time.monotonic() - begin < 1, "the search waits for MLflow"
    wait_for(lambda: tracker.trouble)
    assert "MLflow" in tracker.trouble
    assert str(port) in tracker.trouble
    begin = time.monotonic()
    assert not tracker.close(silence=2)
    assert time.monotonic() - begin < 2 + 6
    assert "mlflow" not in [thread.name for thread in threading.enumerate()]


def test_end_of_a_search_waits_for_a_slow_store_that_answers(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = MlflowClient.log_batch

    def slowly(*args: Any, **options: Any) -> Any:
        time.sleep(0.3)
        return send(*args, **options)

    monkeypatch.setattr(MlflowClient, "log_batch", slowly)
    tracker, trials = place.tracker(), range(4)
    for trial in trials:
        show(tracker, place.config(trial))
        tracker.conclude(result(trial))
    # Each answer comes within this time, all of them do not.
    assert tracker.close(silence=2)
    assert [run.info.status for run in place.runs()] == ["FINISHED" for _ in trials]


def test_interrupted_search_leaves_to_the_next_what_a_slow_store_does_not_take(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, trials = place.tracker(), range(4)
    tracker.open(place.config())
    wait_for(place.runs)
    send = MlflowClient.log_batch

    def slowly(*args: Any, **options: Any) -> Any:
        time.sleep(0.5)
        return send(*args, **options)

    with monkeypatch.context() as slow:
        slow.setattr(MlflowClient, "log_batch", slowly)
        for trial in trials:
            show(tracker, place.config(trial))
            tracker.conclude(result(trial))
        begin = time.monotonic()
        assert not tracker.close(limit=1)
        assert time.monotonic() - begin < 1 + 6
    assert len(place.runs()) < len(trials)


def test_store_that_comes_back_gets_everything(place: Place, shared: Path) -> None:
    tracker = place.tracker()
    show(tracker, place.config(), epochs=2)
    wait_for(lambda: place.runs() and place.steps() == [1, 2])
    with closing(sqlite3.connect(shared / "mlflow.db")) as database:
        database.execute("ALTER TABLE metrics RENAME TO metrics_away")
        database.commit()
        for one in reports(begun=2):
            tracker.log(one, HEALTHY)
        tracker.conclude(result())
        wait_for(lambda: tracker.trouble)
        database.execute("ALTER TABLE metrics_away RENAME TO metrics")
        database.commit()
    assert tracker.close()
    assert tracker.trouble == ""
    assert place.steps() == [1, 2, 3, 4]


def test_kill_while_mlflow_makes_its_tables_does_not_spoil_the_store(tmp_path: Path) -> None:
    storage = Storage(tracking=f"sqlite:///{tmp_path}/place/mlflow.db")
    program = f"""
        import os
        import sqlalchemy
        from tune_vae.service.tracking.client import client_of
        from tune_vae.spec.study import Storage

        @sqlalchemy.event.listens_for(sqlalchemy.Table, "after_create")
        def killed(table, *_, **__):
            if table.name == "evaluation_datasets":
                os._exit(9)

        client_of(Storage(tracking={storage.tracking!r})).search_experiments()
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)])
    assert ended.returncode == 9
    assert client_of(storage).create_experiment("one") == "1"


def test_who_reads_in_the_store_keeps_nobody_from_writing(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    client = client_of(Storage(tracking=f"sqlite:///{file}"))
    with closing(sqlite3.connect(file)) as reader:
        rows = reader.execute("SELECT * FROM alembic_version UNION ALL SELECT 1")
        next(rows)
        assert client.create_experiment("one") == "1"
        assert next(rows) == (1,)
