"""A search as MLflow shows it while it runs: one run per trial, in the study's experiment."""

import json
import math
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tune_vae.errors import masked
from tune_vae.science.health import Kind, Verdict
from tune_vae.science.history import EpochReport, History, Rollback
from tune_vae.service.journey import TrialResult, describes, history_of
from tune_vae.service.palette import COLOURS
from tune_vae.service.phases import judged, markdown
from tune_vae.service.tracking.client import client_of
from tune_vae.service.tracking.drawings import show_drawings, shown_drawings
from tune_vae.service.tracking.entries import (
    NOTE,
    STATUS,
    common_tags,
    final_scores,
    kind_tags,
    metrics_of,
    moment_of,
    params_of,
    run_name,
)
from tune_vae.service.tracking.models import Models
from tune_vae.service.tracking.spool import Spool
from tune_vae.service.tracking.study_page import StudyPage
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig
from tune_vae.training.checkpoint import CheckpointStore
from tune_vae.training.gallery import is_drawn

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["EPOCHS_IN_A_REQUEST", "MlflowTracker"]

MOST_OF_A_SENTENCE = 1500
"""Characters; an error's own words may be longer."""
DRAW_SECONDS = 20.0
"""From one time that pictures of running trials are shown to the next: each costs MLflow a good
50 ms. Those of a trial that ends are shown at once, and all of them when the search ends."""
EPOCHS_IN_A_REQUEST = 50
"""A request takes 1,000 numbers, and the epochs in it are shown whole or not at all."""


_End = tuple[TrialResult, list[EpochReport]]
"""How a trial ended, and its epochs."""


class MlflowTracker:
    """Shows a study in MLflow. Every method returns at once; see `journey.Tracker`.

    Arguments:
        spec: The study.
        digest: Fingerprint of its data.
        store: Where its checkpoints lie.
        is_lost: Whether a trial went on elsewhere since it was opened here. Nothing more of it is
            shown then: whoever has it shows all of it, also what is still queued here.
    """

    def __init__(
        self,
        spec: StudySpec,
        *,
        digest: str,
        store: CheckpointStore,
        is_lost: Callable[[int], bool] = lambda trial: False,
    ) -> None:
        self._spec, self._digest, self._store = spec, digest, store
        self._is_lost = is_lost
        self._runs: dict[int, str] = {}
        self._shown: dict[int, set[int]] = {}
        self._pending: dict[int, list[list[Any]]] = {}
        self._drawing: set[int] = set()
        self._drawn: dict[int, set[tuple[str, int]]] = {}
        self._drew = -math.inf
        self._unconcluded: set[int] = set()
        self._verdicts: dict[int, dict[int, Verdict]] = {}
        self._rollbacks: dict[int, Sequence[Rollback]] = {}
        self._spool = Spool()
        self._spool.start(self._connect, flush=self._flush, finish=self._finish)

    @property
    def trouble(self) -> str:
        """Why MLflow does not answer at the moment; empty when it does."""
        return self._spool.trouble

    def open(self, config: TrialConfig) -> None:
        """Begin the run of a trial, or go on with the one it has."""
        self._spool.put(self._open, config)

    def log(self, report: EpochReport, verdict: Verdict) -> None:
        """Show an epoch; one that was shown before is left out."""
        self._spool.put(self._log, report, verdict)

    def roll_back(self, trial: int, rollbacks: Sequence[Rollback]) -> None:
        """Show all rollbacks of a trial so far."""
        self._spool.put(self._roll_back, trial, rollbacks)

    def conclude(self, result: TrialResult) -> None:
        """Show how a trial ended, with its checkpoints."""
        self._spool.put(self._conclude, result)

    def fail(self, config: TrialConfig, reason: str) -> None:
        """Show that a trial broke, with the epochs that it came to."""
        self._spool.put(self._fail, config, reason)

    def mend(self, config: TrialConfig, end: Callable[[], _End | None]) -> None:
        """Complete the run of an ended trial if a kill left it open; only then call `end`."""
        self._spool.put(self._mend, config, end)

    def note(self, text: str) -> None:
        """What the experiment's page says of the study."""
        self._spool.put(self._note, text)

    def tag(self, trial: int, key: str, value: str) -> None:
        """Say something of a trial that its own end could not."""
        self._spool.put(self._tag, trial, key, value)

    def close(self, *, silence: float = 120.0, limit: float = math.inf) -> bool:
        """Finish what is queued; whether MLflow took all there ever was. See `Spool.close`."""
        return self._spool.close(silence=silence, limit=limit)

    def _connect(self) -> None:
        # Imported in the thread: it takes seconds, which the first trials need not wait for.
        self._client: MlflowClient = client_of(self._spec.storage)
        self._page = StudyPage(self._client, self._spec)
        (data,) = self._spec.data
        self._models = Models(self._client, self._page.experiment, self._store, data, self._digest)
        found = self._page.once()
        self._runs = {int(run.data.tags["tune_vae.trial"]): run.info.run_id for run in found}
        self._ended = {
            int(run.data.tags["tune_vae.trial"]) for run in found if run.info.status != "RUNNING"
        }

    def _open(self, config: TrialConfig) -> None:
        trial = config.trial
        # Of an attempt before, after which others may have had it: the new one tells them anew.
        self._pending.pop(trial, None)
        run, begun_before = self._spool.call(self._found_or_begun, config)
        if run is None:
            return
        self._runs[trial] = run
        if begun_before:
            self._reopen(config)
            return
        self._log_params(run, config)
        self._shown[trial], self._drawn[trial] = set(), set()
        self._unconcluded.add(trial)

    def _found_or_begun(self, config: TrialConfig) -> tuple[str | None, bool]:
        """The run of a trial, and whether it was there; None if others are to begin it.

        Repeated as a whole: another machine may have begun it since, and a server that died may
        have begun it without saying so.
        """
        trial = config.trial
        known = self._page.trials(f" and tags.`tune_vae.trial` = '{trial}'")
        # Asked last, lest it be begun twice by one who fell asleep after the look.
        if self._is_lost(trial):
            return None, False
        if known:
            return known[0].info.run_id, True
        run = self._client.create_run(
            self._page.experiment,
            run_name=run_name(config),
            tags=common_tags(self._spec)
            | kind_tags(config)
            | {
                "tune_vae.trial": str(trial),
                "tune_vae.data_digest": self._digest,
                "host": socket.gethostname(),
                NOTE: self._note_of(trial),
            }
            | ({"tune_vae.known_good": config.known_good} if config.known_good else {}),
        )
        return run.info.run_id, False

    def _log_params(self, run: str, config: TrialConfig) -> None:
        from mlflow.entities import Dataset, DatasetInput, Param

        params = [Param(key, value) for key, value in params_of(config).items()]
        self._spool.call(self._client.log_batch, run, params=params)
        (name,) = self._spec.data
        source = masked(json.dumps(self._spec.data, default=str))
        dataset = Dataset(name, self._digest, source_type="tune_vae", source=source)
        self._spool.call(self._client.log_inputs, run, [DatasetInput(dataset)])

    def _reopen(self, config: TrialConfig) -> None:
        trial, run = config.trial, self._runs[config.trial]
        self._log_params(run, config)
        # The one curve that is finite in every epoch tells which epochs were shown.
        history = self._spool.call(self._client.get_metric_history, run, "sched/kl_weight")
        self._shown[trial] = {metric.step for metric in history}
        self._drawing.add(trial)
        self._drawn.pop(trial, None)
        self._spool.call(self._client.update_run, run, status="RUNNING")
        self._ended.discard(trial)
        self._unconcluded.discard(trial)

    def _log(self, report: EpochReport, verdict: Verdict) -> None:
        # By number, because epochs that are sent in a row may come out of order. The last
        # word on an epoch is that of `_conclude`.
        self._verdicts.setdefault(report.trial, {}).setdefault(report.epoch, verdict)
        shown = self._shown.setdefault(report.trial, set())
        if report.trial in self._runs and report.epoch not in shown:
            shown.add(report.epoch)
            self._pending.setdefault(report.trial, []).append(metrics_of(report))
            if is_drawn(report.epoch):
                self._drawing.add(report.trial)

    def _flush(self) -> None:
        self._show(draws=time.monotonic() > self._drew + DRAW_SECONDS)

    def _finish(self) -> None:
        self._show(draws=True)

    def _show(self, *, draws: bool) -> None:
        if draws and self._drawing:
            self._drew = time.monotonic()
        for trial in {*self._pending, *(self._drawing if draws else ())}:
            self._flush_one(trial, draws=draws)

    def _flush_one(self, trial: int, *, draws: bool = True) -> None:
        if self._spool.call(self._is_lost, trial):
            self._pending.pop(trial, None)
            self._drawing.discard(trial)
        if trial in self._pending:
            self._spool.attempt(self._send, trial, self._pending.pop(trial))
        if draws and trial in self._drawing:
            self._drawing.discard(trial)
            self._spool.attempt(self._draw, trial)

    def _send(self, trial: int, epochs: list[list[Any]]) -> None:
        from mlflow.entities import RunTag

        note = [RunTag(NOTE, self._note_of(trial))]
        for start in range(0, len(epochs), EPOCHS_IN_A_REQUEST):
            part = epochs[start : start + EPOCHS_IN_A_REQUEST]
            metrics = [metric for epoch in part for metric in epoch]
            self._spool.call(self._client.log_batch, self._runs[trial], metrics=metrics, tags=note)

    def _draw(self, trial: int) -> None:
        run = self._runs[trial]
        if trial not in self._drawn:
            self._drawn[trial] = self._spool.call(shown_drawings, self._client, run)
        shown = self._drawn[trial]
        self._drawn[trial] = self._spool.call(
            show_drawings, self._client, run, self._store, trial, shown
        )

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
            f"Train it again: `tune-vae train {self._spec.operand} --trial {trial}`",
        ]
        return "\n\n".join(filter(None, parts))

    def _roll_back(self, trial: int, rollbacks: Sequence[Rollback]) -> None:
        self._rollbacks[trial] = rollbacks
        if trial in self._runs:
            self._tag(trial, "rollbacks", str(len(rollbacks)))
            self._tag(trial, NOTE, self._note_of(trial))

    def _conclude(self, result: TrialResult) -> None:
        from mlflow.entities import Metric, RunTag

        if result.trial not in self._runs or self._spool.call(self._is_lost, result.trial):
            return
        self._drawing.add(result.trial)
        self._flush_one(result.trial)
        run, kind = self._runs[result.trial], result.verdict.kind
        self._verdicts.setdefault(result.trial, {})[result.last.epoch] = result.verdict
        self._rollbacks[result.trial] = result.rollbacks
        moment = moment_of(result.last)
        new = result.trial in self._unconcluded
        self._unconcluded.discard(result.trial)
        # A kill may have come after this and before the ledger knew.
        known = {} if new else self._spool.call(self._client.get_run, run).data.metrics
        metrics = [
            Metric(key, value, moment, 0)
            for key, value in final_scores(result)
            if key not in known
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
        self._spool.call(
            self._client.log_batch,
            run,
            metrics=metrics,
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        # A run ends also where its models are refused.
        self._spool.attempt(self._log_models, run, result, new)
        self._spool.call(self._client.set_terminated, run, STATUS.get(kind, "KILLED"))
        self._ended.add(result.trial)

    def _log_models(self, run: str, result: TrialResult, new: bool) -> None:
        # Only the first time, as what is repeated may have come halfway.
        firsts = iter([new])
        self._spool.call(lambda: self._models.log(run, result, none_yet=next(firsts, False)))

    def _fail(self, config: TrialConfig, reason: str) -> None:
        trial = config.trial
        if trial in self._ended:
            return
        if trial not in self._runs or trial not in self._shown:
            # Another process trained it, and may have shown nothing of it.
            self._open(config)
            self._recall(config)
        if trial not in self._runs:
            return
        self._flush_one(trial)
        run = self._runs[trial]
        self._spool.call(self._client.set_tag, run, "state", Kind.FAILED.value)
        self._spool.call(self._client.set_tag, run, "why", Kind.FAILED.value)
        self._spool.call(self._client.set_tag, run, "verdict", reason[:5000])
        note = self._note_of(trial, Verdict(Kind.FAILED, reason))
        self._spool.call(self._client.set_tag, run, NOTE, note)
        self._spool.call(self._client.set_terminated, run, "FAILED")
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
        found = None if config.trial in self._ended else self._spool.call(end)
        if found is None:
            return
        result, reports = found
        self._open(config)
        history = replace(history_of(config, None), rollbacks=result.rollbacks).extend(reports)
        self._log_all(history)
        self._conclude(result)

    def _tag(self, trial: int, key: str, value: str) -> None:
        if trial in self._runs:
            self._spool.call(self._client.set_tag, self._runs[trial], key, value)

    def _note(self, text: str) -> None:
        self._spool.call(self._page.note, text)
        self._spool.call(self._page.widen, self._spool.call(self._page.once))
        self._spool.call(self._page.end)
