"""Trials and studies for the tests of the service floor, with some of their fields replaced."""

from pathlib import Path
from typing import Any

import yaml

from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig

EPOCHS = 4
SHAPE, LEVELS, DIGEST = (1, 8, 8), 17, "0123456789abcdef"


def trial_config(trial: int = 0, **changes: object) -> TrialConfig:
    """A trial on digits that learns something within an epoch."""
    values = {
        "study": "small",
        "trial": trial,
        "seed": trial,
        "data": {"digits": {}},
        "shape": SHAPE,
        "levels": LEVELS,
        "network": {"mlp": {"hidden": [16]}},
        "latent_dim": 4,
        "likelihood": {"gaussian": {}},
        "sigma": {"optimal": {}},
        "schedule": {"constant": {}},
        "beta_norm": 0.01,
        "lr": 3e-3,
        "weight_decay": 0.0,
        "grad_clip": None,
        "epochs": EPOCHS,
        "batch_size": 64,
        "objective": ("bits_per_dim",),
    }
    return TrialConfig.model_validate(values | changes)


def study(folder: Path | None = None, **changes: Any) -> StudySpec:
    """A study that searches beta_norm and lr, stored below `folder`.

    Sections that are given are merged with the defaults, all else replaces them.
    """
    values: dict[str, Any] = {
        "study": "small",
        "data": "digits",
        "network": {"mlp": {"hidden": [16]}},
        "latent_dim": 4,
        "search": {
            "beta_norm": {"log_uniform": [1e-3, 10.0]},
            "likelihood": "gaussian",
            "lr": {"log_uniform": [1e-3, 1e-2]},
        },
        "train": {"epochs": EPOCHS, "batch_size": 64},
        "budget": {"trials": 12},
        "known_good": False,
    }
    if folder is not None:
        values["storage"] = {
            "ledger": f"sqlite:///{folder}/studies.db",
            "tracking": f"sqlite:///{folder}/mlflow.db",
            "artifacts": f"{folder}/artifacts",
            "checkpoints": f"{folder}/checkpoints",
        }
    for key, value in changes.items():
        merged = isinstance(value, dict) and key in ("search", "train", "budget", "storage")
        values[key] = values.get(key, {}) | value if merged else value
    return StudySpec.parse(yaml.safe_dump(values))
