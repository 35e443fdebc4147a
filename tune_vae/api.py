"""What the command line does, as functions.

`train`, `load_vae` and `validate` need neither Ray nor Optuna nor MLflow; the others import them
when they are called.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tune_vae.data import Splits, scale
from tune_vae.data.progress import Progress
from tune_vae.errors import (
    CheckpointError,
    DataError,
    ExportError,
    Problem,
    StorageError,
    StudyError,
    StudyFileError,
    TrialNotFoundError,
    TuneVaeError,
)
from tune_vae.science.collapse_point import (
    EXAMPLES,
    CollapsePoints,
    collapse_points,
    spectral_peak,
)
from tune_vae.science.critical_beta import CriticalBeta, critical_beta
from tune_vae.science.health import Limits, Verdict, judge
from tune_vae.science.history import EpochReport, History
from tune_vae.science.spectrum import spectrum
from tune_vae.science.vae import VAE
from tune_vae.service.foretold import dead_beyond
from tune_vae.service.journey import checkpoint_of, history_of, may_roll_back, roll_back
from tune_vae.service.results import StudyResults
from tune_vae.service.rows import TrialRow
from tune_vae.service.scouted import LOWEST_BETA, Scouted, keep, recall, scouting
from tune_vae.service.study_forecast import StudyForecast, critical_key, merged, proposal
from tune_vae.spec import components
from tune_vae.spec.components import ComponentError
from tune_vae.spec.soundness import faults
from tune_vae.spec.study import StudySpec, has_scale, is_url
from tune_vae.spec.trial import TrialConfig
from tune_vae.training import checkpoint
from tune_vae.training.lifting import obstacle
from tune_vae.training.scout import scout as scout_along
from tune_vae.training.trainer import Trainer, build_vae, restored_vae

if TYPE_CHECKING:
    from tune_vae.report.page import Written
    from tune_vae.science.curve import Reduction
    from tune_vae.science.diagnosis import Diagnosis
    from tune_vae.service.curves import Source
    from tune_vae.service.desk import DataFacts, Snapshot
    from tune_vae.service.export import Exported
    from tune_vae.service.inception import InceptionDistances
    from tune_vae.service.stores import StoreReport

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


TRIED_AT_ONCE = 2
"""Examples that a model is tried with; a batch norm cannot be trained on one."""
FORECAST_EXAMPLES = 10_000
"""Most examples that a forecast looks at: their eigenvalues are then known to some percent."""
FORECAST_DIRECTIONS = 128
"""Eigenvalues that it knows at least, where there are so many."""


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
        dead_beyond: For decoders of which it is known, the least and the largest beta_norm beyond
            which a point is dead by the spectrum of the data and not trained.
        forecast: What the data's spectrum says of the space; None if it was not asked.
    """

    spec: StudySpec
    data: Splits
    parameters: tuple[int, int]
    memory_bytes: tuple[int, int]
    step_seconds: float
    seen: int
    stores: tuple["StoreReport", ...]
    dead_beyond: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    forecast: StudyForecast | None = None

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
    from tune_vae.service.stores import try_stores

    data = _sound_data(spec)
    stores = try_stores(spec.storage)
    foreseen = forecast_of(spec, data)
    spec = _decided(
        spec, foreseen, scouts_of(spec, data) if spec.undecided else [], begun=stores[0].works
    )
    configs = _models(spec, data)
    sizes = [_size(config) for config in configs]
    # A ledger that does not answer is told among the stores.
    rows = StudyResults.of(spec, (_rows(spec) if stores[0].works else None) or []).rows
    return CheckReport(
        spec=spec,
        data=data,
        parameters=(min(p for p, _ in sizes), max(p for p, _ in sizes)),
        memory_bytes=(min(m for _, m in sizes), max(m for _, m in sizes)),
        step_seconds=_step_seconds(configs[0], data),
        seen=len(rows),
        stores=stores,
        dead_beyond=_dead_beyond(spec, data, configs),
        forecast=replace(foreseen, space=spec.knobs["beta_norm"]),
    )


def _dead_beyond(
    spec: StudySpec, data: Splits, models: Sequence[TrialConfig]
) -> dict[str, tuple[float, float]]:
    points, limits = _foretelling(spec, data), dict[str, tuple[float, float]]()
    for config in models:
        limit = dead_beyond(config, points, factor=spec.health.foretold)
        if limit is not None:
            low, high = limits.get(config.decoder, (limit, limit))
            limits[config.decoder] = min(low, limit), max(high, limit)
    return limits


def forecast(spec: StudySpec, to: Path | None = None) -> tuple[StudyForecast, Path | None]:
    """What the spectrum of the data says of a study before anything is trained.

    Arguments:
        spec: The study.
        to: Folder of the chart; by default `reports/<study>` beside the checkpoints' folder.

    Returns:
        The forecast, and the chart of its rate and distortion if any decoder has one.

    Raises:
        StudyFileError, DataError: See `check`.
        StorageError: The folder cannot be written.
    """
    from tune_vae.report.foresight import foresight
    from tune_vae.report.page import write_pictures

    found = forecast_of(spec, _sound_data(spec))
    picture = foresight(found)
    folder = to or _beside_checkpoints(spec) / "reports" / spec.name
    try:
        files = write_pictures([picture] if picture else [], folder)
    except OSError as error:
        raise StorageError(f"cannot write the chart into {folder}: {error}") from error
    return found, files[0] if files else None


def forecast_of(spec: StudySpec, data: Splits, *, critical: bool = True) -> StudyForecast:
    """The same of data that are at hand, and without a chart.

    Arguments:
        spec: The study.
        data: Its data.
        critical: Whether critical betas are worth their time: some seconds for each decoder of
            levels, up to a minute for one of counts.
    """
    points = _collapse_points(spec, data)
    # From everywhere, because they may be sorted; a few, where no decoder has a forecast.
    most = FORECAST_EXAMPLES if points else 100
    x_nCHW = data.train[:: math.ceil(len(data.train) / most)]
    latents = max(int(size) for size in spec.knobs["latent_dim"].examples())

    def batches() -> Iterator[Tensor]:
        with Progress("looking at the data", len(x_nCHW)) as progress:
            for start in range(0, len(x_nCHW), 512):
                yield scale(x_nCHW[start : start + 512], data.levels)
                progress.advance(len(x_nCHW[start : start + 512]))

    found = spectrum(batches(), max(latents, FORECAST_DIRECTIONS))
    at_ends = (x_nCHW == 0) | (x_nCHW == (data.levels or 0) - 1)
    edge, configs = int(at_ends.sum()) / x_nCHW.numel(), _models(spec, data)
    betas = _critical_betas(configs, points, data) if critical else {}
    space = spec.knobs["beta_norm"]
    return StudyForecast.of(spec.name, space, configs, points, found, edge, betas)


def _bounds_follow(spec: StudySpec, data: Splits) -> bool:
    """Whether critical betas decide anything: bounds that are open, and not of counts."""
    return spec.undecided and data.levels is not None


def _critical_betas(
    configs: Sequence[TrialConfig], points: CollapsePoints | None, data: Splits
) -> dict[str, CriticalBeta]:
    """Of the decoders that have no collapse point."""
    x_nCHW = scale(data.train[:: math.ceil(len(data.train) / EXAMPLES)], data.levels)
    found: dict[str, CriticalBeta] = {}
    for config in configs:
        key, known = critical_key(config), dead_beyond(config, points, factor=1.0) is not None
        if key and not known and key not in found:
            sigma = components.build("sigma", config.sigma) if config.sigma else None
            likelihood = components.build("likelihood", config.likelihood)
            found[key] = critical_beta(x_nCHW, likelihood, sigma)
    return found


def scout(
    spec: StudySpec,
    likelihood: str = "",
    to: Path | None = None,
    *,
    device: str = "cpu",
) -> tuple[list[Scouted], Path | None]:
    """Train one network for all β, for each decoder without a forecast, and keep its curve.

    What was scouted before of the same data and settings is not trained again.

    Arguments:
        spec: The study.
        likelihood: Scout the decoders of this one instead, forecast or not.
        to: Folder of the chart; see `forecast`.
        device: Where to train.

    Returns:
        A curve for each decoder, and the chart of them beside forecast and measured trials.

    Raises:
        StudyFileError, DataError: See `check`.
        StudyError: The study has no such likelihood, or a forecast for all decoders.
        StorageError: Checkpoints or chart cannot be written.
    """
    from tune_vae.report.foresight import foresight
    from tune_vae.report.page import write_pictures

    data = _sound_data(spec)
    foreseen = forecast_of(spec, data, critical=data.levels is not None)
    wanted = _to_scout(spec, data)
    names = [components.split(config.likelihood)[0] for config in wanted]
    if likelihood:
        wanted = [one for one, name in zip(wanted, names, strict=True) if name == likelihood]
    else:
        wanted = [one for one in wanted if one.decoder in foreseen.unknown]
    if not wanted:
        known = ", ".join(dict.fromkeys(names))
        raise StudyError(
            f"the study has no likelihood `{likelihood}`; it has {known}"
            if likelihood
            else "every decoder of the study has a forecast; scout one all the same with "
            f"--likelihood, one of: {known}"
        )
    digest, found = data.digest(conditional=spec.conditional), []
    for config in wanted:
        seen = recall(spec, config, digest)
        found.append(seen or _scouted(spec, config, data, digest, device))
    picture = foresight(foreseen, found, _known_rows(spec))
    folder = to or _beside_checkpoints(spec) / "reports" / spec.name
    try:
        files = write_pictures([picture] if picture else [], folder)
    except OSError as error:
        raise StorageError(f"cannot write the chart into {folder}: {error}") from error
    return found, files[0] if files else None


def _scouted(
    spec: StudySpec, config: TrialConfig, data: Splits, digest: str, device: str
) -> Scouted:
    start = time.perf_counter()
    member = config.member()
    with Progress(f"scouting {config.decoder}", config.epochs) as progress:
        curve, state = scout_along(
            member,
            data,
            LOWEST_BETA,
            member.beta,
            device=device,
            on_epoch=lambda epoch: progress.advance(1),
        )
    seen = Scouted(config, digest, curve, time.perf_counter() - start)
    keep(spec, seen, state)
    return seen


def _to_scout(spec: StudySpec, data: Splits) -> list[TrialConfig]:
    """What a scout of each decoder would train: the first network of each."""
    peak = spectral_peak(scale(data.train[:: math.ceil(len(data.train) / EXAMPLES)], data.levels))
    lrs = [float(lr) for lr in spec.knobs["lr"].examples()]
    found: dict[tuple[str, int], TrialConfig] = {}
    for config in _models(spec, data):
        chosen = scouting(config, peak=peak.item(), lrs=lrs)
        found.setdefault((config.decoder, config.latent_dim), chosen)
    return list(found.values())


def scouts_of(spec: StudySpec, data: Splits) -> list[Scouted]:
    """What scouts have seen of a study so far."""
    digest = data.digest(conditional=spec.conditional)
    seen = (recall(spec, config, digest) for config in _to_scout(spec, data))
    return [one for one in seen if one]


def _known_rows(spec: StudySpec) -> Sequence[TrialRow]:
    """Trials of a study; none if it has not begun or its ledger does not answer."""
    try:
        return StudyResults.of(spec, _rows(spec) or []).rows
    except StorageError:
        return []


def _decided(
    spec: StudySpec, foreseen: StudyForecast, scouts: Sequence[Scouted], *, begun: bool = True
) -> StudySpec:
    """The study with what its `beta_norm: auto` comes to, or came to when it began.

    Raises:
        StudyFileError: There is no forecast for all of its decoders.
    """
    from tune_vae.service.ledger import read_bounds

    if not spec.undecided:
        return spec
    bounds = (
        (read_bounds(spec) if begun else None) or foreseen.bounds or _seen_bounds(foreseen, scouts)
    )
    if bounds is None:
        some = proposal(foreseen.decoders)
        span = f"[{some[0]:.1e}, {some[1]:.1e}]" if some else "[1.0e-3, 10]"
        others = ", as forecast for the other decoders" if some else ""
        spec.refuse(
            [
                Problem(
                    "`beta_norm: auto` needs a forecast for every decoder of the study, and there "
                    f"is none for {', '.join(foreseen.unknown)}",
                    ("search", "beta_norm"),
                    f"write bounds, such as `beta_norm: {{log_uniform: {span}}}`{others}; or let "
                    f"`tune-vae scout {spec.file}` find them, for about one trial each",
                )
            ]
        )
    assert bounds is not None
    return spec.with_bounds(*bounds)


def _seen_bounds(foreseen: StudyForecast, scouts: Sequence[Scouted]) -> tuple[float, float] | None:
    """Bounds of the forecast and of scouts together; None if some decoder has neither."""
    seen = {(one.config.decoder, one.config.latent_dim): one.bounds for one in scouts}
    parts = [
        one.bounds or seen.get((one.config.decoder, one.config.latent_dim))
        for one in foreseen.decoders
    ]
    return merged(parts) if all(parts) else None


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
    from tune_vae.service import cluster

    spec, facts = _prepared(spec)
    return cluster.search(spec, facts, show=show, note=note, verbose=verbose).results


def confirm(
    spec: StudySpec,
    *,
    show: Callable[["Snapshot"], None] = lambda snapshot: None,
    note: Callable[["Snapshot"], str] = lambda snapshot: "",
    verbose: bool = False,
) -> StudyResults:
    """Train the finalists of a study with other seeds, as its `budget.seeds` says.

    What is missing of them is run, and no trial; see `search` for the arguments.

    Raises:
        StudyError: The study was never begun.
        StudyFileError, DataError, StorageError, Interrupted: See `search`.
    """
    found = results(spec)
    if not found.pending:
        return found
    from tune_vae.service import cluster

    spec, facts = _prepared(spec)
    return cluster.search(spec, facts, show=show, note=note, confirm=True, verbose=verbose).results


def _prepared(spec: StudySpec) -> tuple[StudySpec, "DataFacts"]:
    """A study whose bounds are all decided, and what must be known of its data to run it."""
    from tune_vae.service.desk import DataFacts

    data = _sound_data(spec)
    if spec.undecided:
        foreseen = forecast_of(spec, data, critical=_bounds_follow(spec, data))
        spec = _decided(spec, foreseen, scouts_of(spec, data))
    digest = data.digest(conditional=spec.conditional)
    points = _foretelling(spec, data)
    return spec, DataFacts(data.shape, data.levels, digest, data.classes, points)


def _foretelling(spec: StudySpec, data: Splits) -> CollapsePoints | None:
    """The collapse points by which a study passes over what is dead; None if it does not."""
    return _collapse_points(spec, data) if spec.health.foretold else None


def _collapse_points(spec: StudySpec, data: Splits) -> CollapsePoints | None:
    """Of a study's data, if its likelihoods can have any."""
    if spec.conditional or data.levels is None:
        return None
    # From everywhere, because they may be sorted.
    x_nCHW = data.train[:: math.ceil(len(data.train) / EXAMPLES)]
    return collapse_points(scale(x_nCHW, data.levels))


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
    from tune_vae.service.ledger import read_foretold

    return StudyResults.of(spec, rows, foretold=read_foretold(spec))


def report(spec: StudySpec, to: Path | None = None) -> tuple["Written", str]:
    """Write what a study found as one page with pictures, also while it is searched.

    Arguments:
        spec: The study.
        to: Folder of the page; by default `reports/<study>` beside the checkpoints' folder.

    Returns:
        What was written, and why MLflow did not take a copy; empty if it did.

    Raises:
        StudyError: The study was never begun.
        StorageError: The ledger cannot be opened, or the folder not written.
    """
    from tune_vae.report.evidence import gather
    from tune_vae.report.page import write
    from tune_vae.service.ledger import read_bounds
    from tune_vae.service.tracking import attach_report

    if spec.undecided:
        bounds = read_bounds(spec)
        spec = spec.with_bounds(*bounds) if bounds else spec
    evidence = gather(spec, results(spec))
    try:
        data: Splits | None = _images(spec)
    except DataError:
        # They may lie on another machine; all else can be shown.
        data = None
    if data is not None:
        seen = tuple(scouts_of(spec, data))
        foreseen = forecast_of(spec, data, critical=False)
        evidence = replace(evidence, forecast=foreseen, scouts=seen)
    folder = to or _beside_checkpoints(spec) / "reports" / spec.name
    written = write(evidence, data, folder)
    return written, attach_report(spec, [written.page, *written.pictures], written.summary)


def trial_of(spec: StudySpec, number: int) -> TrialRow:
    """One trial of a study, or a repeat by its number.

    Raises:
        TrialNotFoundError: There is no such trial.
    """
    found = results(spec)
    rows = found.rows
    for row in (*rows, *found.repeats):
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
        data = data or _data_of(config)
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
    return Trained(_vae(config, state), config, history, judge(history, limits))


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


def load_vae(path: str | Path) -> VAE:
    """The model of a checkpoint or of an export, in evaluation mode on the CPU.

    Arguments:
        path: A checkpoint, from the checkpoint store (also by URL) or from MLflow, or the folder
            of an export.

    Raises:
        CheckpointError: The file is absent, torn or foreign.

    Example:
        vae = load_vae("mlruns/checkpoints/digits/00012/best.pt")
        images = vae.generate(16)
    """
    if Path(path).is_dir():
        from tune_vae.service.export import exported_vae

        return exported_vae(Path(path))
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
    known = data.told.test[: len(real)] if data.told and config.classes else None
    parts = [
        vae.generate(
            min(500, len(real) - start),
            seed=start,
            labels=None if known is None else known[start : start + 500],
        )
        for start in range(0, len(real), 500)
    ]
    pair = ((x.cpu().clamp(0, 1) * 255).round().byte() for x in (real, torch.cat(parts)))
    return inception_distances(*pair, device=device)


def export(spec: StudySpec, trial: int | None = None, *, to: Path | None = None) -> "Exported":
    """Write a trial's best model to a folder that works with torch alone; see `service.export`.

    Arguments:
        spec: The study.
        trial: Which of its trials; by default the winner.
        to: An absent or empty folder; by default `exports/<study>-<trial>` beside the checkpoints.

    Raises:
        StudyError: The study was never begun.
        TrialNotFoundError: There is no such trial.
        ExportError: The trial has not ended or has no best checkpoint, there is no winner, or
            the folder holds something.
        CheckpointError: The checkpoint cannot be read, or is of another training.
        DataError: The data cannot be loaded, or are others than the study's.
        StorageError: The ledger cannot be read, or the folder not be written.
    """
    from tune_vae.service.export import refuse_existing, write
    from tune_vae.service.ledger import data_digest

    row = _winner(spec) if trial is None else trial_of(spec, trial)
    if not row.ended:
        raise ExportError(
            f"trial {row.trial} is {row.state}; it can be exported once it has ended"
        )
    folder = to or _beside_checkpoints(spec) / "exports" / f"{spec.name}-{row.trial:05d}"
    refuse_existing(folder)
    store = checkpoint.CheckpointStore(spec.storage.checkpoints, spec.name)
    best, state = store.path(row.trial, "best.pt"), None
    if row.best:
        state = store.best(row.trial, row.best.epoch)
    if state is None:
        raise ExportError(
            f"trial {row.trial} has no best checkpoint at {best} that can be read; it ended as "
            f"{row.kind.replace('_', ' ')}: {row.reason}"
        )
    if _config_of(state, best) != row.config:
        raise CheckpointError(f"{best} is of another training than trial {row.trial} of the study")
    data = _images(spec)
    if data.digest(conditional=spec.conditional) != data_digest(spec):
        raise DataError(
            f"the data are not those that study `{spec.name}` was searched with; restore them"
        )
    again = f"tune-vae train {spec.file} --trial {row.trial}"
    return write(folder, row, state, data, again=again)


def _beside_checkpoints(spec: StudySpec) -> Path:
    """Where a study's files for people lie by default, also when its checkpoints are elsewhere."""
    checkpoints = spec.storage.checkpoints
    return Path("mlruns") if is_url(checkpoints) else Path(checkpoints).parent


def _winner(spec: StudySpec) -> TrialRow:
    found = results(spec)
    if found.winner:
        return found.winner
    if not found.front:
        raise ExportError(f"no trial of study `{spec.name}` has finished; name one with --trial")
    front = ", ".join(str(row.trial) for row in found.front)
    raise ExportError(
        f"study `{spec.name}` has {len(found.objective)} objectives and no single winner; name a "
        f"trial of its front with --trial: {front}"
    )


def _config_of(state: dict[str, Any], path: str | Path) -> TrialConfig:
    try:
        config = TrialConfig.model_validate_json(state["config"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} does not say which model it holds") from error
    try:
        config.member()
    except ComponentError as error:
        raise CheckpointError(
            f"the model of {path} cannot be built here: {error}. If it is code of your own, call "
            "`StudySpec.load` of its study file first, or be in the folder of its modules"
        ) from None
    return config


def _vae(config: TrialConfig, state: dict[str, Any]) -> VAE:
    return restored_vae(config.member(), config.shape, state)


def _data_of(config: TrialConfig) -> Splits:
    data: Splits = components.build("dataset", config.data).load()
    return data


def _rows(spec: StudySpec) -> list[TrialRow] | None:
    from tune_vae.service.ledger import read_rows

    return read_rows(spec)


def _sound_data(spec: StudySpec) -> Splits:
    """The data of a study, which refuses what only data, libraries and models can reveal."""
    from tune_vae.service.plugins import plugin_problems

    data = _images(spec)
    found = [*plugin_problems(spec), *faults(spec, data)]
    # With a prior that is refused, there are models that cannot be built for that reason alone.
    if not any(problem.path == ("search", "prior") for problem in found):
        models = _models(spec, data)
        found += _misfits(models) or _unpackable(spec, models)
    spec.refuse(found)
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


def _misfits(models: Sequence[TrialConfig]) -> list[Problem]:
    """Models that cannot be built for the images."""
    found = []
    for config in models:
        try:
            _size(config)
        except Exception as error:  # noqa: BLE001
            # The contract names ValueError; a network of the user's own may raise anything.
            images = "×".join(map(str, config.shape))
            found.append(Problem(f"no model for images of {images}: {error}", ("network",)))
    return list(dict.fromkeys(found))


def _unpackable(spec: StudySpec, models: Sequence[TrialConfig]) -> list[Problem]:
    """Models with code of the user's own that cannot be trained in the packs that are asked for.

    Ours can; a test trains each of them in a pack.
    """
    if spec.train.pack == 1:
        return []
    found = []
    for config in models:
        parts = (config.network, config.likelihood, config.sigma or "", config.prior)
        own = [name for name, _ in map(components.split, parts) if ":" in name]
        reason = obstacle(build_vae(config.member(), config.shape)) if own else ""
        if reason:
            found.append(
                Problem(
                    f"`pack: {spec.train.pack}` cannot train `{own[0]}`: {reason}",
                    ("train", "pack"),
                    "mend it, or write `pack: 1`, which trains anything",
                )
            )
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
        fixed,
        fixed.draw(_Given()),
        trial=0,
        shape=data.shape,
        levels=data.levels,
        classes=data.classes,
    )


def _models(spec: StudySpec, data: Splits) -> list[TrialConfig]:
    """A configuration for each kind of model in the space."""
    first = {name: next(node.examples()) for name, node in spec.knobs.items()}
    parts = ("network", "latent_dim", "likelihood", "sigma", "prior")
    chosen = [
        dict(zip(parts, model, strict=True))
        for model in itertools.product(*(spec.knobs[part].examples() for part in parts))
    ]
    return [
        TrialConfig.of(
            spec,
            first | model | ({} if has_scale(model["likelihood"]) else {"sigma": None}),
            trial=0,
            shape=data.shape,
            levels=data.levels,
            classes=data.classes,
        )
        for model in chosen
    ]


def _size(config: TrialConfig) -> tuple[int, int]:
    """Parameters of a model, and bytes of its weights, optimiser and activations."""
    try:
        return _size_on(config, "meta")
    except Exception:  # noqa: BLE001
        # Code of the user's own may look at values, which tensors without memory do not have.
        return _size_on(config, "cpu")


def _size_on(config: TrialConfig, device: str) -> tuple[int, int]:
    activations = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal activations
        if isinstance(output, Tensor) and not list(module.children()):
            activations += output.numel() // TRIED_AT_ONCE

    with torch.device(device):
        vae = build_vae(config.member(), config.shape)
        for module in vae.modules():
            module.register_forward_hook(count)
        vae(
            torch.zeros(TRIED_AT_ONCE, *config.shape),
            torch.zeros(TRIED_AT_ONCE, config.latent_dim),
            torch.zeros(TRIED_AT_ONCE, dtype=torch.int64),
        )
    parameters = sum(p.numel() for p in vae.parameters())
    # Weights, gradient, two moments and Adam's intermediate results; each activation and its
    # gradient.
    return parameters, 4 * (7 * parameters + 2 * activations * config.batch_size)


def _step_seconds(config: TrialConfig, data: Splits) -> float:
    """Time of a step, validation's share included, from three steps after three to warm up."""
    batch = min(config.batch_size, len(data.train))
    sample = data.first(3 * batch, batch, 1)
    member = replace(config.member(), epochs=2, batch_size=batch)
    seconds = math.inf
    torch.set_num_threads(1)
    epochs = iter(Trainer([member], sample))
    for _ in range(2):
        begin = time.perf_counter()
        next(epochs)
        seconds = time.perf_counter() - begin
    return seconds / (len(sample.train) // batch)
