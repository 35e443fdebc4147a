"""Whether a model can be trained in a pack, found out on a tiny one.

Shapes: K member of a pack, B batch, M latent, C H W image.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tune_vae.science.likelihoods import Domain
from tune_vae.science.vae import VAE
from tune_vae.training.pack import Knobs, Pack, fresh_row

__all__ = ["example", "obstacle"]

BATCH = 4
TOLERANCE = 1e-3
"""Relative; sums are taken in another order in a pack."""

_IN_WORDS = {
    "random operation": "it draws from torch's global generator, as `nn.Dropout` does; "
    "`tune_vae.science.dropout.Dropout` does the same without it",
    "control flow": "what it does depends on the values of a tensor, as in `if x.sum() > 0`; "
    "`torch.where` chooses without looking",
    ".item()": "it takes a number out of a tensor with `.item()` or `float(…)`; keep it a tensor",
    "data pointer": "it leaves torch, as `.numpy()` does; do the same with torch",
    "inplace": "it writes a member's own numbers into a tensor that all members share; register "
    "that one with `register_buffer`",
}
"""By a piece of what torch says under `vmap`."""


@torch.random.fork_rng(devices=[])
def obstacle(vae: VAE) -> str:
    """Why a model cannot be trained in a pack, in words; empty if it can.

    Two members take a step together and alone, and are then evaluated. A model that fails even
    alone is not judged here.

    Arguments:
        vae: In any mode; it stays as it is.
    """
    torch.manual_seed(0)
    # Rounded products would differ by more than what is looked for.
    precision, vae.precision = vae.precision, None
    try:
        return _obstacle(vae)
    finally:
        vae.precision = precision


def _obstacle(vae: VAE) -> str:
    try:
        alone = torch.cat([_numbers(vae, [k]) for k in range(2)])
    except Exception:  # noqa: BLE001  a user's module may raise anything
        return ""
    try:
        together = _numbers(vae, range(2))
    except Exception as error:  # noqa: BLE001
        text = str(error)
        known = [words for piece, words in _IN_WORDS.items() if piece in text]
        return (known or [f"{type(error).__name__}: {text.partition('. ')[0]}"])[0]
    if torch.allclose(together, alone, rtol=TOLERANCE, equal_nan=True):
        return ""
    return "beside another model it answers otherwise than alone"


def _numbers(vae: VAE, members: Sequence[int]) -> Tensor:
    """Of each member: rate and distortion of a step, and of an evaluation after it, `[K, 3]`."""
    rows, examples = [], []
    for k in members:
        row = fresh_row(vae)
        rows.append(row | {"theta": row["theta"] * (1 + 0.1 * k)})
        examples.append(example(vae, BATCH, seed=k))
    x_KBCHW, noise_KBM, label_KB = map(torch.stack, zip(*examples, strict=True))
    knobs = Knobs(beta=1.0, lr=1e-3, weight_decay=0.0, grad_clip=math.inf)
    pack = Pack(vae, rows, [knobs] * len(rows))
    measured_K5 = pack.step(x_KBCHW, noise_KBM, torch.ones(len(rows)), label_KB)
    loss_K: Tensor = pack.evaluate(_loss, x_KBCHW, noise_KBM, label_KB, in_dims=(0, 0, 0))
    return torch.cat([measured_K5[:, :2], loss_K[:, None]], dim=1)


def example(vae: VAE, batch: int, *, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images that a model could be given, or counts, with noise and labels, on the host."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(batch, *vae.shape, generator=generator)
    noise = torch.randn(batch, vae.latent_dim, generator=generator)
    counts = Domain.COUNTS in vae.likelihood.domains
    return (9 * x).floor() if counts else x, noise, torch.zeros(batch, dtype=torch.int64)


def _loss(vae: VAE, x_BCHW: Tensor, noise_BM: Tensor, label_B: Tensor) -> Tensor:
    terms = vae(x_BCHW, noise_BM, label_B)
    loss: Tensor = terms.distortion_B.mean() + terms.rate_BM.sum(1).mean()
    return loss
