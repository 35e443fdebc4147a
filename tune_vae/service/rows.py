"""What the rows of a study say of its trials.

A trial has one row for each attempt; rows are Optuna's, of which only attributes are read here.
"""

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

from tune_vae.science.health import Kind
from tune_vae.science.history import EpochReport
from tune_vae.spec.study import GRAPH_KNOBS
from tune_vae.spec.trial import TrialConfig

__all__ = [
    "Row",
    "TrialRow",
    "firsts",
    "graph_of",
    "has_rival",
    "is_again",
    "is_constant_again",
    "is_foretold",
    "is_heir",
    "is_interrupted",
    "is_stillborn",
    "is_surplus",
    "memory_limit",
    "most_in_a_pack",
    "origin",
    "plain",
    "table",
    "texts",
]


@dataclass(frozen=True)
class TrialRow:
    """What the ledger knows of a trial.

    Arguments:
        config: Its configuration.
        state: `waiting` for its turn or to be taken up again, `running`, or `ended`.
        finished: Whether it ran all its epochs and counts with its values.
        kind, reason: Its verdict once it has ended, else empty.
        values: Its objectives, if finished.
        best, last: Its best comparable and its last report, once it has ended.
        epoch: Epochs done.
        attempts: How often it was begun; more than 1 after interruptions.
        owner: Host that runs it.
        place: Host and device of its worker, which may be another one of a cluster.
        started, ended_at: Seconds since 1970.
        appraisal: Scores of its best epoch's model, if it finished; see `Appraisal`.
        silent_seconds: For how long its lease was not renewed, if that is known.
    """

    config: TrialConfig
    state: str
    finished: bool
    kind: str
    reason: str
    values: tuple[float, ...]
    best: EpochReport | None
    last: EpochReport | None
    epoch: int
    attempts: int = 1
    owner: str = ""
    place: str = ""
    started: float | None = None
    ended_at: float | None = None
    appraisal: Mapping[str, float] = field(default_factory=dict)
    silent_seconds: float | None = None

    @property
    def trial(self) -> int:
        return self.config.trial

    @property
    def ended(self) -> bool:
        return self.state == "ended"

    @property
    def scored(self) -> bool:
        """Whether it finished with values that are all finite."""
        return self.finished and bool(self.values) and all(map(math.isfinite, self.values))


_ENDS = ("COMPLETE", "PRUNED", "FAIL")


class Row(Protocol):
    """What is read of `optuna.trial.FrozenTrial`."""

    number: int
    params: dict[str, Any]
    user_attrs: dict[str, Any]
    datetime_start: datetime | None
    datetime_complete: datetime | None

    @property
    def state(self) -> Enum: ...

    @property
    def values(self) -> Sequence[float] | None: ...


def origin(row: Row) -> int:
    """The number of the trial that a row belongs to."""
    config = row.user_attrs.get("config")
    return _trial_in(config) if config else row.number


@functools.lru_cache(maxsize=2**18)
def _trial_in(config: str) -> int:
    # Asked of every row whenever a trial is drawn. Optuna keeps the texts of rows that ended.
    return int(json.loads(config)["trial"])


def firsts(rows: Sequence[Row]) -> list[Row]:
    """The first row of each trial: what the budget counts."""
    return [
        row
        for row in rows
        if origin(row) == row.number
        and not (is_surplus(row) or is_stillborn(row) or is_foretold(row))
    ]


def is_surplus(row: Row) -> bool:
    """Whether a row was one too many, because two processes acted at the same moment."""
    return bool(row.user_attrs.get("surplus"))


def is_foretold(row: Row) -> bool:
    """Whether a row is a point that was drawn and not trained; see `foretold`. It is no trial."""
    return "foretold" in row.user_attrs


def is_stillborn(row: Row) -> bool:
    return row.state.name == "FAIL" and "config" not in row.user_attrs


def is_interrupted(row: Row) -> bool:
    """Whether a row ended without ending its trial.

    A verdict alone does not tell: it is written before the row's end, and a kill may come between.
    """
    if row.state.name != "FAIL":
        return False
    broke = row.user_attrs.get("verdict") == Kind.FAILED.value
    return not (broke or is_surplus(row) or is_stillborn(row))


def is_again(row: Row) -> bool:
    """Whether a row goes on with a trial that another had begun."""
    return "config" in row.user_attrs


def is_heir(row: Row) -> bool:
    """Whether a row was added to go on with an interrupted one."""
    return "attempts" in row.user_attrs


def most_in_a_pack(row: Row, size: int) -> int:
    """How many trials a pack may have that takes up a row which waits: those of one that broke
    its worker, as by want of memory, go on in packs of half its size.

    Arguments:
        row: Which.
        size: If its worker did not break.
    """
    return int(row.user_attrs.get("pack", size))


def memory_limit(rows: Sequence[Row], graph: Mapping[str, Any], size: int) -> int:
    """How many trials of a graph may be begun in one pack, after some that ran out of memory."""
    lacked = [
        int(row.user_attrs["members"]) // 2
        for row in rows
        if row.user_attrs.get("out_of_memory") and graph_of(row) == graph
    ]
    return max(1, min([size, *lacked]))


def graph_of(row: Row) -> dict[str, Any]:
    """The parameters that the trials of a pack have in common."""
    return {name: value for name, value in row.params.items() if name.split(".")[0] in GRAPH_KNOBS}


def has_rival(row: Row, rows: Sequence[Row]) -> bool:
    """Whether an earlier row goes on with the same trial: two processes mended one lineage."""
    return any(
        origin(other) == origin(row) and not is_interrupted(other) and not is_surplus(other)
        for other in rows[: row.number]
    )


def is_constant_again(row: Row, rows: Sequence[Row]) -> bool:
    """Whether an earlier row tries the same constant: two processes began the study at once."""
    constant = row.user_attrs.get("known_good")
    return constant is not None and any(
        other.user_attrs.get("known_good") == constant
        and not is_surplus(other)
        and not is_stillborn(other)
        for other in rows[: row.number]
    )


def table(rows: Sequence[Row], known: dict[int, TrialRow] | None = None) -> list[TrialRow]:
    """The trials of a study, each by its newest row, in the order of their numbers.

    Arguments:
        rows: Of the study, in the order of their numbers.
        known: What the rows that ended say of their trials, by number; those that have ended
            since are added.
    """
    known = {} if known is None else known
    newest: dict[int, Row] = {}
    for row in rows:
        if "config" in row.user_attrs and not is_surplus(row):
            newest[origin(row)] = row
    found = []
    for _, row in sorted(newest.items()):
        trial = known.get(row.number) or _row(row)
        if trial.ended:
            known[row.number] = trial
        found.append(trial)
    return found


def _row(row: Row) -> TrialRow:
    attrs = row.user_attrs
    ended = row.state.name in _ENDS and not is_interrupted(row)
    state = "ended" if ended else "running" if row.state.name == "RUNNING" else "waiting"
    return TrialRow(
        config=TrialConfig.model_validate_json(attrs["config"]),
        state=state,
        finished=row.state.name == "COMPLETE",
        kind=attrs.get("verdict", ""),
        reason=attrs.get("reason", ""),
        values=tuple(row.values or ()) if row.state.name == "COMPLETE" else (),
        best=_report(attrs.get("best")),
        last=_report(attrs.get("last")),
        appraisal={key: float(text) for key, text in attrs.get("appraisal", {}).items()},
        epoch=int(attrs.get("epoch", 0)),
        attempts=int(attrs.get("attempts", 1)),
        owner=attrs.get("owner", "").partition(" ")[0],
        place=attrs.get("place", ""),
        started=_seconds(row.datetime_start),
        ended_at=_seconds(row.datetime_complete),
        # Of those that were read by Optuna it is not known.
        silent_seconds=getattr(row, "silent_seconds", None) if state == "running" else None,
    )


def _seconds(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None


def texts(numbers: Mapping[str, float]) -> dict[str, str]:
    """Numbers as JSON can hold them, finite or not."""
    return {key: repr(value) for key, value in numbers.items()}


def plain(report: EpochReport) -> dict[str, Any]:
    """A report as JSON can hold it: numbers that are not finite become text."""
    values = report.to_dict()
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
        if key != "rate_per_latent_nats"
    } | {"rate_per_latent_nats": [str(rate) for rate in report.rate_per_latent_nats]}


def _report(values: dict[str, Any] | None) -> EpochReport | None:
    if not values:
        return None
    numbers = {
        key: float(value) if isinstance(value, str) else value for key, value in values.items()
    }
    numbers["rate_per_latent_nats"] = [float(rate) for rate in values["rate_per_latent_nats"]]
    return EpochReport.from_dict(numbers)
