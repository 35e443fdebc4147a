"""What the spectrum of a study's data says of its space, before anything is trained."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tune_vae.science.collapse_point import CollapsePoints
from tune_vae.science.critical_beta import CriticalBeta
from tune_vae.science.forecast import LinearForecast, Outlook
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.spectrum import Spectrum
from tune_vae.science.units import beta_from_norm, beta_to_norm
from tune_vae.service.foretold import dead_beyond, may_live
from tune_vae.spec import components
from tune_vae.spec.space import Auto, Choice, Node, Range
from tune_vae.spec.trial import TrialConfig

__all__ = ["DecoderForecast", "StudyForecast", "critical_key", "merged", "proposal"]

LEAST = 0.1
"""Proposed bounds begin at this share of the β at which a fitted scale is calibrated, and where
most bits are best: with a tenth of the error a direction costs another 1.15 nats."""
MOST = 0.5
"""They end at this share of the collapse point: beyond, the last direction carries less than
0.35 nats, and a training is as likely to end dead as alive."""
WORTH = 0.9
"""Of the variance of the data, the suggested latents of a linear model hold this share."""
STEPS = 12
"""Of a curve, from the least proposed error to the collapse point."""


@dataclass(frozen=True)
class DecoderForecast:
    """What is forecast of one kind of decoder with M latents.

    Arguments:
        decoder: As in `gaussian·optimal`; with the scale if that is fixed.
        config: A configuration with it.
        collapse: The beta_norm from which on its latents are dead; None if not known.
        upper: Whether below it nothing is proposed, because trainings have not borne it out: of
            counts they fell silent at a third of it, and a discretised form with a wide scale
            may never live.
        why: Why it is not known, in a clause; empty if nobody can say.
        linear: What a linear model does along β; None if the likelihood is no Gaussian.
        sigma: Its scale if that is fixed; None for one that is fitted.
    """

    decoder: str
    config: TrialConfig
    collapse: float | None
    linear: LinearForecast | None
    sigma: float | None
    upper: bool = False
    why: str = ""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Proposed bounds of beta_norm, not rounded; None without a collapse point."""
        if self.collapse is None or self.upper:
            return None
        calibrated = self.norm(1.0)
        if self.linear and self.sigma:
            calibrated = self.norm_at(self.linear.at(1.0))
        high = MOST * self.collapse
        return min(LEAST * calibrated, LEAST * high), high

    def norm(self, beta: float) -> float:
        return beta_to_norm(beta, values=self.config.values, latents=self.config.latent_dim)

    def norm_at(self, outlook: Outlook) -> float:
        """The beta_norm that leads to an outlook of its linear model."""
        assert self.linear
        return self.norm(self.linear.beta(outlook, self.sigma))

    def at(self, beta_norm: float) -> Outlook | None:
        """What is forecast at a positive beta_norm; None without a linear model."""
        sizes = {"values": self.config.values, "latents": self.config.latent_dim}
        beta = beta_from_norm(beta_norm, **sizes)
        return self.linear.at(beta, self.sigma) if self.linear else None

    def curve(self) -> list[Outlook]:
        """From the lower proposed bound to the collapse point, in equal ratios of the error."""
        if not (self.linear and self.bounds and self.collapse):
            return []
        ends = [self.at(self.bounds[0]), self.at(self.collapse)]
        low, high = (math.log(end.told) for end in ends if end)
        return [
            self.linear.where(math.exp(low + (high - low) * step / STEPS))
            for step in range(STEPS + 1)
        ]


@dataclass(frozen=True)
class StudyForecast:
    """What is forecast of a study.

    Arguments:
        study: Its name.
        space: Of beta_norm.
        spectrum: Of its training data.
        decoders: Every kind in its space, with every latent size.
    """

    study: str
    space: Node
    spectrum: Spectrum
    decoders: tuple[DecoderForecast, ...]

    @classmethod
    def of(
        cls,
        study: str,
        space: Node,
        configs: Sequence[TrialConfig],
        points: CollapsePoints | None,
        spectrum: Spectrum,
        edge: float,
        critical: Mapping[str, CriticalBeta] | None = None,
    ) -> "StudyForecast":
        """From a configuration of each kind of model, and what is known of the data.

        Arguments:
            edge: See `LinearForecast`.
            critical: By decoder, what `critical_beta` says where there is no collapse point.
        """
        found: dict[tuple[str, int], DecoderForecast] = {}
        for config in configs:
            one = _of_decoder(config, points, spectrum, edge, critical or {})
            found.setdefault((one.decoder, config.latent_dim), one)
        return cls(study, space, spectrum, tuple(found.values()))

    @property
    def unknown(self) -> list[str]:
        """Decoders of which no bounds can be proposed."""
        names = (one.decoder for one in self.decoders if one.bounds is None)
        return list(dict.fromkeys(names))

    @property
    def dead(self) -> float:
        """Which share of the points drawn evenly from the space is dead, by the forecast."""
        return sum(map(self.dead_of, self.decoders)) / len(self.decoders)

    def dead_of(self, one: DecoderForecast) -> float:
        """The same of one decoder; 0 if nothing is known of it."""
        return _above(self.space, one.collapse) if one.collapse else 0.0

    @cached_property
    def bounds(self) -> tuple[float, float] | None:
        """Proposed bounds of beta_norm, with two digits; None if a decoder has none."""
        return proposal(self.decoders) if not self.unknown else None

    @property
    def suggested_latents(self) -> int | None:
        """As many as there are directions of note; None if more than are known."""
        return self.spectrum.directions(WORTH)

    def verdict(self) -> str:
        """How much of the space is dead and which bounds are proposed, in a sentence or two."""
        told = f"beta_norm is {self.space.describe()}"
        known = any(one.collapse for one in self.decoders)
        if known and not isinstance(self.space, Auto):
            told += f", of which {self.dead:.0%} is forecast dead"
        if self.bounds:
            low, high = self.bounds
            told += f"; proposed: `beta_norm: {{log_uniform: [{low:.1e}, {high:.1e}]}}`"
            told += "" if isinstance(self.space, Auto) else ", or `beta_norm: auto` for the same"
        return f"{told}."

    def sentences(self) -> Iterator[str]:
        """What follows for the study, in words."""
        yield self.verdict()
        for latents, one in self.curves.items():
            assert one.linear
            calibrated = one.linear.at(1.0)
            yield (
                f"At beta 1 (beta_norm {one.norm(1.0):.3g}) {latents} latents with a fitted sigma "
                f"use {calibrated.used}, for {calibrated.rate_nats:.1f} nats, and sigma becomes "
                f"{calibrated.sigma:.3g}: {calibrated.bits_per_dim:.2f} bits per dim."
            )
        if self.curves:
            enough = self.suggested_latents
            number = f"{enough}" if enough else f"More than {len(self.spectrum.eigenvalues)}"
            yield (
                f"{number} directions hold {WORTH:.0%} of the variance: so many latents are "
                "enough for a linear model, and fewer for a deeper one."
            )
        for one in {one.decoder: one for one in self.decoders if one.upper}.values():
            yield (
                f"Above its critical beta {one.decoder} has no latents that grow; trainings fall "
                "silent also far below it, so that no bounds follow."
            )
        for reason, names in self._without().items():
            yield f"Nothing is known of {', '.join(names)} before training: {reason}."
        if self.unknown:
            yield (
                "`tune-vae scout` sees the whole curve of such a decoder in one training, and "
                "proposes bounds."
            )
        if self.curves and self.spectrum.rows <= self.spectrum.values:
            yield (
                f"There are only {self.spectrum.rows:,} examples for {self.spectrum.values:,} "
                "values: the smaller directions are not known, and all is forecast too well."
            )
        if self.curves:
            yield (
                "A deeper network falls silent at the same place, and below it may have less "
                "error for more nats: how near trainings come was measured, see "
                "tune_vae/science/README.md."
            )

    def _without(self) -> dict[str, list[str]]:
        """Decoders of which nothing is known, by the reason."""
        found: dict[str, list[str]] = {}
        for one in {one.decoder: one for one in self.decoders}.values():
            if one.collapse is None:
                found.setdefault(one.why or "no theory holds there", []).append(one.decoder)
        return found

    @property
    def curves(self) -> dict[int, DecoderForecast]:
        """By latent size, a decoder with a linear model; of one size all have the same curve."""
        return {one.config.latent_dim: one for one in reversed(self.decoders) if one.linear}


def proposal(decoders: Sequence[DecoderForecast]) -> tuple[float, float] | None:
    """Bounds that hold all that are proposed for some decoders, with two digits."""
    return merged([one.bounds for one in decoders])


def merged(bounds: Sequence[tuple[float, float] | None]) -> tuple[float, float] | None:
    """Bounds that hold all that there are, with two digits; None if there are none."""
    known = [one for one in bounds if one]
    if not known:
        return None
    low, high = min(low for low, _ in known), max(high for _, high in known)
    return float(f"{low:.1e}"), float(f"{high:.1e}")


def _of_decoder(
    config: TrialConfig,
    points: CollapsePoints | None,
    spectrum: Spectrum,
    edge: float,
    critical: Mapping[str, CriticalBeta],
) -> DecoderForecast:
    collapse, why, upper = dead_beyond(config, points, factor=1.0), "", False
    known = critical.get(critical_key(config))
    if known and collapse is None:
        why = known.why
        if known.beta:
            sizes = {"values": config.values, "latents": config.latent_dim}
            collapse, upper = beta_to_norm(known.beta, **sizes), True
    likelihood = components.build("likelihood", config.likelihood)
    sigma = components.build("sigma", config.sigma) if config.sigma else None
    fixed = sigma.sigma if isinstance(sigma, Fixed) else None
    linear = None
    # Where a collapse point is known of a Gaussian, it has one scale.
    if collapse is not None and isinstance(likelihood, Gaussian):
        linear = LinearForecast(spectrum, config.latent_dim, config.levels, edge)
    return DecoderForecast(
        decoder=config.decoder + (f" {fixed:g}" if fixed else ""),
        config=config,
        collapse=collapse,
        linear=linear,
        sigma=fixed,
        upper=upper and not isinstance(sigma, Optimal),
        why=why,
    )


def critical_key(config: TrialConfig) -> str:
    """What a critical β depends on beside the data; empty if latents need not be paid for."""
    return "" if may_live(config) else json.dumps([config.likelihood, config.sigma])


def _above(node: Node, limit: float) -> float:
    """Which share of what is drawn evenly from a node lies above a limit."""
    if isinstance(node, Auto):
        return 0.0
    if isinstance(node, Choice):
        return sum(_above(option, limit) for option in node.options) / len(node.options)
    if isinstance(node, Range):
        low, high, edge = (
            math.log(value) if node.log else value for value in (node.low, node.high, limit)
        )
        return min(1.0, max(0.0, (high - edge) / (high - low)))
    return float(max(_numbers(node)) > limit)


def _numbers(node: Node) -> Iterator[float]:
    return (float(value) for value in node.examples())
