"""The models of a study: which kinds its space has, whether they fit the data, what each costs."""

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tune_vae.data import Splits
from tune_vae.errors import DataError, Problem, TuneVaeError
from tune_vae.spec import components
from tune_vae.spec.soundness import faults
from tune_vae.spec.study import StudySpec, has_scale
from tune_vae.spec.trial import TrialConfig
from tune_vae.training.lifting import obstacle
from tune_vae.training.trainer import Trainer, build_vae

__all__ = ["images_of", "models_of", "size_of", "sound_data", "step_seconds"]

TRIED_AT_ONCE = 2
"""Examples that a model is tried with; a batch norm cannot be trained on one."""
SMALL = 10**7
"""Parameters of a model that is tried out for real, in much less than a second."""


def sound_data(spec: StudySpec) -> Splits:
    """The data of a study, which refuses what only data, libraries and models can reveal."""
    from tune_vae.service.plugins import plugin_problems

    data = images_of(spec)
    found = [*plugin_problems(spec), *faults(spec, data)]
    # With a prior that is refused, there are models that cannot be built for that reason alone.
    if not any(problem.path == ("search", "prior") for problem in found):
        models = models_of(spec, data)
        found += _misfits(models) or _unpackable(spec, models)
    spec.refuse(found)
    return data


def images_of(spec: StudySpec) -> Splits:
    """The data of a study.

    Raises:
        DataError: They cannot be loaded.
    """
    try:
        return spec.dataset().load()
    except TuneVaeError:
        raise
    except Exception as error:
        # A data set may be the user's own code, and raise anything.
        (name,) = spec.data
        what = f"{type(error).__name__}: {error}"
        raise DataError(f"data set `{name}` cannot be loaded: {what}") from error


def models_of(spec: StudySpec, data: Splits) -> list[TrialConfig]:
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


def _misfits(models: Sequence[TrialConfig]) -> list[Problem]:
    """Models that cannot be built for the images."""
    found = []
    for config in models:
        try:
            size_of(config)
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
        own = _own_parts(config)
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


def _own_parts(config: TrialConfig) -> list[str]:
    """Import paths of the parts of a model that are the user's own."""
    parts = (config.network, config.likelihood, config.sigma or "", config.prior)
    return [name for name, _ in map(components.split, parts) if ":" in name]


def size_of(config: TrialConfig) -> tuple[int, int]:
    """Parameters of a model, and bytes of its weights, optimiser and activations."""
    try:
        with torch.device("meta"):
            vae = build_vae(config.member(), config.shape)
        # To run without memory as well, torch imports its compiler, which takes two seconds. Code
        # of the user's own may end the process when it runs for real.
        small = sum(p.numel() for p in vae.parameters()) < SMALL and not _own_parts(config)
        return _size_on(config, "cpu" if small else "meta")
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


def step_seconds(config: TrialConfig, data: Splits) -> float:
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
