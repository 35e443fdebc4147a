"""`search`, `confirm` and `fork`: a study is made ready, run, and begun anew."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tune_vae.api.forecasting import forecast_of, foretelling
from tune_vae.api.models import models_of, size_of, sound_data
from tune_vae.api.scouting import scouts_of
from tune_vae.api.standing import results
from tune_vae.data import Splits
from tune_vae.errors import Problem, StudyError, StudyFileError
from tune_vae.machine import cores
from tune_vae.service.results import StudyResults
from tune_vae.service.scouted import Scouted
from tune_vae.service.study_forecast import StudyForecast, merged, proposal
from tune_vae.spec.study import AUTO, StudySpec
from tune_vae.training.packing import best_size
from tune_vae.training.trainer import build_vae
from tune_vae.whole_files import write_whole

if TYPE_CHECKING:
    from tune_vae.service.desk import DataFacts, Snapshot

__all__ = ["confirm", "decided", "fork", "prepared", "search"]

GENERATIONS = 5
"""With `pack: auto`, at most one part in so many of a study's trials is under way at a time, so
that the sampler learns from most of them before it chooses the others."""


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

    spec, facts = prepared(spec)
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

    spec, facts = prepared(spec)
    return cluster.search(spec, facts, show=show, note=note, confirm=True, verbose=verbose).results


def prepared(spec: StudySpec) -> tuple[StudySpec, "DataFacts"]:
    """A study whose bounds are all decided, and what must be known of its data to run it."""
    from tune_vae.service.desk import DataFacts

    data = sound_data(spec)
    scouts = scouts_of(spec, data) if spec.undecided or spec.known_good else []
    if spec.undecided:
        foreseen = forecast_of(spec, data, critical=_bounds_follow(spec, data))
        spec = decided(spec, foreseen, scouts)
    digest = data.digest(conditional=spec.conditional)
    points = foretelling(spec, data)
    if spec.train.pack == AUTO:
        spec = spec.with_pack(_pack_size(spec, data))
    seen = tuple(first for one in scouts if (first := one.first_trial))
    return spec, DataFacts(data.shape, data.levels, digest, data.classes, points, seen)


def _bounds_follow(spec: StudySpec, data: Splits) -> bool:
    """Whether critical betas decide anything: bounds that are open, and not of counts."""
    return spec.undecided and data.levels is not None


def decided(
    spec: StudySpec, foreseen: StudyForecast, scouts: Sequence[Scouted], *, begun: bool = True
) -> StudySpec:
    """The study with what its `beta_norm: auto` comes to, or came to when it began.

    Raises:
        StudyFileError: There is no forecast for all of its decoders.
    """
    from tune_vae.service.ledger.looking import read_bounds

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
                    f"`tune-vae scout {spec.operand}` find them, for about one trial each",
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


def _pack_size(spec: StudySpec, data: Splits) -> int:
    """What `pack: auto` comes to here, for the largest model of the study."""
    largest = max(models_of(spec, data), key=lambda config: size_of(config)[0])
    gpu = torch.cuda.is_available() and spec.budget.gpus_per_trial != 0
    # By default four workers share a GPU.
    here = 4 * torch.cuda.device_count() if gpu else cores()
    workers = spec.budget.concurrency or here
    most = spec.budget.trials // (GENERATIONS * workers)
    vae = build_vae(largest.member(), data.shape).to("cuda" if gpu else "cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return best_size(vae, largest.batch_size, most=most)
    finally:
        torch.set_num_threads(before)


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
    return write_whole(file, content)
