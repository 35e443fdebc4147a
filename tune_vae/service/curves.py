"""Training curves from anywhere: a log of any usual form, a CSV file, a run in MLflow."""

import csv
import io
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tune_vae.errors import DataError
from tune_vae.science.curve import Curve, CurvePoint

__all__ = ["Source", "parse", "read"]

NAMES = {
    "lr": ("lr", "learning rate"),
    "beta": ("beta", "kl weight", "kld weight"),
    "distortion": (
        *("distortion", "recon", "reconstruction", "rec", "nll", "bce", "mse", "likelihood"),
    ),
    "rate": ("rate", "kl", "kld", "kldiv", "divergence"),
    "loss": ("loss", "objective", "total", "elbo"),
}
"""By which words a quantity is known, the surest first; a name of several is of the first."""
MAXIMISED = ("elbo", "likelihood")
NEGATIVE = ("neg", "negative")
VALIDATION = ("val", "valid", "validation", "test", "eval", "dev")
TRAINING = ("train", "training")
STEPS = ("epoch", "epochs", "ep", "step")
NOT_CURVES = ("score", "system", "best", "time", "health", "sample", "bits", "variance")
"""Words of numbers that are not of an epoch's loss, though their names hold a word of `NAMES`."""
NUMBER = r"[-+]?(?:\d[\d,_]*\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf(?:inity)?)"
PAIR = re.compile(
    rf"[\"']?(?P<name>[a-zA-Z][\w/.\-]*(?:[ ][a-zA-Z][\w/.\-]*)*?)[\"']?\s*[=:]?\s*"
    rf"(?P<value>{NUMBER})(?![\w.])",
    re.IGNORECASE,
)
COUNTED = re.compile(r"^\W*(\d+)\s*/\s*\d+")
RUN = re.compile(r"(?:^|/runs/)(?P<run>[0-9a-f]{32})(?:$|[/?])")


@dataclass(frozen=True)
class Source:
    """A curve, and what beside it is known of its training.

    Arguments:
        name: Where it is from.
        curve: The epochs.
        verdict: What was said of the training when it ended; empty if nothing.
    """

    name: str
    curve: Curve
    verdict: str = ""


@dataclass
class _Epochs:
    """Quantities by epoch, which may come from several lines."""

    points: dict[float, dict[str, float]] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    lr: float | None = None

    def add(self, epoch: float, name: str, value: float) -> None:
        """Keep a value if its name is a quantity's, and of several the surest."""
        known = _quantity(name)
        if known is None:
            return
        quantity, rank, sign = known
        if quantity == "lr":
            self.lr = self.lr or value
            return
        if rank > self.ranks.setdefault(quantity, rank):
            return
        if rank < self.ranks[quantity]:
            self.ranks[quantity] = rank
            for point in self.points.values():
                point.pop(quantity, None)
        self.points.setdefault(epoch, {})[quantity] = sign * value

    def curve(self, source: str) -> Curve:
        if not any({"loss", "distortion", "val_loss"} & set(p) for p in self.points.values()):
            raise DataError(
                f"no loss was found in {source}. Expected are lines such as `epoch 001 | train "
                "loss=0.87 recon=0.84 kl=0.05 | val loss=0.75`, a CSV with columns such as epoch, "
                "loss, recon, kl, val_loss, or metrics of such names"
            )
        epochs = sorted(self.points)
        return Curve(tuple(_whole(CurvePoint(e, **self.points[e])) for e in epochs), lr=self.lr)


def _whole(point: CurvePoint) -> CurvePoint:
    """With losses at the stated KL weight, where both terms are stated, too."""
    if point.beta is None:
        return point
    losses: dict[str, float] = {}
    for name, distortion, rate in (
        ("loss", point.distortion, point.rate),
        ("val_loss", point.val_distortion, point.val_rate),
    ):
        if distortion is not None and rate is not None:
            losses[name] = distortion + point.beta * rate
    return replace(point, **losses)


def _quantity(name: str) -> tuple[str, int, float] | None:
    """Field of `CurvePoint` for a name, how sure that is (0 is surest), and the sign."""
    words = _words(name)
    if any(word in NOT_CURVES for word in words):
        return None
    bare = [word for word in words if word not in (*VALIDATION, *TRAINING, *STEPS)]
    told = f" {' '.join(bare)} "
    for quantity, known in NAMES.items():
        for rank, word in enumerate(known):
            if f" {word} " not in told:
                continue
            rises = bare[-1] in MAXIMISED and not {*NEGATIVE} & {*bare}
            if quantity in ("beta", "lr"):
                return quantity, rank, 1.0
            # `loss` says less than `total loss`, and `loss_kl` is no loss.
            prefix = "val_" if any(word in VALIDATION for word in words) else ""
            return prefix + quantity, 10 * rank + len(bare), -1.0 if rises else 1.0
    return None


def _words(name: str) -> list[str]:
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[^a-z0-9]+", split.lower()) if word]


def read(source: str, *, tracking: str = "") -> Source:
    """A curve by where it lies.

    Arguments:
        source: A file, `-` for the standard input, the id of a run in MLflow, or its address.
        tracking: MLflow's tracking store; by default that of this folder, or the server of the
            address.

    Raises:
        DataError: There is no such file, or no curve in it.
        StorageError: MLflow does not answer, or has no such run.
    """
    run = RUN.search(source)
    if source == "-":
        return Source("the standard input", parse(sys.stdin.read(), "the standard input"))
    if run and not Path(source).exists():
        from tune_vae.service.tracking import read_run

        server = source.partition("/#/")[0] if source.startswith("http") else ""
        metrics, params, verdict = read_run(run["run"], tracking or server)
        return Source(f"run {run['run']}", _of_run(metrics, params, run["run"]), verdict)
    try:
        text = Path(source).read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(
            f"cannot read {source}: {error.strerror}. Give a log, a CSV, the id or the address of "
            "a run in MLflow, or - for the standard input"
        ) from error
    return Source(source, parse(text, source))


def parse(text: str, source: str = "the text") -> Curve:
    """The curve in a log or a CSV.

    Arguments:
        text: One line an epoch, or several.
        source: Its name, for an error.

    Raises:
        DataError: No line has a loss.

    Example:
        >>> parse("Epoch 1: loss 0.9, kl 0.1").points
        (CurvePoint(epoch=1.0, loss=0.9, distortion=None, rate=0.1, val_loss=None,
        val_distortion=None, val_rate=None, beta=None),)
    """
    epochs = _Epochs()
    table = _table(text)
    rows = _of_table(table) if table else _of_lines(text)
    for epoch, name, value in rows:
        epochs.add(epoch, name, value)
    return epochs.curve(source)


def _table(text: str) -> list[dict[str, str]]:
    """The rows of a CSV; empty if the text is none."""
    lines = [line for line in text.splitlines() if line.strip() and line[0] != "#"]
    if len(lines) < 2:
        return []
    cut = max(",;\t", key=lines[0].count)
    names = next(csv.reader([lines[0]], delimiter=cut))
    if len(names) < 2 or not any(_quantity(name) for name in names):
        return []
    if any(_number(name) is not None or "=" in name or ":" in name for name in names):
        return []
    return list(csv.DictReader(io.StringIO("\n".join(lines)), delimiter=cut))


def _of_table(rows: list[dict[str, str]]) -> Iterator[tuple[float, str, float]]:
    counters = [name for name in rows[0] if name and _words(name) and _words(name)[-1] in STEPS]
    counters.sort(key=lambda name: STEPS.index(_words(name)[-1]))
    for place, row in enumerate(rows, 1):
        epoch = _number(row[counters[0]]) if counters else None
        for name, cell in row.items():
            value = _number(cell)
            # A row that is shorter than its header gives None, one that is longer a list.
            if name and name not in counters and value is not None:
                yield (place if epoch is None else epoch), name, value


def _of_lines(text: str) -> Iterator[tuple[float, str, float]]:
    """Epoch, name and value of every pair that a log holds."""
    epoch, numbered, named = 0.0, False, False
    for line in re.split(r"[\r\n]+", text):
        pairs = list(_pairs(line))
        own = [value for name, value in pairs if _words(name)[-1] in STEPS[:3]]
        counted = COUNTED.match(line)
        if own:
            epoch, numbered, named = own[0], True, True
        elif counted and pairs and not named:
            # Where epochs are named, this counts the steps of one.
            epoch, numbered = float(counted[1]), True
        elif not numbered and any(_quantity(name) for name, _ in pairs):
            epoch += 1
        for name, value in pairs:
            yield epoch, name, value


def _pairs(line: str) -> Iterator[tuple[str, float]]:
    """Names and values; `val loss=1 kl=2` tells both of validation, as far as the next bar."""
    for part in re.split(r"[|;]", line):
        section, end = "", 0
        for match in PAIR.finditer(part):
            before = _words(part[end : match.start()]) + match["name"].lower().split()
            said = [word for word in before if word in (*VALIDATION, *TRAINING)]
            section, end = said[-1] if said else section, match.end()
            value = _number(match["value"])
            own = any(word in (*VALIDATION, *TRAINING) for word in _words(match["name"]))
            if value is not None:
                yield (match["name"] if own else f"{section} {match['name']}"), value


def _number(text: Any) -> float | None:
    try:
        return float(str(text).replace(",", "").replace("_", ""))
    except ValueError:
        return None


def _of_run(
    metrics: Mapping[str, Iterable[tuple[float, float]]], params: Mapping[str, str], run: str
) -> Curve:
    epochs = _Epochs()
    for name, points in metrics.items():
        for step, value in points:
            epochs.add(step, name, value)
    curve = epochs.curve(f"the metrics of run {run}: {', '.join(sorted(metrics)) or 'none'}")
    numbers = {name: _number(value) for name, value in params.items()}
    latents = numbers.get("latent_dim") or numbers.get("latents") or numbers.get("z_dim")
    lr = numbers.get("lr") or numbers.get("learning_rate") or curve.lr
    return replace(
        curve,
        latents=int(latents) if latents and math.isfinite(latents) else None,
        lr=lr,
        # Ours is written with its arguments: `student_t(df=3)`.
        likelihood=params.get("likelihood", "").partition("(")[0],
    )
