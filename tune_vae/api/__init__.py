"""What the command line does, as functions.

`train`, `load_vae` and `validate` need neither Ray nor Optuna nor MLflow; the others import them
when they are called.
"""

from tune_vae.api.checking import CheckReport, check
from tune_vae.api.diagnosing import diagnose
from tune_vae.api.forecasting import forecast, forecast_of
from tune_vae.api.outcome import report, results, trial_of
from tune_vae.api.scouting import scout, scouts_of
from tune_vae.api.searching import confirm, fork, search
from tune_vae.api.taking_home import export, inception_scores, load_vae, validate
from tune_vae.api.training import Trained, train

__all__ = [
    "CheckReport",
    "Trained",
    "check",
    "confirm",
    "diagnose",
    "export",
    "forecast",
    "forecast_of",
    "fork",
    "inception_scores",
    "load_vae",
    "report",
    "results",
    "scout",
    "scouts_of",
    "search",
    "train",
    "trial_of",
    "validate",
]
