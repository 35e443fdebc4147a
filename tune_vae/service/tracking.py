"""What people look at: MLflow's pages. MLflow is imported here and nowhere else.

One experiment per study, one run per trial, all in one thread that takes its work from a queue:
the search never waits for it, and a server that does not answer costs the pages, not the study.
"""

import contextlib
import functools
import http.client
import json
import logging
import math
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_vae.errors import StorageError, masked
from tune_vae.science.health import Kind, Verdict
from tune_vae.science.history import EpochReport, History, Rollback
from tune_vae.service.journey import TrialResult, describes, history_of
from tune_vae.service.palette import COLOURS
from tune_vae.service.phases import judged, markdown
from tune_vae.service.views import is_ours, links, saved_views, view_link
from tune_vae.spec import components
from tune_vae.spec.study import Storage, StudySpec, is_url
from tune_vae.spec.trial import TrialConfig
from tune_vae.training.checkpoint import Checkpoint, CheckpointStore, save
from tune_vae.training.gallery import DRAWINGS, enlarged, is_drawn

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "MlflowTracker",
    "attach_report",
    "experiment_link",
    "is_server",
    "read_run",
    "serve",
    "try_server",
    "web_application",
]

TICK_SECONDS = 0.5
SERVER_SECONDS = 10
"""How long a server may take to say that it is there."""
STATUS = dict.fromkeys((kind for kind in Kind if not kind.fatal), "FINISHED") | dict.fromkeys(
    (Kind.EXPLODING, Kind.DIVERGED, Kind.FAILED), "FAILED"
)
"""MLflow's word for a verdict; KILLED for all others, which were stopped on purpose."""

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
# MLflow's own patience is four minutes for a request, in which it says nothing; ours is without
# end, and says what it waits for.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}

_FINAL = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "ENDPOINT_NOT_FOUND")
"""MLflow's codes of requests that it will never take, as when somebody deleted the run."""
NOTE = "mlflow.note.content"
MOST_OF_A_NOTE = 5000
MOST_OF_A_SENTENCE = 1500
"""Characters; an error's own words may be longer."""
EPOCHS_IN_A_REQUEST = 50
"""A request takes 1,000 numbers, and the epochs in it are shown whole or not at all."""
SIDE = 300
"""Pixels that drawings at least have in MLflow, which blurs what it must enlarge."""


_End = tuple[TrialResult, list[EpochReport]]
"""How a trial ended, and its epochs."""


class _GaveUpError(Exception):
    """The search is over and MLflow still does not answer."""


class _RefusedError(Exception):
    """MLflow answers, and will not take this."""


class MlflowTracker:
    """Shows a study in MLflow. Every method returns at once; see `journey.Tracker`.

    Arguments:
        spec: The study.
        digest: Fingerprint of its data.
        store: Where its checkpoints lie.
    """

    def __init__(self, spec: StudySpec, *, digest: str, store: CheckpointStore) -> None:
        self._spec, self._digest, self._store = spec, digest, store
        self._jobs: queue.Queue[Callable[[], None]] = queue.Queue()
        self._runs: dict[int, str] = {}
        self._shown: dict[int, set[int]] = {}
        self._pending: dict[int, list[list[Any]]] = {}
        self._drawing: set[int] = set()
        self._verdicts: dict[int, dict[int, Verdict]] = {}
        self._rollbacks: dict[int, Sequence[Rollback]] = {}
        self._refused = ""
        self._closing = threading.Event()
        self._trouble = ""
        self._deadline = math.inf
        self._connected = self._finished = False
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why MLflow does not answer at the moment; empty when it does."""
        return self._trouble or self._refused

    def open(self, config: TrialConfig) -> None:
        """Begin the run of a trial, or go on with the one it has."""
        self._jobs.put(lambda: self._open(config))

    def log(self, report: EpochReport, verdict: Verdict) -> None:
        """Show an epoch; one that was shown before is left out."""
        self._jobs.put(lambda: self._log(report, verdict))

    def roll_back(self, trial: int, rollbacks: Sequence[Rollback]) -> None:
        """Show all rollbacks of a trial so far."""
        self._jobs.put(lambda: self._roll_back(trial, rollbacks))

    def conclude(self, result: TrialResult) -> None:
        """Show how a trial ended, with its checkpoints."""
        self._jobs.put(lambda: self._conclude(result))

    def fail(self, config: TrialConfig, reason: str) -> None:
        """Show that a trial broke, with the epochs that it came to."""
        self._jobs.put(lambda: self._fail(config, reason))

    def mend(self, config: TrialConfig, end: Callable[[], _End | None]) -> None:
        """Complete the run of an ended trial if a kill left it open; only then call `end`."""
        self._jobs.put(lambda: self._mend(config, end))

    def note(self, text: str) -> None:
        """What the experiment's page says of the study."""
        self._jobs.put(lambda: self._note(text))

    def tag(self, trial: int, key: str, value: str) -> None:
        """Say something of a trial that its own end could not."""
        self._jobs.put(lambda: self._tag(trial, key, value))

    def close(self, seconds: float = 120.0) -> bool:
        """Finish what is queued within a time; whether MLflow took all there ever was."""
        self._deadline = time.monotonic() + seconds
        self._closing.set()
        self._thread.join(seconds + 5)
        return self._finished and not self._refused

    def _work(self) -> None:
        with contextlib.suppress(_GaveUpError):
            self._call(self._connect)
            self._connected = True
            while not (self._closing.is_set() and self._jobs.empty()):
                try:
                    job = self._jobs.get(timeout=TICK_SECONDS)
                except queue.Empty:
                    self._flush()
                    continue
                self._attempt(job)
                if self._jobs.empty():
                    self._flush()
                    # Let a few epochs gather, so that one request carries them all.
                    self._closing.wait(TICK_SECONDS)
            self._flush()
            self._finished = True

    def _attempt(self, job: Callable[[], None]) -> None:
        try:
            job()
        except _RefusedError as error:
            self._refused = str(error)

    def _call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """A request to MLflow, repeated until it succeeds or the time to close is over."""
        wait = 0.5
        while True:
            try:
                answer = function(*args, **options)
            except Exception as error:
                # Beside its own, MLflow lets the errors of its database through.
                # They quote the address of the server.
                message = masked(f"MLflow: {(str(error) or type(error).__name__).splitlines()[0]}")
                if self._connected and getattr(error, "error_code", "") in _FINAL:
                    raise _RefusedError(message) from error
                self._trouble = message
                if time.monotonic() + wait > self._deadline:
                    raise _GaveUpError from error
                # Awake at once when the search ends, to use what time is left.
                if self._closing.wait(wait):
                    time.sleep(0.5)
                wait = min(2 * wait, 30.0)
            else:
                self._trouble = ""
                return answer

    def _connect(self) -> None:
        # Imported in the thread: it takes seconds, which the first trials need not wait for.
        self._client: MlflowClient = _client(self._spec.storage)
        self._experiment = _experiment(self._client, self._spec)
        found = self._find()
        self._runs = {int(run.data.tags["tune_vae.trial"]): run.info.run_id for run in found}
        self._ended = {
            int(run.data.tags["tune_vae.trial"]) for run in found if run.info.status != "RUNNING"
        }
        self._study_run = _study_run(self._client, self._experiment, self._spec)

    def _find(self, condition: str = "") -> list[Any]:
        """Runs of trials and of repeats."""
        found = self._client.search_runs(
            [self._experiment], f"tags.`tune_vae.kind` != 'study'{condition}", max_results=50_000
        )
        return list(found)

    def _open(self, config: TrialConfig) -> None:
        trial = config.trial
        # Another machine may have begun it since.
        known = self._call(self._find, f" and tags.`tune_vae.trial` = '{trial}'")
        if known:
            self._runs[trial] = known[0].info.run_id
            self._reopen(config)
            return
        run = self._call(
            self._client.create_run,
            self._experiment,
            run_name=_run_name(config),
            tags=_common_tags(self._spec)
            | _kind(config)
            | {
                "tune_vae.trial": str(trial),
                "tune_vae.data_digest": self._digest,
                "host": socket.gethostname(),
                NOTE: self._note_of(trial),
            }
            | ({"tune_vae.known_good": config.known_good} if config.known_good else {}),
        )
        self._log_params(run.info.run_id, config)
        self._runs[trial], self._shown[trial] = run.info.run_id, set()

    def _log_params(self, run: str, config: TrialConfig) -> None:
        from mlflow.entities import Dataset, DatasetInput, Param

        params = [Param(key, value) for key, value in _params(config).items()]
        self._call(self._client.log_batch, run, params=params)
        (name,) = self._spec.data
        source = masked(json.dumps(self._spec.data, default=str))
        dataset = Dataset(name, self._digest, source_type="tune_vae", source=source)
        self._call(self._client.log_inputs, run, [DatasetInput(dataset)])

    def _reopen(self, config: TrialConfig) -> None:
        trial, run = config.trial, self._runs[config.trial]
        self._flush()
        self._log_params(run, config)
        # The one curve that is finite in every epoch tells which epochs were shown.
        history = self._call(self._client.get_metric_history, run, "sched/kl_weight")
        self._shown[trial] = {metric.step for metric in history}
        self._drawing.add(trial)
        self._call(self._client.update_run, run, status="RUNNING")
        self._ended.discard(trial)

    def _log(self, report: EpochReport, verdict: Verdict) -> None:
        # By number, because epochs that are sent in a row may come out of order. The last
        # word on an epoch is that of `_conclude`.
        self._verdicts.setdefault(report.trial, {}).setdefault(report.epoch, verdict)
        shown = self._shown.setdefault(report.trial, set())
        if report.trial in self._runs and report.epoch not in shown:
            shown.add(report.epoch)
            self._pending.setdefault(report.trial, []).append(_metrics(report))
            if is_drawn(report.epoch):
                self._drawing.add(report.trial)

    def _flush(self) -> None:
        for trial in list(self._pending):
            epochs = self._pending.pop(trial)
            self._attempt(functools.partial(self._send, trial, epochs))
        while self._drawing:
            self._attempt(functools.partial(self._call, self._draw, self._drawing.pop()))

    def _draw(self, trial: int) -> None:
        """Show what a trial drew and MLflow does not show yet.

        A file's name follows from what it shows: if a kill makes it come twice, it is there once.
        """
        from mlflow import Image

        run = self._runs[trial]
        there = {Path(file.path).name for file in self._client.list_artifacts(run, "images")}
        shown = {tuple(match.groups()) for name in there if (match := _THUMBNAIL.fullmatch(name))}
        with tempfile.TemporaryDirectory() as folder:
            for epoch in self._store.drawn(trial):
                if {(name, str(epoch)) for name in DRAWINGS} <= shown:
                    continue
                drawn_at, drawings = self._store.drawings(trial, epoch)
                for name, pixels_HWC in drawings.items():
                    image = Image(enlarged(pixels_HWC, SIDE).numpy()).to_pil()
                    file = Path(folder) / _image_name(run, name, epoch, drawn_at)
                    image.save(f"{file}.png")
                    image.save(f"{file}+compressed.webp", lossless=True)
            if any(Path(folder).iterdir()):
                self._client.log_artifacts(run, folder, "images")
                self._client.set_tag(run, "mlflow.loggedImages", "True")

    def _send(self, trial: int, epochs: list[list[Any]]) -> None:
        from mlflow.entities import RunTag

        note = [RunTag(NOTE, self._note_of(trial))]
        for start in range(0, len(epochs), EPOCHS_IN_A_REQUEST):
            part = epochs[start : start + EPOCHS_IN_A_REQUEST]
            metrics = [metric for epoch in part for metric in epoch]
            self._call(self._client.log_batch, self._runs[trial], metrics=metrics, tags=note)

    def _note_of(self, trial: int, verdict: Verdict | None = None) -> str:
        """What a trial's page says: the verdict that is given, or its latest, and all before."""
        verdicts = self._verdicts.get(trial, {})
        latest = verdict or (verdicts[max(verdicts)] if verdicts else None)
        head = ""
        if latest:
            word = latest.kind.value.replace("_", " ")
            head = f"**{word}**: {latest.reason[:MOST_OF_A_SENTENCE]}"
        # A trial that was lost again says so itself.
        backs = [str(back) for back in self._rollbacks.get(trial, ()) if str(back) not in head]
        parts = [
            head,
            *(f"Rolled back: {back}" for back in backs),
            markdown(verdicts),
            f"Train it again: `tune-vae train {self._spec.file} --trial {trial}`",
        ]
        return "\n\n".join(filter(None, parts))

    def _roll_back(self, trial: int, rollbacks: Sequence[Rollback]) -> None:
        self._rollbacks[trial] = rollbacks
        if trial in self._runs:
            self._tag(trial, "rollbacks", str(len(rollbacks)))
            self._tag(trial, NOTE, self._note_of(trial))

    def _conclude(self, result: TrialResult) -> None:
        from mlflow.entities import Metric, RunTag

        if result.trial not in self._runs:
            return
        self._drawing.add(result.trial)
        self._flush()
        run, kind = self._runs[result.trial], result.verdict.kind
        self._verdicts.setdefault(result.trial, {})[result.last.epoch] = result.verdict
        self._rollbacks[result.trial] = result.rollbacks
        moment = _moment(result.last)
        # A kill may have come after this and before the ledger knew.
        known = self._call(self._client.get_run, run).data.metrics
        metrics = [
            Metric(key, value, moment, 0) for key, value in _final(result) if key not in known
        ]
        tags = {
            "state": "complete" if result.finished else f"pruned_{kind.value}",
            "why": kind.value,
            "verdict": result.verdict.reason[:5000],
            "mlflow.runColor": COLOURS.get(kind, "#888888"),
            NOTE: self._note_of(result.trial),
        }
        if result.rollbacks:
            tags["rollbacks"] = str(len(result.rollbacks))
        self._call(
            self._client.log_batch,
            run,
            metrics=metrics,
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        # A run ends also where its models are refused.
        self._attempt(functools.partial(self._call, self._log_models, run, result))
        self._call(self._client.set_terminated, run, STATUS.get(kind, "KILLED"))
        self._ended.add(result.trial)

    def _log_models(self, run: str, result: TrialResult) -> None:
        """Make a model each of the best and the last checkpoint; one if they are of one epoch."""
        models = {"best": result.best, "last": result.last}
        if result.best and result.best.epoch == result.last.epoch:
            del models["last"]
        found = self._client.search_logged_models([self._experiment], f"source_run_id = '{run}'")
        known = {model.name.rpartition("-")[2]: model for model in found}
        for which, report in models.items():
            done = which in known and known[which].status == "READY"
            if report is None or done:
                continue
            store, trial = self._store, result.trial
            state = store.best(trial, report.epoch) if which == "best" else store.last(trial)
            if state:
                self._log_model(run, known.get(which), which, result, state)

    def _log_model(
        self, run: str, begun: Any, which: str, result: TrialResult, state: Checkpoint
    ) -> None:
        """Show a checkpoint with its scores on the data; `begun` is what a kill left of it."""
        from mlflow.entities import LoggedModelOutput, Metric

        report = result.best if which == "best" and result.best else result.last
        model = begun or self._client.create_logged_model(
            self._experiment,
            f"{result.trial:03d}-{which}",
            run,
            tags={"checkpoint": which, "why": result.verdict.kind.value},
            params=self._client.get_run(run).data.params | {"epoch": str(report.epoch)},
            model_type="vae",
        )
        with tempfile.TemporaryDirectory() as folder:
            save(state, Path(folder) / f"{which}.pt")
            self._client.log_model_artifacts(model.model_id, folder)
        self._client.log_outputs(run, [LoggedModelOutput(model.model_id, report.epoch)])
        # These stand in the run's curves already, and so are not drawn twice.
        metrics = _metrics(report)
        if which == "best":
            moment = _moment(result.last)
            metrics += [Metric(key, value, moment, 0) for key, value in _final(result)]
        (name,) = self._spec.data
        linked = [
            Metric(
                one.key,
                one.value,
                one.timestamp,
                one.step,
                model_id=model.model_id,
                dataset_name=name,
                dataset_digest=self._digest,
            )
            for one in metrics
        ]
        self._client.log_batch(run, metrics=linked)
        self._client.finalize_logged_model(model.model_id, "READY")

    def _fail(self, config: TrialConfig, reason: str) -> None:
        trial = config.trial
        if trial in self._ended:
            return
        if trial not in self._runs or trial not in self._shown:
            # Another process trained it, and may have shown nothing of it.
            self._open(config)
            self._recall(config)
        self._flush()
        run = self._runs[trial]
        self._call(self._client.set_tag, run, "state", Kind.FAILED.value)
        self._call(self._client.set_tag, run, "why", Kind.FAILED.value)
        self._call(self._client.set_tag, run, "verdict", reason[:5000])
        note = self._note_of(trial, Verdict(Kind.FAILED, reason))
        self._call(self._client.set_tag, run, NOTE, note)
        self._call(self._client.set_terminated, run, "FAILED")
        self._ended.add(trial)

    def _recall(self, config: TrialConfig) -> None:
        """Judge anew what an earlier process saw of a trial, and show what it did not show."""
        state = self._store.last(config.trial)
        if state and describes(state["config"], config):
            history = history_of(config, state)
            self._rollbacks[config.trial] = history.rollbacks
            self._log_all(history)

    def _log_all(self, history: History) -> None:
        verdicts = judged(history, self._spec.health)
        for report in history:
            self._log(report, verdicts[report.epoch])

    def _mend(self, config: TrialConfig, end: Callable[[], _End | None]) -> None:
        found = None if config.trial in self._ended else self._call(end)
        if found is None:
            return
        result, reports = found
        self._open(config)
        history = replace(history_of(config, None), rollbacks=result.rollbacks).extend(reports)
        self._log_all(history)
        self._conclude(result)

    def _tag(self, trial: int, key: str, value: str) -> None:
        if trial in self._runs:
            self._call(self._client.set_tag, self._runs[trial], key, value)

    def _note(self, text: str) -> None:
        # All that shows before somebody unfolds it is the first line, and of that the beginning.
        first, dot, rest = text.partition(" · ")
        text = f"{first} · {links(self._experiment, self._study_run)}{dot}{rest}"
        self._call(self._client.set_experiment_tag, self._experiment, NOTE, text)
        self._call(self._widen)
        self._call(self._client.set_terminated, self._study_run, "FINISHED")

    def _widen(self) -> None:
        """Write the views again, with charts for the values that there are."""
        found = [run.data for run in self._find()]
        keys = ("score/bits_per_dim", "score/rate")
        ends = {key: [data.metrics[key] for data in found if key in data.metrics] for key in keys}
        whole = sum(data.tags.get("state") == "complete" for data in found) / max(1, len(found))
        tags = self._client.get_experiment(self._experiment).tags
        for key, view in _views(self._spec, ends, whole).items():
            # What somebody has made his own stays.
            if key in tags and is_ours(tags[key]):
                self._client.set_experiment_tag(self._experiment, key, view)


def experiment_link(spec: StudySpec, server: str) -> str:
    """Address of a study's runs on a running MLflow server.

    Raises:
        StorageError: The tracking store does not answer, or has no such study.
    """
    from mlflow.exceptions import MlflowException

    try:
        found = _client(spec.storage).get_experiment_by_name(spec.name)
    except (MlflowException, OSError) as error:
        raise StorageError(f"MLflow does not answer: {error}") from error
    if found is None:
        raise StorageError(
            f"MLflow has no study `{spec.name}` yet; run `tune-vae search {spec.file}` first"
        )
    return f"{server}/{view_link(found.experiment_id)}"


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
        client = _client(spec.storage)
        run = _study_run(client, _experiment(client, spec), spec, status="FINISHED")
        for file in files:
            client.log_artifact(run, str(file), "report")
        client.set_tag(run, NOTE, summary[:MOST_OF_A_NOTE])
    except Exception as error:  # noqa: BLE001
        # The report is on the disk; a copy is worth no failure. MLflow lets the errors of its
        # database and of the network through.
        return (str(error) or type(error).__name__).splitlines()[0]
    return ""


def read_run(
    run: str, tracking: str = ""
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, str], str]:
    """Curves of any run, by metric, with its parameters, and its verdict if it is one of ours.

    Arguments:
        run: Its id.
        tracking: Address of the tracking store; by default that of this folder's studies.

    Raises:
        StorageError: MLflow does not answer, or has no such run.
    """
    from mlflow.exceptions import MlflowException

    storage = Storage(tracking=tracking) if tracking else Storage().overridden(os.environ)
    place = masked(storage.tracking)
    file = storage.tracking.removeprefix("sqlite:///")
    # MLflow would make an empty one.
    if not is_url(file) and not Path(file).exists():
        raise StorageError(f"there is no MLflow store at {place}; name it with --tracking")
    try:
        client = _client(storage)
        found = client.get_run(run)
        curves = {
            name: [
                (float(point.step), point.value) for point in client.get_metric_history(run, name)
            ]
            for name in found.data.metrics
        }
    except (MlflowException, OSError) as error:
        raise StorageError(f"MLflow at {place}: {str(error).splitlines()[0]}") from error
    return curves, dict(found.data.params), str(found.data.tags.get("verdict", ""))


def serve(
    storage: Storage, *, host: str, port: int, on_ready: Callable[[], None] = lambda: None
) -> None:
    """Show a local tracking store in a browser, until Ctrl-C.

    Arguments:
        storage: Where the store lies.
        host, port: Address to serve on.
        on_ready: Called once the page answers, which takes MLflow some twenty seconds.

    Raises:
        StorageError: The port is taken, or MLflow could not start.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StorageError(
                f"cannot serve on {host}:{port}: {error.strerror}. Choose another `--port`."
            ) from error
    command = [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--artifacts-destination", _absolute(storage.artifacts)),
        *("--host", host, "--port", str(port), "--workers", "1"),
    ]
    # The job runner of its language-model pages costs half a gigabyte and is not used here.
    quiet = os.environ | _QUIET | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # Not among the arguments, which everybody on the machine can read.
    quiet["MLFLOW_BACKEND_STORE_URI"] = storage.tracking
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryFile("w+") as log:
        # Its own process group: MLflow leaves its children behind when it is ended alone.
        server = subprocess.Popen(
            command, env=quiet, stdout=log, stderr=log, start_new_session=True
        )
        try:
            while server.poll() is None and not _answers(host, port):
                time.sleep(0.2)
            if server.poll() is None:
                on_ready()
            if server.wait():
                log.seek(0)
                said = log.read().strip().splitlines() or ["it said nothing"]
                raise StorageError(f"MLflow ended with exit code {server.returncode}: {said[-1]}")
        except KeyboardInterrupt:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait()


def web_application(tracking: str, artifacts: str, *, any_name: bool) -> Any:
    """MLflow's server as an ASGI application, which takes artifacts itself; one for a process.

    Arguments:
        tracking: Its database.
        artifacts: Folder or URL of what it is sent.
        any_name: Whether it may be asked under any name of this machine.
    """
    # What its own command does; MLflow offers no other way to put anything before its pages.
    os.environ.update(
        _QUIET
        | {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "_MLFLOW_SERVER_FILE_STORE": tracking,
            "_MLFLOW_SERVER_REGISTRY_STORE": tracking,
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": artifacts,
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
            "_MLFLOW_SGI_NAME": "uvicorn",
        }
        | ({"MLFLOW_SERVER_ALLOWED_HOSTS": "*"} if any_name else {})
    )
    warnings.filterwarnings("ignore")
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(tracking, tracking, "mlflow-artifacts:/")
    return app


def _answers(host: str, port: int) -> bool:
    # Whatever it says: its door is open long before anybody is at home.
    with (
        contextlib.suppress(OSError, http.client.HTTPException),
        contextlib.closing(http.client.HTTPConnection(host, port, timeout=5)) as connection,
    ):
        connection.request("GET", "/health")
        return connection.getresponse().status > 0
    return False


def _client(storage: Storage) -> "MlflowClient":
    os.environ.update(_QUIET)
    for name, value in _IMPATIENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    if storage.tracking.startswith("sqlite:///"):
        Path(storage.tracking.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(storage.tracking)


def _experiment(client: "MlflowClient", spec: StudySpec) -> str:
    found = client.get_experiment_by_name(spec.name)
    if found:
        return str(found.experiment_id)
    place = None if is_server(spec.storage) else f"{_artifact_root(spec.storage)}/{spec.name}"
    tags = {"tune_vae.study": spec.name, "mlflow.experimentKind": "custom_model_development"}
    tags |= _views(spec, {})
    return str(client.create_experiment(spec.name, artifact_location=place, tags=tags))


def _views(
    spec: StudySpec, ends: Mapping[str, Sequence[float]], whole: float = 0.0
) -> dict[str, str]:
    now = int(time.time() * 1000)
    return saved_views(now, epochs=spec.train.epochs, ends=ends, whole=whole)


def is_server(storage: Storage) -> bool:
    """Whether the tracking store is an MLflow server, not a database that MLflow opens."""
    return storage.tracking.startswith(("http://", "https://"))


def _artifact_root(storage: Storage) -> str:
    given = _absolute(storage.artifacts)
    return given.rstrip("/") if is_url(given) else Path(given).as_uri()


def _absolute(place: str) -> str:
    return place if is_url(place) else str(Path(place).resolve())


def try_server(storage: Storage) -> tuple[float, str]:
    """Ask an MLflow server for its time and its artifacts; leaves nothing there.

    If it takes artifacts itself, a small one is written, listed, read and removed.

    Returns:
        Its time in seconds since 1970, and where the artifacts of new experiments go:
        `mlflow-artifacts:/…` if the server takes them, the place otherwise.

    Raises:
        StorageError: It does not answer, or not as it should.
    """
    client = _client(storage)
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    address = get_default_host_creds(storage.tracking)
    try:
        answer = http_request(address, "/health", "GET", max_retries=0, timeout=SERVER_SECONDS)
        clock = parsedate_to_datetime(answer.headers["Date"]).timestamp()
        newest = client.search_experiments(max_results=2, order_by=["creation_time DESC"])
        # `0` is the one that MLflow makes itself, maybe when the database had no server yet.
        roots = [str(one.artifact_location) for one in newest if one.experiment_id != "0"]
        root = roots[0] if roots else "mlflow-artifacts:/"
        if root.startswith("mlflow-artifacts:"):
            _try_artifacts(storage.tracking)
    except Exception as error:  # noqa: BLE001
        # Beside its own errors, MLflow lets those of its libraries through.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise StorageError(
            f"MLflow at {storage.tracking} does not answer as it should: {reason}. Check "
            "`storage.tracking`, and that the server runs and allows this host "
            "(`mlflow server --allowed-hosts`)."
        ) from None
    return clock, root


def _try_artifacts(server: str) -> None:
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

    word = uuid.uuid4().hex
    place = MlflowArtifactsRepository(f"mlflow-artifacts:/tune-vae-check-{word}", server)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "word.txt"
        file.write_text(word)
        place.log_artifact(str(file))
        try:
            listed = [one.path for one in place.list_artifacts()]
            read = Path(place.download_artifacts("word.txt", folder)).read_text()
        finally:
            place.delete_artifacts()
    if listed != ["word.txt"] or read != word:
        raise OSError("it does not return the artifact that was written to it")


def _study_run(
    client: "MlflowClient", experiment: str, spec: StudySpec, *, status: str = "RUNNING"
) -> str:
    """The study's own run, which views of the trials leave out by its kind; made if there is none.

    Arguments:
        status: Of one that is made now.
    """
    found = client.search_runs([experiment], "tags.`tune_vae.kind` = 'study'")
    if found:
        return str(found[0].info.run_id)
    tags = _common_tags(spec) | {"tune_vae.kind": "study"}
    run = client.create_run(experiment, run_name=f"study {spec.name}", tags=tags)
    client.log_text(run.info.run_id, masked(spec.text), "study.yaml")
    client.update_run(run.info.run_id, status=status)
    return str(run.info.run_id)


def _common_tags(spec: StudySpec) -> dict[str, str]:
    return {
        "tune_vae.study": spec.name,
        "mlflow.source.name": f"tune-vae search {spec.file}",
        "mlflow.source.type": "LOCAL",
    }


_THUMBNAIL = re.compile(r"drawn~(\w+)\+step\+(\d+)\+.*\+compressed\.webp")


def _image_name(run: str, name: str, epoch: int, drawn_at: float) -> str:
    """As MLflow's `log_image` names what its page then shows by step, but always the same."""
    same = uuid.uuid5(uuid.NAMESPACE_URL, f"{run}/{name}/{epoch}")
    return f"drawn~{name}+step+{epoch}+timestamp+{int(1000 * drawn_at)}+{same}"


def _run_name(config: TrialConfig) -> str:
    """At most some 22 characters: MLflow cuts what is longer."""
    number, slash, seed = config.label.partition("/")
    return f"{number:0>3}{slash}{seed} {_short_decoder(config)} b{config.beta_norm:.2g}"


def _kind(config: TrialConfig) -> dict[str, str]:
    """Tags by which pages and searches leave the repeats out, or show them alone."""
    if config.repeat_of is None:
        return {"tune_vae.kind": "trial"}
    return {"tune_vae.kind": "repeat", "tune_vae.repeat_of": str(config.repeat_of)}


def _short_decoder(config: TrialConfig) -> str:
    """`gauss-opt`, `cb`: MLflow's columns and axes are about ten characters wide."""
    likelihood = components.split(config.likelihood)[0].rpartition(":")[2]
    words = likelihood.split("_")
    short = likelihood[:5] if len(words) == 1 else "".join(word[0] for word in words)
    return f"{short}-{components.split(config.sigma)[0][:3]}" if config.sigma else short


def _params(config: TrialConfig) -> dict[str, str]:
    def short(ref: dict[str, Any] | None) -> str:
        if ref is None:
            return "n/a"
        name, arguments = components.split(ref)
        inner = ", ".join(f"{key}={value}" for key, value in arguments.items())
        return f"{name}({inner})" if inner else name

    log_beta = math.log10(config.beta_norm) if config.beta_norm > 0 else -math.inf
    return {
        "decoder": _short_decoder(config),
        "beta_norm": f"{config.beta_norm:.6g}",
        "log10_beta_norm": f"{log_beta:.4f}",
        "beta": f"{config.beta:.6g}",
        "schedule": short(config.schedule),
        "lr": f"{config.lr:.6g}",
        "likelihood": short(config.likelihood),
        "sigma": short(config.sigma),
        "prior": short(config.prior),
        "network": short(config.network),
        "latent_dim": str(config.latent_dim),
        "batch_size": str(config.batch_size),
        "epochs": str(config.epochs),
        "weight_decay": f"{config.weight_decay:g}",
        "grad_clip": "none" if config.grad_clip is None else f"{config.grad_clip:g}",
        "free_bits": f"{config.free_bits:g}",
        "free_bits_total": f"{config.free_bits_total:g}",
        "kl_target": f"{config.kl_target:g}",
        "init_scale": f"{config.init_scale:g}",
        "seed": str(config.seed),
        "data": short(config.data),
    }


def _final(result: TrialResult) -> list[tuple[str, float]]:
    """Scores of the best epoch."""
    appraisal = {f"score/{name}": value for name, value in result.appraisal.items()}
    return _finite((_score(result.best) if result.best else {}) | appraisal)


def _score(report: EpochReport) -> dict[str, float]:
    return {
        "score/bits_per_dim": report.bits_per_dim,
        "score/bits_per_dim_calibrated": report.bits_per_dim_calibrated,
        "score/rate": report.rate_nats,
        "score/distortion": report.distortion_nats,
        "score/mse": report.mse,
        "score/active_units": report.active_units,
        "score/epoch": report.epoch,
    }


def _moment(report: EpochReport) -> int:
    """When an epoch ended, in MLflow's milliseconds.

    Not the time of sending: MLflow leaves out a number that it has with the same step and time. So
    an epoch that two processes send is shown once, whenever the request of the first arrives.
    """
    return int(1000 * (report.ended_at or time.time()))


def _metrics(report: EpochReport) -> list[Any]:
    from mlflow.entities import Metric

    moment = _moment(report)
    pairs = {
        "val/bits_per_dim": report.bits_per_dim,
        "val/bits_per_dim_calibrated": report.bits_per_dim_calibrated,
        "val/rate": report.rate_nats,
        "val/distortion": report.distortion_nats,
        "val/neg_elbo": report.neg_elbo,
        "val/mse": report.mse,
        "val/sample_distance": report.value("sample_distance"),
        "val/probe_error": report.value("probe_error"),
        "health/active_units": report.active_units,
        "health/sigma": report.sigma,
        "health/explained_variance": report.value("explained_variance"),
        "health/mutual_information": report.value("mutual_information_nats"),
        "health/decoder_sensitivity": report.value("decoder_sensitivity"),
        "health/mean_variance": report.value("mean_variance"),
        "health/log_variances_at_bound": report.value("at_bound"),
        "health/grad_norm": report.grad_norm,
        "health/skipped_steps": report.skipped,
        "train/rate": report.train_rate_nats,
        "train/distortion": report.train_distortion_nats,
        "train/neg_elbo": report.train_rate_nats + report.train_distortion_nats,
        "sched/kl_weight": report.kl_weight,
        "sched/beta": report.beta,
        "sched/lr": report.lr,
        "time/epoch_seconds": report.seconds,
    }
    return [Metric(key, value, moment, report.epoch) for key, value in _finite(pairs)]


def _finite(pairs: dict[str, float]) -> list[tuple[str, float]]:
    """Six significant digits; what is not finite is told by the verdict, not by a curve."""
    return [(key, float(f"{value:.6g}")) for key, value in pairs.items() if math.isfinite(value)]
