"""A machine dies, and another that shares nothing with it but the three stores goes on."""

from pathlib import Path

import pytest
import sqlalchemy
from mlflow import MlflowClient

from tests.fault.test_kill import SMALL
from tests.searching import Workplace, kill, may_be_another_host, wait_until
from tests.servers import connect
from tests.stores import MLFLOW_WARNINGS
from tune_vae.service.ledger.looking import read_rows
from tune_vae.service.rows import TrialRow
from tune_vae.training.checkpoint import CheckpointStore

pytestmark = [MLFLOW_WARNINGS, pytest.mark.slow]

EPOCHS, TRIALS = 60, 6


@pytest.mark.skipif(not may_be_another_host(), reason="this machine cannot pretend to be two")
def test_study_goes_on_on_another_machine_that_has_only_the_stores(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    here, there = (
        Workplace(tmp_path / name, settings, name).write(
            SMALL, train={"epochs": EPOCHS}, budget={"trials": TRIALS, "concurrency": 2}
        )
        for name in ("here", "there")
    )

    def rows() -> dict[int, TrialRow]:
        return {row.trial: row for row in read_rows(there.spec) or []}

    process = here.search()
    try:
        wait_until(
            lambda: (
                any(row.ended for row in rows().values())
                and any(5 <= row.epoch < EPOCHS - 10 for row in rows().values() if not row.ended)
            ),
            what="a trial that ended and one under way",
            process=process,
        )
    finally:
        kill(process)
    wait_until(lambda: not here.processes(), seconds=60, what="all processes end")
    before = rows()
    store = CheckpointStore(settings["TUNE_VAE_CHECKPOINTS"], "small")
    trained = {trial: reports(store, trial) for trial in before}
    under_way = [trial for trial, row in before.items() if not row.ended]
    assert any(trained[trial] for trial in under_way)
    # Nothing of the machine that died can be of use.
    here.folder.rename(tmp_path / "gone")

    ended = there.run("search", "study.yaml")
    assert ended.code == 0, ended.output
    after = rows()
    assert sorted(after) == list(range(TRIALS))
    for trial, row in before.items():
        if row.ended:
            assert repr(after[trial]) == repr(row)
    for trial, row in after.items():
        assert row.ended
        assert row.finished
        last = reports(store, trial)
        assert [report["epoch"] for report in last] == list(range(1, EPOCHS + 1))
        # Also the seconds that an epoch took are the same: it was not trained again.
        assert last[: len(trained.get(trial, []))] == trained.get(trial, [])
    assert {trial for trial, row in after.items() if row.attempts > 1} == set(under_way)
    assert store.unpublished() == set()

    client = MlflowClient(settings["TUNE_VAE_TRACKING"])
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`tune_vae.kind` = 'trial'")
    assert sorted(int(run.data.tags["tune_vae.trial"]) for run in runs) == list(range(TRIALS))
    for run in runs:
        assert run.info.status == "FINISHED"
        history = client.get_metric_history(run.info.run_id, "sched/kl_weight")
        assert sorted(metric.step for metric in history) == list(range(1, EPOCHS + 1))
        models = client.search_logged_models(
            [experiment.experiment_id], f"source_run_id = '{run.info.run_id}'"
        )
        assert {model.status for model in models} == {"READY"}
        names = [model.name.rpartition("-")[2] for model in models]
        assert sorted(names) in (["best"], ["best", "last"])

    assert_no_password(there, tmp_path, settings["TUNE_VAE_LEDGER"])


def reports(store: CheckpointStore, trial: int) -> list[dict[str, object]]:
    last = store.last(trial)
    found: list[dict[str, object]] = last["reports"] if last else []
    return found


def assert_no_password(place: Workplace, folder: Path, ledger: str) -> None:
    assert "hunter" not in place.output
    assert "me:***@" in place.output
    for file in folder.rglob("*"):
        if file.is_file():
            assert b"hunter" not in file.read_bytes(), file
    with connect(ledger) as connection:
        for table in sqlalchemy.inspect(connection).get_table_names():
            rows = connection.exec_driver_sql(f"SELECT * FROM {table}").all()
            assert "hunter" not in repr(rows), table
