"""Whether the numbers of a study can be compared, and whether each knob turns something."""

from dataclasses import replace

import pytest
import torch

from tests.unit.spec.studies import study
from tune_vae.data import Splits
from tune_vae.errors import Problem
from tune_vae.spec import components
from tune_vae.spec.soundness import faults

BOTH = "{choice: [gaussian, continuous_bernoulli]}"
WITH_BERNOULLI = "{choice: [gaussian, bernoulli]}"
OPEN_BETA = "{log_uniform: [0.1, 1]}"


def found(
    data: Splits,
    *,
    beta: str = OPEN_BETA,
    likelihood: str = "gaussian",
    sigma: str = "",
    **more: str,
) -> list[Problem]:
    search = f"{{beta_norm: {beta}, likelihood: {likelihood}, sigma: {sigma}}}"
    return faults(study(search=search, **more), data)


@pytest.fixture(scope="module")
def binary(digits: Splits) -> Splits:
    return Splits(
        train=digits.train // 9,
        validation=digits.validation // 9,
        test=digits.test // 9,
        levels=2,
    )


@pytest.mark.parametrize("objective", ["bits_per_dim", "bits_per_dim_calibrated", "mse"])
def test_objective_of_one_currency_ranks_every_proper_likelihood(
    digits: Splits, objective: str
) -> None:
    assert found(digits, likelihood=BOTH, objective=objective) == []


def test_improper_likelihood_cannot_be_ranked_by_bits_per_dim(digits: Splits) -> None:
    (problem,) = found(digits, likelihood=WITH_BERNOULLI, objective="bits_per_dim")
    assert "cannot rank `bernoulli` on data with 17 levels" in problem.message
    assert "bits_per_dim_calibrated" in problem.tip
    assert problem.path == ("objective",)


def test_bernoulli_is_proper_on_binary_images(binary: Splits) -> None:
    assert found(binary, likelihood=WITH_BERNOULLI) == []
    assert found(binary, likelihood="bernoulli", objective="neg_elbo") == []


@pytest.mark.parametrize("objective", ["bits_per_dim_calibrated", "mse", "rate_nats"])
def test_improper_likelihood_is_ranked_by_what_exists_for_all(
    digits: Splits, objective: str
) -> None:
    assert found(digits, likelihood=WITH_BERNOULLI, objective=objective) == []


def test_objective_that_is_not_stated_has_its_problem_at_the_likelihood(digits: Splits) -> None:
    (problem,) = found(digits, likelihood=WITH_BERNOULLI)
    assert problem.path == ("search", "likelihood")


@pytest.mark.parametrize(
    "objective", ["neg_elbo", "distortion_nats", "[rate_nats, distortion_nats]"]
)
def test_own_measure_ranks_one_likelihood_only(digits: Splits, objective: str) -> None:
    assert found(digits, objective=objective) == []
    (problem,) = found(digits, likelihood=BOTH, objective=objective)
    assert "cannot rank `continuous_bernoulli` and `gaussian`" in problem.message


def test_own_measure_ranks_two_forms_of_one_likelihood(digits: Splits) -> None:
    links = "{choice: [{gaussian: {link: sigmoid}}, {gaussian: {link: identity}}]}"
    assert found(digits, likelihood=links, objective="neg_elbo") == []


def test_own_measure_of_an_improper_likelihood_ranks_nothing(digits: Splits) -> None:
    (problem,) = found(digits, likelihood="bernoulli", objective="neg_elbo")
    assert "cannot rank `bernoulli`" in problem.message


SIGMAS = [
    "{fixed: {sigma: {log_uniform: [0.1, 1]}}}",
    "{fixed: {sigma: {choice: [0.1, 0.5]}}}",
    "{choice: [{fixed: {sigma: 0.1}}, optimal, fixed]}",
]


@pytest.mark.parametrize("sigma", SIGMAS)
def test_fixed_sigma_and_beta_norm_are_not_both_searched(digits: Splits, sigma: str) -> None:
    (problem,) = found(digits, sigma=sigma)
    assert "are one knob" in problem.message
    assert problem.path == ("search", "sigma")


@pytest.mark.parametrize(("likelihood", "power"), [("gaussian", 2), ("laplace", 1)])
def test_fixed_sigma_amounts_to_the_stated_beta(likelihood: str, power: int) -> None:
    """Distortion at sigma is, up to a constant, distortion at 1 over the beta it amounts to."""
    built = components.build("likelihood", likelihood)
    x, params, sigma = torch.tensor([[0.3]]), torch.tensor([[[-2.0]], [[1.5]]]), torch.tensor(0.2)

    def difference(log_sigma: torch.Tensor) -> torch.Tensor:
        one, other = (built.log_prob(x, p[None], log_sigma) for p in params)
        return (one - other).squeeze()

    torch.testing.assert_close(difference(sigma.log()) * sigma**power, difference(torch.zeros(())))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_fixed_sigma_of_a_laplace_is_beta_norm_as_well(digits: Splits, sigma: str) -> None:
    (problem,) = found(digits, likelihood="laplace", sigma=sigma)
    assert "the fixed sigma of `laplace` and beta_norm are one knob" in problem.message


@pytest.mark.parametrize("sigma", SIGMAS)
def test_fixed_sigma_may_be_searched_when_beta_norm_is_given(digits: Splits, sigma: str) -> None:
    assert found(digits, sigma=sigma, beta="1") == []


@pytest.mark.parametrize(
    "sigma", ["{choice: [fixed, shared, optimal]}", "{choice: [{fixed: {sigma: 1}}, optimal]}"]
)
def test_one_fixed_sigma_beside_other_modes_is_no_knob(digits: Splits, sigma: str) -> None:
    assert found(digits, sigma=sigma) == []


def test_fixed_sigma_of_a_likelihood_without_scale_turns_nothing_twice(digits: Splits) -> None:
    assert found(digits, likelihood="continuous_bernoulli", sigma=SIGMAS[0]) == []


def test_batch_is_at_most_the_training_images(digits: Splits) -> None:
    images = len(digits.train)
    assert found(digits, train=f"{{batch_size: {images}}}") == []
    (problem,) = found(digits, train=f"{{batch_size: {{choice: [32, {images + 1}]}}}}")
    assert problem.path == ("train", "batch_size")
    assert problem.message == "a batch of 1,298 is more than the 1,297 training images"


def test_all_faults_are_found_at_once(digits: Splits) -> None:
    problems = found(
        digits,
        likelihood=WITH_BERNOULLI,
        sigma=SIGMAS[0],
        objective="[bits_per_dim, neg_elbo]",
        train="{batch_size: 5000}",
    )
    assert len(problems) == 4


@pytest.fixture(scope="module")
def counts(digits: Splits) -> Splits:
    splits = (digits.train, digits.validation, digits.test)
    return Splits(*(split.int() for split in splits), levels=None)


def test_counts_are_not_modelled_by_a_likelihood_of_grey_levels(counts: Splits) -> None:
    (problem,) = found(counts, likelihood=BOTH.replace("continuous_bernoulli", "poisson"))
    assert problem.path == ("search", "likelihood")
    assert "`gaussian` cannot be used here" in problem.message
    assert "the data are counts" in problem.message
    for remedy in ("negative_binomial", "poisson", "zero_inflated_negative_binomial", "log1p"):
        assert remedy in problem.tip
    assert "laplace" not in problem.tip


def test_grey_levels_are_not_modelled_as_counts(digits: Splits) -> None:
    (problem,) = found(digits, likelihood="poisson")
    assert "it is a distribution of counts, and the data are 17 grey levels" in problem.message
    assert "laplace" in problem.tip
    assert "log1p" not in problem.tip


def test_counts_under_their_own_likelihoods_are_sound(counts: Splits) -> None:
    both = "{choice: [poisson, negative_binomial]}"
    assert found(counts, likelihood=both, sigma="{choice: [shared, per_gene]}") == []


def test_mode_that_needs_an_optimal_scale_is_refused_where_there_is_none(counts: Splits) -> None:
    (problem,) = found(
        counts, likelihood="negative_binomial", sigma="{choice: [shared, optimal, per_image]}"
    )
    assert "`optimal` and `per_image`" in problem.message
    assert "`negative_binomial`" in problem.message
    assert problem.path == ("search", "sigma")
    assert "shared" in problem.tip


def test_images_that_were_scaled_before_they_were_rounded_are_refused(digits: Splits) -> None:
    (problem,) = found(
        Splits(digits.train // 16, digits.validation // 16, digits.test // 16, levels=256)
    )
    assert problem.path == ("data",)
    assert "divided by 255" in problem.tip


def test_all_training_images_are_looked_at_however_many(digits: Splits) -> None:
    dark = torch.zeros(3000, 1, 8, 8, dtype=torch.uint8)
    assert len(found(Splits(dark, digits.validation, digits.test, levels=17))) == 2
    dark[-1] = 16
    assert not found(Splits(dark, digits.validation, digits.test, levels=17))


def test_examples_that_are_all_the_same_are_refused(digits: Splits) -> None:
    same = digits.train[:1].repeat(200, 1, 1, 1)
    (problem,) = found(Splits(same, digits.validation, digits.test, levels=17))
    assert "all training examples are the same" in problem.message


def test_probe_needs_labels(digits: Splits) -> None:
    assert found(digits, objective="probe_error") == []
    without = Splits(digits.train, digits.validation, digits.test, levels=17)
    (problem,) = found(without, objective="probe_error")
    assert "needs labels" in problem.message


def test_network_of_counts_is_refused_for_images(digits: Splits, counts: Splits) -> None:
    network = "{choice: [mlp, counts]}"
    (problem,) = found(digits, network=network)
    assert problem.message == (
        "`counts` cannot be used here: it is a network for counts, and the data are grey levels"
    )
    assert problem.path == ("network",)
    assert found(counts, likelihood="poisson", network=network) == []


def test_conditional_study_needs_labels(digits: Splits) -> None:
    assert found(digits, conditional="true") == []
    without = Splits(digits.train, digits.validation, digits.test, levels=17)
    assert found(without) == []
    (problem,) = found(without, conditional="true")
    assert "`conditional: true` needs labels" in problem.message
    assert problem.path == ("conditional",)


def test_labels_that_are_not_told_may_be_asked_for(digits: Splits) -> None:
    wanted = {"conditional": "true", "objective": "probe_error"}
    (problem,) = found(digits, **wanted)
    assert "`probe_error` asks the latents of a conditional model" in problem.message
    assert problem.path == ("objective",)
    assert found(replace(digits, covariate=digits.labels), **wanted) == []
    without = replace(digits, labels=None, covariate=digits.labels)
    assert found(without, conditional="true") == []
    (problem,) = found(without, **wanted)
    assert "`probe_error` needs labels" in problem.message


def test_conditional_study_needs_an_example_of_the_last_class(digits: Splits) -> None:
    assert digits.labels is not None
    few = replace(digits, labels=digits.labels._replace(train=digits.labels.train.clamp(max=8)))
    assert found(few) == []
    (problem,) = found(few, conditional="true")
    assert "10 classes, and no training example of the last" in problem.message


def test_conditional_study_is_not_judged_by_what_it_is_told(digits: Splits) -> None:
    (problem,) = found(digits, conditional="true", objective="probe_error")
    assert problem.path == ("objective",)
    assert "which its decoder is told anyway" in problem.message


def test_prior_of_encoded_examples_cannot_be_conditional(digits: Splits) -> None:
    search = "{beta_norm: 1, likelihood: gaussian, prior: {choice: [standard, vamp]}}"
    assert faults(study(search=search), digits) == []
    (problem,) = faults(study(search=search, conditional="true"), digits)
    assert problem.message.startswith("`vamp` is made of encoded examples without labels")
    assert problem.path == ("search", "prior")


def test_counts_with_and_without_their_total_do_not_compare(counts: Splits) -> None:
    both = "{choice: [poisson, {poisson: {library: none}}]}"
    (problem,) = found(counts, likelihood=both)
    assert "cannot be ranked by `bits_per_dim`" in problem.message
    assert found(counts, likelihood=both, objective="mse") == []
    assert found(counts, likelihood="{poisson: {library: none}}") == []
