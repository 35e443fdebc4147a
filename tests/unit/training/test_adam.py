"""The row-wise Adam against torch's own."""

import pytest
import torch
from torch import Tensor

from tune_vae.training.adam import AdamState, adam_step, fresh_state

LRS = [1e-3, 0.1, 3.0]
DECAYS = [0.0, 0.01, 0.2]


def gradients(step: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    scales = torch.tensor([[1.0], [1e-6], [1e4]])
    return (scales * torch.randn(3, 5, generator=generator)).to(dtype)


def start(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(3, 5, generator=torch.Generator().manual_seed(99)).to(dtype)


def ours(steps: int, update_TK: list[list[bool]] | None = None) -> tuple[Tensor, AdamState]:
    theta, state = start(), fresh_state(start())
    for step in range(steps):
        update_K = torch.tensor(update_TK[step] if update_TK else [True] * 3)
        theta, state = adam_step(
            theta,
            torch.where(update_K[:, None], gradients(step), torch.nan),
            state,
            lr_K=torch.tensor(LRS, dtype=torch.float64),
            weight_decay_K=torch.tensor(DECAYS, dtype=torch.float64),
            update_K=update_K,
        )
    return theta, state


def torchs(row: int, steps: list[int]) -> Tensor:
    theta = start()[row].requires_grad_()
    optimizer = torch.optim.AdamW([theta], lr=LRS[row], weight_decay=DECAYS[row])
    for step in steps:
        theta.grad = gradients(step)[row]
        optimizer.step()
    return theta.detach()


@pytest.mark.parametrize("steps", [1, 2, 30])
def test_each_row_steps_as_torch_adamw_with_its_own_rate_and_decay(steps: int) -> None:
    theta, state = ours(steps)
    for row in range(3):
        expected = torchs(row, list(range(steps)))
        torch.testing.assert_close(theta[row], expected, rtol=1e-12, atol=1e-12)
    assert state.updates_K.tolist() == [steps] * 3


def test_row_that_is_left_out_is_untouched_even_by_nan() -> None:
    before, fresh = start(), fresh_state(start())
    theta, state = ours(1, [[True, False, True]])
    assert torch.equal(theta[1], before[1])
    assert torch.equal(state.first_KP[1], fresh.first_KP[1])
    assert torch.equal(state.second_KP[1], fresh.second_KP[1])
    assert state.updates_K.tolist() == [1, 0, 1]
    assert theta.isfinite().all()


def test_row_that_left_out_steps_goes_on_as_if_they_had_not_been() -> None:
    update_TK = [[True, step % 3 != 1, True] for step in range(12)]
    theta, state = ours(12, update_TK)
    taken = [step for step in range(12) if step % 3 != 1]
    torch.testing.assert_close(theta[1], torchs(1, taken), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(theta[0], torchs(0, list(range(12))), rtol=1e-12, atol=1e-12)
    assert state.updates_K.tolist() == [12, 8, 12]


def test_float32_follows_torch_to_its_own_precision() -> None:
    theta, state = start(torch.float32), fresh_state(start(torch.float32))
    mirror = start(torch.float32)[0].requires_grad_()
    optimizer = torch.optim.AdamW([mirror], lr=1e-3, weight_decay=0.01)
    for step in range(200):
        gradient = gradients(step, torch.float32)
        mirror.grad = gradient[0]
        optimizer.step()
        theta, state = adam_step(
            theta,
            gradient,
            state,
            lr_K=torch.full((3,), 1e-3),
            weight_decay_K=torch.full((3,), 0.01),
            update_K=torch.full((3,), True),
        )
    torch.testing.assert_close(theta[0], mirror.detach(), rtol=1e-5, atol=1e-6)
