"""A small valid study, with some of its parts replaced."""

from tune_vae.spec.study import StudySpec

PARTS = {
    "study": "tiny",
    "data": "digits",
    "network": "{mlp: {hidden: [16]}}",
    "latent_dim": "4",
    "search": "{beta_norm: {log_uniform: [1e-3, 10]}, likelihood: gaussian}",
}

WIDE = """\
study: wide
data: {digits: {split_seed: 3}}
network:
  choice:
    - {mlp: {hidden: {choice: [[16], [16, 8]]}}}
    - {conv: {channels: [4, 8]}}
latent_dim: {log_int: [2, 16]}
objective: [rate_nats, mse]
search:
  beta_norm: {log_uniform: [1e-3, 10]}
  schedule:
    choice:
      - constant
      - {linear: {warmup: {uniform: [0.05, 0.5]}}}
      - {linear: {warmup: 1}}
      - {sigmoid: {steepness: {log_uniform: [1, 50]}, warmup: 0.5}}
      - {cyclical: {cycles: {int: [1, 6]}, ramp: {uniform: [0.1, 1]}}}
  likelihood:
    choice: [{gaussian: {link: {choice: [sigmoid, identity]}}}, bernoulli, continuous_bernoulli]
  sigma: {choice: [{fixed: {sigma: 0.1}}, {shared: {start: {uniform: [0.1, 1]}}}, optimal]}
  lr: {choice: [1e-3, {log_uniform: [1e-4, 1e-2]}]}
  weight_decay: {uniform: [0, 0.1]}
  grad_clip: {choice: [.inf, 1, {log_uniform: [0.1, 100]}]}
train: {epochs: 3, batch_size: {choice: [32, 64]}, seed: 5}
"""
"""Everything open that can be, nested in every way there is."""


def text(**parts: str) -> str:
    return "".join(f"{key}: {value}\n" for key, value in (PARTS | parts).items())


def study(**parts: str) -> StudySpec:
    return StudySpec.parse(text(**parts))
