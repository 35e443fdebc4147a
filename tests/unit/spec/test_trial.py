"""One configuration, complete and plain."""

import math
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from tests.unit.spec.choosers import RandomChooser
from tests.unit.spec.studies import WIDE, study
from tune_vae.science.likelihoods.bernoulli import Bernoulli
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.schedules.linear import Linear
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.spec.study import Budget, StudySpec, Training
from tune_vae.spec.trial import TrialConfig
from tune_vae.training.trainer import PRECISIONS, build_vae

SHAPE = (1, 8, 8)
WIDEST = StudySpec.parse(WIDE)


def config(spec: StudySpec | None = None, *, trial: int = 0, **drawn: Any) -> TrialConfig:
    spec = spec or study()
    values = spec.draw(RandomChooser(trial)) | drawn
    return TrialConfig.of(spec, values, trial=trial, shape=SHAPE, levels=17)


@pytest.mark.parametrize("trial", range(60))
def test_any_draw_of_the_widest_space_builds_a_model(trial: int) -> None:
    drawn = config(WIDEST, trial=trial)
    member = drawn.member()
    vae = build_vae(member, SHAPE)
    assert vae.latent_dim == drawn.latent_dim
    assert (member.sigma is None) is not member.likelihood.has_scale
    assert member.lr > 0
    assert member.grad_clip > 0


@pytest.mark.parametrize("trial", range(20))
def test_configuration_survives_json_unchanged(trial: int) -> None:
    drawn = config(WIDEST, trial=trial)
    again = TrialConfig.model_validate_json(drawn.model_dump_json())
    assert again == drawn
    assert again.model_dump_json() == drawn.model_dump_json()
    assert again.member() == drawn.member()


def test_member_carries_the_configuration_that_rebuilds_it() -> None:
    drawn = config()
    assert TrialConfig.model_validate_json(drawn.member().config) == drawn


def test_member_is_what_the_configuration_says() -> None:
    member = config(
        likelihood={"gaussian": {"link": "identity"}},
        sigma={"fixed": {"sigma": 0.2}},
        schedule={"linear": {"warmup": 0.5}},
        beta_norm=0.25,
        lr=0.01,
    ).member()
    assert member.network == Mlp(hidden=(16,))
    assert member.likelihood == Gaussian(link="identity")
    assert member.sigma == Fixed(sigma=0.2)
    assert member.schedule == Linear(warmup=0.5)
    assert member.beta == pytest.approx(0.25 * 64 / 4)
    assert (member.lr, member.weight_decay, member.grad_clip) == (0.01, 0.0, math.inf)
    assert (member.epochs, member.batch_size) == (40, 128)


def test_member_of_a_likelihood_without_scale_has_no_sigma() -> None:
    member = config(likelihood={"bernoulli": {}}, sigma=None).member()
    assert member.likelihood == Bernoulli()
    assert member.sigma is None


@pytest.mark.parametrize("latents", [1, 4, 16])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_beta_is_beta_norm_times_values_over_latents(
    shape: tuple[int, int, int], latents: int
) -> None:
    spec = study()
    drawn = spec.draw(RandomChooser()) | {"beta_norm": 0.3, "latent_dim": latents}
    made = TrialConfig.of(spec, drawn, trial=0, shape=shape, levels=256)
    assert made.values == math.prod(shape)
    assert made.beta == pytest.approx(0.3 * math.prod(shape) / latents)


def test_beta_norm_does_not_know_the_batch_size() -> None:
    assert config(batch_size=16, beta_norm=1.0).beta == config(batch_size=64, beta_norm=1.0).beta


def test_no_clipping_is_null_in_json_and_infinite_in_the_member() -> None:
    unclipped = config(grad_clip=math.inf)
    assert '"grad_clip":null' in unclipped.model_dump_json()
    assert unclipped.member().grad_clip == math.inf
    assert config(grad_clip=2.0).member().grad_clip == 2.0


def test_trials_of_a_study_are_rolled_back_once_and_those_of_earlier_versions_never() -> None:
    assert config().rollbacks == 1
    assert config(study(train="{rollbacks: 0}")).rollbacks == 0
    earlier = config().model_dump()
    del earlier["rollbacks"]
    assert TrialConfig.model_validate(earlier).rollbacks == 0


def test_every_precision_that_a_study_may_name_can_be_trained() -> None:
    named = get_args(Training.model_fields["precision"].annotation)
    assert set(named) == set(PRECISIONS)


def test_trials_of_earlier_versions_were_of_float32() -> None:
    low = config(study(train="{precision: bfloat16}"))
    assert (low.precision, low.member().precision) == ("bfloat16", "bfloat16")
    earlier = low.model_dump()
    del earlier["precision"]
    assert TrialConfig.model_validate(earlier).precision == "float32"


def test_every_trial_of_a_study_has_a_seed_of_its_own() -> None:
    seeds = [config(trial=trial).seed for trial in range(200)]
    assert len(set(seeds)) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seed_follows_from_the_study_seed_and_the_number_alone() -> None:
    assert config(trial=3).seed == config(study(study="renamed"), trial=3).seed
    assert config(trial=3, lr=0.5).seed == config(trial=3).seed
    assert config(trial=3).seed != config(study(train="{seed: 1}"), trial=3).seed


def test_seeds_of_neighbouring_studies_do_not_meet() -> None:
    # Seed 1 of trial 12 must not be seed 11 of trial 2.
    assert config(study(train="{seed: 1}"), trial=12).seed != (
        config(study(train="{seed: 11}"), trial=2).seed
    )


@pytest.mark.parametrize(
    ("likelihood", "sigma", "decoder"),
    [
        ({"gaussian": {}}, {"optimal": {}}, "gaussian·optimal"),
        ({"gaussian": {"link": "identity"}}, {"fixed": {"sigma": 1.0}}, "gaussian·fixed"),
        ({"bernoulli": {}}, None, "bernoulli"),
    ],
)
def test_decoder_is_likelihood_and_sigma_mode_in_one_word(
    likelihood: dict[str, Any], sigma: dict[str, Any] | None, decoder: str
) -> None:
    assert config(likelihood=likelihood, sigma=sigma).decoder == decoder


def test_settings_are_flat_and_hold_every_knob_with_its_arguments() -> None:
    settings = config(
        likelihood={"discretized_gaussian": {}},
        sigma={"fixed": {"sigma": 0.2}},
        schedule={"linear": {"warmup": 0.25}},
        beta_norm=0.5,
        grad_clip=math.inf,
    ).settings
    assert settings["likelihood"] == "discretized_gaussian"
    assert settings["likelihood.levels"] == 17.0
    assert (settings["sigma"], settings["sigma.sigma"]) == ("fixed", 0.2)
    assert (settings["schedule"], settings["schedule.warmup"]) == ("linear", 0.25)
    assert (settings["beta_norm"], settings["latent_dim"]) == (0.5, 4.0)
    assert settings["network.hidden"] == "[16]"
    assert "grad_clip" not in settings
    assert all(type(value) in (float, str) for value in settings.values())


def test_setting_that_a_trial_does_not_have_is_left_out() -> None:
    settings = config(likelihood={"bernoulli": {}}, sigma=None).settings
    assert "sigma" not in settings


def test_schedule_goes_by_its_name() -> None:
    assert config(schedule={"linear": {"warmup": 0.5}}).schedule_name == "linear"


def test_configuration_cannot_change_and_takes_no_unknown_key() -> None:
    drawn = config()
    with pytest.raises(ValidationError, match="frozen"):
        drawn.lr = 1.0
    with pytest.raises(ValidationError, match="momentum"):
        TrialConfig.model_validate(drawn.model_dump() | {"momentum": 0.9})


def test_levels_of_the_data_are_filled_in_where_a_likelihood_takes_them() -> None:
    assert config(likelihood={"discretized_logistic": {}}).likelihood == {
        "discretized_logistic": {"levels": 17}
    }
    assert config(likelihood={"categorical": {"levels": 256}}).likelihood == {
        "categorical": {"levels": 256}
    }
    assert config(likelihood={"bernoulli": {}}).likelihood == {"bernoulli": {}}


def test_repeat_is_the_same_training_with_a_number_and_a_seed_of_its_own() -> None:
    one = config(trial=12)
    second, third = one.repeated(1), one.repeated(2)
    own = {"trial", "seed", "repeat_of"}
    assert second.model_dump(exclude=own) == one.model_dump(exclude=own)
    assert len({config.trial for config in (one, second, third)}) == 3
    assert len({config.seed for config in (one, second, third)}) == 3
    assert (second, third.repeat_of) == (one.repeated(1), 12)
    assert [config.label for config in (one, second, third)] == ["12", "12/2", "12/3"]
    # As it comes back from the ledger and from a checkpoint.
    assert TrialConfig.model_validate_json(second.model_dump_json()) == second
    assert second.member().pack_key() == one.member().pack_key()


def test_repeats_have_numbers_that_no_trial_and_no_other_repeat_has() -> None:
    most = 1_000_000
    with pytest.raises(ValidationError):
        Budget(trials=most + 1)
    first, last = config(trial=0), config(trial=Budget(trials=most).trials - 1)
    assert first.repeated(1).trial > last.trial
    assert last.repeated(1).trial < first.repeated(2).trial
