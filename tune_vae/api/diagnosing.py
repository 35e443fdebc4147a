"""`diagnose`: what is wrong with a training of any program."""

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tune_vae.science.curve import Reduction
    from tune_vae.science.diagnosis import Diagnosis
    from tune_vae.service.curves import Source

__all__ = ["diagnose"]


def diagnose(
    source: str,
    *,
    tracking: str = "",
    values: int | None = None,
    latents: int | None = None,
    reduction: "Reduction | None" = None,
    likelihood: str = "",
    levels: int | None = None,
    lr: float | None = None,
) -> "tuple[Source, Diagnosis]":
    """What is wrong with a training, of whatever program, by its curve.

    Arguments:
        source: A log, a CSV, `-` for the standard input, the id of a run in MLflow, or its
            address.
        tracking: MLflow's tracking store, if the address does not name it.
        values, latents: N and M, if they are known.
        reduction: Whether the terms are sums or means; inferred by default.
        likelihood: Of the decoder, such as `bernoulli`, if it is known.
        levels: Of a data value, such as 2 or 256, if they are known.
        lr: Learning rate, if it is known.

    Raises:
        DataError: There is no curve.
        StorageError: MLflow does not answer, or has no such run.
    """
    from tune_vae.science.diagnosis import diagnose as diagnosed
    from tune_vae.service.curves import read

    found = read(source, tracking=tracking)
    own = found.curve
    curve = replace(
        own,
        values=values,
        latents=latents or own.latents,
        reduction=reduction,
        likelihood=likelihood or own.likelihood,
        levels=levels,
        lr=lr or own.lr,
    )
    return replace(found, curve=curve), diagnosed(curve)
