"""What the command line does, as functions.

`train`, `load_vae` and `validate` need neither Ray nor Optuna nor MLflow; the others import them
when they are called.
"""

from typing import TYPE_CHECKING

from tune_vae.lazily import on_demand

if TYPE_CHECKING:
    from tune_vae.api.checking import CheckReport, check
    from tune_vae.api.diagnosing import diagnose
    from tune_vae.api.forecasting import forecast, forecast_of
    from tune_vae.api.outcome import report
    from tune_vae.api.scouting import scout, scouts_of
    from tune_vae.api.searching import confirm, fork, search
    from tune_vae.api.standing import results, trial_of
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

_MODULES = {
    "checking": "CheckReport check",
    "diagnosing": "diagnose",
    "forecasting": "forecast forecast_of",
    "outcome": "report",
    "scouting": "scout scouts_of",
    "searching": "confirm fork search",
    "standing": "results trial_of",
    "taking_home": "export inception_scores load_vae validate",
    "training": "Trained train",
}
__getattr__ = on_demand(
    __name__,
    {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names.split()},
)
