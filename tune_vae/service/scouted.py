"""What a scout saw of a decoder along β, and what follows for the search."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tune_vae.errors import CheckpointError
from tune_vae.science.units import beta_to_norm
from tune_vae.spec import components
from tune_vae.spec.known_good import KnownGood
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig
from tune_vae.training import checkpoint
from tune_vae.training.checkpoint import CheckpointStore
from tune_vae.training.scout import Sighting

__all__ = ["Scouted", "keep", "recall", "scouting"]

LOWEST_BETA = 0.03
"""Where a scout begins: at a thirtieth of the weight of the elbo."""
BEYOND = 3.0
"""It ends at so many times the β at which a Gaussian with a fitted scale collapses."""
USUAL_LR = 1e-3
DEAD_NATS = 0.1
"""The rate below which the verdicts call a trial collapsed."""
LEAST, MOST = 0.1, 0.5
"""Proposed bounds, as of a forecast: shares of the best β and of the collapse."""


@dataclass(frozen=True)
class Scouted:
    """The curve of one decoder.

    Arguments:
        config: What was trained, with the largest beta_norm that was.
        digest: Of the data.
        curve: In rising β; empty if the loss was lost.
        seconds: That the training took.
    """

    config: TrialConfig
    digest: str
    curve: tuple[Sighting, ...]
    seconds: float

    def norm(self, sighting: Sighting) -> float:
        return beta_to_norm(
            sighting.beta, values=self.config.values, latents=self.config.latent_dim
        )

    def bits(self, sighting: Sighting) -> float:
        """In the decoder's own currency, or in the one that all have."""
        own = sighting.bits_per_dim
        return own if math.isfinite(own) else sighting.bits_per_dim_calibrated

    @property
    def lives(self) -> bool:
        """Whether latents carry anything where most bits are saved."""
        return self.best is not None and self.best.rate_nats >= DEAD_NATS

    @property
    def best(self) -> Sighting | None:
        """Where most bits are saved."""
        return min(self.curve, key=self.bits, default=None)

    @property
    def first_trial(self) -> KnownGood | None:
        """This decoder at the best β, for the search to try first; None if it lived nowhere."""
        if self.best is None or not self.lives:
            return None
        config, wants = self.config, dict[str, Any]()
        wants |= {"latent_dim": config.latent_dim, "beta_norm": self.norm(self.best)}
        for knob, reference in (("likelihood", config.likelihood), ("sigma", config.sigma)):
            if reference:
                wants[knob] = components.split(reference)[0]
        return KnownGood(f"what the scout of {self.config.decoder} found best", wants)

    @property
    def collapse(self) -> float | None:
        """The beta_norm from which on its latents carry nothing; None if they always do."""
        alive = [one for one in self.curve if one.rate_nats >= DEAD_NATS]
        dead = self.curve[len(alive) :]
        if not (alive and dead) or alive != list(self.curve[: len(alive)]):
            return None
        # Between two points the logarithm of the rate is taken to fall evenly.
        low, high = alive[-1], dead[0]
        fall = math.log(low.rate_nats / max(high.rate_nats, 1e-12))
        share = math.log(low.rate_nats / DEAD_NATS) / fall
        between: float = (high.beta / low.beta) ** share
        return self.norm(low) * between

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Proposed bounds of beta_norm, not rounded; None if it lived nowhere."""
        if self.best is None or not self.lives:
            return None
        high = MOST * (self.collapse or self.norm(self.curve[-1]) / MOST)
        return min(LEAST * self.norm(self.best), LEAST * high), high


def scouting(config: TrialConfig, *, peak: float, lrs: Sequence[float]) -> TrialConfig:
    """The configuration that a scout of a decoder trains, whatever its β and schedule.

    Arguments:
        config: One with this decoder.
        peak: See `spectral_peak`.
        lrs: Ends of the learning rates of the study; the usual one is taken if it lies between.
    """
    highest = BEYOND * max(peak, 10 / BEYOND) if math.isfinite(peak) else 100.0
    norm = beta_to_norm(highest, values=config.values, latents=config.latent_dim)
    return config.model_copy(
        update={
            "trial": 0,
            "schedule": {"constant": {}},
            "beta_norm": norm,
            "lr": min(max(USUAL_LR, min(lrs)), max(lrs)),
        }
    )


def keep(spec: StudySpec, scouted: Scouted, state: dict[str, Any]) -> None:
    """Store what a scout saw, with its model, beside the study's checkpoints."""
    found = {
        "config": scouted.config.model_dump_json(),
        "digest": scouted.digest,
        "curve": [asdict(sighting) for sighting in scouted.curve],
        "seconds": scouted.seconds,
    }
    checkpoint.save(state | found, _place(spec, scouted.config))


def recall(spec: StudySpec, config: TrialConfig, digest: str) -> Scouted | None:
    """What a scout of this configuration saw of these data; None if there was none."""
    try:
        state = checkpoint.load(_place(spec, config))
    except CheckpointError:
        return None
    if state.get("digest") != digest or state.get("config") != config.model_dump_json():
        return None
    curve = tuple(Sighting(**one) for one in state["curve"])
    return Scouted(config, digest, curve, state["seconds"])


def _place(spec: StudySpec, config: TrialConfig) -> str:
    key = hashlib.blake2b(config.model_dump_json().encode(), digest_size=6).hexdigest()
    store = CheckpointStore(spec.storage.checkpoints, spec.name)
    return f"{store.folder}/scouts/{config.decoder}-{key}.pt"
