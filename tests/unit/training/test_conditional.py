"""Conditional models from the batch to the checkpoint."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.discovery import component_classes
from tests.factories import member, small
from tests.unit.spec.studies import study
from tests.unit.training.curves import curve, curves, left_after_an_epoch
from tune_vae import api
from tune_vae.data import Splits, Targets
from tune_vae.errors import DataError, StudyFileError
from tune_vae.science.likelihoods import Domain, Likelihood
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.likelihoods.poisson import Poisson
from tune_vae.science.networks import Network
from tune_vae.science.networks.counts import Counts
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.spec.trial import TrialConfig
from tune_vae.training.trainer import Member, Trainer, restored_vae

CLASSES, EPOCHS = 4, 3
SIZES = (256, 64, 32)

every_network = pytest.mark.parametrize(
    "network", [small(kind) for kind in component_classes("science.networks")], ids=repr
)


@pytest.fixture(scope="module")
def rows() -> Splits:
    """Images of 8×8, one of whose upper rows is bright: the row of the label.

    The lower half is noise that no label tells.
    """
    generator = torch.Generator().manual_seed(0)
    images, labels = [], []
    for size in SIZES:
        label = torch.randint(CLASSES, (size,), generator=generator)
        image = torch.randint(0, 5, (size, 1, 8, 8), generator=generator, dtype=torch.uint8)
        image[torch.arange(size), 0, label] += 10
        images.append(image)
        labels.append(label)
    return Splits(*images, levels=16, labels=Targets(*labels))


def one(trial: int = 0, **changes: object) -> Member:
    settings = {"classes": CLASSES, "epochs": EPOCHS, "sigma": Optimal(), "lr": 1e-2}
    return member(trial, **(settings | changes))


def brightest_row(images: torch.Tensor) -> list[int]:
    rows: list[int] = images[:, 0].mean(2).argmax(1).tolist()
    return rows


def test_generation_follows_the_label_that_is_given(rows: Splits) -> None:
    """And the latents need not carry it: told the label, a model needs fewer nats."""
    conditional, plain = one(epochs=20), one(epochs=20, classes=0)
    trainer = Trainer([conditional], rows)
    told = curve(trainer)[-1]
    vae = restored_vae(conditional, rows.shape, trainer.state(0))
    wanted = [3, 3, 0, 1, 2, 2, 1, 0]
    assert brightest_row(vae.generate(8, labels=wanted)) == wanted
    assert brightest_row(vae.generate(8)) == [0, 1, 2, 3, 0, 1, 2, 3]
    # Which of four rows it is takes ln 4 = 1.4 nats.
    untold = curve(Trainer([plain], rows))[-1]
    assert told.rate_nats < untold.rate_nats - 0.8
    assert told.neg_elbo < untold.neg_elbo - 0.8


def of_kind(rows: Splits, network: Network) -> tuple[Splits, Likelihood]:
    """The data as a network wants them, with a likelihood for them."""
    if network.domains != {Domain.COUNTS}:
        return rows, Gaussian()
    counts = (rows.train.int(), rows.validation.int(), rows.test.int())
    return replace(rows, **dict(zip(Targets._fields, counts, strict=True)), levels=None), Poisson()


@every_network
def test_every_network_codes_an_example_in_fewer_nats_when_it_is_told(
    rows: Splits, network: Network
) -> None:
    data, likelihood = of_kind(rows, network)
    told, untold = (
        one(network=network, likelihood=likelihood, classes=classes, epochs=12)
        for classes in (CLASSES, 0)
    )
    knowing = curve(Trainer([told], data))
    assert knowing[-1].neg_elbo < curve(Trainer([untold], data))[-1].neg_elbo - 2
    # Of labels and a covariate it is told the covariate.
    assert data.labels is not None
    turned = Targets(*(part.flip(0) for part in data.labels))
    both = replace(data, labels=turned, covariate=data.labels)
    assert curve(Trainer([replace(told, epochs=1)], both)) == curve(
        Trainer([replace(told, epochs=1)], data)
    )


@every_network
def test_member_of_a_pack_equals_the_same_trial_alone(rows: Splits, network: Network) -> None:
    data, likelihood = of_kind(rows, network)
    pack = [one(k, network=network, likelihood=likelihood, lr=1e-3 * (k + 1)) for k in range(3)]
    together = curves(Trainer(pack, data, dtype=torch.float64))
    for each in pack:
        alone = curve(Trainer([each], data, dtype=torch.float64))
        for a, b in zip(together[each.trial], alone, strict=True):
            for name in ("train_distortion_nats", "neg_elbo", "bits_per_dim_calibrated", "mse"):
                assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-9), name
            assert a.mutual_information_nats == pytest.approx(b.mutual_information_nats, abs=1e-6)


def test_every_score_is_under_the_right_label(rows: Splits) -> None:
    """With the validation labels moved by one, each of them is worse."""
    trainer = Trainer([one(epochs=20)], rows)
    curve(trainer)
    state = trainer.state(0)
    labels = rows.labels
    assert labels is not None
    moved = replace(rows, labels=labels._replace(validation=(labels.validation + 1) % CLASSES))
    right, wrong = (Trainer([one(epochs=20)], data, resume={0: state}) for data in (rows, moved))
    for name, value in right.scores()[0].items():
        if name != "rate_nats":
            assert wrong.scores()[0][name] > value, name
    good, bad = right.appraise(0, state).known(), wrong.appraise(0, state).known()
    for name in ("importance_weighted_bits", "generalisation_gap_bits"):
        assert bad[name] > good[name] + 0.1, name
    for name in ("psnr", "ssim"):
        assert bad[name] < good[name] - 0.1, name
    signs = [trainer.signals()[0, 0].item() for trainer in (right, wrong)]
    assert signs[0] > signs[1] + 0.3


def test_samples_are_compared_under_the_labels_of_the_held_out_examples(rows: Splits) -> None:
    """Held-out examples of one class only are met by samples of that class."""
    labels = rows.labels
    assert labels is not None
    of_class_2 = labels.validation == 2
    some = replace(
        rows,
        validation=rows.validation[of_class_2],
        labels=labels._replace(validation=labels.validation[of_class_2]),
    )
    trainer = Trainer([one(epochs=20)], rows)
    curve(trainer)
    told = Trainer([one(epochs=20)], some).appraise(0, trainer.state(0))
    wrong = replace(
        some,
        labels=labels._replace(validation=torch.full((int(of_class_2.sum()),), 3)),
    )
    other = Trainer([one(epochs=20)], wrong).appraise(0, trainer.state(0))
    # Much of it is the noise of the lower half, which is the same in both.
    assert told.sample_distance < other.sample_distance - 4


def test_collapse_point_is_that_of_what_the_label_does_not_tell(rows: Splits) -> None:
    """Given the row, what varies is noise without a direction; without it, the row is one."""
    conditional, plain = (
        curve(Trainer([one(classes=classes, epochs=1)], rows))[0].spectral_peak
        for classes in (CLASSES, 0)
    )
    assert conditional is not None
    assert plain is not None
    # Of 64 values of white noise and 256 examples, (1 + sqrt(64 / 256))² = 2.25.
    assert conditional == pytest.approx(2.25, rel=0.15)
    assert plain > 3 * conditional


def test_resuming_changes_no_bit(rows: Splits) -> None:
    saved, rest = left_after_an_epoch([one()], rows)
    assert curves(Trainer([one()], rows, resume=saved)) == rest


def test_trainer_refuses_data_without_the_labels(rows: Splits) -> None:
    for data, known in (
        (replace(rows, labels=None), "none"),
        (replace(rows, labels=Targets(*(4 * part for part in rows.labels or ()))), "13"),
    ):
        with pytest.raises(DataError, match=f"4 classes needs their labels, .* have {known}"):
            Trainer([one()], data)


def test_probe_asks_latents_for_labels_that_the_model_was_not_told(rows: Splits) -> None:
    labels = rows.labels
    assert labels is not None
    halves = Targets(*(part % 2 for part in labels))
    data = replace(rows, labels=halves, covariate=labels)
    trainer = Trainer([one(epochs=20)], data)
    curve(trainer)
    plain = Trainer([one(epochs=20, classes=0)], data)
    curve(plain)
    told, untold = (each.appraise(0, each.state(0)).known() for each in (trainer, plain))
    # What the covariate tells is gone from the latents.
    assert untold["probe_accuracy"] > told["probe_accuracy"] + 0.2
    # In all else it does not matter what the class is called.
    as_labels = Trainer([one()], rows).appraise(0, trainer.state(0)).known()
    for name in ("psnr", "sample_distance", "importance_weighted_bits"):
        assert as_labels[name] == told[name]


def test_study_trains_saves_and_loads(digits: Splits, tmp_path: Path) -> None:
    spec = study(conditional="true", train="{epochs: 2}")
    saved = tmp_path / "vae.pt"
    trained = api.train(spec, data=digits, beta_norm=0.01, save_to=saved)
    assert trained.config.classes == 10
    assert TrialConfig.model_validate_json(trained.config.model_dump_json()) == trained.config
    vae = api.load_vae(saved)
    assert torch.equal(
        vae.generate(3, labels=[7, 7, 1]), trained.vae.generate(3, labels=[7, 7, 1])
    )
    assert not torch.equal(vae.generate(1, labels=[7]), vae.generate(1, labels=[1]))
    found = api.validate(saved, digits)
    assert found["neg_elbo"] == pytest.approx(trained.history.last.neg_elbo, rel=1e-6)


@pytest.mark.parametrize("call", [api.check, api.search])
def test_study_of_data_without_labels_is_refused(
    call: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counts.csv").write_text("1,2,3\n" * 30)
    assert callable(call)
    with pytest.raises(StudyFileError) as refused:
        call(
            study(
                conditional="true",
                data="{counts: {path: counts.csv}}",
                search="{beta_norm: 1, likelihood: poisson}",
                train="{batch_size: 8}",
            )
        )
    assert "`conditional: true` needs labels or a covariate" in str(refused.value)


def test_check_of_a_conditional_study() -> None:
    plain, told = (api.check(study(conditional=flag)) for flag in ("false", "true"))
    # Ten more channels of 64 values into 16 hidden ones, and ten more numbers out of the latents.
    assert told.parameters[0] - plain.parameters[0] == 10 * 64 * 16 + 10 * 16


def test_flag_makes_another_study_and_its_absence_none() -> None:
    assert study(conditional="true").space_digest() != study().space_digest()
    assert study(conditional="false").space_digest() == study().space_digest()


def test_fingerprint_holds_labels_where_they_matter(rows: Splits) -> None:
    labels = rows.labels
    assert labels is not None
    moved = replace(rows, labels=labels._replace(train=labels.train.flip(0)))
    assert moved.digest() == rows.digest()
    assert moved.digest(conditional=True) != rows.digest(conditional=True)


def test_widths_of_the_hidden_layers_stay(rows: Splits) -> None:
    vae = restored_vae(
        one(network=Mlp(hidden=(7,))),
        rows.shape,
        Trainer([one(network=Mlp(hidden=(7,)))], rows).state(0),
    )
    assert [p.shape for p in vae.encoder.parameters() if p.ndim > 1] == [(7, 5 * 64), (8, 7)]
    assert [p.shape for p in vae.decoder.parameters() if p.ndim > 1] == [(7, 8), (64, 7)]


def test_counts_network_is_told_the_label() -> None:
    encoder, _ = Counts(hidden=(8,)).build((1 + CLASSES, 1, 6), 3, 1)
    counts = torch.rand(1, 1, 1, 6).expand(CLASSES, -1, -1, -1)
    planes = torch.eye(CLASSES)[:, :, None, None].expand(-1, -1, 1, 6)
    seen = encoder[0](torch.cat([counts, planes], dim=1))
    assert torch.equal(seen[:, 7:], torch.eye(CLASSES))
    assert torch.equal(seen[:, :7], encoder[0](counts))
