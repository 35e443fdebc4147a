"""Studies whose outcome is known: a clear winner, a tie, all collapsed, a front, none ended."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.factories import history, report
from tests.unit.snapshots import config, row
from tests.unit.snapshots import spec as study_spec
from tune_vae.report.evidence import Evidence
from tune_vae.science.health import Kind
from tune_vae.science.history import History
from tune_vae.service.results import StudyResults
from tune_vae.service.rows import TrialRow

EPOCHS = 20
SEARCH = (
    "{beta_norm: {log_uniform: [0.001, 10]}, lr: {log_uniform: [0.0001, 0.1]}, likelihood: "
    "{choice: [gaussian, continuous_bernoulli]}, sigma: {choice: [fixed, optimal]}}"
)


def curve(trial: int, final: float, *, wobble: float = 0.0, epochs: int = EPOCHS) -> History:
    """A history that falls to a value and then moves up and down by `wobble`."""
    return history(
        report(
            n,
            trial=trial,
            bits_per_dim=final + math.exp(-n) + wobble * (-1) ** n,
            bits_per_dim_calibrated=final + 0.1 + math.exp(-n),
            sigma=0.5 / n,
        )
        for n in range(1, epochs + 1)
    )


def finished(trial: int, value: float, *, distance: float = 20.0, **settings: Any) -> TrialRow:
    made = row(trial, Kind.HEALTHY, value, config=config(trial, **settings))
    return replace(made, appraisal={"sample_distance": distance}, ended_at=float(trial))


def dead(trial: int, kind: Kind, epochs: int = 6, **settings: Any) -> TrialRow:
    last = report(epochs, trial=trial, rate_nats=0.001)
    return row(trial, kind, config=config(trial, **settings), epoch=epochs, last=last)


def evidence(
    rows: Sequence[TrialRow],
    *,
    wobble: float = 0.0,
    objective: tuple[str, ...] = ("bits_per_dim",),
    planned: int | None = None,
) -> Evidence:
    """A study with a curve for each row."""
    histories = {
        one.trial: curve(
            one.trial, one.values[0] if one.values else 4.0, wobble=wobble, epochs=one.epoch
        )
        for one in rows
    }
    planned = planned or len(rows)
    found = StudyResults("tiny", objective, planned, rows)
    written = f"[{', '.join(objective)}]" if len(objective) > 1 else objective[0]
    spec = study_spec(search=SEARCH, objective=written)
    return Evidence(spec, found, histories)


OPTIMAL, FIXED = {"optimal": {}}, {"fixed": {}}
BERNOULLI = {"likelihood": {"continuous_bernoulli": {}}, "sigma": None}


def clear_winner() -> Evidence:
    """Trial 3 wins by 0.2 with an optimal sigma; all that collapsed had beta_norm above 1."""
    rows = [
        finished(0, 3.4, sigma=FIXED, beta_norm=0.3, distance=40.0),
        finished(1, 3.6, beta_norm=0.002, known_good="optimal sigma at beta 1", **BERNOULLI),
        finished(2, 3.2, sigma=OPTIMAL, beta_norm=0.1, distance=9.0),
        finished(3, 3.0, sigma=OPTIMAL, beta_norm=0.05, distance=15.0),
        finished(4, 3.5, beta_norm=0.01, **BERNOULLI),
        *(dead(n, Kind.COLLAPSED, beta_norm=float(n), sigma=FIXED) for n in range(5, 9)),
        dead(9, Kind.HOPELESS, epochs=10, beta_norm=0.2, sigma=FIXED),
    ]
    return evidence(rows, wobble=0.001)


def tie() -> Evidence:
    """Trials 2, 0 and 4 differ by 0.01, and their curves move by more than that."""
    values = (3.005, 3.3, 3.0, 3.4, 3.01)
    rows = [finished(n, v, beta_norm=0.01 * (n + 1)) for n, v in enumerate(values)]
    return evidence(rows, wobble=0.01)


def all_collapsed() -> Evidence:
    rows = [dead(n, Kind.COLLAPSED, beta_norm=0.5 + n) for n in range(6)]
    return evidence(rows)


def front() -> Evidence:
    """Of five, four are on the front, which bends at trial 1; trial 3 is beaten by 1."""
    values = ((1.0, 0.10), (3.0, 0.04), (9.0, 0.035), (4.0, 0.05), (30.0, 0.03))
    rows = []
    for n, pair in enumerate(values):
        made = row(n, Kind.HEALTHY, *pair, config=config(n, objective=("rate_nats", "mse")))
        best = report(EPOCHS, trial=n, rate_nats=pair[0], mse=pair[1])
        rows.append(replace(made, best=best, last=best))
    return evidence(rows, objective=("rate_nats", "mse"))


def begun() -> Evidence:
    """Nothing has ended, one runs in its fourth epoch."""
    running = replace(row(0), state="running", kind="", reason="", last=None, epoch=4)
    return evidence([running], planned=10)
