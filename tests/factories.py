"""Values for tests that care about one or two of many fields."""

import math
from collections.abc import Iterable
from dataclasses import fields, replace

from tune_vae.science.history import EpochReport, History
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks import Network
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.schedules.constant import Constant
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.training.trainer import Member

STEPS_PER_EPOCH = 50


def report(epoch: int = 1, **changes: float | tuple[float, ...]) -> EpochReport:
    """An epoch of a healthy trial on 8×8 images, with some fields replaced.

    The step, the effective beta, the lowest KL weight, the rate's parts and the elbo follow
    from the fields that are given, unless they are given as well.
    """
    weight = changes.get("kl_weight", 1.0)
    rate = changes.get("rate_nats", 8.0)
    distortion = changes.get("distortion_nats", 20.0)
    follows = {
        "step": epoch * STEPS_PER_EPOCH,
        "kl_weight_low": weight,
        "beta": weight,
        "neg_elbo": rate + distortion,
        "rate_per_latent_nats": (rate / 4,) * 4,
    }
    return replace(_HEALTHY, epoch=epoch, **(follows | changes))


def history(reports: Iterable[EpochReport], **changes: float | str) -> History:
    """A history of 20 epochs to run on 8×8 images of 17 levels, which holds `reports`."""
    settings = {"epochs": 20, "values": 64, "levels": 17, "objective": "bits_per_dim"}
    return History(**(settings | changes)).extend(reports)


def member(trial: int = 0, **changes: object) -> Member:
    """A small trial that learns digits within a few epochs, with some fields replaced."""
    return replace(_MEMBER, **({"trial": trial, "seed": trial} | changes))


def small(network: type[Network]) -> Network:
    """One of a family with layers of 4 and 8, for images of 8×8."""
    (widths,) = (f.name for f in fields(network) if f.type == tuple[int, ...] and f.default)
    return network(**{widths: (4, 8)})


_HEALTHY = EpochReport(
    trial=0,
    epoch=1,
    step=STEPS_PER_EPOCH,
    kl_weight=1.0,
    kl_weight_low=1.0,
    beta=1.0,
    lr=1e-3,
    train_rate_nats=8.0,
    train_distortion_nats=20.0,
    grad_norm=3.0,
    skipped=0,
    finite=True,
    rate_nats=8.0,
    distortion_nats=20.0,
    neg_elbo=28.0,
    rate_per_latent_nats=(2.0, 2.0, 2.0, 2.0),
    mse=0.04,
    bits_per_dim=3.2,
    bits_per_dim_calibrated=3.1,
    active_units=4,
    sigma=math.nan,
    seconds=0.5,
)

_MEMBER = Member(
    trial=0,
    seed=0,
    network=Mlp(hidden=(32,)),
    latent_dim=4,
    likelihood=Gaussian(),
    sigma=Fixed(sigma=0.2),
    schedule=Constant(),
    beta=1.0,
    lr=3e-3,
    weight_decay=0.0,
    grad_clip=math.inf,
    epochs=8,
    batch_size=32,
)
