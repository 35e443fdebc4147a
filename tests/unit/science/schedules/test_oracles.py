"""Every schedule against arithmetic with 80 digits; see `tests/oracles/make_rates.py`."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.discovery import component_classes

FILE = Path(__file__).parents[3] / "oracles" / "rates.json"
VECTORS = json.loads(FILE.read_text())["schedules"]
CLASSES = {
    make.__module__.rpartition(".")[2]: make for make in component_classes("science.schedules")
}


@pytest.mark.parametrize(
    ("dtype", "relative", "absolute"),
    [(torch.float64, 1e-9, 1e-15), (torch.float32, 2e-4, 1e-6)],
    ids=["float64", "float32"],
)
@pytest.mark.parametrize(
    "vector", VECTORS, ids=[f"{v['schedule']} {v['arguments']} {v['steps']}" for v in VECTORS]
)
def test_weight_is_exact(
    vector: dict[str, Any],
    dtype: torch.dtype,
    relative: float,
    absolute: float,
    device: torch.device,
) -> None:
    schedule = CLASSES[vector["schedule"]](**vector["arguments"])
    if vector["steps"]:
        schedule = schedule.for_steps(vector["steps"])
    progress, exact = zip(*vector["rows"], strict=True)
    got = schedule.weight(torch.tensor(progress, dtype=dtype, device=device))
    assert got.tolist() == pytest.approx(exact, rel=relative, abs=absolute)


def test_every_schedule_has_vectors() -> None:
    assert {vector["schedule"] for vector in VECTORS} == set(CLASSES)
