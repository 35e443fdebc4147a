"""The course of a training, to be compared with that of another."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tune_vae.data import Splits
from tune_vae.science.history import EpochReport
from tune_vae.training.trainer import Member, Trainer

__all__ = ["Curves", "curve", "curves", "left_after_an_epoch", "numbers"]

Curves = dict[int, list[EpochReport]]
"""Reports by trial, without the seconds, which are never twice the same."""

_COMPARED = ("train_rate_nats", "train_distortion_nats", "grad_norm", "neg_elbo", "mse")


def curves(trainer: Trainer) -> Curves:
    """To the end."""
    told: Curves = {}
    for reports in trainer:
        for report in reports:
            told.setdefault(report.trial, []).append(replace(report, seconds=0.0))
    return told


def curve(trainer: Trainer) -> list[EpochReport]:
    """Of the only member."""
    (only,) = curves(trainer).values()
    return only


def numbers(reports: Sequence[EpochReport]) -> list[float]:
    """What of reports is compared when they may differ in the last digit."""
    return [getattr(report, name) for report in reports for name in _COMPARED]


def left_after_an_epoch(
    pack: Sequence[Member], data: Splits
) -> tuple[dict[int, Mapping[str, Any]], Curves]:
    """The states of a pack after its first epoch, and how it goes on from there."""
    trainer = Trainer(pack, data)
    next(iter(trainer))
    saved = {one.trial: trainer.state(one.trial) for one in pack}
    return saved, curves(trainer)
