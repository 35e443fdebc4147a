"""Saved views of a study in MLflow's pages: leaderboard, curves, why trials ended, repeats.

A view is a tag of the experiment that MLflow's page reads (since MLflow 3.15). Its form is
internal to MLflow, so it is written, never read back, and nothing depends on it.
"""

import base64
import json
import zlib
from typing import Any

__all__ = ["LEADERBOARD", "saved_views"]

LEADERBOARD = "tv-leaderboard"

_TRIALS = "tags.`tune_vae.kind` = 'trial'"
_REPEATS = "tags.`tune_vae.kind` = 'repeat'"
_BASE: dict[str, Any] = {
    "searchFilter": _TRIALS,
    "orderByKey": "metrics.`score/bits_per_dim`",
    "orderByAsc": True,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "selectedColumns": [],
    "columnOrder": [],
    "columnWidths": {},
    "runsHiddenMode": "SHOW_ALL",
    "viewMaximized": False,
    "runListHidden": False,
    "isAccordionReordered": True,
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "groupBy": None,
    "groupsExpanded": {},
    "globalLineChartConfig": {
        "xAxisKey": "step",
        "lineSmoothness": 0,
        "selectedXAxisMetricKey": "",
    },
}
_RANKED = [
    "tags.`why`",
    "metrics.`score/bits_per_dim`",
    "metrics.`score/rate`",
    "metrics.`score/active_units`",
    "metrics.`score/sample_distance`",
    "params.`beta_norm`",
    "params.`decoder`",
    "params.`schedule`",
    "params.`lr`",
    "metrics.`score/epoch`",
    "tags.`seeds`",
]
_REASONS = [
    "tags.`why`",
    "tags.`verdict`",
    "params.`beta_norm`",
    "params.`lr`",
    "params.`decoder`",
]
_SEEDS = [
    "tags.`tune_vae.repeat_of`",
    "tags.`why`",
    "metrics.`score/bits_per_dim`",
    "metrics.`score/rate`",
    "metrics.`score/sample_distance`",
    "params.`seed`",
]


def saved_views(milliseconds: int) -> dict[str, str]:
    """Tags of an experiment, by name.

    Arguments:
        milliseconds: Time of writing since 1970; the page lists the newest view first.
    """
    views = {
        LEADERBOARD: ("1 Leaderboard", _table(_RANKED, {})),
        "tv-curves": ("2 Curves and trade-off", _charts()),
        "tv-why": (
            "3 Why trials ended",
            _table(_REASONS, {"tags.`verdict`": 620}) | {"orderByKey": "tags.`why`"},
        ),
        "tv-seeds": (
            "4 Finalists with other seeds",
            _table(_SEEDS, {})
            | {"searchFilter": _REPEATS, "orderByKey": "tags.`tune_vae.repeat_of`"},
        ),
    }
    return {
        f"mlflow.sharedViewState.{key}": _envelope(name, state, milliseconds - 1000 * place)
        for place, (key, (name, state)) in enumerate(views.items())
    }


def _envelope(name: str, state: dict[str, Any], milliseconds: int) -> str:
    packed = base64.b64encode(zlib.compress(json.dumps(state, separators=(",", ":")).encode()))
    return json.dumps(
        {
            "name": name,
            "createdAt": milliseconds,
            "updatedAt": milliseconds,
            "state": f"deflate;{packed.decode()}",
        }
    )


def _table(columns: list[str], widths: dict[str, int]) -> dict[str, Any]:
    fixed = {"attributes.`Run Name`": 190, "runDateAndNestInfo": 125, "duration": 75}
    return _BASE | {
        "selectedColumns": columns,
        "columnOrder": ["attributes.`Run Name`", *columns, "runDateAndNestInfo", "duration"],
        "columnWidths": fixed | dict.fromkeys(columns, 105) | widths,
    }


def _charts() -> dict[str, Any]:
    learning = [
        _line("c1", "val/bits_per_dim", "validation bits per dim (lower is better)"),
        _line("c2", "val/rate", "rate, nats: near 0 is collapsed"),
        _line("c3", "health/active_units", "active units"),
    ]
    trade = [
        _scatter("c4", ("METRIC", "score/rate"), ("METRIC", "score/mse"), "rate against error"),
        _scatter(
            "c5",
            ("PARAM", "log10_beta_norm"),
            ("METRIC", "score/bits_per_dim"),
            "log10 beta_norm against bits per dim",
        ),
    ]
    sections = [
        {
            "uuid": uuid,
            "name": name,
            "display": True,
            "isReordered": True,
            "deleted": False,
            "isGenerated": False,
        }
        for uuid, name in (("s1", "1 Is it learning?"), ("s2", "2 Trade-off"))
    ]
    return _BASE | {
        "selectedColumns": _RANKED,
        "compareRunCharts": [*learning, *trade],
        "compareRunSections": sections,
    }


def _card(uuid: str, section: str, kind: str, title: str) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "type": kind,
        "runsCountToCompare": 100,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
        "displayName": title,
    }


def _line(uuid: str, metric: str, title: str) -> dict[str, Any]:
    return _card(uuid, "s1", "LINE", title) | {
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": True,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


def _scatter(uuid: str, x: tuple[str, str], y: tuple[str, str], title: str) -> dict[str, Any]:
    return _card(uuid, "s2", "SCATTER", title) | {
        "xaxis": {"type": x[0], "key": x[1]},
        "yaxis": {"type": y[0], "key": y[1]},
    }
