"""What a trained model is worth beyond its loss: samples, information and representation.

These scores cost about as much as a few epochs, so a trial is appraised once, at its best
epoch, and in every epoch only if the study searches for one of them.

Shapes: n examples, M latent, C H W image.
"""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tune_vae.data import Splits, Targets, scale
from tune_vae.science.bound import importance_weighted
from tune_vae.science.images import psnr, ssim
from tune_vae.science.information import Estimate, decoder_sensitivity, information
from tune_vae.science.likelihoods import Measure
from tune_vae.science.representation import dci, mutual_information_gap, probe_accuracy
from tune_vae.science.samples import PrincipalSpace, overlap, sample_distance
from tune_vae.science.units import bits_per_dim
from tune_vae.science.vae import VAE
from tune_vae.training.gallery import gallery

__all__ = ["Appraisal", "Appraiser"]

IMAGES = 2000
"""Most validation examples, and as many training examples and samples, that are looked at."""

PROBE_IMAGES = 10_000
"""Most training examples that a linear probe learns from."""

BOUND_IMAGES, BOUND_SAMPLES = 250, 64
"""Validation examples of the importance-weighted bound, and posterior samples of each."""

DRAWN = 64
"""Validation examples whose latents drawings are made of."""

AT_ONCE = 500


@dataclass(frozen=True)
class Appraisal:
    """Scores of a model on validation examples; those that do not apply to the data are None.

    Arguments:
        sample_distance: Squared Fréchet distance of prior samples from held-out examples in the
            whitened space of the data's first principal components; see `samples`.
        sample_coverage: Share of held-out examples with a sample in their neighbourhood.
        mutual_information_nats, mutual_information_error_nats: What the latents know of their
            example, and its standard error; see `information`.
        posterior_gap_nats: Rate less that information: how far all posteriors together are
            from the prior.
        decoder_sensitivity: Share of the data's variance that the latents move; 0 if the
            decoder ignores them.
        generalisation_gap_bits: Bits per dim (of rate + distortion, at beta = 1) that
            validation examples cost beyond training examples.
        importance_weighted_nats, importance_weighted_nats_error: Tighter bound of the negative
            log-evidence as the likelihood states it, and its standard error over examples; see
            `bound`.
        importance_weighted_bits: The same as mass, per dim; None when improper.
        psnr, ssim: Of the reconstructions, in decibels and up to 1; None for counts.
        probe_accuracy: Of a linear probe on latents drawn from the posteriors; None without
            labels. The means would tell classes even of a collapsed model, from differences
            far below the posteriors' own noise.
        mig, disentanglement, completeness, informativeness: MIG and DCI of such latents; None
            without factors.
    """

    sample_distance: float
    sample_coverage: float
    mutual_information_nats: float
    mutual_information_error_nats: float
    posterior_gap_nats: float
    decoder_sensitivity: float
    generalisation_gap_bits: float
    importance_weighted_nats: float
    importance_weighted_nats_error: float
    importance_weighted_bits: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    probe_accuracy: float | None = None
    mig: float | None = None
    disentanglement: float | None = None
    completeness: float | None = None
    informativeness: float | None = None

    def known(self) -> dict[str, float]:
        """The scores that apply, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class _Seen(NamedTuple):
    """What a model makes of examples: rates and distortions in nats, and its posteriors."""

    rate_n: Tensor
    distortion_n: Tensor
    mean_nM: Tensor
    log_variance_nM: Tensor
    latent_nM: Tensor

    @property
    def neg_elbo(self) -> Tensor:
        return (self.rate_n.double() + self.distortion_n.double()).mean()


class Appraiser:
    """Appraises models of one data set, all by the same examples and the same noise.

    Arguments:
        data: The examples.
        device: Where the models live.
    """

    def __init__(self, data: Splits, device: torch.device | str = "cpu") -> None:
        self._data, self._device = data, torch.device(device)
        self._space: PrincipalSpace | None = None

    @torch.no_grad()
    def appraise(self, vae: VAE) -> Appraisal:
        """All scores that apply; `vae` must be in evaluation mode."""
        held_out, label_n = self._of("validation", IMAGES)
        seen = self._seen(vae, held_out, label_n)
        told = information(seen.latent_nM, seen.mean_nM, seen.log_variance_nM, seen.rate_n)
        image, other = (
            self._images(vae, latent_nM, held_out, label_n)
            for latent_nM in (seen.latent_nM, seen.latent_nM.roll(1, 0))
        )
        trained_on = self._seen(vae, *self._of("train", len(held_out)))
        gap = (seen.neg_elbo - trained_on.neg_elbo).item()
        return Appraisal(
            **self.sample_scores(vae),
            **self.probe_scores(vae),
            **self._factor_scores(vae),
            **self._bound(vae),
            **self._reconstruction_scores(vae, seen.mean_nM, held_out, label_n),
            mutual_information_nats=told.mutual.value.item(),
            mutual_information_error_nats=told.mutual.error.item(),
            posterior_gap_nats=told.gap.value.item(),
            decoder_sensitivity=decoder_sensitivity(image, other, held_out).item(),
            generalisation_gap_bits=bits_per_dim(gap, self._data.values),
        )

    def draw(self, vae: VAE) -> dict[str, Tensor]:
        """What a model draws, see `Gallery`; nothing of data that are no images."""
        if self._data.levels is None:
            return {}
        return gallery(vae, *self._of("validation", DRAWN)).drawings()

    @torch.no_grad()
    def sample_scores(self, vae: VAE) -> dict[str, float]:
        """`sample_distance` and `sample_coverage`; a conditional model is told the labels."""
        real, label_n = self._of("validation", IMAGES)
        latent_nM = vae.imagine(len(real))
        # The decoder's means, for all likelihoods alike: their noise is scored by bits per dim.
        generated = vae.likelihood.features(self._images(vae, latent_nM, None, label_n))
        # Counts are compared as the encoder sees them, in logarithms.
        if self._space is None:
            learned_from, _ = self._of("train", 2 * IMAGES)
            self._space = PrincipalSpace.fit(vae.likelihood.features(learned_from))
        real, space = vae.likelihood.features(real), self._space
        inside = overlap(space.project(real), space.project(generated))
        return {
            "sample_distance": sample_distance(space, real, generated).item(),
            "sample_coverage": inside.coverage.item(),
        }

    @torch.no_grad()
    def probe_scores(self, vae: VAE) -> dict[str, float]:
        """`probe_accuracy`, if there are labels."""
        labels = self._data.labels
        if labels is None:
            return {}
        (train_nM, train), (held_out_nM, held_out) = self._probed(vae, labels)
        return {"probe_accuracy": probe_accuracy(train_nM, train, held_out_nM, held_out)}

    def _factor_scores(self, vae: VAE) -> dict[str, float]:
        factors = self._data.factors
        if factors is None:
            return {}
        (train_nM, train), (held_out_nM, held_out) = self._probed(vae, factors)
        found = dci(train_nM, train, held_out_nM, held_out)
        return {
            "mig": mutual_information_gap(train_nM, train),
            "disentanglement": found.disentanglement,
            "completeness": found.completeness,
            "informativeness": found.informativeness,
        }

    def _reconstruction_scores(
        self, vae: VAE, mean_nM: Tensor, held_out: Tensor, label_n: Tensor | None
    ) -> dict[str, float]:
        if self._data.levels is None:
            return {}
        image = self._images(vae, mean_nM, held_out, label_n)
        squared_error_n = (image - held_out).square().flatten(1).mean(1)
        return {
            "psnr": psnr(squared_error_n).mean().item(),
            "ssim": ssim(held_out, image).mean().item(),
        }

    def _bound(self, vae: VAE) -> dict[str, float]:
        x, label_n = self._of("validation", BOUND_IMAGES)
        generator = torch.Generator().manual_seed(0)
        noise_SnM = torch.randn(BOUND_SAMPLES, len(x), vae.latent_dim, generator=generator)
        noise_SnM = noise_SnM.to(self._device)
        bound = importance_weighted(vae, x, noise_SnM, label_n, levels=self._data.levels)
        nats = Estimate.of(-bound.log_prob_B)
        found = {
            "importance_weighted_nats": nats.value.item(),
            "importance_weighted_nats_error": nats.error.item(),
        }
        if vae.likelihood.measure(self._data.levels) is not Measure.IMPROPER:
            mass = -bound.log_mass_B.mean().item()
            found["importance_weighted_bits"] = bits_per_dim(mass, self._data.values)
        return found

    def _of(self, split: str, most: int) -> tuple[Tensor, Tensor | None]:
        """Examples and what a conditional model is told of them, if there is anything."""
        images = getattr(self._data, split)[:most].to(self._device)
        told = self._data.told
        label_n = getattr(told, split)[:most].to(self._device) if told else None
        return scale(images, self._data.levels), label_n

    def _probed(self, vae: VAE, targets: Targets) -> list[tuple[Tensor, Tensor]]:
        """Drawn latents with what is known of their examples, of training and validation."""
        pairs = []
        for split, most in (("train", PROBE_IMAGES), ("validation", IMAGES)):
            x, label_n = self._of(split, most)
            noise_nM = self._noise(vae, len(x))
            parts = []
            for start in range(0, len(x), AT_ONCE):
                here = slice(start, start + AT_ONCE)
                mean_BM, log_variance_BM = vae.encode(x[here], _at(label_n, here))
                parts.append(mean_BM + (0.5 * log_variance_BM).exp() * noise_nM[here])
            known = getattr(targets, split)[: len(x)].to(self._device)
            pairs.append((torch.cat(parts), known))
        return pairs

    def _noise(self, vae: VAE, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(count, vae.latent_dim, generator=generator).to(self._device)

    def _seen(self, vae: VAE, x: Tensor, label_n: Tensor | None) -> _Seen:
        noise_nM = self._noise(vae, len(x))
        parts = []
        for start in range(0, len(x), AT_ONCE):
            here = slice(start, start + AT_ONCE)
            terms = vae(x[here], noise_nM[here], _at(label_n, here))
            parts.append(
                _Seen(
                    terms.rate_BM.sum(1),
                    terms.distortion_B,
                    terms.mean_BM,
                    terms.log_variance_BM,
                    terms.latent_BM,
                )
            )
        return _Seen(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _images(
        self, vae: VAE, latent_nM: Tensor, x: Tensor | None, label_n: Tensor | None
    ) -> Tensor:
        parts = []
        for start in range(0, len(latent_nM), AT_ONCE):
            here = slice(start, start + AT_ONCE)
            params = vae.decode(latent_nM[here], _at(x, here), _at(label_n, here))
            parts.append(vae.likelihood.mean(params))
        return torch.cat(parts)


def _at(values: Tensor | None, here: slice) -> Tensor | None:
    return None if values is None else values[here]
