"""`tune-vae report` on a small study that was really searched, with real Optuna and MLflow."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.stores import MLFLOW_WARNINGS
from tests.trials import DIGEST, LEVELS, SHAPE, study
from tune_vae import api, cli
from tune_vae.data import Splits
from tune_vae.errors import DataError
from tune_vae.science.health import Limits
from tune_vae.service.desk import DataFacts, Desk
from tune_vae.service.journey import run_pack
from tune_vae.spec.study import StudySpec
from tune_vae.training.checkpoint import CheckpointStore

pytestmark = MLFLOW_WARNINGS


@dataclass(frozen=True)
class Searched:
    """A study of three trials that have ended and one that runs."""

    spec: StudySpec
    file: Path


@pytest.fixture(scope="module")
def searched(
    empty_stores: Path,
    few_digits: Splits,
) -> Iterator[Searched]:
    folder = empty_stores
    search = {"beta_norm": {"log_uniform": [0.001, 0.05]}}
    # Nothing shall end before its time.
    made = study(folder, search=search, budget={"trials": 4}, pruner="NopPruner")
    (folder / "study.yaml").write_text(made.text)
    spec = StudySpec.load(folder / "study.yaml")
    store = CheckpointStore(Path(spec.storage.checkpoints), spec.name)
    desk = Desk(spec, DataFacts(SHAPE, LEVELS, DIGEST))
    for count in range(4):
        pack = desk.ask()
        assert pack
        journey = run_pack(
            pack, data=few_digits, limits=Limits(), ledger=desk, tracker=desk, store=store
        )
        next(journey)
        for _ in journey if count < 3 else ():
            pass
    yield Searched(spec, folder / "study.yaml")
    assert desk.close()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["tune-vae", *arguments])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0


def test_report_of_a_study_that_still_runs_is_printed_written_and_copied(
    searched: Searched, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "report", str(searched.file))
    out, err = capsys.readouterr()
    assert err == ""
    page = Path(searched.spec.storage.checkpoints).parent / "reports" / "small" / "index.html"
    assert "Best: trial" in out
    assert str(page) in out.replace("\n", "")
    assert "also in MLflow, at the run of the study" in out
    words = page.read_text()
    assert "3 of 4 trials have ended" in words
    assert "Running: 1." in words
    names = {file.stem for file in page.parent.glob("*.png")}
    assert {"rate_distortion", "curves", "every_trial", "latent_rates", "latent_scatter"} <= names
    assert len([name for name in names if name.startswith("trial_")]) == 2
    client = MlflowClient(searched.spec.storage.tracking)
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id], "tags.`tune_vae.kind` = 'study'")
    there = {Path(f.path).name for f in client.list_artifacts(found.info.run_id, "report")}
    assert there == {"index.html", *(f"{name}.png" for name in names)}
    assert found.info.status == "RUNNING"


def test_folder_may_be_named_and_mlflow_be_away(
    searched: Searched,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    text = searched.spec.text.replace(
        f"sqlite:///{searched.file.parent}/mlflow.db", "http://127.0.0.1:9"
    )
    (tmp_path / "study.yaml").write_text(text)
    run(monkeypatch, "report", str(tmp_path / "study.yaml"), "--to", str(tmp_path / "here"))
    out, err = capsys.readouterr()
    assert err == ""
    assert "not in MLflow (" in out
    assert (tmp_path / "here" / "index.html").is_file()


def test_report_without_its_data_leaves_out_what_needs_them(
    searched: Searched, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def gone(self: object) -> Splits:
        raise DataError("not on this machine")

    monkeypatch.setattr("tune_vae.data.datasets.digits.Digits.load", gone)
    monkeypatch.setattr("tune_vae.service.tracking.attach_report", lambda *_: "")
    written, _ = api.report(searched.spec, tmp_path)
    names = {file.stem for file in written.pictures}
    assert {"curves", "latent_rates"} <= names
    assert not names & {"latent_scatter", "trial_000"}
