"""Studies as the terminal gets to see them: rows, results and snapshots of a small search."""

import math
from dataclasses import replace
from typing import Any

from tests.factories import report
from tests.unit.spec.studies import study
from tune_vae.science.health import Kind, Verdict
from tune_vae.service.desk import Ended, Running, Snapshot
from tune_vae.service.results import StudyResults
from tune_vae.service.rows import TrialRow
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig

REASONS = {
    Kind.HEALTHY: "3.214 bits per dim in epoch 19; rate 8.1 nats, 4/4 active units",
    Kind.COLLAPSED: "latents unused: rate 0.004 nats after 250 steps at the full KL weight, 0/4 "
    "active units (beta 64). Lower beta_norm, or a smaller sigma.",
    Kind.DIVERGED: "loss not finite in epoch 3 (rate 212 nats the epoch before); learning rate "
    "0.21. A lower learning rate, or stronger clipping.",
    Kind.HOPELESS: "3.91 bits per dim in epoch 12, worse than the median of 6 trials",
    Kind.FAILED: "RuntimeError: [enforce fail at alloc_cpu.cpp:117] not enough memory [/]",
}


def spec(**parts: str) -> StudySpec:
    return study(**({"budget": "{trials: 30}", "train": "{epochs: 20}"} | parts))


def config(trial: int, **changes: Any) -> TrialConfig:
    values = {
        "study": "tiny",
        "trial": trial,
        "seed": trial,
        "data": {"digits": {}},
        "shape": (1, 8, 8),
        "levels": 17,
        "network": {"mlp": {"hidden": [16]}},
        "latent_dim": 4,
        "likelihood": {"gaussian": {}},
        "sigma": {"optimal": {}},
        "schedule": {"linear": {"warmup": 0.25}},
        "beta_norm": 0.0625 * (trial + 1),
        "lr": 1e-3,
        "weight_decay": 0.0,
        "grad_clip": None,
        "epochs": 20,
        "batch_size": 64,
        "objective": ("bits_per_dim",),
    }
    return TrialConfig.model_validate(values | changes)


def row(trial: int, kind: Kind = Kind.HEALTHY, *values: float, **changes: Any) -> TrialRow:
    """An ended trial; finished if it has values."""
    last = report(20, trial=trial)
    made = TrialRow(
        config=config(trial),
        state="ended",
        finished=bool(values),
        kind=kind.value,
        reason=REASONS.get(kind, kind.value),
        values=values,
        best=replace(last, epoch=19, bits_per_dim=values[0]) if values else None,
        last=last,
        epoch=20,
    )
    return replace(made, **changes)


def results(*rows: TrialRow, planned: int = 30, **changes: Any) -> StudyResults:
    return StudyResults("tiny", ("bits_per_dim",), planned, rows, **changes)


ROWS = (
    row(0, Kind.HEALTHY, 3.5),
    row(1, Kind.COLLAPSED),
    row(2, Kind.DIVERGED),
    row(3, Kind.HEALTHY, 3.25, config=config(3, likelihood={"bernoulli": {}}, sigma=None)),
    row(4, Kind.HOPELESS),
    row(5, Kind.FAILED),
)
"""One trial of every kind, and two that finished; number 3 is the best."""


def repeat(of: TrialRow, count: int, *values: float, kind: Kind = Kind.HEALTHY) -> TrialRow:
    """An ended trial again with another seed; finished if it has values."""
    return replace(row(of.trial, kind, *values), config=of.config.repeated(count))


def ended(row: TrialRow, *, is_best: bool = False) -> Ended:
    return Ended(row.config, Verdict(Kind(row.kind), row.reason), row.values, is_best)


def running(trial: int, kind: Kind | None = Kind.HEALTHY, **changes: Any) -> Running:
    """A trial in its seventh epoch, or one that has not finished its first if `kind` is None."""
    if kind is None:
        return Running(config(trial, **changes), started=0.0)
    latest = report(7, trial=trial, rate_nats=8.0)
    rates = (0.1, 1.0, 3.0, math.nan, 6.0, 7.5, 8.0)
    verdict = Verdict(kind, REASONS.get(kind, "rate 0.02 nats; 100 of 250 steps"))
    return Running(config(trial, **changes), 0.0, latest, verdict, rates)


def snapshot(*rows: TrialRow, **changes: Any) -> Snapshot:
    """A search with these ended trials, all of them new, and three that run."""
    shown = Snapshot(
        results=results(*rows),
        running=(
            running(8),
            running(6, None),
            running(7, Kind.WARMING_UP, likelihood={"continuous_bernoulli": {}}, sigma=None),
        ),
        ended=tuple(ended(one, is_best=one.trial == 3) for one in rows),
    )
    return replace(shown, **changes)
