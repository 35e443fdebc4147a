"""What the command line does, as functions; whatever needs Ray is tested in integration."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trials import trial_config
from tests.unit.service.fakes import Diary, FakeLedger, FakeTracker
from tests.unit.spec.studies import study, text
from tune_vae import api
from tune_vae.api.forecasting import collapse_points_of
from tune_vae.api.searching import prepared
from tune_vae.data import Splits
from tune_vae.errors import StudyError, StudyFileError, TuneVaeError
from tune_vae.science.health import Kind, Limits, Verdict
from tune_vae.science.history import EpochReport
from tune_vae.service.journey import run_pack
from tune_vae.service.ledger.optuna_ledger import OptunaLedger
from tune_vae.service.scouted import keep
from tune_vae.spec.study import StudySpec
from tune_vae.training.checkpoint import CheckpointStore, load

DEEP = "{conv: {channels: [8, 8, 8, 8, 8]}}"
PLAIN = "tests.own_modules:Fronted"
SKEWED = """
from dataclasses import dataclass

from torch import nn

from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.networks import Network


@dataclass(frozen=True)
class Skewed(Network):
    def build(self, shape, latent_dim, params_per_value):
        encoder, _ = Mlp().build(shape, latent_dim, params_per_value)
        return encoder, nn.Linear(latent_dim, 7)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems_of(call: object, spec: StudySpec) -> list[tuple[str, int]]:
    assert callable(call)
    with pytest.raises(StudyFileError) as refused:
        call(spec)
    return [(problem.message, problem.line) for problem in refused.value.problems]


@pytest.mark.parametrize("call", [api.check, api.search])
def test_network_that_does_not_fit_the_images_is_refused_at_its_line(
    call: object, folder: Path
) -> None:
    ((message, line),) = problems_of(call, study(network=DEEP))
    assert "no model for images of 1×8×8: conv with 5 layers needs images of at least" in message
    assert line == 3
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("call", [api.check, api.search])
def test_what_data_libraries_and_models_reveal_is_refused_at_once(call: object) -> None:
    spec = study(
        network=DEEP,
        train="{batch_size: 5000}",
        sampler="Tombola",
        objective="neg_elbo",
        search="{beta_norm: 1, likelihood: {choice: [gaussian, continuous_bernoulli]}}",
    )
    assert sorted(line for _, line in problems_of(call, spec)) == [3, 6, 7, 8]


@pytest.mark.parametrize("call", [api.check, api.search])
def test_network_whose_output_does_not_fit_is_found(
    call: object, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "skewed_networks.py").write_text(SKEWED)
    monkeypatch.syspath_prepend(folder)
    ((message, line),) = problems_of(call, study(network="skewed_networks:Skewed"))
    assert "no model for images of 1×8×8" in message
    assert line == 3
    del sys.modules["skewed_networks"]


def test_check_reports_the_bounds_of_the_space() -> None:
    network = "{choice: [{mlp: {hidden: []}}, {mlp: {hidden: [64]}}]}"
    report = api.check(study(network=network, latent_dim="{int: [1, 4]}"))
    # Encoder 64 → 2M and decoder M → 64, with biases.
    assert report.parameters[0] == (64 * 2 + 2) + (64 + 64)
    assert report.parameters[1] == (64 * 65 + 65 * 8) + (5 * 64 + 65 * 64)
    assert report.memory_bytes[0] < report.memory_bytes[1]
    assert report.steps_per_epoch == len(report.data.train) // 128
    assert report.seen == 0
    assert report.epoch_seconds > 0


LR = "{log_uniform: [1e-3, 1e-2]}"


def test_check_says_beyond_which_beta_norm_each_decoder_is_dead() -> None:
    likelihood = "{choice: [gaussian, bernoulli, laplace]}"
    report = api.check(
        study(
            latent_dim="{int: [1, 4]}",
            objective="bits_per_dim_calibrated",
            search=f"{{beta_norm: 1, likelihood: {likelihood}, sigma: optimal, lr: {LR}}}",
        )
    )
    x = report.data.train.flatten(1).double() / 16
    eigenvalues = torch.linalg.eigvalsh(x.T.cov(correction=0))
    limit = (64 * eigenvalues[-1] / eigenvalues.sum()).item() / 64
    assert set(report.dead_beyond) == {"gaussian·optimal", "bernoulli"}
    assert report.dead_beyond["gaussian·optimal"] == pytest.approx((limit, 4 * limit))
    low, high = report.dead_beyond["bernoulli"]
    assert 0 < 4 * low == pytest.approx(high)


def test_collapse_point_is_that_of_all_classes_of_sorted_data(few_digits: Splits) -> None:
    halves = torch.zeros(4000, 1, 8, 8, dtype=torch.uint8)
    halves[2500:] = few_digits.levels - 1
    points = collapse_points_of(study(), replace(few_digits, train=halves))
    assert points is not None
    assert points.variance == pytest.approx(0.625 * 0.375)
    assert points.gaussian == pytest.approx(64 * 0.625 * 0.375)


@pytest.mark.parametrize(
    "changes",
    [
        {"health": "{foretold: 0}"},
        {"conditional": "true"},
        {"search": f"{{beta_norm: 1, likelihood: gaussian, free_bits: 0.1, lr: {LR}}}"},
        {"search": f"{{beta_norm: 1, likelihood: gaussian, prior: normal, lr: {LR}}}"},
    ],
)
def test_check_says_of_no_decoder_that_it_is_dead_where_it_may_live(
    changes: dict[str, str],
) -> None:
    assert api.check(study(**changes)).dead_beyond == {}


def test_prior_that_cannot_be_conditional_is_told_once() -> None:
    search = "{beta_norm: 1, likelihood: gaussian, prior: vamp}"
    ((message, line),) = problems_of(api.check, study(search=search, conditional="true"))
    assert "`vamp` is made of encoded examples" in message
    assert line == 5


@pytest.mark.parametrize("call", [api.check, api.search])
def test_pack_of_a_network_that_cannot_be_lifted_is_refused_before_the_search(
    call: object, folder: Path
) -> None:
    spec = study(network="tests.own_modules:Fronted", train="{pack: 4}")
    assert api.check(spec).parameters[0] > 0
    for front, why in (("Branching", "depends on the values"), ("Dropout", "global generator")):
        network = f"{{'tests.own_modules:Fronted': {{front: {front}}}}}"
        ((message, line),) = problems_of(call, study(network=network, train="{pack: 4}"))
        assert message.startswith("`pack: 4` cannot train `tests.own_modules:Fronted`: ")
        assert why in message
        assert line == 6
        assert api.check(study(network=network, train="{pack: 1}")).parameters[0] > 0
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("front", ["Numbering", "Leaving", "BatchNorm", "AveragingBatchNorm"])
def test_network_that_needs_values_or_several_examples_is_no_misfit(front: str) -> None:
    """Models are sized without memory and on as few examples as can be."""
    network = f"{{'tests.own_modules:Fronted': {{front: {front}}}}}"
    report, plain = api.check(study(network=network)), api.check(study(network=PLAIN))
    norm = 2 if "BatchNorm" in front else 0
    assert report.parameters[0] == plain.parameters[0] + norm
    assert report.memory_bytes[0] == plain.memory_bytes[0] + 4 * 7 * norm


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "`beta_norm` is open; give it, between 0.001 and 10"),
        ({"beta_norm": 1.0, "latent_dim": {"int": [2, 4]}}, "`latent_dim` is open"),
        (
            {"beta_norm": 1.0, "schedule": {"choice": ["constant", "linear"]}},
            "`schedule` is open; give it, one of: constant, linear",
        ),
    ],
)
def test_training_of_an_open_knob_asks_for_it(
    given: dict[str, Any], says: str, few_digits: Splits
) -> None:
    with pytest.raises(StudyError, match=says):
        api.train(study(), data=few_digits, **given)


def test_training_refuses_a_knob_that_does_not_exist(few_digits: Splits) -> None:
    with pytest.raises(StudyFileError, match="unknown key `beta`"):
        api.train(study(), data=few_digits, beta=1.0)


@pytest.mark.parametrize(("lr", "ends"), [(0.014, Kind.HEALTHY), (0.02, Kind.DIVERGED)])
def test_training_alone_is_rolled_back_as_in_a_search(
    lr: float, ends: Kind, few_digits: Splits, folder: Path
) -> None:
    """Both are lost in epoch 2, and one of them again at half its learning rate."""
    sigma = {"tests.losing:RawVariance": {"start": 2.0}}
    config = trial_config(0, seed=0, lr=lr, sigma=sigma, batch_size=32, rollbacks=1)
    store, diary = CheckpointStore(folder, "searched"), Diary()
    ledger, tracker = FakeLedger(diary, {}), FakeTracker(diary)
    parts = {"ledger": ledger, "tracker": tracker, "store": store}
    list(run_pack([config], data=few_digits, limits=Limits(), **parts))

    told: list[tuple[EpochReport, Verdict]] = []
    alone = api.train(
        config,
        data=few_digits,
        on_epoch=lambda *news: told.append(news),
        save_to=folder / "again.pt",
    )
    assert alone.verdict == ledger.results[0].verdict
    assert alone.verdict.kind is ends
    assert alone.history.rollbacks == tracker.rollbacks[0]
    assert [report for report, _ in told] == alone.history.reports
    assert [report.lr for report, _ in told] == [lr, *[lr / 2] * (len(told) - 1)]
    searched, saved = store.last(0), load(folder / "again.pt")
    assert searched is not None
    for name in ("theta", "first", "second"):
        assert torch.equal(searched[name], saved[name])
    assert saved["rollbacks"] == searched["rollbacks"]


def test_trial_of_a_study_that_was_never_begun_is_not_found(folder: Path) -> None:
    for call in (api.results, api.confirm, lambda spec: api.trial_of(spec, 0)):
        with pytest.raises(StudyError, match="study `tiny` has not begun"):
            call(study())
    assert list(folder.iterdir()) == []


def test_fork_is_the_changed_study_under_another_name_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    # Also with the line ends of another system.
    file.write_bytes(("# Mine.\n" + text(train="{epochs: 7}")).replace("\n", "\r\n").encode())
    spec = StudySpec.load(file)
    forks = {api.fork(spec, "tiny-2") for _ in range(2)}
    assert forks == {tmp_path / "tiny-2.yaml"}
    forked = StudySpec.load(forks.pop())
    assert forked == replace(spec, name="tiny-2")
    assert forked.text.startswith("# Mine.\r\n")
    assert StudySpec.load(file) == spec
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["tiny-2.yaml", "tiny.yaml"]
    taken = text(study="tiny-2")
    (tmp_path / "tiny-2.yaml").write_text(taken)
    with pytest.raises(StudyError, match=r"tiny-2\.yaml is there and holds another study"):
        api.fork(spec, "tiny-2")
    assert (tmp_path / "tiny-2.yaml").read_text() == taken


@pytest.mark.parametrize("name", ["two words", "../escape", ""])
def test_fork_under_a_name_that_cannot_be_is_refused(name: str, folder: Path) -> None:
    (folder / "tiny.yaml").write_text(text())
    with pytest.raises(TuneVaeError, match="`study` must be a name of letters"):
        api.fork(StudySpec.load("tiny.yaml"), name)
    assert [entry.name for entry in folder.iterdir()] == ["tiny.yaml"]


AUTO = "{beta_norm: auto, likelihood: gaussian, sigma: {choice: [fixed, optimal]}}"


def test_auto_takes_the_bounds_that_are_proposed(folder: Path) -> None:
    spec = study(search=AUTO)
    found, chart = api.forecast(spec)
    assert chart == Path("mlruns/reports/tiny/forecast.png")
    assert chart.read_bytes().startswith(b"\x89PNG")
    checked = api.check(spec)
    assert checked.spec.bounds == found.bounds
    node = checked.spec.knobs["beta_norm"]
    assert (node.low, node.high, node.log) == (*found.bounds, True)  # type: ignore[misc,union-attr]
    assert checked.forecast is not None
    assert 0 < checked.forecast.dead < 1 / 3


def test_forecast_of_digits_is_that_of_their_covariance() -> None:
    data = study().dataset().load()
    x = data.train.flatten(1).double().numpy() / 16
    eigenvalues = np.linalg.eigvalsh(np.cov(x, rowvar=False, bias=True))
    found, _ = api.forecast(study(search=AUTO))
    fixed, fitted = found.decoders
    assert fixed.collapse == pytest.approx(eigenvalues[-1] * 4 / 64)
    assert fitted.collapse == pytest.approx(eigenvalues[-1] / eigenvalues.mean() * 4 / 64)
    assert fixed.linear
    assert fixed.linear.edge == pytest.approx(float(((x == 0) | (x == 1)).mean()))


def test_begun_study_keeps_the_bounds_that_it_began_with(folder: Path) -> None:
    spec = study(search=AUTO)
    data = spec.dataset().load()
    OptunaLedger(
        spec.with_bounds(0.5, 0.6), shape=data.shape, levels=data.levels, digest=data.digest()
    )
    assert api.check(spec).spec.bounds == (0.5, 0.6)


def test_auto_without_a_forecast_says_what_to_do() -> None:
    laplace = "{beta_norm: auto, likelihood: laplace}"
    assert problems_of(api.search, study(search=laplace)) == [
        (
            "`beta_norm: auto` needs a forecast for every decoder of the study, and there is none "
            "for laplace·optimal",
            5,
        )
    ]
    both = "{beta_norm: auto, likelihood: {choice: [gaussian, laplace]}}"
    with pytest.raises(StudyFileError) as refused:
        api.check(study(search=both))
    assert "as forecast for the other decoders" in refused.value.problems[0].tip


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (np.full((40, 4, 4), 7, np.uint8), "all training examples are the same"),
        (np.zeros((3, 4, 4), np.uint8), "all training examples are the same"),
        (np.full((40, 4, 4), np.nan, np.float32), "nan"),
    ],
    ids=["constant", "one to train on", "nan"],
)
@pytest.mark.parametrize("call", [api.forecast, api.check, api.scout, api.search])
def test_data_without_a_forecast_are_refused_in_words(
    call: Any, images: Any, says: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_VAE_CACHE", str(folder / "cache"))
    np.save(folder / "images.npy", images)
    with pytest.raises(TuneVaeError, match=says):
        call(study(data="{arrays: {path: images.npy}}", search=AUTO))


@pytest.mark.parametrize("shape", [(60, 1, 1), (20, 8, 8)], ids=["one pixel", "few images"])
def test_scant_data_are_forecast(
    shape: tuple[int, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_VAE_CACHE", str(folder / "cache"))
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.save(folder / "images.npy", images)
    parts = {"data": "{arrays: {path: images.npy}}", "train": "{batch_size: 8}"}
    found, _ = api.forecast(study(search=AUTO, **parts))
    told = " ".join(found.sentences())
    assert ("only 16 examples for 64 values" in told) == (len(images) == 20)
    # Of one pixel, white noise of one value, the collapse is at beta 1.
    if len(images) == 60:
        assert found.decoders[1].collapse == pytest.approx(4.0)
    assert found.bounds is not None
    assert 0 < found.bounds[0] < found.bounds[1]
    # What a search takes, before it begins.
    assert prepared(study(search=AUTO, **parts))[0].bounds == found.bounds


def test_conditional_study_has_no_forecast_and_says_so() -> None:
    found, chart = api.forecast(study(conditional="true"))
    assert chart is None
    assert (found.unknown, found.bounds, found.curves) == (["gaussian·optimal"], None, {})
    assert list(found.sentences()) == [
        "beta_norm is 0.001 … 10 (log).",
        "Nothing is known of gaussian·optimal before training: no theory holds there.",
        "`tune-vae scout` sees the whole curve of such a decoder in one training, and proposes "
        "bounds.",
    ]


def test_discretised_forms_have_a_forecast_and_others_say_why_not() -> None:
    forms = "{choice: [discretized_gaussian, discretized_logistic, logistic_mixture]}"
    found, _ = api.forecast(study(search=f"{{beta_norm: auto, likelihood: {forms}}}"))
    gaussian, logistic, mixture = found.decoders
    assert gaussian.bounds
    assert logistic.collapse
    assert gaussian.collapse
    assert found.unknown == [mixture.decoder]
    told = " ".join(found.sentences())
    assert "Nothing is known of logistic_mixture before training: its decoder gives 30" in told
    # Where trainings have not borne it out for all kinds, nothing is passed over.
    assert (
        api.check(study(search="{beta_norm: 1, likelihood: discretized_gaussian}")).dead_beyond
        == {}
    )


SCOUTED = "{beta_norm: auto, likelihood: {choice: [gaussian, laplace]}, lr: 2e-3}"


def test_scout_decides_bounds_where_no_forecast_does(folder: Path) -> None:
    spec = study(search=SCOUTED, train="{epochs: 2, batch_size: 64}")
    with pytest.raises(StudyFileError) as refused:
        api.check(spec)
    assert f"`tune-vae scout {spec.file}`" in refused.value.problems[0].tip
    (seen,), chart = api.scout(spec)
    assert seen.config.decoder == "laplace·optimal"
    assert len(seen.curve) == 13
    assert chart == Path("mlruns/reports/tiny/forecast.png")
    (again,), _ = api.scout(spec)
    assert repr(again) == repr(seen)
    # A curve of that form stands in for one that was trained long enough to have it.
    better = replace(
        seen,
        curve=tuple(
            replace(one, rate_nats=30 - 3 * i, bits_per_dim=3 + (i - 4) ** 2 / 100)
            for i, one in enumerate(seen.curve)
        ),
    )
    keep(spec, better, {"theta": torch.zeros(1)})
    checked = api.check(spec)
    found, _ = api.forecast(spec)
    fitted = found.decoders[0].bounds
    assert fitted
    assert better.bounds
    low, high = min(fitted[0], better.bounds[0]), max(fitted[1], better.bounds[1])
    assert checked.spec.bounds == pytest.approx((low, high), rel=0.05)
    assert prepared(spec)[0].bounds == checked.spec.bounds


def test_scout_without_anything_to_scout_says_what_there_is() -> None:
    with pytest.raises(StudyError, match="--likelihood, one of: gaussian"):
        api.scout(study(search=AUTO))
    with pytest.raises(StudyError, match="has no likelihood `laplace`; it has gaussian"):
        api.scout(study(search=AUTO), "laplace")


def test_preparing_a_study_of_small_models_imports_no_compiler() -> None:
    """Two seconds that each search would begin with."""
    digits = Path(__file__).parents[2] / "studies" / "digits.yaml"
    program = (
        "import sys; from pathlib import Path; from tune_vae.api.searching import prepared\n"
        "from tune_vae.spec.study import StudySpec\n"
        f"prepared(StudySpec.load(Path({str(digits)!r})))\n"
        "assert 'optuna' in sys.modules\n"
        "found = {'torch._dynamo', 'sympy', 'mlflow', 'ray', 'matplotlib'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
