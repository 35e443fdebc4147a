"""Searches whose processes are killed without warning, and what the next command makes of it."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.searching import Workplace, copy_database, kill, wait_until
from tests.stores import MLFLOW_WARNINGS
from tune_vae.service.rows import TrialRow
from tune_vae.spec.trial import REPEATS
from tune_vae.training.checkpoint import CheckpointStore

pytestmark = [
    MLFLOW_WARNINGS,
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc to find processes"),
]

SMALL = """
study: small
data: digits
network: {mlp: {hidden: [32]}}
latent_dim: 4
search:
  beta_norm: {log_uniform: [0.01, 0.1]}
  likelihood: gaussian
  sigma: optimal
  lr: {log_uniform: [0.002, 0.01]}
sampler: RandomSampler
pruner: NopPruner
train: {epochs: 30, batch_size: 64}
budget: {trials: 8}
"""


def place_for(folder: Path, empty_mlflow: Path, **sections: object) -> Workplace:
    place = Workplace(folder).write(SMALL, **sections)
    copy_database(empty_mlflow, place)
    return place


class Watched:
    """A study under kills, and what must survive them."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.store = CheckpointStore(place.folder / "mlruns" / "checkpoints", "small")
        self.ended: dict[int, str] = {}
        self.processes: list[int] = []
        self.trained: dict[int, list[dict[str, object]]] = {}

    def search_and_kill(self, moments: random.Random, most: int) -> None:
        """Begin to search, and kill all of it at a random moment within `most` epochs."""
        process = self.place.search()
        self.processes.append(process.pid)
        try:
            if moments.random() < 0.2:
                # While it starts.
                time.sleep(moments.uniform(0.5, 8.0))
            else:
                wanted = sum(self.place.epochs().values()) + moments.randint(1, most)
                wait_until(
                    lambda: sum(self.place.epochs().values()) >= wanted,
                    process=process,
                    what=f"{wanted} epochs",
                )
                time.sleep(moments.uniform(0.0, 0.3))
        finally:
            kill(process)
        # The orphans notice within a second or two that they are alone.
        wait_until(lambda: not self.place.processes(), seconds=30, what="all processes end")
        self.check_and_remember()

    def rows(self) -> list[TrialRow]:
        return self.place.rows() if self.place.count("1 = 1") else []

    def check_and_remember(self) -> None:
        """What ended is as it was, and what was trained goes on from there."""
        rows = {row.trial: row for row in self.rows()}
        for trial, row in self.ended.items():
            assert repr(rows[trial]) == row
        self.ended = {trial: repr(row) for trial, row in rows.items() if row.ended}
        for trial in rows:
            checkpoint = self.store.last(trial)
            reports = checkpoint["reports"] if checkpoint else []
            before = self.trained.get(trial, [])
            # Also the seconds that an epoch took are the same: it was not trained again.
            assert reports[: len(before)] == before, f"trial {trial} lost epochs"
            self.trained[trial] = reports


def kill_and_resume(place: Workplace, *, kills: int, seed: int) -> None:
    watched, moments = Watched(place), random.Random(seed)
    epochs, interrupted = place.spec.train.epochs, 0
    for _ in range(kills):
        # So that something is left for the last command.
        watched.search_and_kill(moments, most=8 * epochs * 2 // 3 // kills)
        interrupted += any(row.state != "ended" and row.epoch for row in watched.rows())
    assert interrupted >= kills / 2, "the kills came at the wrong moments to show anything"

    ended = place.run("search", "study.yaml")
    assert ended.code == 0, ended.output
    watched.check_and_remember()
    rows = place.rows()
    assert len(rows) == len({row.trial for row in rows}) == 8
    assert all(row.ended for row in rows)
    assert max(row.attempts for row in rows) > 1
    for row in rows:
        assert row.finished
        trained = [report["epoch"] for report in watched.trained[row.trial]]
        assert trained == list(range(1, epochs + 1))
    attempts = [row for row in place.optuna_rows() if "config" in row.user_attrs]
    assert len(attempts) == sum(row.attempts for row in rows)
    place.assert_shown_exactly_once()
    place.assert_nothing_is_left_running()
    for pid in watched.processes:
        assert list(Path("/tmp").glob(f"tune-vae-{pid}-*")) == []


def test_killed_search_goes_on_where_it_was(tmp_path: Path, empty_mlflow: Path) -> None:
    kill_and_resume(place_for(tmp_path, empty_mlflow), kills=2, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("pack", [1, 3])
def test_search_that_is_killed_again_and_again_loses_and_repeats_nothing(
    tmp_path: Path, empty_mlflow: Path, pack: int, seed: int
) -> None:
    place = place_for(tmp_path, empty_mlflow, train={"pack": pack, "epochs": 60})
    kill_and_resume(place, kills=10, seed=seed)


def test_killed_worker_costs_its_trial_one_attempt_and_no_epoch(
    tmp_path: Path, empty_mlflow: Path
) -> None:
    place = place_for(tmp_path, empty_mlflow, train={"epochs": 40}, budget={"trials": 4})
    process = place.search()
    wait_until(
        lambda: any(3 <= epoch < 30 for epoch in place.epochs().values()),
        what="a trial under way",
        process=process,
    )
    workers = [pid for pid, title in place.processes().items() if "Trainable" in title]
    os.kill(workers[0], signal.SIGKILL)
    ended = place.wait(process)
    assert ended.code == 0, ended.output
    assert "Traceback" not in ended.output
    assert "raylet" not in ended.output
    rows = place.rows()
    assert len(rows) == 4
    assert all(row.ended for row in rows)
    assert all(row.finished for row in rows)
    assert sorted(row.attempts for row in rows) == [1, 1, 1, 2]
    place.assert_shown_exactly_once()
    place.assert_nothing_is_left_running()


@pytest.mark.slow
def test_repeats_of_finalists_survive_kills_and_go_on_with_confirm(
    tmp_path: Path, empty_mlflow: Path
) -> None:
    place = place_for(
        tmp_path,
        empty_mlflow,
        train={"epochs": 60, "pack": 2},
        budget={"trials": 3, "seeds": 3, "finalists": 2},
    )
    interrupted = 0
    for command in (["search", "study.yaml"], ["confirm", "study.yaml", "--top", "2"]):
        process = place.start(*command)
        wanted = 5 + sum(repeat_epochs(place).values())
        wait_until(
            lambda wanted=wanted: sum(repeat_epochs(place).values()) >= wanted,
            what="repeats under way",
            process=process,
        )
        kill(process)
        wait_until(lambda: not place.processes(), seconds=30, what="all processes end")
        under_way = [row for row in place.rows() if row.config.repeat_of is not None]
        interrupted += any(0 < row.epoch < 60 and not row.ended for row in under_way)
    assert interrupted == 2, "the kills came at the wrong moments to show anything"

    ended = place.run("confirm", "study.yaml", "--top", "2", "--seeds", "3")
    assert ended.code == 0, ended.output
    assert "Traceback" not in ended.output
    rows = place.rows()
    assert [row.config.repeat_of is None for row in rows] == [True] * 3 + [False] * 4
    assert all(row.finished and row.epoch == 60 for row in rows)
    assert max(row.attempts for row in rows[3:]) > 1
    assert [row.attempts for row in rows[:3]] == [1] * 3
    assert "Finalists, with other seeds" in ended.output
    place.assert_shown_exactly_once()
    place.assert_nothing_is_left_running()

    again = place.run("confirm", "study.yaml", "--top", "2", "--seeds", "3")
    assert again.code == 0
    assert "start trial" not in again.output
    assert place.rows() == rows


@pytest.mark.slow
def test_search_that_a_scheduler_ends_and_one_that_a_person_ends_at_once_both_go_on(
    tmp_path: Path, empty_mlflow: Path
) -> None:
    place = place_for(tmp_path, empty_mlflow, train={"epochs": 150}, budget={"trials": 3})

    def searching(epochs: int) -> "subprocess.Popen[bytes]":
        wanted = epochs + sum(place.epochs().values())
        process = place.search()
        wait_until(
            lambda: sum(place.epochs().values()) >= wanted, what="some epochs", process=process
        )
        return process

    process = searching(5)
    process.send_signal(signal.SIGTERM)
    ended = place.wait(process)
    assert ended.code == 130, ended.output
    assert "Traceback" not in ended.output
    assert "Go on with: tune-vae search study.yaml" in ended.output
    # Handed over, so that nobody needs to wait for a lease.
    assert {row.state for row in place.rows()} == {"waiting"}
    place.assert_nothing_is_left_running()

    process = searching(5)
    process.send_signal(signal.SIGINT)
    # As a person does: of two signals that wait to be handled the system keeps one.
    time.sleep(1)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert time.monotonic() - begin < 5
    # Ray's agents look after whoever started them once in a while.
    wait_until(lambda: not place.processes(), seconds=120, what="all processes end")

    ended = place.run("search", "study.yaml")
    assert ended.code == 0, ended.output
    assert all(row.finished and row.epoch == 150 for row in place.rows())
    place.assert_shown_exactly_once()


def repeat_epochs(place: Workplace) -> dict[int, int]:
    return {trial: epoch for trial, epoch in place.epochs().items() if trial >= REPEATS}


@pytest.mark.slow
def test_worker_that_dies_at_every_start_of_a_trial_ends_the_trial_and_not_the_study(
    tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_for(
        tmp_path,
        empty_mlflow,
        network="deadly_nets:Deadly",
        budget={"trials": 3, "retries": 1},
    )
    (place.folder / "deadly_nets.py").write_text(DEADLY_NETS)
    monkeypatch.syspath_prepend(place.folder)
    ended = place.run("search", "study.yaml")
    assert ended.code == 3, ended.output
    assert "Traceback" not in ended.output
    assert ended.output.count("interrupted 2 times without finishing an epoch") == 3
    assert [run.info.status for run in place.runs()] == ["FAILED"] * 3
    place.assert_nothing_is_left_running()


DEADLY_NETS = '''
import os
from dataclasses import dataclass

from torch import nn

from tune_vae.science.networks import Network
from tune_vae.science.networks.mlp import Mlp


class Layer(nn.Module):
    def forward(self, x):
        if x.device.type != "meta":
            os.abort()
        return x


@dataclass(frozen=True)
class Deadly(Network):
    """Takes its whole process with it, as a fault of a driver does."""

    def build(self, shape, latent_dim, params_per_value):
        encoder, decoder = Mlp().build(shape, latent_dim, params_per_value)
        return nn.Sequential(Layer(), encoder), decoder
'''
