"""Whether the numbers of a study can be compared, and whether each knob turns something.

These are faults of meaning, not of form: they need to know the data.
"""

from collections.abc import Iterator
from typing import Any

from tune_vae.data import Splits
from tune_vae.errors import Problem
from tune_vae.science.likelihoods import Domain, Likelihood, Measure
from tune_vae.spec import components
from tune_vae.spec.source import YamlPath
from tune_vae.spec.space import Call, Choice, Node
from tune_vae.spec.study import StudySpec

__all__ = ["faults"]

_BETA_OF_SIGMA = {"gaussian": "sigma²", "laplace": "sigma"}
"""Likelihoods whose scale only divides the distortion, and the beta to which it amounts."""


def faults(spec: StudySpec, data: Splits) -> list[Problem]:
    """What makes a study on these images incomparable, redundant or impossible."""
    foreign = _foreign(spec, data.levels)
    return foreign or [
        *_incomparable(spec, data.levels),
        *_no_optimal_scale(spec),
        *_unscaled(data),
        *_unscorable(spec, data),
        *_one_knob_twice(spec),
        *_batch_too_large(spec, len(data.train)),
    ]


def _foreign(spec: StudySpec, levels: int | None) -> list[Problem]:
    """Likelihoods and networks made for other data."""
    kind = Domain.of(levels)
    networks = [
        Problem(
            f"`{name}` cannot be used here: it is a network for "
            f"{' or '.join(sorted(_class('network', name).domains))}, and the data are {kind}",
            ("network",),
            "use `mlp`, which takes all data",
        )
        for name in sorted({call.name for call in _calls(spec.knobs["network"])})
        if kind not in _class("network", name).domains
    ]
    found = {}
    for call in _calls(spec.knobs["likelihood"]):
        for example in call.examples():
            misfit = _built(example, levels).misfit(levels)
            if misfit:
                found[call.name] = misfit
    fitting = [
        name
        for name in components.names("likelihood")
        if kind in _class("likelihood", name).domains
    ]
    tip = f"use one of: {', '.join(fitting)}"
    if levels is None:
        tip += "; or state how counts become grey levels: `data: {counts: {transform: log1p}}`"
    return networks + [
        Problem(f"`{name}` cannot be used here: {misfit}", ("search", "likelihood"), tip)
        for name, misfit in found.items()
    ]


def _no_optimal_scale(spec: StudySpec) -> list[Problem]:
    likelihoods = {
        call.name
        for call in _calls(spec.knobs["likelihood"])
        if not _class("likelihood", call.name).has_optimal_scale
    }
    modes = {
        call.name
        for call in _calls(spec.knobs["sigma"])
        if _class("sigma", call.name).needs_optimal_scale
    }
    if not (likelihoods and modes):
        return []
    place = "sigma" if "sigma" in spec.source.data.get("search", {}) else "likelihood"
    return [
        Problem(
            f"`sigma: {_listed(sorted(modes))}` needs the most probable scale of a batch, which "
            f"{_listed(sorted(likelihoods))} cannot give",
            ("search", place),
            "name others, such as `sigma: shared`",
        )
    ]


def _unscaled(data: Splits) -> list[Problem]:
    bright = (int(part.max()) > 1 for part in _parts(data))
    if not data.levels or data.levels == 2 or any(bright):
        return []
    return [
        Problem(
            f"no value of the training images exceeds {int(data.train.max())}, though they have "
            f"{data.levels} levels",
            ("data",),
            "images that were divided by 255 before they became whole numbers are black; keep "
            "them as they are, or state 2 levels if they are binary",
        )
    ]


def _parts(data: Splits) -> Iterator[Any]:
    """Training examples, a few at a time: there may be more than memory holds."""
    return (data.train[start : start + 1024] for start in range(0, len(data.train), 1024))


def _unscorable(spec: StudySpec, data: Splits) -> list[Problem]:
    found = _unconditional(spec, data) if spec.conditional else []
    if all(bool((part == data.train[0]).all()) for part in _parts(data)):
        found.append(
            Problem(
                "all training examples are the same: there is nothing to learn",
                ("data",),
                "look at what the files hold",
            )
        )
    if "probe_error" in spec.objective and data.labels is None:
        found.append(
            Problem(
                "`probe_error` needs labels, and these data have none",
                ("objective",),
                "use `bits_per_dim_calibrated`, or `sample_distance` if you want samples",
            )
        )
    return found


def _unconditional(spec: StudySpec, data: Splits) -> list[Problem]:
    """What cannot be told labels or a covariate, or not be asked for them."""
    found = []
    if data.told is None:
        found.append(
            Problem(
                "`conditional: true` needs labels or a covariate, and these data have neither",
                ("conditional",),
                "leave it out, or choose data with labels",
            )
        )
    elif data.classes > int(data.told.train.max()) + 1:
        found.append(
            Problem(
                f"there are {data.classes} classes, and no training example of the last",
                ("data",),
                "a model cannot be told of a class that it never saw; train on more examples",
            )
        )
    if "probe_error" in spec.objective and data.covariate is None:
        found.append(
            Problem(
                "`probe_error` asks the latents of a conditional model for the labels, which its "
                "decoder is told anyway",
                ("objective",),
                "use `bits_per_dim_calibrated`, or `sample_distance` if you want samples",
            )
        )
    priors = sorted(
        {c.name for c in _calls(spec.knobs["prior"]) if _class("prior", c.name).encodes}
    )
    if priors:
        found.append(
            Problem(
                f"{_listed(priors)} is made of encoded examples without labels, so it is no "
                "prior of a conditional model",
                ("search", "prior"),
                "use `standard` or `mixture`",
            )
        )
    return found


def _incomparable(spec: StudySpec, levels: int | None) -> list[Problem]:
    calls = _calls(spec.knobs["likelihood"])
    which = sorted({call.name for call in calls})
    improper = sorted(
        {
            call.name
            for call in calls
            for example in call.examples()
            if _built(example, levels).measure(levels) is Measure.IMPROPER
        }
    )
    # The default objective has no place in the file.
    place = "objective" in spec.source.data
    path: YamlPath = ("objective",) if place else ("search", "likelihood")
    found = []
    told = {
        example[call.name].get("library", "observed")
        for call in calls
        for example in call.examples()
        if levels is None
    }
    if len(told) > 1 and not set(spec.objective) <= {"mse", "sample_distance", "probe_error"}:
        found.append(
            Problem(
                "`library: observed` and `library: none` cannot be ranked by "
                f"`{spec.objective[0]}`: only one of them has to say how many counts there are",
                ("search", "likelihood"),
                "keep one of the two; or use `objective: mse` or `sample_distance`",
            )
        )
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


def _built(likelihood: dict[str, Any], levels: int | None) -> Likelihood:
    facts = {} if levels is None else {"levels": levels}
    completed = components.completed("likelihood", likelihood, **facts)
    built: Likelihood = components.build("likelihood", completed)
    return built


def _class(family: str, name: str) -> Any:
    return components.find(family, name)


def _calls(node: Node) -> list[Call]:
    if isinstance(node, Choice):
        return [call for option in node.options for call in _calls(option)]
    return [node] if isinstance(node, Call) else []
