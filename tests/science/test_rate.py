"""The rate against sampling."""

import torch
from torch.distributions import Normal

from tune_vae.science.elbo import rate_nats


def test_rate_is_the_mean_log_ratio_of_posterior_and_prior(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    mean_M = torch.tensor([0.0, 0.5, -2.0, 1.0], dtype=torch.float64, device=device)
    log_variance_M = torch.tensor([0.0, -1.0, 0.7, -5.0], dtype=torch.float64, device=device)
    noise = torch.randn(200_000, 4, generator=generator, dtype=torch.float64).to(device)
    posterior = Normal(mean_M, (0.5 * log_variance_M).exp())
    sample = posterior.mean + posterior.stddev * noise
    ratio = posterior.log_prob(sample) - Normal(0.0, 1.0).log_prob(sample)
    error_M = ratio.std(0) / len(ratio) ** 0.5
    exact_M = rate_nats(mean_M, log_variance_M)
    assert ((ratio.mean(0) - exact_M).abs() <= 4 * error_M + 1e-12).all()
