"""What it costs to ask for a trial and to tell of its end, by how many have ended before.

`python -m tests.benchmarks.ledger` fills a study in SQLite and one in a real PostgreSQL with
trials as a search leaves them, and prints the tables of the README within half an hour.
"""

import argparse
import os
import platform
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState
from rich.console import Console

from tests.factories import report
from tests.integration.elsewhere import HEALTHY, open_ledger
from tests.searching import COMMAND
from tests.servers import running_postgres
from tests.trials import LEVELS, SHAPE, study
from tune_vae import api
from tune_vae.service.journey import TrialResult
from tune_vae.service.ledger.optuna_ledger import OptunaLedger
from tune_vae.service.results import StudyResults
from tune_vae.service.rows import plain
from tune_vae.spec.study import Storage, StudySpec
from tune_vae.spec.trial import TrialConfig
from tune_vae.terminal.standing import show_status

EPOCHS = 20
TIMES = 12
STUDY: dict[str, Any] = {
    "search": {
        "beta_norm": {"log_uniform": [1e-3, 10.0]},
        "likelihood": {"choice": ["gaussian", "laplace", "discretized_logistic"]},
        "sigma": {"choice": ["shared", "optimal"]},
        "schedule": {"choice": ["constant", {"linear": {"warmup": {"uniform": [0.05, 0.5]}}}]},
        "lr": {"log_uniform": [1e-4, 1e-2]},
    },
    "train": {"epochs": EPOCHS},
    "budget": {"trials": 1_000_000},
}


class Dice:
    """Draws a trial at random, and notes what Optuna would have noted."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def choice(self, name: str, labels: Sequence[str]) -> str:
        return str(self._note(name, self._random.choice(labels), CategoricalDistribution(labels)))

    def real(self, name: str, low: float, high: float, *, log: bool) -> float:
        drawn = low * (high / low) ** self._random.random() if log else None
        drawn = drawn or self._random.uniform(low, high)
        return float(self._note(name, drawn, FloatDistribution(low, high, log=log)))

    def integer(self, name: str, low: int, high: int, *, log: bool) -> int:
        drawn = self._random.randint(low, high)
        return int(self._note(name, drawn, IntDistribution(low, high, log=log)))

    def _note(self, name: str, drawn: Any, distribution: BaseDistribution) -> Any:
        self.params[name], self.distributions[name] = drawn, distribution
        return drawn


def bits(config: TrialConfig, epoch: int) -> float:
    """A study that has an optimum, and noise."""
    noise = random.Random(f"{config.trial} {epoch}").gauss(0.0, 0.02)
    return (
        2.0 + abs(config.beta_norm - 0.1) ** 0.5 + 50 * abs(config.lr - 1e-3) + 1 / epoch + noise
    )


def fill(spec: StudySpec, count: int) -> None:
    """Add trials that have ended, until there are so many: half finished, half stopped halfway."""
    filled = optuna.load_study(study_name=spec.name, storage=spec.storage.ledger)
    for number in range(len(filled.get_trials(deepcopy=False)), count):
        dice = Dice(number)
        config = TrialConfig.of(spec, spec.draw(dice), trial=number, shape=SHAPE, levels=LEVELS)
        finished = number % 2 == 0
        done = EPOCHS if finished else EPOCHS // 2
        curve = {epoch: bits(config, epoch) for epoch in range(1, done + 1)}
        last = plain(report(done, trial=number, bits_per_dim=curve[done]))
        filled.add_trial(
            optuna.create_trial(
                state=TrialState.COMPLETE if finished else TrialState.PRUNED,
                value=curve[done],
                params=dice.params,
                distributions=dice.distributions,
                intermediate_values=curve,
                user_attrs={
                    "config": config.model_dump_json(),
                    "owner": "elsewhere 1 1",
                    "epoch": done,
                    "verdict": HEALTHY.kind.value if finished else "hopeless",
                    "reason": HEALTHY.reason,
                    "best": last,
                    "last": last,
                    "appraisal": {"sample_distance": "1.0", "psnr": "20.0"},
                },
            )
        )


def run_one(ledger: OptunaLedger, spec: StudySpec) -> dict[str, float]:
    """One trial from its drawing to its end; returns the seconds of each step."""
    begin, cpu = time.perf_counter(), time.process_time()
    pack = ledger.ask_pack(1)
    asked, cpu = time.perf_counter(), time.process_time() - cpu
    assert pack
    (config,) = pack
    for epoch in range(1, EPOCHS + 1):
        last = report(epoch, trial=config.trial, bits_per_dim=bits(config, epoch))
        decision = ledger.report(last, HEALTHY)
        if decision.stop:
            break
    reported, more = time.perf_counter(), time.process_time()
    finished = not decision.stop
    values = (last.bits_per_dim,) if finished else ()
    verdict = decision.verdict or HEALTHY
    ledger.commit(TrialResult(config.trial, verdict, finished, values, last, last))
    told, more = time.perf_counter(), time.process_time() - more
    # What the owner of a search does after each end.
    assert StudyResults.of(spec, ledger.look()[0]).winner
    seen = time.perf_counter()
    return {
        "ask": asked - begin,
        "tell": told - reported,
        "ask + tell": asked - begin + told - reported,
        "ask + tell, CPU of this process": cpu + more,
        "report of an epoch": (reported - asked) / epoch,
        "rows and winner": seen - told,
    }


def medians(specs: Sequence[StudySpec]) -> list[dict[str, float]]:
    """Median seconds of each step, in turns, so that all meet the same load of the machine."""
    ledgers = [open_ledger(spec) for spec in specs]
    pairs = list(zip(ledgers, specs, strict=True))
    # The first reads all rows, as a search does once.
    runs = [[run_one(*pair) for pair in pairs] for _ in range(1 + TIMES)][1:]
    columns = list(zip(*runs, strict=True))
    return [{step: statistics.median(run[step] for run in of) for step in of[0]} for of in columns]


def status_seconds(spec: StudySpec, folder: Path) -> dict[str, float]:
    """What `tune-vae status` takes, and its work once all is imported."""
    file = folder / "study.yaml"
    file.write_text(spec.text)
    begin, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [COMMAND, "status", file],
        env=os.environ | {"TUNE_VAE_LEDGER": spec.storage.ledger},
        capture_output=True,
        text=True,
    )
    whole, after = time.perf_counter() - begin, os.times()
    assert done.returncode == 0, done.stdout + done.stderr
    begin, cpu = time.perf_counter(), time.process_time()
    show_status(Console(quiet=True), api.results(spec, reports=False), spec)
    return {
        "status, the whole command": whole,
        "the same, its CPU": after.children_user
        + after.children_system
        - before.children_user
        - before.children_system,
        "status, once all is imported": time.perf_counter() - begin,
        "the same, CPU of this process": time.process_time() - cpu,
    }


def measure(name: str, ledger: str, folder: Path, counts: Sequence[int]) -> None:
    print(f"\n{name}")
    # The password is not in the file, which may hold none.
    storage = Storage(ledger=ledger)
    specs = [replace(study(**STUDY, study=f"of-{count}"), storage=storage) for count in counts]
    for spec, count in zip(specs, counts, strict=True):
        begin = time.perf_counter()
        open_ledger(spec)
        fill(spec, count)
        print(f"  filled with {count:,} in {time.perf_counter() - begin:.0f} s", flush=True)
    show(specs, folder, counts)


def show(specs: Sequence[StudySpec], folder: Path, counts: Sequence[int]) -> None:
    found = medians(specs)
    for one, spec in zip(found, specs, strict=True):
        one |= status_seconds(spec, folder)
    print("| ms | " + " | ".join(f"{count:,}" for count in counts) + " | ratio |")
    print("|---|" + "--:|" * (len(counts) + 1))
    for step in found[0]:
        cells = " | ".join(f"{1000 * one[step]:,.0f}" for one in found)
        print(f"| {step} | {cells} | {found[-1][step] / found[0][step]:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs=2, default=(100, 10_000))
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    given = parser.parse_args()
    names = ("optuna", "sqlalchemy", "psycopg")
    print(platform.platform(), *(f"{name} {version(name)}" for name in names), sep="; ")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if given.only != "postgresql":
            measure("SQLite", f"sqlite:///{folder}/studies.db", folder, given.counts)
        if given.only != "sqlite":
            with running_postgres() as server:
                measure("PostgreSQL", server.create("bench"), folder, given.counts)


if __name__ == "__main__":
    main()
