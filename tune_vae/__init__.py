"""Find out how to weigh the KL term, and which decoder distribution and variance to use."""

from typing import TYPE_CHECKING

from tune_vae.lazily import on_demand

if TYPE_CHECKING:
    from tune_vae.api import check, export, load_vae, results, search, train, validate
    from tune_vae.spec.study import StudySpec

__all__ = ["StudySpec", "check", "export", "load_vae", "results", "search", "train", "validate"]

__getattr__ = on_demand(
    __name__, dict.fromkeys(__all__, "tune_vae.api") | {"StudySpec": "tune_vae.spec.study"}
)
