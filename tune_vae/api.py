"""What the command line does, as functions.

`train`, `load_vae` and `validate` need neither Ray nor Optuna nor MLflow; the others import them
when they are called.
"""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tune_vae.data import Splits, scale
from tune_vae.errors import (
    CheckpointError,
    DataError,
    Problem,
    StudyError,
    StudyFileError,
    TrialNotFoundError,
    TuneVaeError,
)
from tune_vae.science.health import Limits, Verdict, judge
from tune_vae.science.history import EpochReport, History
from tune_vae.science.vae import VAE
from tune_vae.service.journey import history_of
from tune_vae.service.results import StudyResults, TrialRow
from tune_vae.spec.soundness import faults
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig
from tune_vae.training import checkpoint
from tune_vae.training.trainer import Trainer, build_vae, restored_vae

if TYPE_CHECKING:
    from tune_vae.service.desk import Snapshot
    from tune_vae.service.inception import InceptionDistances
    from tune_vae.service.stores import StoreReport

__all__ = [
    "CheckReport",
    "Trained",
    "check",
    "fork",
    "inception_scores",
    "load_vae",
    "results",
    "search",
    "train",
    "trial_of",
    "validate",
]


@dataclass(frozen=True)
class CheckReport:
    """What `check` found out about a study that can be run.

    Arguments:
        spec: The study.
        data: Its images.
        parameters: Fewest and most parameters of a model in its space.
        memory_bytes: The same for the memory a trial takes beside the data.
        step_seconds: Time of one optimiser step of the first model, measured here.
        seen: Trials of this study that exist already.
        stores: Where the study lives, each tried out.
    """

    spec: StudySpec
    data: Splits
    parameters: tuple[int, int]
    memory_bytes: tuple[int, int]
    step_seconds: float
    seen: int
    stores: tuple["StoreReport", ...]

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch at the smallest batch size of the space."""
        return len(self.data.train) // int(min(self.spec.knobs["batch_size"].examples()))

    @property
    def epoch_seconds(self) -> float:
        return self.step_seconds * self.steps_per_epoch


def check(spec: StudySpec) -> CheckReport:
    """Load the data, build every kind of model, time a few steps, and try out each store.

    Raises:
        StudyFileError: The study is redundant, its trials cannot be compared, or one of its
            models cannot be built for these images; or Optuna does not know its sampler or
            pruner.
        DataError: The data cannot be loaded.
    """
    data = _sound_data(spec, _size)
    configs = _models(spec, data)
    sizes = [_size(config) for config in configs]
    from tune_vae.service.stores import try_stores

    stores = try_stores(spec.storage)
    # A ledger that does not answer is told among the stores.
    rows = _rows(spec) if stores[0].works else None
    return CheckReport(
        spec=spec,
        data=data,
        parameters=(min(p for p, _ in sizes), max(p for p, _ in sizes)),
        memory_bytes=(min(m for _, m in sizes), max(m for _, m in sizes)),
        step_seconds=_step_seconds(configs[0], data),
        seen=len(rows or []),
        stores=stores,
    )


def search(
    spec: StudySpec,
    *,
    show: Callable[["Snapshot"], None] = lambda snapshot: None,
    note: Callable[["Snapshot"], str] = lambda snapshot: "",
    verbose: bool = False,
) -> StudyResults:
    """Run a study, or go on with what is missing of it.

    Arguments:
        spec: The study.
        show: Called a few times a second with what has happened.
        note: What MLflow's page shall say of the study at the end.
        verbose: Whether Ray's messages are shown.

    Raises:
        StudyFileError, DataError: See `check`.
        StudyError: It was begun with another space or other data (see `fork`), or all its trials
            break.
        StorageError: Ledger or cluster cannot be reached.
        Interrupted: By Ctrl-C or SIGTERM; call it again to go on.
    """
    data = _sound_data(spec, _build)
    from tune_vae.service import cluster
    from tune_vae.service.desk import DataFacts

    facts = DataFacts(data.shape, data.levels, data.digest())
    return cluster.search(spec, facts, show=show, note=note, verbose=verbose).results


def fork(spec: StudySpec, name: str) -> Path:
    """Write a study file with another name of the study beside the one there is.

    So that a study which was changed after it began is searched anew, in the same stores. May be
    repeated.

    Returns:
        The new file, `<name>.yaml`.

    Raises:
        StudyError: It cannot be the name of a study, or such a file holds something else.
    """
    try:
        content = spec.renamed(name).encode()
    except StudyFileError as error:
        raise StudyError(str(error)) from None
    file = Path(spec.file).with_name(f"{name}.yaml")
    if file.exists() and file.read_bytes() != content:
        raise StudyError(
            f"{file} is there and holds another study. Choose another name for the fork, or go on "
            f"with that one: tune-vae search {file}"
        )
    partial = file.with_name(f".{file.name}.partial")
    partial.write_bytes(content)
    partial.replace(file)
    return file


def results(spec: StudySpec) -> StudyResults:
    """A study as it stands, also while it is searched.

    Raises:
        StudyError: It was never begun.
        StorageError: The ledger cannot be opened.
    """
    rows = _rows(spec)
    if rows is None:
        raise StudyError(
            f"study `{spec.name}` has not begun: run `tune-vae search {spec.file}` first"
        )
    return StudyResults(spec.name, spec.objective, spec.budget.trials, rows, spec.budget.patience)


def trial_of(spec: StudySpec, number: int) -> TrialRow:
    """One trial of a study.

    Raises:
        TrialNotFoundError: There is no such trial.
    """
    rows = results(spec).rows
    for row in rows:
        if row.trial == number:
            return row
    known = f"0 to {rows[-1].trial}" if rows else "none"
    raise TrialNotFoundError(f"study `{spec.name}` has no trial {number}; it has {known}")


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
        data = data or _data_of(config)
    else:
        data = data or study.dataset().load()
        limits = limits or study.health
        config = _given(study, data, knobs)
    history = history_of(config, None)
    trainer = Trainer([config.member()], data, device=device)
    for (report,) in trainer:
        verdict = judge(history.add(report), limits)
        on_epoch(report, verdict)
        if verdict.kind.fatal:
            trainer.retire(config.trial)
    state = trainer.state(config.trial) | {"reports": [one.to_dict() for one in history]}
    if save_to:
        checkpoint.save(state, save_to)
    return Trained(_vae(config, state), config, history, judge(history, limits))


def load_vae(path: str | Path) -> VAE:
    """The model of a checkpoint, in evaluation mode on the CPU.

    Arguments:
        path: A checkpoint, from the checkpoint store (also by URL) or from MLflow.

    Raises:
        CheckpointError: The file is absent, torn or foreign.

    Example:
        vae = load_vae("mlruns/checkpoints/digits/00012/best.pt")
        images = vae.generate(16)
    """
    state = checkpoint.load(path)
    return _vae(_config_of(state, path), state)


def validate(path: str | Path, data: Splits | None = None) -> dict[str, float]:
    """Validation scores of a checkpoint, measured anew with the noise of the search.

    Arguments:
        path: A checkpoint.
        data: Images to use instead of loading those of its study.

    Returns:
        `bits_per_dim`, `bits_per_dim_calibrated`, `rate_nats`, `distortion_nats`, `neg_elbo`,
        `mse`, as the checkpoint's own last report holds them.
    """
    state = checkpoint.load(path)
    config = _config_of(state, path)
    trainer = Trainer([config.member()], data or _data_of(config), resume={config.trial: state})
    return trainer.scores()[0]


def inception_scores(
    path: str | Path, data: Splits | None = None, *, images: int = 5000, device: str = "cpu"
) -> "InceptionDistances":
    """FID and KID of a checkpoint's samples against test images; see `service.inception`.

    Arguments:
        path: A checkpoint of a study of images.
        data: Images to use instead of loading those of its study.
        images: At most so many real and as many generated ones.
        device: Where the networks run.

    Raises:
        DataError: The data are no images.
        TuneVaeError: The library or its weights are absent; the message says how to get them.
    """
    from tune_vae.service.inception import inception_distances

    config = _config_of(checkpoint.load(path), path)
    data = data or _data_of(config)
    if data.levels is None or data.shape[0] not in (1, 3):
        raise DataError("FID and KID are of images with 1 or 3 channels, and these data are not")
    real = scale(data.test[:images], data.levels)
    vae = load_vae(path).to(device)
    parts = [
        vae.generate(min(500, len(real) - start), seed=start) for start in range(0, len(real), 500)
    ]
    pair = ((x.cpu().clamp(0, 1) * 255).round().byte() for x in (real, torch.cat(parts)))
    return inception_distances(*pair, device=device)


def _config_of(state: dict[str, Any], path: str | Path) -> TrialConfig:
    try:
        return TrialConfig.model_validate_json(state["config"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} does not say which model it holds") from error


def _vae(config: TrialConfig, state: dict[str, Any]) -> VAE:
    return restored_vae(config.member(), config.shape, state)


def _data_of(config: TrialConfig) -> Splits:
    from tune_vae.spec import components

    data: Splits = components.build("dataset", config.data).load()
    return data


def _rows(spec: StudySpec) -> list[TrialRow] | None:
    from tune_vae.service.ledger import read_rows

    return read_rows(spec)


def _sound_data(spec: StudySpec, try_out: Callable[[TrialConfig], object]) -> Splits:
    """The data of a study, which refuses what only data, libraries and models can reveal."""
    from tune_vae.service.ledger import plugin_problems

    data = _images(spec)
    misfits = _misfits(_models(spec, data), try_out)
    spec.refuse([*plugin_problems(spec), *faults(spec, data), *misfits])
    return data


def _images(spec: StudySpec) -> Splits:
    try:
        return spec.dataset().load()
    except TuneVaeError:
        raise
    except Exception as error:
        # A data set may be the user's own code, and raise anything.
        (name,) = spec.data
        what = f"{type(error).__name__}: {error}"
        raise DataError(f"data set `{name}` cannot be loaded: {what}") from error


def _misfits(
    models: Sequence[TrialConfig], try_out: Callable[[TrialConfig], object]
) -> list[Problem]:
    """Models that cannot be built for the images."""
    found = []
    for config in models:
        try:
            try_out(config)
        except Exception as error:  # noqa: BLE001
            # The contract names ValueError; a network of the user's own may raise anything.
            images = "×".join(map(str, config.shape))
            found.append(Problem(f"no model for images of {images}: {error}", ("network",)))
    return list(dict.fromkeys(found))


class _Given:
    """Chooser for `train`: nothing may be left to choose."""

    def choice(self, name: str, labels: Sequence[str]) -> str:
        raise StudyError(f"`{name}` is open; give it, one of: {', '.join(labels)}")

    def real(self, name: str, low: float, high: float, *, log: bool) -> float:
        raise StudyError(f"`{name}` is open; give it, between {low:g} and {high:g}")

    def integer(self, name: str, low: int, high: int, *, log: bool) -> int:
        raise StudyError(f"`{name}` is open; give it, between {low} and {high}")


def _given(spec: StudySpec, data: Splits, knobs: dict[str, Any]) -> TrialConfig:
    fixed = replace(spec, knobs=spec.with_values(knobs))
    return TrialConfig.of(
        fixed, fixed.draw(_Given()), trial=0, shape=data.shape, levels=data.levels
    )


def _models(spec: StudySpec, data: Splits) -> list[TrialConfig]:
    """A configuration for each kind of model in the space."""
    first = {name: next(node.examples()) for name, node in spec.knobs.items()}
    parts = ("network", "latent_dim", "likelihood", "sigma", "prior")
    return [
        TrialConfig.of(
            spec,
            first | dict(zip(parts, model, strict=True)),
            trial=0,
            shape=data.shape,
            levels=data.levels,
        )
        for model in itertools.product(*(spec.knobs[part].examples() for part in parts))
    ]


def _build(config: TrialConfig) -> VAE:
    """The model of a configuration, without memory for its weights."""
    with torch.device("meta"):
        return build_vae(config.member(), config.shape)


def _size(config: TrialConfig) -> tuple[int, int]:
    """Parameters of a model, and bytes of its weights, optimiser and activations."""
    activations = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal activations
        if isinstance(output, Tensor) and not list(module.children()):
            activations += output.numel()

    vae = _build(config)
    for module in vae.modules():
        module.register_forward_hook(count)
    with torch.device("meta"):
        vae(torch.empty(1, *config.shape), torch.empty(1, config.latent_dim))
    parameters = sum(p.numel() for p in vae.parameters())
    # Weights, gradient, two moments and Adam's intermediate results; each activation and its
    # gradient.
    return parameters, 4 * (7 * parameters + 2 * activations * config.batch_size)


def _step_seconds(config: TrialConfig, data: Splits) -> float:
    """Time of a step, validation's share included, from three steps after three to warm up."""
    batch = min(config.batch_size, len(data.train))
    sample = Splits(
        train=data.train[: 3 * batch],
        validation=data.validation[:batch],
        test=data.test[:1],
        levels=data.levels,
    )
    member = replace(config.member(), epochs=2, batch_size=batch)
    seconds = math.inf
    torch.set_num_threads(1)
    epochs = iter(Trainer([member], sample))
    for _ in range(2):
        begin = time.perf_counter()
        next(epochs)
        seconds = time.perf_counter() - begin
    return seconds / (len(sample.train) // batch)
