"""Find out how to weigh the KL term, and which decoder distribution and variance to use."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tune_vae.api import check, export, load_vae, results, search, train, validate
    from tune_vae.spec.study import StudySpec

__all__ = ["StudySpec", "check", "export", "load_vae", "results", "search", "train", "validate"]

_HOME = {name: "tune_vae.api" for name in __all__} | {"StudySpec": "tune_vae.spec.study"}


def __getattr__(name: str) -> Any:
    # On demand: `tune-vae --help` should not wait for torch.
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
