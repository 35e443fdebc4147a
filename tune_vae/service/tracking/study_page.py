"""A study's page in MLflow: its experiment, with views and a note, and a run of its own."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_vae.errors import StorageError, masked
from tune_vae.service.tracking.client import absolute, client_of, is_server
from tune_vae.service.tracking.entries import NOTE, common_tags
from tune_vae.service.views import is_ours, links, saved_views, view_link
from tune_vae.spec.study import Storage, StudySpec, is_url

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["StudyPage", "attach_report", "experiment_link"]

MOST_OF_A_NOTE = 5000


class StudyPage:
    """The experiment of a study and the run of the study itself, made if there is none.

    Arguments:
        client: Of the tracking store.
        spec: The study.
        status: Of a run that is made now.
    """

    def __init__(
        self, client: "MlflowClient", spec: StudySpec, *, status: str = "RUNNING"
    ) -> None:
        self._client, self._spec = client, spec
        self.experiment = _experiment(client, spec)
        self.run = _study_run(client, self.experiment, spec, status=status)

    def trials(self, condition: str = "") -> list[Any]:
        """Runs of trials and of repeats."""
        found = self._client.search_runs(
            [self.experiment], f"tags.`tune_vae.kind` != 'study'{condition}", max_results=50_000
        )
        return list(found)

    def once(self) -> list[Any]:
        """Runs of trials and of repeats, one of each; others of a trial that ended are deleted.

        Two machines that at the same moment find a run missing may both begin it, and nothing in
        MLflow could stop the second. All choose the same one to keep: that with the most epochs.
        """
        by_trial = defaultdict(list)
        for run in self.trials():
            by_trial[run.data.tags.get("tune_vae.trial")].append(run)
        kept = []
        for runs in by_trial.values():
            first, *others = sorted(runs, key=self._worth) if len(runs) > 1 else runs
            if first.info.status != "RUNNING":
                for run in others:
                    self._delete(run.info.run_id)
            kept.append(first)
        return kept

    def _worth(self, run: Any) -> tuple[bool, int, int, str]:
        """Sorts a run that ended and shows many epochs first."""
        shown = self._client.get_metric_history(run.info.run_id, "sched/kl_weight")
        running = run.info.status == "RUNNING"
        return running, -len(shown), run.info.start_time, run.info.run_id

    def _delete(self, run: str) -> None:
        from mlflow.exceptions import MlflowException

        # Another machine may be at it as well.
        with contextlib.suppress(MlflowException):
            of_run = f"source_run_id = '{run}'"
            for model in self._client.search_logged_models([self.experiment], of_run):
                self._client.delete_logged_model(model.model_id)
            self._client.delete_run(run)

    def note(self, text: str) -> None:
        """Write what the page says of the study."""
        # All that shows before somebody unfolds it is the first line, and of that the beginning.
        first, dot, rest = text.partition(" · ")
        text = f"{first} · {links(self.experiment, self.run)}{dot}{rest}"
        self._client.set_experiment_tag(self.experiment, NOTE, text)

    def widen(self, runs: Sequence[Any]) -> None:
        """Write the views again, with charts for the values that these runs of trials have."""
        found = [run.data for run in runs]
        keys = ("score/bits_per_dim", "score/rate")
        ends = {key: [data.metrics[key] for data in found if key in data.metrics] for key in keys}
        whole = sum(data.tags.get("state") == "complete" for data in found) / max(1, len(found))
        tags = self._client.get_experiment(self.experiment).tags
        for key, view in _views(self._spec, ends, whole).items():
            # What somebody has made his own stays.
            if key in tags and is_ours(tags[key]):
                self._client.set_experiment_tag(self.experiment, key, view)

    def end(self) -> None:
        self._client.set_terminated(self.run, "FINISHED")


def attach_report(spec: StudySpec, files: Sequence[Path], summary: str) -> str:
    """Put a report into the run of the study, if that can be done.

    Arguments:
        spec: The study.
        files: The page and its pictures.
        summary: What the run's page says, in Markdown.

    Returns:
        Why it was not done; empty if it was.
    """
    try:
        client = client_of(spec.storage)
        run = StudyPage(client, spec, status="FINISHED").run
        for file in files:
            client.log_artifact(run, str(file), "report")
        client.set_tag(run, NOTE, summary[:MOST_OF_A_NOTE])
    except Exception as error:  # noqa: BLE001
        # The report is on the disk; a copy is worth no failure. MLflow lets the errors of its
        # database and of the network through.
        return (str(error) or type(error).__name__).splitlines()[0]
    return ""


def experiment_link(spec: StudySpec, server: str) -> str:
    """Address of a study's runs on a running MLflow server.

    Raises:
        StorageError: The tracking store does not answer, or has no such study.
    """
    from mlflow.exceptions import MlflowException

    try:
        found = client_of(spec.storage).get_experiment_by_name(spec.name)
    except (MlflowException, OSError) as error:
        raise StorageError(f"MLflow does not answer: {error}") from error
    if found is None:
        raise StorageError(
            f"MLflow has no study `{spec.name}` yet; run `tune-vae search {spec.operand}` first"
        )
    return f"{server}/{view_link(found.experiment_id)}"


def _experiment(client: "MlflowClient", spec: StudySpec) -> str:
    found = client.get_experiment_by_name(spec.name)
    if found:
        return str(found.experiment_id)
    place = None if is_server(spec.storage) else f"{_artifact_root(spec.storage)}/{spec.name}"
    tags = {"tune_vae.study": spec.name, "mlflow.experimentKind": "custom_model_development"}
    tags |= _views(spec, {})
    return str(client.create_experiment(spec.name, artifact_location=place, tags=tags))


def _artifact_root(storage: Storage) -> str:
    given = absolute(storage.artifacts)
    return given.rstrip("/") if is_url(given) else Path(given).as_uri()


def _views(
    spec: StudySpec, ends: Mapping[str, Sequence[float]], whole: float = 0.0
) -> dict[str, str]:
    now = int(time.time() * 1000)
    return saved_views(now, epochs=spec.train.epochs, ends=ends, whole=whole)


def _study_run(client: "MlflowClient", experiment: str, spec: StudySpec, *, status: str) -> str:
    """The study's own run, which views of the trials leave out by its kind."""
    found = client.search_runs([experiment], "tags.`tune_vae.kind` = 'study'")
    if found:
        return str(found[0].info.run_id)
    tags = common_tags(spec) | {"tune_vae.kind": "study"}
    run = client.create_run(experiment, run_name=f"study {spec.name}", tags=tags)
    client.log_text(run.info.run_id, masked(spec.text), "study.yaml")
    client.update_run(run.info.run_id, status=status)
    return str(run.info.run_id)
