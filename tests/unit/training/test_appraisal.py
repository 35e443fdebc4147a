"""What a model is worth beyond its loss, on models of which it is known beforehand."""

import math
from dataclasses import replace

import pytest
import torch

from tests.factories import member
from tune_vae.data import Splits, Targets
from tune_vae.science.likelihoods.poisson import Poisson
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.vae import VAE
from tune_vae.training.appraisal import Appraisal, Appraiser
from tune_vae.training.trainer import Member, Trainer, restored_vae

GOOD = {"sigma": Optimal(), "latent_dim": 8, "epochs": 30}


def trained(one: Member, data: Splits) -> VAE:
    trainer = Trainer([one], data)
    for _ in trainer:
        pass
    return restored_vae(one, data.shape, trainer.state(0))


@pytest.fixture(scope="module")
def good(digits: Splits) -> Appraisal:
    return Appraiser(digits).appraise(trained(member(**GOOD), digits))


@pytest.fixture(scope="module")
def collapsed(digits: Splits) -> Appraisal:
    one = member(**(GOOD | {"beta": 1000.0, "epochs": 10}))
    return Appraiser(digits).appraise(trained(one, digits))


def test_good_model_knows_its_images_and_draws_new_ones(good: Appraisal) -> None:
    assert good.mutual_information_nats > 4
    assert good.decoder_sensitivity > 0.5
    assert good.psnr is not None
    assert good.psnr > 15
    assert good.ssim is not None
    assert good.ssim > 0.8
    assert good.probe_accuracy is not None
    assert good.probe_accuracy > 0.85
    assert good.sample_coverage > 0.8


def test_collapsed_model_is_seen_in_every_score(good: Appraisal, collapsed: Appraisal) -> None:
    error = collapsed.mutual_information_error_nats
    assert abs(collapsed.mutual_information_nats) < max(0.05, 4 * error)
    assert collapsed.decoder_sensitivity < 0.01
    assert collapsed.probe_accuracy is not None
    assert collapsed.probe_accuracy < 0.25
    assert collapsed.sample_distance > 1.5 * good.sample_distance
    assert collapsed.ssim is not None
    assert good.ssim is not None
    assert collapsed.ssim < 0.6 * good.ssim


def test_bound_is_tighter_than_the_elbo(digits: Splits) -> None:
    one = member(**GOOD)
    trainer = Trainer([one], digits)
    *_, (report,) = trainer
    appraisal = trainer.appraise(0, trainer.state(0))
    assert appraisal.importance_weighted_nats < report.neg_elbo - 0.1
    assert appraisal.importance_weighted_bits is not None
    assert appraisal.importance_weighted_bits < report.bits_per_dim
    assert abs(report.bits_per_dim - appraisal.importance_weighted_bits) < 0.3


def test_model_that_learned_its_images_by_heart_has_a_gap(digits: Splits, good: Appraisal) -> None:
    few = replace(digits, train=digits.train[:48], labels=None)
    one = member(**(GOOD | {"epochs": 150, "batch_size": 24}))
    by_heart = Appraiser(few).appraise(trained(one, few))
    assert by_heart.generalisation_gap_bits > 0.3
    assert abs(good.generalisation_gap_bits) < 0.1
    assert by_heart.probe_accuracy is None
    assert "probe_accuracy" not in by_heart.known()


def test_factors_are_scored_where_they_are_known(few_digits: Splits) -> None:
    factors = Targets(
        *(
            torch.stack([split.flatten(1).sum(1) > 300, split[:, 0, 3, 3] > 8], dim=1).long()
            for split in (few_digits.train, few_digits.validation, few_digits.test)
        )
    )
    data = replace(few_digits, factors=factors)
    found = Appraiser(data).appraise(trained(member(), data))
    for score in (found.mig, found.disentanglement, found.completeness, found.informativeness):
        assert score is not None
        assert 0 <= score <= 1


def test_counts_are_appraised_without_scores_of_pictures(few_digits: Splits) -> None:
    splits = (few_digits.train, few_digits.validation, few_digits.test)
    counts = Splits(*(split.int() for split in splits), levels=None)
    found = Appraiser(counts).appraise(trained(member(likelihood=Poisson(), sigma=None), counts))
    assert found.psnr is None
    assert found.ssim is None
    assert all(math.isfinite(value) for value in found.known().values())
    assert found.mutual_information_nats > 0.5


def test_score_that_is_searched_for_is_in_every_report(few_digits: Splits) -> None:
    labels = Targets(
        *(
            (split[:, 0, :, :4].flatten(1).sum(1) > split[:, 0, :, 4:].flatten(1).sum(1)).long()
            for split in (few_digits.train, few_digits.validation, few_digits.test)
        )
    )
    data = replace(few_digits, labels=labels)
    trainer = Trainer(
        [member()], data, objective=("bits_per_dim", "sample_distance", "probe_error")
    )
    for (report,) in trainer:
        appraisal = trainer.appraise(0, trainer.state(0))
        assert report.sample_distance == appraisal.sample_distance
        assert appraisal.probe_accuracy is not None
        assert report.probe_error == pytest.approx(1 - appraisal.probe_accuracy)
    for (report,) in Trainer([member(epochs=1)], data):
        assert report.sample_distance is None
        assert report.probe_error is None


def test_same_model_is_appraised_alike_twice(digits: Splits) -> None:
    vae = trained(member(epochs=2), digits)
    appraiser = Appraiser(digits)
    assert appraiser.appraise(vae) == appraiser.appraise(vae) == Appraiser(digits).appraise(vae)
