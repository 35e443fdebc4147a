"""Samplers and pruners: any class of Optuna by its name, or of one's own by import path."""

import contextlib
import hashlib
import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import optuna

from tune_vae.errors import Problem
from tune_vae.service.bounded_sampler import BoundedSampler
from tune_vae.service.pareto_pruner import ParetoPruner
from tune_vae.spec.source import nearest
from tune_vae.spec.study import StudySpec

__all__ = ["plugin_problems", "pruner_of", "quiet", "sampler_of"]


def pruner_of(spec: StudySpec) -> optuna.pruners.BasePruner:
    """The pruner of a study, made anew."""
    pruner: optuna.pruners.BasePruner = _plugin(optuna.pruners, "pruner", spec.pruner)
    return pruner


def sampler_of(spec: StudySpec, *, seed_of: str) -> optuna.samplers.BaseSampler:
    """The sampler of a study, made anew; of those that read all trials, see `BoundedSampler`.

    Arguments:
        spec: The study.
        seed_of: What its seed follows from, unless the study gives one.
    """
    # Four bytes are what NumPy's generator takes.
    seed = int.from_bytes(hashlib.blake2b(seed_of.encode(), digest_size=4).digest(), "big")
    sampler: optuna.samplers.BaseSampler = _plugin(
        optuna.samplers, "sampler", spec.sampler, seed=seed
    )
    # Others count generations in the rows, or must know every point that was tried.
    reads_all = isinstance(sampler, optuna.samplers.TPESampler | optuna.samplers.GPSampler)
    return BoundedSampler(sampler) if reads_all else sampler


def plugin_problems(spec: StudySpec) -> list[Problem]:
    """What is wrong with a study's sampler and pruner."""
    found = []
    for kind, package, ref in (
        ("sampler", optuna.samplers, spec.sampler),
        ("pruner", optuna.pruners, spec.pruner),
    ):
        try:
            _plugin(package, kind, ref)
        except (TypeError, ValueError, ImportError, AttributeError) as error:
            ((name, arguments),) = ref.items()
            known = [n for n in package.__all__ if n.lower().endswith(kind) and n[:4] != "Base"]
            known += _OURS if kind == "pruner" else []
            if name not in known and ":" not in name:
                problem = Problem(f"unknown {kind} `{name}`", (kind,), nearest(name, known))
            else:
                problem = Problem(
                    f"{kind} `{name}` cannot be made with {arguments}: {error}",
                    (kind,),
                    f"its arguments: https://optuna.readthedocs.io ({kind}s)",
                )
            found.append(problem)
    return found or _unfit_pruner(spec)


def _unfit_pruner(spec: StudySpec) -> list[Problem]:
    """A pruner that ranks by one value in a study of two objectives, or the reverse."""
    two, pruner = len(spec.objective) > 1, pruner_of(spec)
    if isinstance(pruner, optuna.pruners.NopPruner) or isinstance(pruner, ParetoPruner) == two:
        return []
    name = next(iter(spec.pruner))
    if name not in optuna.pruners.__all__ and name not in _OURS:
        # By import path: what it can rank is known to whoever wrote it.
        return []
    if two:
        return [
            Problem(
                f"pruner `{name}` ranks by one value, and this study has two objectives",
                ("pruner",),
                "use `ParetoPruner`, which no `pruner` means as well; `NopPruner` stops nothing",
            )
        ]
    return [
        Problem(
            f"pruner `{name}` is for two objectives, and this study has one",
            ("pruner",),
            "use `SuccessiveHalvingPruner`, which does the same for one value",
        )
    ]


_OURS = {"ParetoPruner": ParetoPruner}
"""Pruners that a study file names as it names Optuna's."""


def _plugin(package: Any, kind: str, ref: dict[str, Any], **extra: Any) -> Any:
    """A sampler or pruner of Optuna by name, or of one's own by import path."""
    ((name, arguments),) = ref.items()
    if ":" in name:
        module, _, attribute = name.partition(":")
        made = getattr(importlib.import_module(module), attribute)
    else:
        made = _OURS[name] if kind == "pruner" and name in _OURS else getattr(package, name)
    contract = {"sampler": optuna.samplers.BaseSampler, "pruner": optuna.pruners.BasePruner}[kind]
    # Before it is called: `os:system` is an import path as well.
    if not (isinstance(made, type) and issubclass(made, contract)):
        raise ValueError(f"it is not a subclass of optuna's {contract.__name__}")
    inner = {
        key: _plugin(package, kind, value)
        if isinstance(value, dict) and kind == "pruner"
        else value
        for key, value in arguments.items()
    }
    with quiet():
        try:
            return made(**(extra | inner))
        except TypeError:
            if not extra:
                raise
            return made(**inner)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's warnings.

    Heartbeats are experimental and are said not to work with ask and tell; they do, when
    `record_heartbeat` and `fail_stale_trials` are called as is done here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
