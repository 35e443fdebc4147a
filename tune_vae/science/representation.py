r"""What can be read from the latents: classes by a linear map, factors one by one.

Latents are draws from the posteriors, or their means. Means tell classes apart even where their
differences drown in the posterior's noise: of a collapsed model on digits (rate 0.002 nats) the
probe read 80 % from the means and 10 %, which is chance, from draws. So draws say what the model
uses, means what a deterministic encoder could.

Shapes: n examples, M latent, F factors, C classes (or the levels of a factor).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

__all__ = ["Disentanglement", "dci", "mutual_information_gap", "probe_accuracy"]

BINS = 20
"""Equal intervals between the smallest and the largest value of a latent."""

STEPS, TOLERANCE = 1000, 1e-5
"""Passes over the examples that a fit takes at most, and the change of a weight that ends it."""


def probe_accuracy(
    train_nM: Tensor,
    train_labels_n: Tensor,
    held_out_nM: Tensor,
    held_out_labels_n: Tensor,
    *,
    strength: float = 1.0,
) -> float:
    r"""Share of held-out examples whose class a linear probe tells from their latents.

    The probe is multinomial logistic regression on latents that are standardised by the
    training mean and deviation, the minimum of

    $$ \sum_i -\log \mathrm{softmax}(W h_i + b)_{y_i} + \tfrac{1}{2 s} \|W\|^2 $$

    found from W = 0, so that it draws no random numbers.

    References:
        | Understanding intermediate layers using linear classifier probes (Alain & Bengio, 2016)
        | https://arxiv.org/abs/1610.01644
        | Multinomial Logistic Regression Algorithm (Böhning, 1992), for the bound that each step
        | minimises, https://doi.org/10.1007/BF00048682

    Arguments:
        train_nM, train_labels_n: Latents and classes, integers from 0, to fit the probe on.
        held_out_nM, held_out_labels_n: Those to score it on.
        strength: s, positive; the larger, the less the weights are held back.

    Returns:
        In [0, 1]; NaN if a latent is not finite.
    """
    if strength <= 0:
        raise ValueError(f"strength must be positive, got {strength}")
    if not (train_nM.isfinite().all() and held_out_nM.isfinite().all()):
        return math.nan
    train_nM, held_out_nM = _standardised(train_nM, held_out_nM)
    classes = int(max(train_labels_n.max(), held_out_labels_n.max())) + 1
    weight = _ridge_weights(_with_one(train_nM), train_labels_n, classes, strength)
    guess_n = (_with_one(held_out_nM) @ weight).argmax(1)
    return float((guess_n == held_out_labels_n).double().mean())


def mutual_information_gap(latent_nM: Tensor, factors_nF: Tensor) -> float:
    r"""How much more the best latent knows of a factor than the second best.

    $$ \frac1F \sum_f \frac{I(z_{(1)}; v_f) - I(z_{(2)}; v_f)}{H(v_f)} $$

    The latents are cut into 20 equal intervals between their extremes; the informations are
    those of the table of counts. Sampling error lends each pair up to some
    (20 - 1)(C - 1) / 2n nats, so give several thousand examples.

    References:
        | Isolating Sources of Disentanglement in VAEs (Chen et al., 2018)
        | https://arxiv.org/abs/1802.04942

    Arguments:
        latent_nM: Latents, at least 2.
        factors_nF: Generative factors, integers from 0, none the same for all examples.

    Returns:
        In [0, 1]; 1 if each factor is known of exactly one latent, and wholly. NaN if a
        latent is not finite.
    """
    _check(latent_nM, factors_nF, latents=2, factors=1)
    if not latent_nM.isfinite().all():
        return math.nan
    low_M, high_M = latent_nM.aminmax(dim=0)
    place_nM = BINS * (latent_nM - low_M) / (high_M - low_M).clamp(min=1e-30)
    binned_nM = place_nM.long().clamp(max=BINS - 1)
    gaps = []
    for factor_n in factors_nF.T:
        levels = int(factor_n.max()) + 1
        known = torch.stack([_information(binned_n, factor_n, levels) for binned_n in binned_nM.T])
        first, second = known.topk(2).values
        gaps.append((first - second) / _information(factor_n, factor_n, levels))
    return float(torch.stack(gaps).mean())


def _information(a_n: Tensor, b_n: Tensor, b_levels: int) -> Tensor:
    """Mutual information of two columns of small integers, nats; its entropy if both are one."""
    counts = (a_n * b_levels + b_n).bincount(minlength=(int(a_n.max()) + 1) * b_levels)
    joint = counts.double().view(-1, b_levels) / len(a_n)
    independent = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    information: Tensor = torch.special.xlogy(joint, joint / independent.clamp(min=1e-300)).sum()
    return information


class Disentanglement(NamedTuple):
    """How far latents and factors match one to one; each number in [0, 1].

    Attributes:
        disentanglement: 1 if each latent is important for one factor only.
        completeness: 1 if one latent only is important for each factor.
        informativeness: Share of held-out examples whose factor the latents tell, averaged
            over the factors.
        importance_MF: What the first two are computed from: the weights of each latent.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance_MF: Tensor


def dci(
    train_nM: Tensor,
    train_factors_nF: Tensor,
    held_out_nM: Tensor,
    held_out_factors_nF: Tensor,
) -> Disentanglement:
    r"""Disentanglement, completeness and informativeness.

    Each factor is predicted from the standardised latents by multinomial logistic regression
    with an L1 penalty,

    $$ \min_{W, b} \frac1n \sum_i -\log \mathrm{softmax}(W h_i + b)_{v_i} + \lambda \|W\|_1, $$

    with $\lambda = \sqrt{\ln(M C) / n}$, which sampling error seldom reaches, so that latents
    that say nothing get no weight. The importance of a latent for a factor is the sum of its
    absolute weights; informativeness is the `probe_accuracy` of the factor. Where the paper
    uses the lasso on the factor's number, this treats the levels of a factor as classes, so
    that it holds also for factors without an order.

    With the importances as shares, of a latent over the F factors and of a factor over the M
    latents, disentanglement is $\sum_m \rho_m (1 - H_F(P_m))$, where $\rho_m$ is the latent's
    share of all importance, and completeness the mean over the factors of $1 - H_M(P_f)$. A
    factor that no latent knows of counts as 0.

    References:
        | A Framework for the Quantitative Evaluation of Disentangled Representations
        | (Eastwood & Williams, 2018)
        | https://openreview.net/forum?id=By-7dz-AZ

    Arguments:
        train_nM, train_factors_nF: Latents, at least 2, and factors, at least 2, integers from
            0, to fit on.
        held_out_nM, held_out_factors_nF: Those to score the predictions on.

    Returns:
        NaN everywhere if a latent is not finite.
    """
    _check(train_nM, train_factors_nF, latents=2, factors=2)
    latents, factors = train_nM.shape[1], train_factors_nF.shape[1]
    if not (train_nM.isfinite().all() and held_out_nM.isfinite().all()):
        nothing = torch.full((latents, factors), math.nan, dtype=torch.float64)
        return Disentanglement(math.nan, math.nan, math.nan, nothing)
    design = _with_one(_standardised(train_nM, held_out_nM)[0])
    importance_MF = torch.stack(
        [_sparse_weights(design, factor_n)[:-1].abs().sum(1) for factor_n in train_factors_nF.T],
        dim=1,
    )
    accuracy = [
        probe_accuracy(train_nM, factor_n, held_out_nM, other_n)
        for factor_n, other_n in zip(train_factors_nF.T, held_out_factors_nF.T, strict=True)
    ]
    share_M = importance_MF.sum(1) / importance_MF.sum().clamp(min=1e-300)
    return Disentanglement(
        disentanglement=float((share_M * _concentration(importance_MF)).sum()),
        completeness=float(_concentration(importance_MF.T).mean()),
        informativeness=sum(accuracy) / factors,
        importance_MF=importance_MF,
    )


def _concentration(importance: Tensor) -> Tensor:
    """Of each row: 1 if all lies in one column, 0 if it is spread evenly or there is none."""
    total = importance.sum(1, keepdim=True)
    share = importance / total.clamp(min=1e-300)
    entropy = -torch.special.xlogy(share, share).sum(1) / math.log(importance.shape[1])
    return torch.where(total[:, 0] > 0, 1 - entropy, 0.0)


def _ridge_weights(design: Tensor, label_n: Tensor, classes: int, strength: float) -> Tensor:
    """Weights of the L2-penalised regression, the last row the bias."""
    held_back = torch.full_like(design[0], 1 / (strength * len(design)))
    held_back[-1] = 0.0
    # Böhning's bound of the curvature holds everywhere, so that it is factorised only once.
    factor = torch.linalg.cholesky(0.5 * design.T @ design / len(design) + held_back.diag())

    def step(weight: Tensor, slope: Tensor) -> Tensor:
        return weight - torch.cholesky_solve(slope + held_back[:, None] * weight, factor)

    return _descend(design, label_n, classes, step)


def _sparse_weights(design: Tensor, factor_n: Tensor) -> Tensor:
    """Weights of the L1-penalised regression, the last row the bias."""
    levels = int(factor_n.max()) + 1
    penalty = math.sqrt(math.log((design.shape[1] - 1) * levels) / len(design))
    # The cross-entropy's curvature by the logits is at most 1/2.
    curvature: Tensor = 0.5 * torch.linalg.matrix_norm(design.T @ design / len(design), ord=2)
    threshold = torch.full_like(design[0, :, None], penalty) / curvature
    threshold[-1] = 0.0

    def step(weight: Tensor, slope: Tensor) -> Tensor:
        weight = weight - slope / curvature
        return weight.sign() * (weight.abs() - threshold).clamp(min=0)

    return _descend(design, factor_n, levels, step)


def _descend(
    design: Tensor, label_n: Tensor, classes: int, step: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Weights of a multinomial logistic regression, by accelerated steps from 0.

    `torch.optim` would import a compiler at its first step, which takes seconds.

    References:
        | A Fast Iterative Shrinkage-Thresholding Algorithm (Beck & Teboulle, 2009),
        | https://doi.org/10.1137/080716542
        | Adaptive Restart for Accelerated Gradient Schemes (O'Donoghue & Candès, 2015),
        | https://arxiv.org/abs/1204.3982

    Arguments:
        design: Inputs, a row an example.
        label_n: Classes, from 0.
        classes: C.
        step: From weights and the slope of the mean cross-entropy to weights that are no worse.
    """
    target_nC = one_hot(label_n.long(), classes).to(design)
    weight = torch.zeros(design.shape[1], classes).to(design)
    ahead = weight
    momentum = 1.0
    for _ in range(STEPS):
        slope = design.T @ ((design @ ahead).softmax(1) - target_nC) / len(design)
        before, weight = weight, step(ahead, slope)
        move = weight - before
        if move.abs().max() < TOLERANCE:
            break
        if ((ahead - weight) * move).sum() > 0:
            momentum = 1.0
        following = 0.5 + (0.25 + momentum**2) ** 0.5
        ahead = weight + (momentum - 1) / following * move
        momentum = following
    return weight


def _standardised(train_nM: Tensor, held_out_nM: Tensor) -> tuple[Tensor, Tensor]:
    """Both in units of the training latents; a latent that never varies becomes 0."""
    train_nM, held_out_nM = train_nM.double(), held_out_nM.double()
    mean_M, deviation_M = train_nM.mean(0), train_nM.std(0, correction=0)
    constant_M = deviation_M <= 1e-12 * mean_M.abs()
    inverse_M = torch.where(constant_M, 0.0, 1 / deviation_M)
    return (train_nM - mean_M) * inverse_M, (held_out_nM - mean_M) * inverse_M


def _with_one(latent_nM: Tensor) -> Tensor:
    """With a last column for the bias."""
    return torch.cat([latent_nM, torch.ones_like(latent_nM[:, :1])], dim=1)


def _check(latent_nM: Tensor, factors_nF: Tensor, *, latents: int, factors: int) -> None:
    if latent_nM.shape[1] < latents or factors_nF.shape[1] < factors:
        raise ValueError(
            f"needs at least {latents} latents and {factors} factors, got "
            f"{latent_nM.shape[1]} and {factors_nF.shape[1]}"
        )
    constant = [f for f, factor_n in enumerate(factors_nF.T) if (factor_n == factor_n[0]).all()]
    if constant:
        raise ValueError(
            f"factors {constant} are the same for all {len(factors_nF)} examples; leave them out"
        )
