"""Every likelihood against arithmetic with 120 digits; see `tests/oracles/make_likelihoods.py`.

Shapes: n rows of a file of vectors, each one value with its own parameters; P parameters.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.discovery import component_classes
from tune_vae.science.likelihoods import Likelihood, Measure

FILE = Path(__file__).parents[3] / "oracles" / "likelihoods.json"
VECTORS = json.loads(FILE.read_text())
CLASSES = {
    make.__module__.rpartition(".")[2]: make for make in component_classes("science.likelihoods")
}

every_vector = pytest.mark.parametrize(
    "vector", VECTORS, ids=[f"{one['likelihood']} {one['arguments']}" for one in VECTORS]
)
every_dtype = pytest.mark.parametrize(
    ("dtype", "relative", "absolute", "of_gradient"),
    [(torch.float64, 1e-9, 1e-14, 1e-6), (torch.float32, 2e-4, 2e-6, 1e-2)],
    ids=["float64", "float32"],
)


def likelihood_of(vector: dict[str, Any]) -> Likelihood:
    made: Likelihood = CLASSES[vector["likelihood"]](**vector["arguments"])
    return made


def levels_of(vector: dict[str, Any]) -> int | None:
    (levels,) = {row[1] for row in vector["rows"]}
    return levels


def inputs(vector: dict[str, Any], dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Data `[n, 1]`, parameters `[n, P, 1]` and log sigma `[n, 1]`."""
    level_n, _, params_nP, log_sigma_n = list(zip(*vector["rows"], strict=True))[:4]
    levels = levels_of(vector)
    x_n1 = torch.tensor(level_n, dtype=dtype, device=device)[:, None]
    return [
        x_n1 / (levels - 1 if levels else 1),
        torch.tensor(params_nP, dtype=dtype, device=device)[:, :, None].requires_grad_(),
        torch.tensor(log_sigma_n, dtype=dtype, device=device)[:, None].requires_grad_(),
    ]


@every_vector
@every_dtype
def test_log_prob_and_its_gradient_are_exact(
    vector: dict[str, Any],
    dtype: torch.dtype,
    relative: float,
    absolute: float,
    of_gradient: float,
    device: torch.device,
) -> None:
    likelihood, given = likelihood_of(vector), inputs(vector, dtype, device)
    log_prob_n = likelihood.log_prob(*given)[:, 0]
    wanted = given[1:] if likelihood.has_scale else given[1:2]
    gradients = torch.autograd.grad(log_prob_n.sum(), wanted)
    gradient_nP = torch.cat([gradient.flatten(1) for gradient in gradients], 1)
    for row, log_prob, gradient in zip(
        vector["rows"], log_prob_n.tolist(), gradient_nP.tolist(), strict=True
    ):
        assert log_prob == pytest.approx(row[4], rel=relative, abs=absolute), row
        for one, exact in zip(gradient, row[5], strict=False):
            if exact is not None:
                # Of a saturated link's slope, 1 - mean, only as many digits are left as 1 has.
                assert one == pytest.approx(exact, rel=of_gradient, abs=of_gradient), row


@every_vector
def test_log_mass_is_exact(vector: dict[str, Any], device: torch.device) -> None:
    given = inputs(vector, torch.float64, device)
    log_mass_n1 = likelihood_of(vector).log_mass(*given, levels=levels_of(vector))
    # An integral that is a sum of many parts is known to 1e-10 of 1.
    absolute = 1e-10 if vector["likelihood"] == "beta" else 1e-14
    for row, log_mass in zip(vector["rows"], log_mass_n1.flatten().tolist(), strict=True):
        exact = row[4] if row[6] is None else row[6]
        assert log_mass == pytest.approx(exact, rel=1e-9, abs=absolute), row


def test_every_likelihood_of_levels_or_counts_and_every_one_with_a_scale_has_vectors() -> None:
    asked = {
        name
        for name, make in CLASSES.items()
        if make.has_scale or Measure.MASS in (make().measure(256), make().measure(None))
    }
    assert asked <= {vector["likelihood"] for vector in VECTORS}
