"""One short training for every KL weight at once, and the curve of rate and distortion it found.

Shapes: T steps of an epoch, B batch, M latent, n images.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tune_vae.data import Splits, scale
from tune_vae.errors import DataError
from tune_vae.science.evaluation import calibrated_log_sigma, score
from tune_vae.science.multi_rate import POSITION, position, with_gates
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.sigmas.shared import Shared
from tune_vae.science.units import bits_per_dim
from tune_vae.science.vae import VAE
from tune_vae.training.feeding import batches, placed
from tune_vae.training.pack import Pack, fresh_row
from tune_vae.training.trainer import Member, build_vae

__all__ = ["Sighting", "scout"]

POINTS = 13
"""Of the curve, in equal ratios of β."""
VALIDATION, CALIBRATION = 2000, 256
"""Most images that each point is measured with, and that its scales are fitted to."""
AT_ONCE = 500
CLIP = 1.0
"""Largest gradient norm: below that of nearly every batch, so that those of a large β, whose loss
is β times as large, count no more than others."""


@dataclass(frozen=True)
class Sighting:
    """A point of the curve, on validation images; as the fields of `EpochReport`."""

    beta: float
    rate_nats: float
    distortion_nats: float
    mse: float
    bits_per_dim: float
    bits_per_dim_calibrated: float


def scout(
    member: Member,
    data: Splits,
    low: float,
    high: float,
    *,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[int], None] = lambda epoch: None,
) -> tuple[tuple[Sighting, ...], dict[str, Any]]:
    """Train one gated model of a member, with a new β for each batch, and look along β.

    As long as one training of that member. Its schedule is not used, and of its regularisers
    those that β does not move. A learned scale would have to be another for each β: where there
    is a formula for the best one it takes that. The same arguments give the same curve.

    Arguments:
        member: What would be trained, but for its β.
        data: The images.
        low, high: Ends of the range of β, positive.
        device: Where to train.
        on_epoch: Called after each epoch with its number.

    Returns:
        The curve in rising β, empty if the loss was lost; and the state of the model.

    Raises:
        DataError: Fewer training images than one batch.

    References:
        | Multi-Rate VAE: Train Once, Get the Full Rate-Distortion Curve (Bae et al., 2023)
        | https://arxiv.org/abs/2212.03905
    """
    if isinstance(member.sigma, Shared) and member.likelihood.has_optimal_scale:
        member = replace(member, sigma=Optimal())
    steps = len(data.train) // member.batch_size
    if not steps:
        raise DataError(
            f"batch_size {member.batch_size} exceeds the {len(data.train)} training images; "
            "choose a smaller one"
        )
    vae = with_gates(build_vae(member, data.shape), low, high).to(device)
    knobs = replace(member.knobs(), beta=high, grad_clip=min(member.grad_clip, CLIP))
    pack = Pack(vae, [fresh_row(vae)], [knobs])
    generator = torch.Generator().manual_seed(member.seed)
    train, told = placed(data.train, torch.device(device)), data.told if member.classes else None
    for epoch in range(1, member.epochs + 1):
        order_TB = torch.randperm(len(train), generator=generator)[: steps * member.batch_size]
        order_1TB = order_TB.view(1, steps, member.batch_size)
        share_T = torch.rand(steps, generator=generator)
        for step, x_1BCHW in enumerate(batches(train, order_1TB, torch.device(device))):
            shape = (1, member.batch_size, member.latent_dim)
            noise_1BM = torch.randn(shape, generator=generator).to(device)
            beta = low * (high / low) ** float(share_T[step])
            pack.buffers[POSITION].fill_(position(beta, low, high))
            weight_1 = torch.full((1,), beta / high, device=device)
            label_1B = told.train[order_1TB[:, step]].to(device) if told else None
            pack.step(scale(x_1BCHW, data.levels), noise_1BM, weight_1, label_1B)
        on_epoch(epoch)
        if not pack.alive_K.all():
            return (), pack.row(0)
    row = pack.row(0)
    torch.nn.utils.vector_to_parameters(row["theta"].to(device), vae.parameters())
    for name, buffer in vae.named_buffers():
        buffer.copy_(row["buffers"][name])
    ratios = [step / (POINTS - 1) for step in range(POINTS)]
    seen = [_seen(vae, data, low * (high / low) ** r, low, high, device) for r in ratios]
    return tuple(seen), row


@torch.no_grad()
def _seen(
    vae: VAE, data: Splits, beta: float, low: float, high: float, device: torch.device | str
) -> Sighting:
    buffers = dict(vae.named_buffers())
    buffers[POSITION].fill_(position(beta, low, high))
    told = data.told if vae.classes else None

    def part(split: str, most: int) -> tuple[Tensor, Tensor, Tensor | None]:
        x = scale(getattr(data, split)[:most].to(device), data.levels)
        generator = torch.Generator().manual_seed(0)
        noise_nM = torch.randn(len(x), vae.latent_dim, generator=generator).to(device)
        return x, noise_nM, getattr(told, split)[:most].to(device) if told else None

    sample = part("train", CALIBRATION)
    if "scale.batches" in buffers:
        # A scale that follows its batches begins anew: it knew those of all β.
        buffers["scale.batches"].zero_()
        vae.train()
        vae(*sample)
    vae.eval()
    fitted = calibrated_log_sigma(vae, *sample, levels=data.levels)
    x, noise_nM, label_n = part("validation", VALIDATION)
    parts = [
        score(
            vae,
            x[start : start + AT_ONCE],
            noise_nM[start : start + AT_ONCE],
            fitted,
            None if label_n is None else label_n[start : start + AT_ONCE],
            levels=data.levels,
        )
        for start in range(0, len(x), AT_ONCE)
    ]

    def mean(name: str) -> float:
        return float(torch.cat([getattr(one, name) for one in parts]).double().mean(0).sum())

    rate, values = mean("rate_BM"), data.values
    return Sighting(
        beta=beta,
        rate_nats=rate,
        distortion_nats=mean("distortion_B"),
        mse=mean("squared_error_B"),
        bits_per_dim=bits_per_dim(rate + mean("mass_nats_B"), values),
        bits_per_dim_calibrated=bits_per_dim(rate + mean("calibrated_nats_B"), values),
    )
