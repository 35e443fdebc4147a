"""`tune-vae diagnose` on runs of a real MLflow store and on files."""

import math
import re
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from tests.factories import report
from tests.stores import MLFLOW_WARNINGS
from tests.trials import DIGEST, study, trial_config
from tune_vae import api, cli
from tune_vae.errors import DataError, StorageError
from tune_vae.science.diagnosis import Cause
from tune_vae.science.health import Kind, Verdict
from tune_vae.service.tracking import MlflowTracker
from tune_vae.training.checkpoint import CheckpointStore

pytestmark = MLFLOW_WARNINGS


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Path:
    folder = tmp_path_factory.mktemp("mlflow")
    (folder / "mlflow.db").write_bytes(empty_mlflow.read_bytes())
    return folder


@pytest.fixture(scope="module")
def run(place: Path) -> str:
    """A run of somebody's own program, whose latents have collapsed."""
    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    made = client.create_run(client.create_experiment("mine", artifact_location=place.as_uri()))
    client.log_param(made.info.run_id, "learning_rate", "0.002")
    client.log_param(made.info.run_id, "latent_dim", "20")
    client.log_batch(
        made.info.run_id,
        metrics=[
            Metric(name, value, 0, epoch)
            for epoch in range(1, 21)
            for name, value in {
                "train_recon": 200 + 300 * math.exp(-epoch),
                "train_kl": 0.001,
                "train_loss": 200 + 300 * math.exp(-epoch) + 0.004,
                "val_loss": 201 + 300 * math.exp(-epoch),
                "learning_rate": 0.5,
                "images_per_second": 12.0,
            }.items()
        ],
    )
    return str(made.info.run_id)


def test_run_of_any_program_is_read_with_what_its_parameters_say(place: Path, run: str) -> None:
    store = f"sqlite:///{place / 'mlflow.db'}"
    source, told = api.diagnose(run, tracking=store)
    assert told.first.cause is Cause.COLLAPSE
    assert told.weight is not None
    assert told.weight.last == pytest.approx(4.0, rel=0.01)
    assert (source.curve.latents, source.curve.lr) == (20, 0.002)
    assert [point.epoch for point in source.curve.points] == list(range(1, 21))


def test_run_of_ours_is_read_with_its_weight_its_likelihood_and_its_verdict(place: Path) -> None:
    spec = study(place, study="ours")
    config = trial_config(0, study="ours", likelihood={"student_t": {"df": 4.0}})
    tracker = MlflowTracker(spec, digest=DIGEST, store=CheckpointStore(place / "c", "ours"))
    tracker.open(config)
    for epoch in range(1, 13):
        one = report(epoch, beta=0.5, rate_nats=5.0, distortion_nats=100 + 50 * math.exp(-epoch))
        tracker.log(one, Verdict(Kind.HEALTHY, "as it should be"))
    tracker.fail(config, "the machine broke")
    assert tracker.close()
    client = MlflowClient(spec.storage.tracking)
    (mine,) = client.search_runs(
        [client.get_experiment_by_name("ours").experiment_id], "tags.`tune_vae.kind` = 'trial'"
    )
    source, told = api.diagnose(mine.info.run_id, tracking=spec.storage.tracking)
    assert source.curve.likelihood == "student_t"
    assert source.verdict == "the machine broke"
    assert source.curve.points[-1].val_loss == pytest.approx(102.5, abs=1e-3)
    assert told.weight is not None
    assert (told.weight.last, told.weight.stated) == (0.5, True)


def test_absent_run_and_one_without_a_loss_are_told(place: Path, run: str) -> None:
    store = f"sqlite:///{place / 'mlflow.db'}"
    with pytest.raises(StorageError, match="not found"):
        api.diagnose("f" * 32, tracking=store)
    client = MlflowClient(store)
    bare = client.create_run(client.get_experiment_by_name("mine").experiment_id).info.run_id
    client.log_metric(bare, "accuracy", 0.9)
    with pytest.raises(DataError, match=f"no loss was found in the metrics of run {bare}: accur"):
        api.diagnose(bare, tracking=store)


def test_command_says_it_in_words(
    place: Path,
    run: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("TUNE_VAE_TRACKING", "sqlite:///mlflow.db")
    monkeypatch.setenv("COLUMNS", "80")
    arguments = ["diagnose", f"http://127.0.0.1:5000/#/experiments/1/runs/{run}?workflowType=x"]
    # The address is of a server that does not run; the store is.
    monkeypatch.setattr(sys, "argv", ["tune-vae", *arguments, "--tracking", "sqlite:///mlflow.db"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "✗ posterior collapse"
    assert max(map(len, lines[1:])) <= 80
    assert re.fullmatch(
        r" +try +1\. a KL weight of at most 0\.4", lines[lines.index(lines[2]) + 3]
    )
