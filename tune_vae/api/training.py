"""`train`: one configuration, alone, in this process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tune_vae.api.taking_home import data_of, vae_of
from tune_vae.data import Splits
from tune_vae.errors import StudyError
from tune_vae.science.health import Limits, Verdict, judge
from tune_vae.science.history import EpochReport, History
from tune_vae.science.vae import VAE
from tune_vae.service.journey import checkpoint_of, history_of, may_roll_back, roll_back
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig
from tune_vae.training import checkpoint
from tune_vae.training.trainer import Trainer

__all__ = ["Trained", "train"]


@dataclass(frozen=True)
class Trained:
    """A trained model and how it got there."""

    vae: VAE
    config: TrialConfig
    history: History
    verdict: Verdict


def train(
    study: StudySpec | TrialConfig,
    *,
    on_epoch: Callable[[EpochReport, Verdict], None] = lambda report, verdict: None,
    save_to: str | Path | None = None,
    limits: Limits | None = None,
    device: str = "cpu",
    data: Splits | None = None,
    **knobs: Any,
) -> Trained:
    """Train one configuration, alone, in this process.

    As in a search, one whose loss is lost is rolled back as often as its configuration says.

    Arguments:
        study: A configuration, or a study whose open knobs are given as keywords.
        on_epoch: Called after each epoch.
        save_to: Path or URL to write the last checkpoint to.
        limits: When to stop; by default those of the study.
        device: Where to train.
        data: Images to use instead of loading the study's.
        knobs: Values of the study's knobs, as they would stand in its file.

    Raises:
        StudyError: A knob is open and not given.
        StudyFileError: A knob is unknown, or its value not allowed.
        DataError: The data cannot be loaded.

    Example:
        trained = train(StudySpec.load("studies/digits.yaml"), beta_norm=0.1,
                        likelihood="gaussian", sigma="optimal", schedule="constant", lr=1e-3)
    """
    if isinstance(study, TrialConfig):
        config, limits = study, limits or Limits()
        data = data or data_of(config)
    else:
        data = data or study.dataset().load()
        limits = limits or study.health
        config = _given(study, data, knobs)
    history, state = history_of(config, None), None
    trainer = Trainer([config.member()], data, device=device)
    for (report,) in trainer:
        if may_roll_back(config, report):
            state = roll_back(trainer, config, report, state)
            history = history_of(config, state)
            continue
        verdict = judge(history.add(report), limits)
        state = checkpoint_of(trainer, history, config.trial)
        on_epoch(report, verdict)
        if verdict.kind.fatal:
            trainer.retire(config.trial)
    assert state is not None
    if save_to:
        checkpoint.save(state, save_to)
    return Trained(vae_of(config, state), config, history, judge(history, limits))


def _given(spec: StudySpec, data: Splits, knobs: dict[str, Any]) -> TrialConfig:
    fixed = replace(spec, knobs=spec.with_values(knobs))
    return TrialConfig.of(
        fixed,
        fixed.draw(_Given()),
        trial=0,
        shape=data.shape,
        levels=data.levels,
        classes=data.classes,
    )


class _Given:
    """Chooser for `train`: nothing may be left to choose."""

    def choice(self, name: str, labels: Sequence[str]) -> str:
        raise StudyError(f"`{name}` is open; give it, one of: {', '.join(labels)}")

    def real(self, name: str, low: float, high: float, *, log: bool) -> float:
        raise StudyError(f"`{name}` is open; give it, between {low:g} and {high:g}")

    def integer(self, name: str, low: int, high: int, *, log: bool) -> int:
        raise StudyError(f"`{name}` is open; give it, between {low} and {high}")
