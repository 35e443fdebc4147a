"""A study read by plain queries: ten thousand trials within a second or two.

Optuna reads a study as objects with every parameter and every epoch's value, at a millisecond
and more for each trial. How a study stands needs none of these, and is asked while it is searched.
"""

import enum
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy
from sqlalchemy import DateTime, Float, Integer, String, column, select, table

__all__ = ["REPORTS", "PlainRow", "plain_fact", "plain_rows"]

REPORTS = ("best", "last")
"""Attributes that are long, and are of no use to who only wants to know how a study stands."""

State = enum.Enum("State", "RUNNING COMPLETE PRUNED FAIL WAITING")


@dataclass
class PlainRow:
    """A row of a study; see `rows.Row`. Its parameters are in its configuration."""

    number: int
    state: State
    datetime_start: datetime | None
    datetime_complete: datetime | None
    silent_seconds: float | None
    user_attrs: dict[str, Any] = field(default_factory=dict)
    values: list[float] | None = None
    params: dict[str, Any] = field(default_factory=dict)


# As Optuna 5 makes them.
_STUDIES = table("studies", column("study_id", Integer), column("study_name", String))
_FACTS = table(
    "study_user_attributes",
    column("study_id", Integer),
    *(column(name, String) for name in ("key", "value_json")),
)
_TRIALS = table(
    "trials",
    *(column(name, Integer) for name in ("trial_id", "number", "study_id")),
    column("state", String),
    *(column(name, DateTime) for name in ("datetime_start", "datetime_complete")),
)
_BEATS = table("trial_heartbeats", column("trial_id", Integer), column("heartbeat", DateTime))
_VALUES = table(
    "trial_values",
    *(column(name, Integer) for name in ("trial_id", "objective")),
    column("value", Float),
    column("value_type", String),
)
_ATTRIBUTES = table(
    "trial_user_attributes",
    column("trial_id", Integer),
    *(column(name, String) for name in ("key", "value_json")),
)
_INFINITE = {"INF_POS": math.inf, "INF_NEG": -math.inf}


def plain_rows(
    engine: sqlalchemy.Engine, name: str, *, without: Iterable[str] = ()
) -> list[PlainRow] | None:
    """The rows of a study in the order of their numbers; None if there is no such study.

    Arguments:
        engine: Of a database with Optuna's tables; see `databases.configure`.
        name: Of the study.
        without: Attributes that are left out.
    """
    with engine.connect() as connection:

        def ask(query: sqlalchemy.Select[Any]) -> Any:
            # All at once: ten thousand rows one by one take noticeably longer.
            return connection.execute(query).all()

        found = ask(select(_STUDIES.c.study_id).where(_STUDIES.c.study_name == name))
        if not found:
            return None
        ((study,),) = found
        with_beats = _TRIALS.outerjoin(_BEATS, _BEATS.c.trial_id == _TRIALS.c.trial_id)
        heads = select(*_HEAD).select_from(with_beats).where(_TRIALS.c.study_id == study)
        rows = {
            trial: PlainRow(number, State[state], _aware(begun), _aware(ended), _since(beat, now))
            for trial, number, state, begun, ended, beat, now in ask(heads.order_by("number"))
        }
        # What is asked later is as new or newer: no row that has ended is without its values.
        for trial, value, kind in ask(
            _of(study, _VALUES, "value", "value_type", order="objective")
        ):
            row = rows.get(trial)
            if row:
                row.values = [*(row.values or ()), _INFINITE.get(kind, value)]
        attributes = _of(study, _ATTRIBUTES, "key", "value_json")
        for trial, key, text in ask(attributes.where(_ATTRIBUTES.c.key.not_in(list(without)))):
            if trial in rows:
                rows[trial].user_attrs[key] = json.loads(text)
    return list(rows.values())


def plain_fact(engine: sqlalchemy.Engine, name: str, key: str) -> Any:
    """An attribute of a study; None if it has none of this name, or there is no such study."""
    of_study = _FACTS.join(_STUDIES, _FACTS.c.study_id == _STUDIES.c.study_id)
    asked = select(_FACTS.c.value_json).select_from(of_study)
    with engine.connect() as connection:
        text = connection.execute(
            asked.where(_STUDIES.c.study_name == name, _FACTS.c.key == key)
        ).scalar()
    return None if text is None else json.loads(text)


_HEAD = (
    *(_TRIALS.c[name] for name in ("trial_id", "number", "state")),
    *(_TRIALS.c[name] for name in ("datetime_start", "datetime_complete")),
    _BEATS.c.heartbeat,
    sqlalchemy.func.current_timestamp(),
)


def _of(
    study: int, of_trials: sqlalchemy.TableClause, *names: str, order: str = "trial_id"
) -> sqlalchemy.Select[Any]:
    """Columns of a table that belongs to the trials of a study."""
    mine = of_trials.join(_TRIALS, of_trials.c.trial_id == _TRIALS.c.trial_id)
    columns = [of_trials.c[name] for name in ("trial_id", *names)]
    chosen = select(*columns).select_from(mine).where(_TRIALS.c.study_id == study)
    return chosen.order_by(of_trials.c[order])


def _aware(moment: datetime | None) -> datetime | None:
    """Optuna keeps moments in UTC and does not say so."""
    return moment.replace(tzinfo=UTC) if moment else None


def _since(beat: datetime | None, now: datetime) -> float | None:
    """By the clock of the database, which the machines may not agree with."""
    return (now.replace(tzinfo=None) - beat).total_seconds() if beat else None
