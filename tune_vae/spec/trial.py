"""One configuration, complete and plain: what the ledger stores and a worker trains."""

import hashlib
import math
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from tune_vae.science.units import beta_from_norm
from tune_vae.spec import components
from tune_vae.spec.knobs import KNOBS
from tune_vae.spec.study import PLAIN_PRECISION, StudySpec

if TYPE_CHECKING:
    from tune_vae.training.trainer import Member

__all__ = ["TrialConfig"]

REPEATS = 1_000_000
"""Repeats are numbered beyond all trials, of which a budget has no more than this."""


class TrialConfig(BaseModel):
    """Everything that defines a trial. As JSON it is enough to train it again, or to load it.

    Arguments:
        study: Name of the study.
        trial: Number within the study.
        seed: Of weights, data order and noise.
        data: Reference of the data set.
        shape: C, H, W of its images.
        levels: Grey levels of its images; None for counts.
        network, likelihood, schedule, prior: References.
        sigma: Reference of the sigma mode, None when the likelihood has no scale.
        latent_dim: M.
        beta_norm: Normalised KL weight β·M/N.
        lr, weight_decay, grad_clip: Of the optimiser; `grad_clip` None for none.
        classes: Classes that a conditional model is told apart; 0 for none.
        free_bits, free_bits_total, kl_target, init_scale: See `trainer.Member`.
        epochs, batch_size: Length of the training and images per step.
        objective: What the study minimises.
        known_good: What it tries that is known to be good, if anything; see `spec.known_good`.
        rollbacks: How often it may be rolled back; see `spec.study.Training`.
        precision: See `spec.study.Training`.
        repeat_of: The trial that this one trains again with another seed; None for a trial of
            its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: str
    trial: int
    seed: int
    data: dict[str, Any]
    shape: tuple[int, int, int]
    levels: int | None
    network: dict[str, Any]
    latent_dim: int
    likelihood: dict[str, Any]
    sigma: dict[str, Any] | None
    schedule: dict[str, Any]
    beta_norm: float
    lr: float
    weight_decay: float
    grad_clip: float | None
    epochs: int
    batch_size: int
    objective: tuple[str, ...]
    # What later versions added has the value that earlier ones had without knowing.
    prior: dict[str, Any] = {"standard": {}}
    classes: int = 0
    free_bits: float = 0.0
    free_bits_total: float = 0.0
    kl_target: float = 0.0
    init_scale: float = 1.0
    known_good: str = ""
    rollbacks: int = 0
    precision: str = PLAIN_PRECISION
    repeat_of: int | None = None

    @classmethod
    def of(
        cls,
        spec: StudySpec,
        drawn: dict[str, Any],
        *,
        trial: int,
        shape: tuple[int, int, int],
        levels: int | None,
        classes: int = 0,
        known_good: str = "",
    ) -> "TrialConfig":
        """The configuration of a trial from what was drawn for it.

        Arguments:
            spec: The study.
            drawn: From `StudySpec.draw`.
            trial: Its number.
            shape, levels, classes: Of the data; see `Splits`.
            known_good: See `TrialConfig`.
        """
        clip = drawn["grad_clip"]
        facts = {} if levels is None else {"levels": levels}
        likelihood = components.completed("likelihood", drawn["likelihood"], **facts)
        config = cls(
            study=spec.name,
            trial=trial,
            seed=_seed(f"{spec.train.seed} {trial}"),
            data=spec.data,
            shape=shape,
            levels=levels,
            classes=classes if spec.conditional else 0,
            epochs=spec.train.epochs,
            objective=spec.objective,
            known_good=known_good,
            rollbacks=spec.train.rollbacks,
            precision=spec.train.precision,
            # Infinity has no place in JSON.
            **(
                drawn
                | {"likelihood": likelihood, "grad_clip": clip if math.isfinite(clip) else None}
            ),
        )
        # Through JSON and back, so that it equals what the ledger and a checkpoint return.
        return cls.model_validate_json(config.model_dump_json())

    def repeated(self, count: int) -> "TrialConfig":
        """The same training with another seed, as a trial of its own.

        Arguments:
            count: 1 for the first repeat. Number and seed follow from it and this trial, so that
                whoever asks for a repeat means the same one.
        """
        return self.model_copy(
            update={
                "trial": self.trial + count * REPEATS,
                "seed": _seed(f"{self.seed} repeat {count}"),
                "repeat_of": self.trial,
            }
        )

    @property
    def label(self) -> str:
        """Its number for people; `12/2` is trial 12 with its second seed."""
        if self.repeat_of is None:
            return str(self.trial)
        return f"{self.repeat_of}/{self.trial // REPEATS + 1}"

    @property
    def values(self) -> int:
        """N, data values of one image."""
        return math.prod(self.shape)

    @property
    def beta(self) -> float:
        """KL weight β that training uses."""
        return beta_from_norm(self.beta_norm, values=self.values, latents=self.latent_dim)

    @property
    def decoder(self) -> str:
        """Likelihood and sigma mode in one word, as in `gaussian·optimal`."""
        likelihood = components.split(self.likelihood)[0]
        return f"{likelihood}·{components.split(self.sigma)[0]}" if self.sigma else likelihood

    @property
    def schedule_name(self) -> str:
        return components.split(self.schedule)[0]

    @property
    def settings(self) -> dict[str, float | str]:
        """What was chosen for it, flat: numbers, names of components, and their arguments.

        A knob that the trial does not have, such as the sigma mode of a Bernoulli, is left out.
        """
        flat: dict[str, float | str] = {}
        for name in KNOBS:
            value = getattr(self, name)
            if isinstance(value, dict):
                component, arguments = components.split(value)
                flat[name] = component
                flat |= {f"{name}.{key}": _plain(given) for key, given in arguments.items()}
            elif value is not None:
                flat[name] = float(value)
        return flat

    def member(self) -> "Member":
        """What the trainer needs of it."""
        from tune_vae.training.trainer import Member

        return Member(
            trial=self.trial,
            seed=self.seed,
            network=components.build("network", self.network),
            latent_dim=self.latent_dim,
            likelihood=components.build("likelihood", self.likelihood),
            sigma=components.build("sigma", self.sigma) if self.sigma else None,
            schedule=components.build("schedule", self.schedule),
            beta=self.beta,
            lr=self.lr,
            weight_decay=self.weight_decay,
            grad_clip=math.inf if self.grad_clip is None else self.grad_clip,
            epochs=self.epochs,
            batch_size=self.batch_size,
            prior=components.build("prior", self.prior),
            classes=self.classes,
            free_bits=self.free_bits,
            free_bits_total=self.free_bits_total,
            kl_target=self.kl_target,
            init_scale=self.init_scale,
            precision=self.precision,
            config=self.model_dump_json(),
        )


def _seed(of: str) -> int:
    return int.from_bytes(hashlib.blake2b(of.encode(), digest_size=6).digest(), "big")


def _plain(argument: Any) -> float | str:
    number = isinstance(argument, int | float) and not isinstance(argument, bool)
    return float(argument) if number else str(argument)
