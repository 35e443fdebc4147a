"""What a search tries first, where its space holds it: the literature's, and scouts'."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tune_vae.science.units import beta_to_norm
from tune_vae.spec import components
from tune_vae.spec.study import StudySpec

__all__ = ["KnownGood", "known_good"]

USUAL_LR = 2e-3
"""Of Adam. Of seven from 0.0005 to 0.02 this one left the fewest bits, or up to 0.05 more, on the
digits and on Fashion-MNIST after 300 to 1,560 steps; see `tests.benchmarks.learning_rates`."""


@dataclass(frozen=True)
class KnownGood:
    """A configuration that is known to work. What it does not name is left to the sampler, but for
    the learning rate: drawn wildly, that would decide what becomes of it.

    Arguments:
        name: For people.
        wants: Components and numbers by knob.
        at_elbo: Whether beta is 1, which is beta_norm = M/N.
    """

    name: str
    wants: Mapping[str, Any]
    at_elbo: bool = False


_CONSTANTS = (
    # Rybkin et al. (2021), Simple and effective VAE training with calibrated decoders.
    KnownGood(
        "optimal sigma at beta 1", {"likelihood": "gaussian", "sigma": "optimal"}, at_elbo=True
    ),
    # Loaiza-Ganem and Cunningham (2019), The continuous Bernoulli.
    KnownGood(
        "continuous Bernoulli at beta 1", {"likelihood": "continuous_bernoulli"}, at_elbo=True
    ),
    # Higgins et al. (2017), beta-VAE, for the scale; Bowman et al. (2016) for the warm-up.
    KnownGood("beta_norm 0.1 with a linear warm-up", {"schedule": "linear", "beta_norm": 0.1}),
)


_ENUMERATING = ("GridSampler", "BruteForceSampler")
"""Samplers that go through a space point by point, which a trial from elsewhere would disturb."""


def known_good(
    spec: StudySpec, *, values: int, seen: Sequence[KnownGood] = ()
) -> list[tuple[str, dict[str, Any]]]:
    """What to try first: name, and parameters as the sampler knows them.

    Those that lie outside of the study's space are left out, and those that it leaves no choice;
    all of them are where `known_good` is false or the sampler enumerates the space.

    Arguments:
        spec: The study.
        values: N, data values of one example.
        seen: What is known of these data, after the constants; see `scouted.Scouted.first_trial`.
    """
    sampler = next(iter(spec.sampler)).rpartition(":")[2]
    if not spec.known_good or sampler in _ENUMERATING:
        return []
    usual = _reached(spec, {"lr": USUAL_LR})
    found = ((good.name, _parameters(spec, good, values)) for good in (*_CONSTANTS, *seen))
    return [(name, usual | parameters) for name, parameters in found if parameters]


def _parameters(spec: StudySpec, constant: KnownGood, values: int) -> dict[str, Any]:
    if not constant.at_elbo:
        return _reached(spec, constant.wants)
    # Where M is open as well it is set, to the first size at which M/N lies in the space.
    for latents in spec.knobs["latent_dim"].examples():
        beta_norm = beta_to_norm(1.0, values=values, latents=latents)
        found = _reached(spec, {**constant.wants, "latent_dim": latents, "beta_norm": beta_norm})
        if found:
            return found
    return {}


def _reached(spec: StudySpec, wants: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that draw what is wanted; none if the space does not hold it."""
    wish = _Wish(wants)
    drawn = spec.draw(wish)
    got = {name: _plain(drawn[name]) for name in wants}
    return wish.granted if got == dict(wants) else {}


def _plain(value: Any) -> Any:
    return components.split(value)[0] if isinstance(value, dict) else value


@dataclass
class _Wish:
    """Chooser that takes what is wanted where it can, and notes it; see `space.Suggest`."""

    wants: Mapping[str, Any]
    granted: dict[str, Any] = field(default_factory=dict)

    def choice(self, name: str, labels: Sequence[str]) -> str:
        for label in labels:
            # Two options of one component are told apart by their arguments.
            if name in self.wants and label.split("(")[0] in _labels(self.wants[name]):
                self.granted[name] = label
                return label
        return labels[0]

    def real(self, name: str, low: float, high: float, *, log: bool) -> float:
        if low <= self.wants.get(name, high + 1) <= high:
            self.granted[name] = self.wants[name]
            return float(self.wants[name])
        return low

    def integer(self, name: str, low: int, high: int, *, log: bool) -> int:
        return int(self.real(name, low, high, log=log))


def _labels(wanted: Any) -> tuple[str, ...]:
    """How a choice may call it."""
    return (str(wanted), f"{wanted:g}") if isinstance(wanted, int | float) else (wanted,)
