"""Adam with decoupled weight decay, for K models at once.

Shapes: K member of a pack, P parameters of one member.

Written out because `torch.optim` has one learning rate, one step count and one decision to
step per parameter group, where each member needs its own; and because constructing any of its
optimisers imports a second of compiler machinery that is not used.
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["AdamState", "adam_step", "fresh_state"]

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class AdamState(NamedTuple):
    """First and second moment, `KP`, and the number of updates, `K`."""

    first_KP: Tensor
    second_KP: Tensor
    updates_K: Tensor


def fresh_state(theta_KP: Tensor) -> AdamState:
    """State before the first update."""
    updates_K = torch.zeros(len(theta_KP), dtype=theta_KP.dtype, device=theta_KP.device)
    return AdamState(torch.zeros_like(theta_KP), torch.zeros_like(theta_KP), updates_K)


def adam_step(
    theta_KP: Tensor,
    grad_KP: Tensor,
    state: AdamState,
    *,
    lr_K: Tensor,
    weight_decay_K: Tensor,
    update_K: Tensor,
) -> tuple[Tensor, AdamState]:
    r"""One update of the members that `update_K` allows; the others stay as they are.

    $$ m \leftarrow \beta_1 m + (1-\beta_1) g,\quad v \leftarrow \beta_2 v + (1-\beta_2) g^2 $$
    $$ \theta \leftarrow (1 - \eta\lambda)\,\theta
       - \eta\,\frac{m / (1-\beta_1^t)}{\sqrt{v / (1-\beta_2^t)} + \epsilon} $$

    References:
        | Decoupled Weight Decay Regularization (Loshchilov & Hutter, 2019)
        | https://arxiv.org/abs/1711.05101

    Arguments:
        theta_KP: Parameters.
        grad_KP: Gradients; rows that are not updated may hold anything.
        state: Moments and counts.
        lr_K: Learning rates, η.
        weight_decay_K: Decays, λ, at least 0.
        update_K: Which members to update.

    Returns:
        New parameters and new state.
    """
    updates_K = state.updates_K + 1
    # lerp keeps m + (1 - beta)(g - m) in one rounding, as torch's own Adam does.
    first_KP = torch.lerp(state.first_KP, grad_KP, 1 - BETA1)
    second_KP = BETA2 * state.second_KP + (1 - BETA2) * grad_KP.square()
    first_scale_K = lr_K / (1 - BETA1**updates_K)
    second_scale_K = (1 - BETA2**updates_K).sqrt()
    denominator_KP = second_KP.sqrt() / second_scale_K[:, None] + EPSILON
    decayed_KP = theta_KP * (1 - lr_K * weight_decay_K)[:, None]
    new_theta_KP = decayed_KP - first_scale_K[:, None] * first_KP / denominator_KP
    # torch.where, not a product with a 0/1 mask: 0 · NaN is NaN.
    keep = update_K[:, None]
    return torch.where(keep, new_theta_KP, theta_KP), AdamState(
        torch.where(keep, first_KP, state.first_KP),
        torch.where(keep, second_KP, state.second_KP),
        torch.where(update_K, updates_K, state.updates_K),
    )
