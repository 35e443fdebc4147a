"""The stored histories of real trainings, their labels, and which of them are held out."""

import gzip
import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tune_vae.science.history import EpochReport, History

FILE = Path(__file__).parent / "histories.json.gz"

Label = Literal["healthy", "marginal", "collapsed", "untrained", "diverged"]

LEFT_OUT = ("trial", "epoch", "seconds", "ended_at")
"""Fields of a report that follow from its place or say nothing of the model."""


@dataclass(frozen=True)
class Run:
    """One training with pruning off.

    Arguments:
        name: Data, network, decoder and number; unique.
        schedule: Name of the KL schedule.
        beta_norm: Normalised KL weight.
        lr: Learning rate.
        history: All its epochs.
    """

    name: str
    schedule: str
    beta_norm: float
    lr: float
    history: History

    @property
    def held_out(self) -> bool:
        """Whether it belongs to the third that nobody looks at while tuning."""
        return held_out(self.name)

    @property
    def edge(self) -> bool:
        """Whether it was drawn near the collapse point, where silence may yet end."""
        return " edge" in self.name

    @property
    def label(self) -> Label:
        """What became of it, by the last epoch alone and by what the decoder does.

        | label     | rule, the first that holds                                              |
        |-----------|-------------------------------------------------------------------------|
        | diverged  | a loss was not finite; or the reconstructions are worse than one        |
        |           | constant image (explained variance below −25 %) and the calibrated bits |
        |           | per dim exceed what a uniform guess costs (log2 of the levels)          |
        | untrained | the reconstructions are worse than one constant image                   |
        | collapsed | they explain less than 5 % of the data's variance, and changing the     |
        |           | latent moves them by less than 5 % of it (`decoder_sensitivity`)        |
        | marginal  | they explain less than 20 %                                             |
        | healthy   | all others                                                              |

        The limit of −25 % leaves room for a continuous Bernoulli, whose mean may lie 8 % beside
        the data's when it has learned nothing else. The rate, by which the engine tells a
        collapse, is not asked. The calibrated bits are those of the decoder's mean under one
        fitted scale, so that they exist for every likelihood.
        """
        last = self.history.last
        bits, levels = last.bits_per_dim_calibrated, self.history.levels
        assert levels is not None
        explained = last.explained_variance
        if not last.finite or explained is None:
            return "diverged"
        if explained < -0.25:
            return "untrained" if bits <= math.log2(levels) else "diverged"
        sensitivity = last.decoder_sensitivity
        if explained < 0.05 and sensitivity is not None and sensitivity < 0.05:
            return "collapsed"
        return "marginal" if explained < 0.2 else "healthy"


def held_out(name: str) -> bool:
    """A third of all names, by hash."""
    return hashlib.blake2b(name.encode(), digest_size=4).digest()[0] % 3 == 0


def save(runs: Iterable[Run], file: Path = FILE) -> None:
    """Column by column and with five digits, which packs to a tenth."""
    stored = [
        {
            "name": run.name,
            "schedule": run.schedule,
            "beta_norm": run.beta_norm,
            "lr": run.lr,
            "epochs": run.history.epochs,
            "values": run.history.values,
            "levels": run.history.levels,
            "columns": _columns(run.history),
        }
        for run in runs
    ]
    text = json.dumps(stored, separators=(",", ":"))
    # Without the moment of its making, so that equal histories give equal files.
    file.write_bytes(gzip.compress(text.encode(), mtime=0))


def load(file: Path = FILE) -> list[Run]:
    return [_run(stored) for stored in json.loads(gzip.decompress(file.read_bytes()))]


def _columns(history: History) -> dict[str, list[Any]]:
    rows = [asdict(report) for report in history]
    names = [name for name in rows[0] if name not in LEFT_OUT]
    return {name: [_short(row[name]) for row in rows] for name in names}


def _short(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_short(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _run(stored: dict[str, Any]) -> Run:
    history = History(
        epochs=stored["epochs"],
        values=stored["values"],
        levels=stored["levels"],
        objective="bits_per_dim_calibrated",
    )
    columns = stored["columns"]
    for epoch in range(1, stored["epochs"] + 1):
        row = {name: column[epoch - 1] for name, column in columns.items()}
        history.add(EpochReport.from_dict({"trial": 0, "epoch": epoch, "seconds": 0.0, **row}))
    return Run(stored["name"], stored["schedule"], stored["beta_norm"], stored["lr"], history)
