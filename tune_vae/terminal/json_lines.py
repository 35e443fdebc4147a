"""A study as lines of JSON, for programs: one object a line, as `lines.schema.json` has it.

The first line of a search is `study`, the last `study_end`. Numbers that are not finite are null.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tune_vae.errors import masked
from tune_vae.service.certainty import certainty
from tune_vae.service.plain_json import finite

if TYPE_CHECKING:
    from tune_vae.science.diagnosis import Diagnosis
    from tune_vae.service.curves import Source
    from tune_vae.service.desk import Running, Snapshot
    from tune_vae.service.results import StudyResults
    from tune_vae.service.rows import TrialRow
    from tune_vae.spec.study import StudyOutline, StudySpec
    from tune_vae.spec.trial import TrialConfig

__all__ = ["JsonView", "write_diagnosis", "write_report", "write_results", "write_status"]

VERSION = 1
"""Of the lines. It changes when a key goes or means something else, and not when one is added."""


class JsonView:
    """A running search; a trial that ends has begun, and each epoch is told at most once.

    Epochs that are shorter than the half-second between two looks may be passed over.
    """

    def __init__(self, out: Console, spec: "StudySpec", command: str) -> None:
        self._out, self._trouble = out, ""
        self._epochs: dict[int, int] = {}
        _write(out, "study", _study(spec) | {"command": command})

    def show(self, snapshot: "Snapshot") -> None:
        for running in snapshot.running:
            self._start(running.config)
            self._epoch(running)
        for ended in snapshot.ended:
            self._start(ended.config)
            _write(
                self._out,
                "trial_end",
                _names(ended.config)
                | {
                    "verdict": ended.verdict.kind.value,
                    "reason": ended.verdict.reason,
                    "values": ended.values,
                    "best_so_far": ended.is_best,
                },
            )
        for remark in snapshot.remarks:
            _write(self._out, "remark", {"text": remark})
        if snapshot.trouble != self._trouble:
            self._trouble = snapshot.trouble
            _write(self._out, "waiting", {"reason": self._trouble})

    def _start(self, config: "TrialConfig") -> None:
        if config.trial not in self._epochs:
            self._epochs[config.trial] = 0
            _write(self._out, "trial_start", _names(config) | {"config": _config(config)})

    def _epoch(self, running: "Running") -> None:
        config, report, verdict = running.config, running.report, running.verdict
        if report is None or verdict is None or report.epoch <= self._epochs[config.trial]:
            return
        self._epochs[config.trial] = report.epoch
        told = {
            "epoch": report.epoch,
            "epochs": config.epochs,
            "verdict": verdict.kind.value,
            "reason": verdict.reason,
            "values": [report.value(name) for name in config.objective],
            "rate_nats": report.rate_nats,
            "distortion_nats": report.distortion_nats,
            "bits_per_dim": report.bits_per_dim,
            "bits_per_dim_calibrated": report.bits_per_dim_calibrated,
            "active_units": report.active_units,
            "sigma": report.sigma,
            "kl_weight": report.kl_weight,
            "lr": report.lr,
            "seconds": report.seconds,
        }
        _write(self._out, "epoch", _names(config) | told)


def write_results(out: Console, results: "StudyResults", spec: "StudySpec") -> None:
    """How a study ended: the last line of a search."""
    _write(out, "study_end", _study(spec) | _standing(results))


def write_status(out: Console, results: "StudyResults", spec: "StudyOutline") -> None:
    """How a study stands, and what runs or waits."""
    going = [
        _names(row.config)
        | {
            "state": row.state,
            "epoch": row.epoch,
            "epochs": row.config.epochs,
            "attempts": row.attempts,
            "owner": row.owner,
            "place": row.place,
            "lease_seconds": row.silent_seconds,
        }
        for row in (*results.rows, *results.repeats)
        if not row.ended
    ]
    _write(out, "status", _study(spec) | _standing(results) | {"unfinished": going})


def write_report(
    out: Console, results: "StudyResults", spec: "StudySpec", *, page: str, trouble: str
) -> None:
    """Every trial of a study, and where its page lies.

    Arguments:
        page: The page's file.
        trouble: Why it is not in MLflow; empty if it is.
    """
    trials = [_trial(row) for row in (*results.rows, *results.repeats)]
    told = {"all_trials": trials, "page": page, "not_in_mlflow": trouble}
    _write(out, "report", _study(spec) | _standing(results) | told)


def write_diagnosis(out: Console, source: "Source", diagnosis: "Diagnosis") -> None:
    """What is wrong with a training."""
    weight = diagnosis.weight
    told = {
        "source": source.name,
        "epochs": len(source.curve.points),
        "findings": [
            {
                "cause": finding.cause.name.lower(),
                "evidence": finding.evidence,
                "remedies": finding.remedies,
            }
            for finding in diagnosis.findings
        ],
        "beta": weight.last if weight else None,
        "reduction": diagnosis.reduction.value if diagnosis.reduction else None,
        "notes": diagnosis.notes,
    }
    _write(out, "diagnosis", told)


def _write(out: Console, event: str, told: Mapping[str, Any]) -> None:
    line = finite({"v": VERSION, "event": event, **told})
    # Not by `print`, which would take brackets for markup.
    out.out(json.dumps(line, allow_nan=False), highlight=False)


def _study(spec: "StudyOutline") -> dict[str, Any]:
    return {
        "study": spec.name,
        "file": spec.file,
        "objective": spec.objective,
        "trials": spec.budget.trials,
        "epochs": spec.train.epochs,
        "seeds": spec.budget.seeds,
        "ledger": masked(spec.storage.ledger),
        "tracking": masked(spec.storage.tracking),
        "watch": f"tune-vae ui {spec.operand}",
    }


def _standing(results: "StudyResults") -> dict[str, Any]:
    winner = results.winner
    return {
        "ended": len(results.ended),
        "planned": results.planned,
        "verdicts": {kind.value: count for kind, count in results.counts.items()},
        "not_trained": results.foretold,
        "best": _trial(winner) if winner else None,
        "proven": results.proven,
        "front": [{"trial": row.trial, "values": row.values} for row in results.front],
        "finalists": [
            {
                "trial": one.row.trial,
                "means": [estimate.mean for estimate in one.estimates],
                "errors": [estimate.error for estimate in one.estimates],
                "seeds": sum(repeat.ended for repeat in one.repeats),
            }
            for one in results.finalists
        ],
        "certainty": certainty(results) if results.front else "",
    }


def _trial(row: "TrialRow") -> dict[str, Any]:
    return _names(row.config) | {
        "state": row.state,
        "finished": row.finished,
        "verdict": row.kind,
        "reason": row.reason,
        "values": row.values,
        "epoch": row.epoch,
        "scores": dict(row.appraisal),
        "config": _config(row.config),
    }


def _names(config: "TrialConfig") -> dict[str, Any]:
    return {"trial": config.trial, "label": config.label, "repeat_of": config.repeat_of}


_TOLD: Sequence[str] = (
    *("beta_norm", "beta", "decoder", "likelihood", "sigma", "schedule", "prior", "network"),
    *("latent_dim", "lr", "weight_decay", "grad_clip", "batch_size", "epochs", "precision"),
    "seed",
)


def _config(config: "TrialConfig") -> dict[str, Any]:
    return {name: getattr(config, name) for name in _TOLD}
