"""Which configurations are dead by the data's spectrum alone, so that nobody need train them."""

from typing import TYPE_CHECKING

from tune_vae.science.units import beta_to_norm
from tune_vae.spec import components
from tune_vae.spec.trial import TrialConfig

if TYPE_CHECKING:
    from tune_vae.science.collapse_point import CollapsePoints

__all__ = ["dead_beyond", "foretold", "may_live", "passed_over", "the_limit"]


def dead_beyond(
    config: TrialConfig, points: "CollapsePoints | None", *, factor: float
) -> float | None:
    """The beta_norm beyond which such a configuration is foretold dead, whatever its own.

    Arguments:
        config: A configuration; nothing is foretold of one that `may_live`.
        points: Of the data; None if they are not known.
        factor: See `Limits.foretold`.

    Returns:
        None if nothing is foretold.
    """
    if not (points and factor) or may_live(config):
        return None
    sigma = components.build("sigma", config.sigma) if config.sigma else None
    beta = points.beta(components.build("likelihood", config.likelihood), sigma)
    if beta is None:
        return None
    return factor * beta_to_norm(beta, values=config.values, latents=config.latent_dim)


def may_live(config: TrialConfig) -> bool:
    """Whether latents may live beyond every point: paid for, with a learned prior, or a label."""
    paid = config.free_bits or config.free_bits_total or config.kl_target
    return bool(paid or config.classes or set(config.prior) != {"standard"})


def foretold(config: TrialConfig, points: "CollapsePoints | None", *, factor: float) -> str:
    """Why a configuration is not worth its training, in a sentence; empty if it may be."""
    limit = dead_beyond(config, points, factor=factor)
    if limit is None or config.beta_norm <= limit:
        return ""
    return (
        f"not trained: beta_norm {config.beta_norm:.3g} of {config.decoder} is beyond "
        f"{limit:.3g}, {the_limit(factor)}"
    )


def the_limit(factor: float) -> str:
    """What a `dead_beyond` of this factor is, in words."""
    times = "" if factor == 1 else f"{factor:g} times "
    return f"{times}the collapse point of these data"


def passed_over(count: int) -> str:
    """How many points of a study were not trained, in a sentence; empty if there are none."""
    if not count:
        return ""
    points = "1 drawn point was" if count == 1 else f"{count:,} drawn points were"
    return f"{points} not trained: beta_norm beyond the collapse point of these data"
