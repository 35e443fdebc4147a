"""The searches that are compared, each with a budget of epochs and one trial at a time.

`ray_tune` holds those that Ray places.
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import optuna
import yaml

from tests.benchmarks.searches.log import Log
from tests.benchmarks.searches.outcomes import to_their_ends
from tune_vae import api
from tune_vae.data import Splits, scale
from tune_vae.science.collapse_point import EXAMPLES, collapse_points
from tune_vae.service.journey import run_pack
from tune_vae.service.ledger.optuna_ledger import OptunaLedger
from tune_vae.spec import known_good
from tune_vae.spec.study import Storage, StudySpec
from tune_vae.spec.trial import TrialConfig
from tune_vae.training.checkpoint import CheckpointStore

__all__ = ["ARMS", "digits", "drawn", "ours", "random_search", "study"]

STUDY = Path(__file__).parents[3] / "studies" / "digits.yaml"

PAIR = ["rate_nats", "mse"]


def study(seed: int, **changes: Any) -> StudySpec:
    """The digits study with another seed, and with no end but the budget of epochs."""
    values = yaml.safe_load(STUDY.read_text(encoding="utf-8")) | changes
    values["train"]["seed"] = seed
    values["budget"]["trials"] = 1_000_000
    return StudySpec.parse(yaml.safe_dump(values))


@cache
def digits() -> Splits:
    return study(0).dataset().load()


def ours(spec: StudySpec, epochs: int, data: Splits) -> Log:
    """The product's ledger, journey and verdicts, without Ray and MLflow."""
    log = Log()
    with tempfile.TemporaryDirectory() as folder:
        spec = replace(spec, storage=Storage().at(Path(folder)))
        store = CheckpointStore(Path(spec.storage.checkpoints), spec.name)
        ledger = OptunaLedger(
            spec,
            shape=data.shape,
            levels=data.levels,
            digest=data.digest(),
            points=collapse_points(scale(data.train[:EXAMPLES], data.levels)),
        )
        while len(log.reports) < epochs:
            pack = ledger.ask_pack(1)
            assert pack, "there is no other machine to wait for"
            log.configs[pack[0].trial] = pack[0]
            journey = run_pack(
                pack, data=data, limits=spec.health, ledger=ledger, tracker=log, store=store
            )
            for _ in journey:
                if len(log.reports) >= epochs:
                    break
    return log


def random_search(spec: StudySpec, epochs: int, data: Splits) -> Log:
    """Every trial to its end, whatever becomes of it.

    As nothing is learned from a trial, they are trained in packs and put in order afterwards.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trials = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=spec.train.seed))
    count = -(-epochs // spec.train.epochs)
    configs = {n: drawn(spec, trials.ask(), data) for n in range(count)}
    histories = to_their_ends(configs.values(), data)
    reports = [report for trial in sorted(histories) for report in histories[trial]][:epochs]
    finished = {report.trial for report in reports if report.epoch == spec.train.epochs}
    return Log(configs, reports, dict.fromkeys(finished, "finished"))


def drawn(spec: StudySpec, trial: optuna.Trial, data: Splits) -> TrialConfig:
    """A trial of the study's space, chosen by Optuna."""
    return TrialConfig.of(
        spec,
        spec.draw(_Chooser(trial)),
        trial=trial.number,
        shape=data.shape,
        levels=data.levels,
    )


@dataclass(frozen=True)
class _Chooser:
    """Optuna's trial as the space asks it; see `space.Suggest`."""

    trial: optuna.Trial

    def choice(self, name: str, labels: Sequence[str]) -> str:
        return self.trial.suggest_categorical(name, list(labels))

    def real(self, name: str, low: float, high: float, *, log: bool) -> float:
        return self.trial.suggest_float(name, low, high, log=log)

    def integer(self, name: str, low: int, high: int, *, log: bool) -> int:
        return self.trial.suggest_int(name, low, high, log=log)


def _asha(seed: int, epochs: int, data: Splits) -> Log:
    # Ray takes seconds to import, which the others need not wait for.
    from tests.benchmarks.searches.ray_tune import asha

    return asha(study(seed), epochs, data)


def _ours(**changes: Any) -> Callable[[int, int, Splits], Log]:
    return lambda seed, epochs, data: ours(study(seed, **changes), epochs, data)


def _lr_drawn(seed: int, epochs: int, data: Splits) -> Log:
    # No space holds it.
    with mock.patch.object(known_good, "USUAL_LR", math.nan):
        return ours(study(seed), epochs, data)


WIDE = {"log_uniform": [1e-4, 100.0]}


def _bounded(beta_norm: Any, *, foretold: float = 0.0) -> Callable[[int, int, Splits], Log]:
    """The Gaussians of the digits study with other bounds of beta_norm.

    By default every point is trained, also one that the forecast of its decoder calls dead.
    """

    def search(seed: int, epochs: int, data: Splits) -> Log:
        space = yaml.safe_load(STUDY.read_text(encoding="utf-8"))["search"]
        space |= {"likelihood": "gaussian", "beta_norm": beta_norm}
        spec = study(seed, search=space, health={"foretold": foretold})
        if spec.undecided:
            bounds = api.forecast_of(spec, data).bounds
            assert bounds
            spec = spec.with_bounds(*bounds)
        return ours(spec, epochs, data)

    return search


ARMS: dict[str, Callable[[int, int, Splits], Log]] = {
    "ours": _ours(),
    "ours, first learning rates drawn": _lr_drawn,
    "OptunaSearch + ASHA": _asha,
    "random": lambda seed, epochs, data: random_search(study(seed), epochs, data),
    "ParetoPruner": _ours(objective=PAIR),
    "NopPruner": _ours(objective=PAIR, pruner="NopPruner"),
    "wide": _bounded(WIDE),
    "auto": _bounded("auto"),
    "auto, passing over": _bounded("auto", foretold=1.0),
}
"""By the name in the tables: from seed, budget of epochs and data to what happened."""
