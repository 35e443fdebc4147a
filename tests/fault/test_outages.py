"""Stores that are away for a while, and a machine that sleeps: the study goes on."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.fault.chaos import diary
from tests.fault.chaos.counts import count
from tests.fault.test_kill import SMALL, place_for
from tests.searching import Workplace, kill, killed_at_a_failure, may_be_another_host, wait_until
from tests.servers import MlflowServer, Postgres
from tests.stores import MLFLOW_WARNINGS
from tune_vae.service.ledger.looking import read_rows
from tune_vae.service.ledger.open_study import GRACE_SECONDS
from tune_vae.service.rows import TrialRow
from tune_vae.training.checkpoint import CheckpointStore

pytestmark = [MLFLOW_WARNINGS, pytest.mark.slow]


def rows_of(place: Workplace) -> list[TrialRow]:
    return read_rows(place.spec) or []


def test_database_that_is_away_for_two_minutes_costs_no_trial_an_attempt(
    tmp_path: Path, empty_mlflow: Path, postgres: Postgres
) -> None:
    # Longer than a busy machine takes to look.
    place = place_for(tmp_path, empty_mlflow, train={"epochs": 300}, budget={"trials": 3})
    place = Workplace(place.folder, {"TUNE_VAE_LEDGER": postgres.create("away")})
    process = place.search()
    with killed_at_a_failure(process):
        wait_until(
            lambda: any(5 <= row.epoch < 250 for row in rows_of(place)),
            what="a trial under way",
            process=process,
        )
        postgres.stop()
        try:
            time.sleep(GRACE_SECONDS + 35)
        finally:
            postgres.start()
    ended = place.wait(process)
    assert ended.code == 0, ended.output
    assert "Traceback" not in ended.output
    assert "waiting: cannot open the ledger" in ended.output
    rows = rows_of(place)
    assert len(rows) == 3
    assert all(row.finished and row.epoch == 300 and row.attempts == 1 for row in rows)
    place.assert_shown_exactly_once()


def test_epochs_of_trials_that_ended_while_mlflow_was_away_are_sent_later_in_order_and_once(
    tmp_path: Path, empty_mlflow: Path
) -> None:
    (tmp_path / "server").mkdir()
    shutil.copy(empty_mlflow, tmp_path / "server" / "mlflow.db")
    server = MlflowServer(tmp_path / "server")
    place = Workplace(tmp_path / "here", {"TUNE_VAE_TRACKING": server.url})
    place.write(SMALL, train={"epochs": 20}, budget={"trials": 3})
    process = place.search()
    try:
        wait_until(
            lambda: place.count("state = 'COMPLETE'") == 3, what="all trials end", process=process
        )
        wait_until(lambda: "waiting: MLflow" in place.output, what="it says so", seconds=20)
    finally:
        # What waited in memory to be sent is gone; the checkpoints have it.
        kill(process)
    before = place.rows()
    try:
        server.start()
        ended = place.run("search", "study.yaml")
        assert ended.code == 0, ended.output
        assert "start trial" not in ended.output
        assert place.rows() == before
        runs = place.runs()
        assert [int(run.data.tags["tune_vae.trial"]) for run in runs] == [0, 1, 2]
        for run in runs:
            assert run.info.status == "FINISHED"
            history = place.client.get_metric_history(run.info.run_id, "val/bits_per_dim")
            assert [metric.step for metric in history] == list(range(1, 21))
            moments = [metric.timestamp for metric in history]
            # When each epoch was, and not when it was sent.
            assert moments == sorted(set(moments))
            images = place.client.list_artifacts(run.info.run_id, "images")
            drawn = sorted(int(file.path.split("+")[2]) for file in images)
            # Three drawings, each large and small.
            assert drawn == [epoch for epoch in (0, 1, 2, 4, 8, 16, 20) for _ in range(6)]
    finally:
        server.stop()


@pytest.mark.skipif(not may_be_another_host(), reason="this machine cannot pretend to be two")
def test_two_machines_run_each_of_forty_trials_once_though_one_sleeps_beyond_its_leases(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    notes = tmp_path / "diary.txt"
    here, there = (
        Workplace(tmp_path / name, settings, name).write(
            SMALL,
            train={"epochs": 8},
            budget={"trials": 40, "concurrency": 2},
        )
        for name in ("here", "there")
    )
    for place in (here, there):
        text = place.file.read_text().replace(
            "network:\n  mlp:\n    hidden:\n    - 32\n",
            f"network: {{'diary:Noted': {{file: {notes}}}}}\n",
        )
        place.file.write_text(text)
        shutil.copy(diary.__file__, place.folder / "diary.py")
    # This process can know one of the two modules of the same name: it looks from `here`.
    started = [place.search() for place in (here, there)]
    try:
        wait_until(
            lambda: (
                len([row for row in rows_of(here) if row.ended]) >= 6
                and any(row.owner == "here" and 2 <= row.epoch <= 6 for row in rows_of(here))
            ),
            what="both search",
        )
        assert_each_sees_the_other(here, tmp_path)
        asleep = [*here.processes(), started[0].pid]
        for pid in asleep:
            os.kill(pid, signal.SIGSTOP)
        lost = {row.trial for row in rows_of(here) if row.owner == "here" and not row.ended}
        assert lost
        assert there.wait(started[1]).code == 0, there.output
        before, files = rows_of(here), contents(settings)
        # Of trials that had ended when it fell asleep, whose best model it may still name.
        own = CheckpointStore(settings["TUNE_VAE_CHECKPOINTS"], "small").unpublished() - lost
        assert len(before) == 40
        assert all(row.ended for row in before)
        assert any(row.trial in lost and row.attempts == 2 for row in before)
        for pid in asleep:
            os.kill(pid, signal.SIGCONT)
        # It may take its own Ray for dead, which it then says.
        assert here.wait(started[0]).code in (0, 4), here.output
        assert "Traceback" not in here.output
    finally:
        for process in started:
            kill(process)
    assert rows_of(here) == before
    after, files = without(own, contents(settings)), without(own, files)
    late = after.keys() - files.keys()
    assert {name: after[name] for name in after.keys() - late} == files
    # A worker may have fallen asleep in the middle of a request, which then goes on: of a trial
    # that it lost, under the number of its attempt, after which nobody asks any more.
    assert len(late) <= 2
    for name in late:
        _, trial, file = name.rsplit("/", 2)
        assert int(trial) in lost
        assert f"-{int(trial)}-" in file
    assert here.run("search", "study.yaml").code == 0
    assert rows_of(here) == before
    steps = len(here.spec.dataset().load().train) // 64
    counts = count(here, diary.read(str(notes)), steps)
    assert counts.flawless, counts
    assert counts.ended == 40


def without(trials: set[int], files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if int(name.split("/")[-2]) not in trials}


def assert_each_sees_the_other(searching: Workplace, folder: Path) -> None:
    """A third machine sees what both of them run, and how fresh their leases are."""
    third = Workplace(folder / "third", searching.settings, "third")
    third.folder.mkdir()
    text = searching.file.read_text()
    third.file.write_text(text)
    shutil.copy(diary.__file__, third.folder / "diary.py")

    def running() -> list[dict[str, object]]:
        told = json.loads(third.run("status", "study.yaml", "--json").output)
        return [one for one in told["unfinished"] if one["state"] == "running" and one["place"]]

    wait_until(lambda: {one["owner"] for one in running()} == {"here", "there"}, what="both")
    for one in running():
        assert one["place"] == f"{one['owner']}, cpu"
        assert 0 <= one["epoch"] <= one["epochs"]
        assert -5 < one["lease_seconds"] < GRACE_SECONDS
    shown = third.run("status", "study.yaml").output
    assert "lease" in shown
    assert "here, cpu" in shown or "there, cpu" in shown


def contents(settings: dict[str, str]) -> dict[str, bytes]:
    """Every checkpoint there is."""
    store = CheckpointStore(settings["TUNE_VAE_CHECKPOINTS"], "small")
    import fsspec

    files = fsspec.filesystem("s3", use_listings_cache=False)
    return {name: files.cat_file(name) for name in files.find(store.folder)}
