"""The stored curves of real trainings, each with the way in which it was spoilt."""

import argparse
import collections
import csv
import itertools
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from tune_vae.science.curve import Curve, CurvePoint
from tune_vae.science.diagnosis import Cause, diagnose

CAUSES = {
    "healthy": Cause.HEALTHY,
    "healthy_binary": Cause.HEALTHY,
    "collapsed": Cause.COLLAPSE,
    "exploding_lr": Cause.LEARNING_RATE,
    "exploding_init": Cause.INITIALISATION,
    "exploding_scale": Cause.DATA_SCALE,
    "unregularised": Cause.NO_REGULARISATION,
    "overfitting": Cause.OVERFITTING,
    "underfitting": Cause.UNDERFITTING,
    "mean": Cause.MEAN_REDUCTION,
    "warm_up": Cause.WARM_UP,
    "improper": Cause.IMPROPER,
    "scale_fixed": Cause.FIXED_SCALE,
}
"""Of each way to spoil a training, and of two that do not."""

FILE = Path(__file__).parent / "curves.csv"


@dataclass(frozen=True)
class Row:
    """One epoch of one training, as its log would state it.

    Arguments:
        way: How the training was spoilt; see `make_curves`.
        seed: Of everything that was drawn.
        values, latents: N and M.
        lr: Learning rate.
        epoch: From 1.
        loss, recon, kl: Of training.
        val_loss: Of validation, with the KL weight of training.
    """

    way: str
    seed: int
    values: int
    latents: int
    lr: float
    epoch: int
    loss: float
    recon: float
    kl: float
    val_loss: float


def save(rows: Iterable[Row], file: Path = FILE) -> None:
    """With five digits, as a log might print."""
    with file.open("w", newline="") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow([field.name for field in fields(Row)])
        for row in rows:
            table.writerow([f"{v:.5g}" if isinstance(v, float) else v for v in astuple(row)])


def load(file: Path = FILE) -> list[list[Row]]:
    """One list per training."""
    with file.open(newline="") as lines:
        rows = [
            Row(
                row["way"],
                *(int(row[name]) for name in ("seed", "values", "latents")),
                float(row["lr"]),
                int(row["epoch"]),
                *(float(row[name]) for name in ("loss", "recon", "kl", "val_loss")),
            )
            for row in csv.DictReader(lines)
        ]
    return [list(one) for _, one in itertools.groupby(rows, lambda row: (row.way, row.seed))]


def curve_of(rows: list[Row], *, sized: bool = True) -> Curve:
    """What the log of a training says.

    Arguments:
        sized: Whether N and M are told beside it.
    """
    points = tuple(CurvePoint(r.epoch, r.loss, r.recon, r.kl, r.val_loss) for r in rows)
    first = rows[0]
    size = {"values": first.values, "latents": first.latents} if sized else {}
    return Curve(points, lr=first.lr, **size)


def main() -> None:
    """How often the right cause comes first in a file of trainings."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=FILE)
    trainings = load(parser.parse_args().file)
    for known, sized, with_lr in (("log, N, M, lr", 1, 1), ("log, N, M", 1, 0), ("log", 0, 0)):
        right = collections.Counter[str]()
        for rows in trainings:
            curve = curve_of(rows, sized=bool(sized))
            told = diagnose(curve if with_lr else replace(curve, lr=None)).first.cause
            right[rows[0].way] += told is CAUSES[rows[0].way]
            if told is not CAUSES[rows[0].way]:
                print(f"  {rows[0].way} {rows[0].seed}: {told.value}")
        print(f"{known}: {right.total()} of {len(trainings)}: {dict(right)}")


if __name__ == "__main__":
    main()
