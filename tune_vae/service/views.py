"""Saved views of a study in MLflow's pages: leaderboard, curves, decoders, why trials ended, ...

A view is a tag of the experiment that MLflow's page reads (since MLflow 3.15). Its form is
internal to MLflow, so it is written, never read back, and nothing depends on it.
"""

import base64
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from tune_vae.training.gallery import is_drawn

__all__ = ["SECTIONS", "is_ours", "links", "saved_views", "view_link"]

LEADERBOARD, CURVES, WHY = "tv-leaderboard", "tv-curves", "tv-why"
DECODERS, SEEDS = "tv-decoders", "tv-seeds"

MOST = 0.9
"""Share of the trials whose ends a chart's range holds."""
EARLY = 7
"""Part of the epochs after which pruners begin to stop trials."""
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
_WIDE = {
    "tags.`why`": 130,
    "metrics.`score/bits_per_dim`": 145,
    "metrics.`score/active_units`": 135,
    "metrics.`score/sample_distance`": 160,
}
"""Pixels of columns whose names would be cut."""
SECTIONS = {"s1": "1 Is it learning?", "s2": "2 Trade-off", "s3": "3 What it draws"}
_DRAWN = {
    "reconstructions": "held-out images, each beside its reconstruction",
    "samples": "samples from the prior",
    "traversals": "one latent moved at a time",
}


def view_link(experiment: str, view: str = LEADERBOARD) -> str:
    """Address of a saved view on a server, from its `#` on.

    A bare link to an experiment opens MLflow's pages for language models.
    """
    mode = "&compareRunsMode=CHART" if view == CURVES else ""
    query = f"workflowType=machine_learning{mode}&viewStateShareKey={view}"
    return f"#/experiments/{experiment}/runs?{query}"


def links(experiment: str, study_run: str) -> str:
    """Where to look, in Markdown on one line.

    Arguments:
        experiment: Id of the study's experiment.
        study_run: Id of the study's own run, at which its report lies.
    """
    views = {"Leaderboard": LEADERBOARD, "Curves": CURVES, "Why": WHY, "Decoders": DECODERS}
    told = [f"[{name}]({view_link(experiment, view)})" for name, view in views.items()]
    report = f"#/experiments/{experiment}/runs/{study_run}/artifacts/report/index.html"
    return " · ".join([*told, f"[Report]({report}?workflowType=machine_learning)"])


def saved_views(
    milliseconds: int,
    *,
    epochs: int,
    ends: Mapping[str, Sequence[float]] | None = None,
    whole: float = 0.0,
) -> dict[str, str]:
    """Tags of an experiment, by name.

    Arguments:
        milliseconds: Time of writing since 1970; the page lists the newest view first.
        epochs: Of a trial that runs to its end.
        ends: Where its trials ended, by score: charts show the range of most of these, as first
            epochs and trials that explode would press all others into one line.
        whole: Share of its trials that ran all their epochs. Below a half, drawings are shown of
            an epoch that most trials come to.
    """
    drawn = epochs if whole >= 0.5 else max(filter(is_drawn, range(1 + epochs // EARLY)))
    decoders = {"mode": "param", "groupByData": "decoder"}
    views = {
        LEADERBOARD: ("1 Leaderboard", _table(_RANKED, {})),
        CURVES: ("2 Curves and trade-off", _charts(drawn, ends or {})),
        WHY: (
            "3 Why trials ended",
            _table(_REASONS, {"tags.`verdict`": 620}) | {"orderByKey": "tags.`why`"},
        ),
        DECODERS: (
            "4 Best of each decoder",
            _table(_RANKED, {})
            | {"searchFilter": f"{_TRIALS} and tags.`state` = 'complete'"}
            | {"groupBy": {"aggregateFunction": "min", "groupByKeys": [decoders]}},
        ),
        SEEDS: (
            "5 Finalists with other seeds",
            _table(_SEEDS, {})
            | {"searchFilter": _REPEATS, "orderByKey": "tags.`tune_vae.repeat_of`"},
        ),
    }
    return {
        f"mlflow.sharedViewState.{key}": _envelope(name, state, milliseconds - 1000 * place)
        for place, (key, (name, state)) in enumerate(views.items())
    }


def is_ours(view: str) -> bool:
    """Whether a saved view is as it was written here; MLflow's page notes when it changes one."""
    try:
        told = json.loads(view)
        return bool(told["createdAt"] == told["updatedAt"])
    except (ValueError, KeyError, TypeError):
        return False


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
        "columnWidths": fixed | dict.fromkeys(columns, 105) | _WIDE | widths,
    }


def _charts(drawn: int, ends: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    learning = [
        _line("c1", "val/bits_per_dim", "validation bits per dim (lower is better)")
        | _range(ends.get("score/bits_per_dim", ())),
        _line("c2", "val/rate", "rate, nats: near 0 is collapsed")
        | _range([0.0, *ends.get("score/rate", ())]),
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
        _card("c6", "s2", "PARALLEL", "what the best have in common")
        | {
            "selectedParams": ["log10_beta_norm", "decoder", "schedule"],
            "selectedMetrics": ["score/active_units", "score/bits_per_dim"],
            "showAllRuns": True,
        },
    ]
    drawings = [
        _card(f"c{place}", "s3", "IMAGE", title)
        | {"imageKeys": [f"drawn/{name}"], "step": drawn, "runsCountToCompare": 12}
        # They would take the room of the images.
        | {"showRunParams": False}
        for place, (name, title) in enumerate(_DRAWN.items(), start=7)
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
        for uuid, name in SECTIONS.items()
    ]
    return _BASE | {
        "selectedColumns": _RANKED,
        "compareRunCharts": [*learning, *trade, *drawings],
        "compareRunSections": sections,
    }


def _range(values: Sequence[float]) -> dict[str, Any]:
    """Of a chart, from the lowest value to most of the others; whatever it likes for one value."""
    finite = sorted(filter(math.isfinite, values))
    if len(finite) < 2:
        return {}
    low, high = finite[0], finite[math.ceil(MOST * len(finite)) - 1]
    margin = 0.05 * (high - low)
    return {"range": {"yMin": low - margin, "yMax": high + margin}}


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
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


def _scatter(uuid: str, x: tuple[str, str], y: tuple[str, str], title: str) -> dict[str, Any]:
    return _card(uuid, "s2", "SCATTER", title) | {
        "xaxis": {"type": x[0], "key": x[1]},
        "yaxis": {"type": y[0], "key": y[1]},
    }
