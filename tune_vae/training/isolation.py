"""Whether a sick member of a pack leaves the others alone, tried out before anything hangs on it.

Shapes: K member of a pack, B batch, M latent, C H W image.

Which kernels compute a pack follows from its network, precision, size and device, and some of them
mix what they should not: with torch 2.11 to 2.15 the input gradient of a grouped convolution in
bfloat16 with one or three channels to a group carries a NaN of one group into all.
"""

import math
import warnings
from collections.abc import Hashable

import torch
from torch import Tensor

from tune_vae.errors import Remark
from tune_vae.science.vae import VAE
from tune_vae.training.lifting import example
from tune_vae.training.pack import Knobs, Pack, fresh_row

__all__ = ["LeakError", "ensure_isolated", "leaks"]

STEPS = 2
"""A sick weight spoils its gradient in the first step; what was spoilt by it, the second."""

_sound: dict[Hashable, bool] = {}
"""What was tried, and whether it was found sound."""


class LeakError(RuntimeError):
    """What one member of a pack computes reaches another."""


def ensure_isolated(key: Hashable, vae: VAE, *, size: int, batch: int) -> None:
    """Try a combination out when it is first used in this process.

    Where a sick member would spoil the others, the model is left without its `precision`, and a
    `Remark` is made of it.

    Arguments:
        key: Of the graph.
        vae: A model of it, where and in the precision in which it is to be trained.
        size, batch: K and B.

    Raises:
        LeakError: All the same.
    """
    parameter = next(vae.parameters())
    combination = (key, size, batch, parameter.device, parameter.dtype, vae.precision)
    if combination not in _sound:
        _sound[combination] = size == 1 or not leaks(vae, size=size, batch=batch)
    if _sound[combination]:
        return
    plain = parameter.dtype
    where = f"{parameter.device.type}, {vae.precision or plain}, torch {torch.__version__}"
    leak = f"in a pack of {size}, a NaN in one trial reaches others ({where})"
    if vae.precision is None:
        raise LeakError(leak)
    vae.precision = None
    ensure_isolated(key, vae, size=size, batch=batch)
    warnings.warn(Remark(f"packs train in {plain}: {leak}"), stacklevel=2)


def leaks(vae: VAE, *, size: int, batch: int) -> bool:
    """Whether K - 1 members differ in a bit when all weights of the last one are NaN."""
    healthy, spoilt = (_others_after(vae, size, batch, sick=sick) for sick in (False, True))
    same = (healthy == spoilt) | (healthy.isnan() & spoilt.isnan())
    return not bool(same.all())


def _others_after(vae: VAE, size: int, batch: int, *, sick: bool) -> Tensor:
    """Weights of all members but the last after a few steps."""
    row = fresh_row(vae)
    rows = [row | {"theta": row["theta"] * (1 + 0.01 * k)} for k in range(size)]
    if sick:
        rows[-1] |= {"theta": torch.full_like(row["theta"], math.nan)}
    knobs = Knobs(beta=1.0, lr=1e-3, weight_decay=0.0, grad_clip=math.inf)
    pack = Pack(vae, rows, [knobs] * size)
    like, weight_K = row["theta"], row["theta"].new_ones(size)
    for step in range(STEPS):
        examples = [example(vae, batch, seed=size * step + k) for k in range(size)]
        x_KBCHW, noise_KBM, label_KB = (
            torch.stack(column).to(like.device) for column in zip(*examples, strict=True)
        )
        pack.step(x_KBCHW.to(like.dtype), noise_KBM.to(like.dtype), weight_K, label_KB)
    return pack.theta_KP[:-1]
