"""What a user of Ray Tune would write: `OptunaSearch` and ASHA over our trainer."""

import json
import logging
import math
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch

from tests.benchmarks.searches.arms import digits, drawn
from tests.benchmarks.searches.log import Log

# Imported before Ray, whose settings it makes.
from tune_vae.service import node  # noqa: F401  isort: skip
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from tune_vae.data import Splits
from tune_vae.science.history import EpochReport
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig
from tune_vae.training.trainer import Trainer

__all__ = ["asha"]

NOT_FINITE = 1e6
"""What is reported of a trial that has no finite value. Told of a NaN, ASHA never stops the
trial, and OptunaSearch leaves it running for ever."""


def asha(
    spec: StudySpec,
    epochs: int,
    data: Splits,
    *,
    trials: int | None = None,
    workers: int = 1,
    reuse: bool = True,
    callbacks: Sequence[tune.Callback] = (),
) -> Log:
    """Ray's OptunaSearch and ASHAScheduler, with their defaults.

    What OptunaSearch makes of the trials: one that ASHA stopped is told to Optuna as complete,
    with its latest value.

    Arguments:
        spec, data: What is searched.
        epochs: Budget, all trials together.
        trials: Most trials; None for as many as the epochs suffice for.
        workers: Most trials at once, each on a core.
        reuse: Whether a process serves trial after trial; Ray's default is not.
        callbacks: Ray's loggers.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        diary = Path(folder) / "epochs.jsonl"
        ray.init(
            address="local",
            num_cpus=workers,
            include_dashboard=False,
            object_store_memory=128 * 2**20,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=f"{folder}/ray",
        )
        try:
            tune.Tuner(
                tune.with_parameters(_Training, diary=str(diary)),
                tune_config=tune.TuneConfig(
                    search_alg=OptunaSearch(
                        partial(_space, spec=spec, data=data),
                        metric="bits_per_dim",
                        mode="min",
                        seed=spec.train.seed,
                    ),
                    scheduler=ASHAScheduler(
                        metric="bits_per_dim",
                        mode="min",
                        max_t=spec.train.epochs,
                    ),
                    num_samples=trials or -1,
                    max_concurrent_trials=workers,
                    reuse_actors=reuse,
                ),
                run_config=tune.RunConfig(
                    storage_path=f"{folder}/tune",
                    verbose=0,
                    stop=_Spent(epochs),
                    callbacks=[_Silent(), *callbacks],
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            ).fit()
        finally:
            ray.shutdown()
        return _read(diary, epochs, cut=trials is None)


def _space(trial: Any, *, spec: StudySpec, data: Splits) -> dict[str, Any]:
    return {"config": drawn(spec, trial, data).model_dump_json()}


class _Training(tune.Trainable):
    """One trial; a step is an epoch, written down as it is done."""

    def setup(self, config: dict[str, Any], diary: str) -> None:
        self._diary = Path(diary)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        self._config = TrialConfig.model_validate_json(config["config"])
        self._epochs = iter(Trainer([self._config.member()], digits()))

    def step(self) -> dict[str, float]:
        (report,) = next(self._epochs)
        with self._diary.open("a", encoding="utf-8") as file:
            first = {"config": self._config.model_dump_json()} if report.epoch == 1 else {}
            file.write(json.dumps(first | {"report": report.to_dict()}) + "\n")
        bits = report.bits_per_dim
        return {"bits_per_dim": bits if math.isfinite(bits) else NOT_FINITE}


class _Spent(tune.Stopper):
    """Ends the search when its epochs are spent."""

    def __init__(self, epochs: int) -> None:
        self._left = epochs

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        self._left -= 1
        return False

    def stop_all(self) -> bool:
        return self._left <= 0


class _Silent(tune.progress_reporter.TrialProgressCallback):
    """Replaces Ray's own printer."""

    def __init__(self) -> None:
        super().__init__()

    def on_step_begin(self, *args: Any, **info: Any) -> None:
        pass

    def on_trial_result(self, *args: Any, **info: Any) -> None:
        pass

    def on_trial_error(self, *args: Any, **info: Any) -> None:
        pass

    def on_trial_complete(self, *args: Any, **info: Any) -> None:
        pass


def _read(diary: Path, epochs: int, *, cut: bool) -> Log:
    """What the workers wrote down.

    Arguments:
        cut: Whether the last trial was still under way when the search ended.
    """
    log = Log()
    for line in diary.read_text(encoding="utf-8").splitlines()[:epochs]:
        entry = json.loads(line)
        report = EpochReport.from_dict(entry["report"])
        if "config" in entry:
            log.configs[report.trial] = TrialConfig.model_validate_json(entry["config"])
        log.reports.append(report)
    for trial, history in log.histories().items():
        if history.last.epoch == log.configs[trial].epochs:
            log.ends[trial] = "finished"
        elif not (cut and history.last is log.reports[-1]):
            log.ends[trial] = "pruned"
    return log
