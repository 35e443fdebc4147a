"""What latents tell of classes and factors, against scikit-learn and invented factors.

Shapes: n examples, M latent, F factors.
"""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from tune_vae.science.representation import (
    Disentanglement,
    _ridge_weights,
    _sparse_weights,
    _standardised,
    _with_one,
    dci,
    mutual_information_gap,
    probe_accuracy,
)

HELD_OUT = 400


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def classed(count: int = 1200, latents: int = 6, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Correlated latents of uneven scale and place, and classes that they tell in part."""
    x = normal(count, latents) @ normal(latents, latents, seed=1)
    logits = x @ normal(latents, classes, seed=2) + 2 * normal(count, classes, seed=3)
    scale = 10.0 ** torch.arange(-2, latents - 2).double()
    return x * scale + 3, logits.argmax(1)


def split(*columns: Tensor) -> tuple[Tensor, ...]:
    return tuple(
        part
        for rows in (slice(HELD_OUT, None), slice(HELD_OUT))
        for part in (c[rows] for c in columns)
    )


# Linear probe


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
def test_probe_is_scikit_learns_logistic_regression(strength: float, device: torch.device) -> None:
    x, y, new, new_y = split(*classed())
    scaler = StandardScaler().fit(x.numpy())
    theirs = LogisticRegression(C=strength, max_iter=10_000, tol=1e-10)
    theirs.fit(scaler.transform(x.numpy()), y.numpy())
    found = probe_accuracy(*(t.to(device) for t in (x, y, new, new_y)), strength=strength)
    assert found == theirs.score(scaler.transform(new.numpy()), new_y.numpy())
    assert 0.3 < found < 0.9
    weight = _ridge_weights(_with_one(_standardised(x, new)[0]), y, 5, strength)
    torch.testing.assert_close(weight[:-1].T, torch.from_numpy(theirs.coef_), atol=2e-3, rtol=1e-3)
    bias = torch.from_numpy(theirs.intercept_)
    torch.testing.assert_close(
        weight[-1] - weight[-1].mean(), bias - bias.mean(), atol=2e-3, rtol=0
    )


def test_separable_classes_are_all_told() -> None:
    y = torch.arange(300) % 3
    x = 10.0 * torch.eye(3)[y] + normal(300, 3).float()
    assert probe_accuracy(x[:200], y[:200], x[200:], y[200:]) == 1.0


def test_latents_that_know_nothing_are_right_by_chance() -> None:
    x, y = normal(4000, 8), torch.arange(4000) % 10
    found = probe_accuracy(x[:2000], y[:2000], x[2000:], y[2000:])
    assert abs(found - 0.1) < 4 * math.sqrt(0.09 / 2000)


def test_dead_latents_change_nothing() -> None:
    x, y, new, new_y = split(*classed())
    alive = probe_accuracy(x, y, new, new_y)
    x, new = (torch.cat([t, torch.full_like(t[:, :2], 0.1)], dim=1) for t in (x, new))
    assert probe_accuracy(x, y, new, new_y) == alive
    nothing = probe_accuracy(0 * x, y, 0 * new, new_y)
    assert nothing == (new_y == y.mode().values).double().mean()


def test_a_class_that_training_lacks_is_never_guessed() -> None:
    x, y = torch.eye(3)[torch.arange(90) % 3], torch.arange(90) % 3
    assert probe_accuracy(x, y, torch.eye(3), torch.tensor([0, 1, 3])) == pytest.approx(2 / 3)


def test_probe_of_what_is_not_finite_is_missing() -> None:
    x, y, new, new_y = split(*classed())
    new[0, 0] = math.inf
    assert math.isnan(probe_accuracy(x, y, new, new_y))


def test_a_probe_without_strength_is_refused() -> None:
    with pytest.raises(ValueError, match="strength must be positive, got 0"):
        probe_accuracy(*split(*classed()), strength=0)


def test_probing_imports_no_compiler() -> None:
    """The first step of an optimizer of torch.optim would take seconds."""
    program = """
import sys, torch
from tune_vae.science.representation import probe_accuracy
x, y = torch.randn(50, 3), torch.arange(50) % 2
probe_accuracy(x, y, x, y)
print("torch._dynamo" in sys.modules)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "False"


# Factors


def factors(count: int = 3000, levels: tuple[int, ...] = (3, 5, 8, 4)) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.stack([torch.randint(k, (count,), generator=generator) for k in levels], dim=1)


def noisy(factors_nF: Tensor, sigma: float = 0.05) -> Tensor:
    return factors_nF.double() + sigma * normal(*factors_nF.shape, seed=8)


def hadamard() -> Tensor:
    pair = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / math.sqrt(2)
    return torch.kron(pair, pair)


def measure(latent_nM: Tensor, factors_nF: Tensor) -> Disentanglement:
    return dci(*split(latent_nM, factors_nF))


def test_one_latent_a_factor_is_perfect() -> None:
    v = factors()
    found = measure(noisy(v), v)
    assert found.disentanglement == pytest.approx(1, abs=0.02)
    assert found.completeness == pytest.approx(1, abs=0.02)
    assert found.informativeness > 0.99
    assert mutual_information_gap(noisy(v), v) == pytest.approx(1, abs=0.02)


def test_neither_order_sign_and_scale_of_latents_nor_names_of_levels_count() -> None:
    v = factors()
    generator = torch.Generator().manual_seed(9)
    names = [torch.randperm(8, generator=generator) for _ in range(4)]
    renamed = torch.stack([name[column] for name, column in zip(names, v.T, strict=True)], dim=1)
    z = noisy(renamed)[:, [2, 0, 3, 1]] * torch.tensor([1e-3, -1.0, 50.0, 1.0]) + 7
    found = measure(z, v)
    assert min(found[:3]) > 0.98
    assert mutual_information_gap(z, v) > 0.98
    best_M = found.importance_MF.argmax(1)
    assert best_M.tolist() == [2, 0, 3, 1]


def test_latents_that_hold_each_factor_alike_are_entangled() -> None:
    """A Hadamard rotation of factors that have the same spread."""
    v = factors(levels=(6, 6, 6, 6))
    z = noisy(v) @ hadamard()
    found = measure(z, v)
    assert found.disentanglement < 0.05
    assert found.completeness < 0.05
    assert found.informativeness > 0.98
    assert mutual_information_gap(z, v) < 0.03


@pytest.mark.parametrize("latents", [4, 10])
def test_latents_that_know_nothing_score_nothing(latents: int) -> None:
    v, z = factors(), normal(3000, latents)
    found = measure(z, v)
    assert found.disentanglement == 0
    assert found.completeness == 0
    chance = np.mean([1 / 3, 1 / 5, 1 / 8, 1 / 4])
    assert found.informativeness == pytest.approx(chance, abs=0.04)
    assert mutual_information_gap(z, v) < 0.02


def test_idle_latents_beside_perfect_ones_cost_nothing() -> None:
    v = factors()
    z = torch.cat([noisy(v), normal(3000, 4), torch.zeros(3000, 1)], dim=1)
    found = measure(z, v)
    assert min(found[:3]) > 0.98
    assert mutual_information_gap(z, v) > 0.97


def test_a_factor_in_two_latents_is_incomplete_but_disentangled() -> None:
    v = factors(levels=(6, 6))
    twice = torch.cat([noisy(v), noisy(v) + 0.05 * normal(3000, 2, seed=9)], dim=1)
    found = measure(twice, v)
    assert found.disentanglement > 0.98
    assert found.completeness < 0.8
    assert mutual_information_gap(twice, v) < 0.05


def test_a_latent_that_holds_two_factors_is_complete_but_entangled() -> None:
    """Two coins in one latent, as 0, 1, 2, 3; a second latent holds a third factor."""
    v = factors(levels=(2, 2, 5))
    z = torch.stack([1.0 * v[:, 0] + 1.0 * v[:, 1], v[:, 2].double()], dim=1)
    found = measure(z + 0.01 * normal(3000, 2), v)
    assert found.completeness > 0.98
    shares = found.importance_MF[0] / found.importance_MF[0].sum()
    assert shares.tolist() == pytest.approx([0.5, 0.5, 0], abs=0.05)
    weight = found.importance_MF[0].sum() / found.importance_MF.sum()
    # All of the second latent's part, and 1 - ln 2 / ln 3 of the first's.
    expected = 1 - weight.item() * math.log(2) / math.log(3)
    assert found.disentanglement == pytest.approx(expected, abs=0.01)


def test_sparse_weights_are_scikit_learns() -> None:
    x, y, new, _ = split(*classed(count=900))
    design = _with_one(_standardised(x, new)[0])
    penalty = math.sqrt(math.log(6 * 5) / len(x))
    theirs = LogisticRegression(
        C=1 / (penalty * len(x)), l1_ratio=1, solver="saga", max_iter=20_000, tol=1e-7
    ).fit(design[:, :-1].numpy(), y.numpy())
    weight = _sparse_weights(design, y)
    expected = torch.from_numpy(theirs.coef_).T
    torch.testing.assert_close(weight[:-1], expected, atol=5e-3, rtol=0)
    assert torch.equal(weight[:-1] == 0, expected == 0)
    assert (expected == 0).any()


def test_gap_is_the_difference_of_scikit_learns_informations() -> None:
    v = factors(count=500)
    z = noisy(v, 1.0) @ normal(4, 3, seed=5)
    expected = []
    for factor in v.T.numpy():
        known = []
        for latent in z.T.numpy():
            edges = np.linspace(latent.min(), latent.max(), 21)
            binned = np.digitize(latent, edges[1:-1])
            known.append(mutual_info_score(binned, factor))
        second, first = sorted(known)[-2:]
        expected.append((first - second) / mutual_info_score(factor, factor))
    assert mutual_information_gap(z, v) == pytest.approx(np.mean(expected), rel=1e-9)


def test_levels_that_never_occur_change_no_gap() -> None:
    v = factors()
    assert mutual_information_gap(noisy(v), 5 * v + 2) == pytest.approx(
        mutual_information_gap(noisy(v), v), rel=1e-12
    )


def test_factors_of_what_is_not_finite_are_missing() -> None:
    v = factors(count=1000)
    z = noisy(v)
    z[0, 0] = math.nan
    found = measure(z, v)
    assert all(math.isnan(score) for score in found[:3])
    assert found.importance_MF.isnan().all()
    assert math.isnan(mutual_information_gap(z, v))


def test_a_factor_without_levels_is_named() -> None:
    v = factors()
    v[:, 2] = 1
    for score in (measure, mutual_information_gap):
        with pytest.raises(ValueError, match=r"factors \[2\] are the same for all .* leave them"):
            score(noisy(factors()), v)


def test_too_few_latents_or_factors_are_refused() -> None:
    v = factors()
    with pytest.raises(ValueError, match="at least 2 latents and 2 factors, got 4 and 1"):
        measure(noisy(v), v[:, :1])
    with pytest.raises(ValueError, match="at least 2 latents and 1 factors, got 1 and 4"):
        mutual_information_gap(noisy(v)[:, :1], v)
