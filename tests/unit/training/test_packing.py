"""How many members a pack is given."""

import pytest
import torch

from tests.factories import member
from tune_vae.training import packing
from tune_vae.training.packing import best_size
from tune_vae.training.trainer import build_vae

VAE = build_vae(member(0), (1, 8, 8))


@pytest.mark.parametrize(
    ("rates", "most", "size"),
    [
        ([100, 200, 400, 800, 1600, 3200], 16, 16),
        ([100, 200, 400, 450, 9999], 16, 4),
        ([100, 116, 135, 100], 16, 4),
        ([100, 114, 131, 9999], 16, 1),
        ([100, 114, 133, 152, 9999], 16, 4),
        ([100, 90, 180, 360, 720, 9999], 16, 16),
        ([100, 200, 400, 800], 5, 4),
        ([100, 200], 1, 1),
        ([100, 200, torch.OutOfMemoryError("CUDA out of memory")], 16, 2),
    ],
)
def test_members_are_doubled_while_it_gains_and_fits(
    rates: list[object], most: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def rate(vae: object, batch: int, members: int) -> float:
        tried.append(members)
        found = rates[len(tried) - 1]
        if isinstance(found, Exception):
            raise found
        return float(found)

    monkeypatch.setattr(packing, "_rate", rate)
    assert best_size(VAE, 8, most=most) == size
    assert tried == [2**n for n in range(len(tried))]


def test_fault_of_a_network_is_no_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def rate(*_: object) -> float:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(packing, "_rate", rate)
    with pytest.raises(RuntimeError, match="shapes"):
        best_size(VAE, 8, most=4)


def test_rate_is_of_all_members_together(monkeypatch: pytest.MonkeyPatch) -> None:
    # A clock that a step moves on by a tenth of a second, whatever its size.
    now, step = [0.0], packing.Pack.step

    def slow(self: packing.Pack, *given: torch.Tensor) -> torch.Tensor:
        now[0] += 0.1
        return step(self, *given)

    monkeypatch.setattr(packing.Pack, "step", slow)
    monkeypatch.setattr(packing.time, "process_time", lambda: now[0])
    assert packing._rate(VAE, 8, 3) == pytest.approx(3 * 8 / 0.1)
