"""Checkpoints as models of MLflow, with the scores of their epoch on the data."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_vae.service.journey import TrialResult
from tune_vae.service.tracking.entries import final_scores, metrics_of, moment_of
from tune_vae.training.checkpoint import Checkpoint, CheckpointStore, save

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["Models"]


@dataclass(frozen=True)
class Models:
    """The models of a study.

    Arguments:
        client, experiment: Where they are shown.
        store: Where the checkpoints lie.
        data, digest: Name and fingerprint of the data.
    """

    client: "MlflowClient"
    experiment: str
    store: CheckpointStore
    data: str
    digest: str

    def log(self, run: str, result: TrialResult, *, none_yet: bool = False) -> None:
        """Make a model each of the best and the last checkpoint; one if they are of one epoch.

        May be repeated: what of it is there already is not made again.

        Arguments:
            run, result: Of the trial.
            none_yet: Whether it is known that the run has none, which spares looking.
        """
        models = {"best": result.best, "last": result.last}
        if result.best and result.best.epoch == result.last.epoch:
            del models["last"]
        of_run = f"source_run_id = '{run}'"
        found = [] if none_yet else self.client.search_logged_models([self.experiment], of_run)
        known = {model.name.rpartition("-")[2]: model for model in found}
        for which, report in models.items():
            done = which in known and known[which].status == "READY"
            if report is None or done:
                continue
            store, trial = self.store, result.trial
            state = store.best(trial, report.epoch) if which == "best" else store.last(trial)
            if state:
                self._log_one(run, known.get(which), which, result, state)

    def _log_one(
        self, run: str, begun: Any, which: str, result: TrialResult, state: Checkpoint
    ) -> None:
        """Show a checkpoint with its scores on the data; `begun` is what a kill left of it."""
        from mlflow.entities import LoggedModelOutput, Metric

        report = result.best if which == "best" and result.best else result.last
        known = self.client.get_run(run)
        model = begun or self.client.create_logged_model(
            self.experiment,
            f"{result.trial:03d}-{which}",
            run,
            tags={"checkpoint": which, "why": result.verdict.kind.value},
            params=known.data.params | {"epoch": str(report.epoch)},
            model_type="vae",
        )
        with tempfile.TemporaryDirectory() as folder:
            save(state, Path(folder) / f"{which}.pt")
            self.client.log_model_artifacts(model.model_id, folder)
        linked = known.outputs.model_outputs if known.outputs else []
        # MLflow 3.17 refuses a link that it has, for ever.
        if model.model_id not in {link.model_id for link in linked}:
            self.client.log_outputs(run, [LoggedModelOutput(model.model_id, report.epoch)])
        # These stand in the run's curves already, and so are not drawn twice.
        metrics = metrics_of(report)
        if which == "best":
            moment = moment_of(result.last)
            metrics += [Metric(key, value, moment, 0) for key, value in final_scores(result)]
        scores = [
            Metric(
                one.key,
                one.value,
                one.timestamp,
                one.step,
                model_id=model.model_id,
                dataset_name=self.data,
                dataset_digest=self.digest,
            )
            for one in metrics
        ]
        self.client.log_batch(run, metrics=scores)
        self.client.finalize_logged_model(model.model_id, "READY")
