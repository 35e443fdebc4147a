"""When the owner of a search gives out no more trials, on real Optuna and MLflow."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.factories import report
from tests.stores import MLFLOW_WARNINGS
from tests.trials import DIGEST, LEVELS, SHAPE, study
from tune_vae.science.health import Kind, Verdict
from tune_vae.service.desk import DataFacts, Desk
from tune_vae.service.journey import TrialResult
from tune_vae.spec.study import StudySpec

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
