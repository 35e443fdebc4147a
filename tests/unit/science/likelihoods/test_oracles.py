"""Every likelihood against arithmetic with 120 digits; see `tests/oracles/make_likelihoods.py`."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

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


def inputs(row: list[Any], dtype: torch.dtype, device: torch.device) -> list[torch.Tensor]:
    """Data, parameters and log sigma of one value."""
    level, levels, params, log_sigma = row[:4]
    x = torch.tensor([[level]], dtype=dtype, device=device) / (levels - 1)
    return [
        x,
        torch.tensor(params, dtype=dtype, device=device)[None, :, None].requires_grad_(),
        torch.tensor(log_sigma, dtype=dtype, device=device, requires_grad=True),
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
    likelihood = likelihood_of(vector)
    for row in vector["rows"]:
        given = inputs(row, dtype, device)
        log_prob = likelihood.log_prob(*given)
        assert log_prob.item() == pytest.approx(row[4], rel=relative, abs=absolute), row
        wanted = given[1:] if likelihood.has_scale else given[1:2]
        gradients = torch.autograd.grad(log_prob.sum(), wanted)
        got = torch.cat([gradient.flatten() for gradient in gradients]).tolist()
        for one, exact in zip(got, row[5], strict=False):
            if exact is not None:
                # Of a saturated link's slope, 1 - mean, only as many digits are left as 1 has.
                assert one == pytest.approx(exact, rel=of_gradient, abs=of_gradient), row


@every_vector
def test_log_mass_is_exact(vector: dict[str, Any], device: torch.device) -> None:
    likelihood = likelihood_of(vector)
    for row in vector["rows"]:
        log_mass = likelihood.log_mass(*inputs(row, torch.float64, device), levels=row[1])
        exact = row[4] if row[6] is None else row[6]
        assert log_mass.item() == pytest.approx(exact, rel=1e-9, abs=1e-14), row


def test_every_likelihood_of_256_levels_and_every_one_with_a_scale_has_vectors() -> None:
    asked = {
        name
        for name, make in CLASSES.items()
        if make.has_scale or make().measure(256) is Measure.MASS
    }
    assert asked <= {vector["likelihood"] for vector in VECTORS}
