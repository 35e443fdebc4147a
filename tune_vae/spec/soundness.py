"""Whether the numbers of a study can be compared, and whether each knob turns something.

These are faults of meaning, not of form: they need to know the data.
"""

from typing import Any

from tune_vae.data import Splits
from tune_vae.errors import Problem
from tune_vae.science.likelihoods import Measure
from tune_vae.spec import components
from tune_vae.spec.source import YamlPath
from tune_vae.spec.space import Call, Choice, Node
from tune_vae.spec.study import StudySpec

__all__ = ["faults"]

_BETA_OF_SIGMA = {"gaussian": "sigma²", "laplace": "sigma"}
"""Likelihoods whose scale only divides the distortion, and the beta to which it amounts."""


def faults(spec: StudySpec, data: Splits) -> list[Problem]:
    """What makes a study on these images incomparable, redundant or impossible."""
    return [
        *_incomparable(spec, data.levels),
        *_one_knob_twice(spec),
        *_batch_too_large(spec, len(data.train)),
    ]


def _incomparable(spec: StudySpec, levels: int) -> list[Problem]:
    calls = _calls(spec.knobs["likelihood"])
    which = sorted({call.name for call in calls})
    improper = sorted(
        {
            call.name
            for call in calls
            for example in call.examples()
            if _measure(example, levels) is Measure.IMPROPER
        }
    )
    # The default objective has no place in the file.
    place = "objective" in spec.source.data
    path: YamlPath = ("objective",) if place else ("search", "likelihood")
    found = []
    for name in spec.objective:
        if name == "bits_per_dim" and improper:
            found.append(
                Problem(
                    f"`bits_per_dim` cannot rank {_listed(improper)} on data with {levels} "
                    "levels: its number is not a normalised probability there",
                    path,
                    "use `objective: bits_per_dim_calibrated` or `mse`, which exist for every "
                    "likelihood, or leave it out of the choice",
                )
            )
        if name in {"neg_elbo", "distortion_nats"} and (len(which) > 1 or improper):
            found.append(
                Problem(
                    f"`{name}` is in each likelihood's own measure and cannot rank "
                    f"{_listed(which)}",
                    path,
                    "use `objective: bits_per_dim` or `bits_per_dim_calibrated`, or one proper "
                    "likelihood",
                )
            )
    return found


def _one_knob_twice(spec: StudySpec) -> list[Problem]:
    sigmas = {
        components.build("sigma", example).sigma
        for call in _calls(spec.knobs["sigma"])
        if call.name == "fixed"
        for example in call.examples()
    }
    names = {call.name for call in _calls(spec.knobs["likelihood"])}
    if len(sigmas) < 2 or not spec.knobs["beta_norm"].open:
        return []
    return [
        Problem(
            f"the fixed sigma of `{name}` and beta_norm are one knob: sigma with beta = 1 trains "
            f"like sigma 1 with beta = {beta}, so only their product is found",
            ("search", "sigma"),
            "search one of them: give `fixed` one sigma, or give `beta_norm` one value",
        )
        for name, beta in _BETA_OF_SIGMA.items()
        if name in names
    ]


def _batch_too_large(spec: StudySpec, images: int) -> list[Problem]:
    largest = max(spec.knobs["batch_size"].examples())
    if largest > images:
        return [
            Problem(
                f"a batch of {largest:,} is more than the {images:,} training images",
                ("train", "batch_size"),
                f"use at most {images:,}",
            )
        ]
    return []


def _listed(names: list[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _measure(likelihood: dict[str, Any], levels: int) -> Measure:
    completed = components.completed("likelihood", likelihood, levels=levels)
    measure: Measure = components.build("likelihood", completed).measure(levels)
    return measure


def _calls(node: Node) -> list[Call]:
    if isinstance(node, Choice):
        return [call for option in node.options for call in _calls(option)]
    return [node] if isinstance(node, Call) else []
