import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from tune_vae.science.elbo import rate_nats
from tune_vae.science.likelihoods.bernoulli import Bernoulli
from tune_vae.science.likelihoods.poisson import Poisson
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.priors.vamp import Vamp
from tune_vae.science.vae import VAE

SHAPE = (1, 2, 3)


def vae(prior: Vamp) -> VAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VAE(
            network=Mlp(hidden=(5,)),
            likelihood=Poisson(),
            sigma=None,
            shape=SHAPE,
            latent_dim=2,
            prior=prior,
        ).double()


def test_prior_is_the_average_posterior_of_the_pseudo_inputs() -> None:
    model = vae(Vamp(components=4))
    inputs = model.prior.inputs()
    # They are what the encoder network sees: logarithms already.
    mean_CM, log_variance_CM = model.encode(inputs.expm1())
    latent = torch.randn(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    each = stats.norm.pdf(
        latent[:, None].numpy(),
        mean_CM.detach().numpy(),
        (0.5 * log_variance_CM).exp().detach().numpy(),
    )
    exact = np.log(each.prod(-1).mean(-1))
    got = model.expected().log_prob(latent).detach().numpy()
    assert got == pytest.approx(exact, rel=1e-9)


def test_one_pseudo_input_has_the_rate_in_closed_form() -> None:
    model = vae(Vamp(components=1))
    terms = model(torch.full((1, *SHAPE), 3.0).double(), torch.ones(1, 2).double())
    exact = rate_nats(terms.mean_BM, terms.log_variance_BM, *model.expected()[:2])
    assert torch.equal(terms.rate_BM, exact)
    assert exact.sum() > 0


def test_example_that_is_the_pseudo_input_costs_nothing() -> None:
    model = vae(Vamp(components=1))
    x = model.prior.inputs().detach().expm1()
    rate_BM = model(x, torch.ones(1, 2).double()).rate_BM
    assert rate_BM.abs().max().item() < 1e-14


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("extreme", [-1e4, 0.0, 1e4])
def test_pseudo_inputs_stay_in_the_range_of_the_data(counts: bool, extreme: float) -> None:
    model = Vamp(components=3).build(SHAPE, 2, counts=counts)
    with torch.no_grad():
        model.free_inputs.add_(extreme)
    inputs = model.inputs()
    assert inputs.shape == (3, *SHAPE)
    assert inputs.isfinite().all()
    assert ((inputs >= 0) & (inputs <= (math.inf if counts else 1))).all()
    if counts and extreme > 0:
        assert inputs.min() > 9e3
    if extreme == 0:
        assert inputs.std() > 0.1


def test_likelihood_says_whether_values_end_at_1() -> None:
    counting = vae(Vamp(components=3))
    grey = VAE(
        network=Mlp(hidden=()),
        likelihood=Bernoulli(),
        sigma=None,
        shape=SHAPE,
        latent_dim=2,
        prior=Vamp(components=3),
    )
    for model in (counting, grey):
        with torch.no_grad():
            model.prior.free_inputs.add_(9.0)
    assert counting.prior.inputs().min() > 3
    assert grey.prior.inputs().max() <= 1


def test_weights_are_equal_unless_they_are_learned() -> None:
    equal, learned = Vamp(components=4), Vamp(components=4, learned_weights=True)
    assert equal.pack_key() != learned.pack_key()
    for prior in (equal, learned):
        model = prior.build(SHAPE, 2)
        weights = model(lambda x: (x[:, 0, :, 0], x[:, 0, :, 0])).log_weight_C.exp()
        assert weights.tolist() == pytest.approx([0.25] * 4)
        assert len(list(model.parameters())) == (2 if prior.learned_weights else 1)


def test_learning_makes_pseudo_inputs_typical_examples() -> None:
    """With the values as latents, examples of two kinds and a component for each."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = Vamp(components=2, learned_weights=True).build((1, 1, 2), 2)

    def encode(features: Tensor) -> tuple[Tensor, Tensor]:
        mean = features.flatten(1)
        return mean, torch.full_like(mean, -5.0)

    x = torch.tensor([[0.2, 0.8]] * 30 + [[0.7, 0.1]] * 10)[:, None, None]
    generator = torch.Generator().manual_seed(0)
    learned, lr = list(model.parameters()), 0.05
    for _ in range(800):
        mean_BM, log_variance_BM = encode(x)
        noise = torch.randn(mean_BM.shape, generator=generator)
        latent_BM = mean_BM + (0.5 * log_variance_BM).exp() * noise
        rate = model(encode).rate_nats(mean_BM, log_variance_BM, latent_BM).sum(1).mean()
        with torch.no_grad():
            for parameter, slope in zip(learned, torch.autograd.grad(rate, learned), strict=True):
                parameter.sub_(lr * slope)
    inputs, weights = model.inputs().flatten(1), model.logits.softmax(0)
    order = inputs[:, 0].argsort()
    assert inputs[order].flatten().tolist() == pytest.approx([0.2, 0.8, 0.7, 0.1], abs=0.02)
    assert weights[order].tolist() == pytest.approx([0.75, 0.25], abs=0.02)
    # All the posterior says is which kind: the entropy of the two shares.
    assert rate.item() == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)), abs=0.05)
