"""Dropout: its masks against whole-number arithmetic, and whether they look like chance."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from tune_vae.science.dropout import Dropout

SIGMAS = 4.5
"""How far a statistic of some thousand fixed draws may lie from what chance would give."""


def splitmix64(state: int) -> Iterator[int]:
    """The generator of Steele, Lea & Flood (2014), in whole numbers of any size."""
    mask = 2**64 - 1
    while True:
        state = (state + 0x9E3779B97F4A7C15) & mask
        word = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & mask
        yield word ^ (word >> 31)


def first(count: int, state: int) -> list[int]:
    return list(itertools.islice(splitmix64(state), count))


def made(rate: float, seed: int = 0) -> Dropout:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Dropout(rate)


def dropped(module: Dropout, *shape: int) -> np.ndarray:
    """1 where a value was left out."""
    return (module(torch.ones(shape)) == 0).double().numpy()


def check_uncorrelated(one: np.ndarray, other: np.ndarray, rate: float) -> None:
    covariance = ((one - rate) * (other - rate)).mean()
    assert abs(covariance) < SIGMAS * rate * (1 - rate) / one.size**0.5


def test_reference_is_splitmix64() -> None:
    """The five numbers that are published for the seed 1234567."""
    assert first(5, 1234567) == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("shape", [(1,), (7,), (4, 6), (3, 2, 5, 5)])
def test_each_half_of_a_word_decides_over_a_value(
    rate: float, shape: tuple[int, ...], device: torch.device
) -> None:
    """The same on every device: call c splits off the generator that its hash is the state of."""
    module = made(rate).to(device)
    seed, size = int(module.seed), math.prod(shape)
    half = (size + 1) // 2
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    for state in [(seed + call * 0x9E3779B97F4A7C15 - 0x9E3779B97F4A7C15) for call in range(3)]:
        words = first(half, first(1, state)[0])
        halves = [word >> 32 for word in words] + [word & (2**32 - 1) for word in words]
        # As int64 the upper half of all words lies below 0.
        keep = [((one + 2**31) % 2**32) / 2**32 >= rate for one in halves[:size]]
        expected = x.flatten() / (1 - rate) * torch.tensor(keep, device=device)
        assert torch.equal(module(x), expected.view(shape))


@pytest.mark.parametrize("rate", [1e-3, 0.1, 0.5, 0.9, 0.999])
def test_share_of_values_left_out_is_the_rate(rate: float) -> None:
    module, count = made(rate), 0
    for _ in range(8):
        count += dropped(module, 250, 500).sum()
    assert stats.binomtest(int(count), 10**6, rate).pvalue > 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_what_is_left_is_scaled_so_that_the_mean_stays(dtype: torch.dtype) -> None:
    x = torch.rand(500, 200, generator=torch.Generator().manual_seed(0)).to(dtype) + 1
    out = made(0.25)(x)
    assert out.dtype == dtype
    assert torch.equal(out[out != 0], (x / 0.75)[out != 0])
    assert out.double().mean().item() == pytest.approx(x.double().mean().item(), rel=0.01)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_places_of_a_mask_are_independent(rate: float) -> None:
    size = 2**16
    mask = dropped(made(rate), size)
    # Half a mask apart lie the two halves of one word.
    for lag in [*range(1, 40), 63, 64, 65, 784, size // 4, size // 2, size // 2 + 1]:
        check_uncorrelated(mask, np.roll(mask, lag), rate)


def test_runs_of_eight_places_are_as_frequent_as_by_chance() -> None:
    for stride in (1, 2, 256):
        mask = dropped(made(0.5), stride, 2**19 // stride).T.reshape(-1, 8)
        counts = np.bincount((mask @ 2 ** np.arange(8)).astype(int), minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-4


def test_masks_of_two_calls_are_independent() -> None:
    module = made(0.3)
    masks = [dropped(module, 20_000) for _ in range(20)]
    for one, other in itertools.combinations(masks, 2):
        check_uncorrelated(one, other, 0.3)
        check_uncorrelated(one[1:], other[:-1], 0.3)


def test_every_place_is_left_out_equally_often_over_many_calls() -> None:
    module, calls = made(0.3), 3000
    counts = sum(dropped(module, 400) for _ in range(calls))
    spread = ((counts - 0.3 * calls) ** 2 / (0.3 * 0.7 * calls)).sum()
    assert 1e-4 < stats.chi2.cdf(spread, df=400) < 1 - 1e-4


@pytest.mark.parametrize("step", [1, 2, 2**32, 0x9E3779B97F4A7C15 - 2**64])
def test_masks_of_near_seeds_are_independent(step: int) -> None:
    """Members, layers and calls differ in the seed or in the number of the call."""
    masks = []
    for k in range(10):
        module = made(0.3)
        module.seed.fill_((12345 + k * step + 2**63) % 2**64 - 2**63)
        masks.append(dropped(module, 20_000))
    for one, other in itertools.combinations(masks, 2):
        check_uncorrelated(one, other, 0.3)


def test_seed_comes_from_the_global_generator_and_a_call_leaves_it_alone() -> None:
    assert torch.equal(made(0.5, seed=3).seed, made(0.5, seed=3).seed)
    assert not torch.equal(made(0.5, seed=3).seed, made(0.5, seed=4).seed)
    module = made(0.5)
    before = torch.get_rng_state()
    module(torch.ones(100))
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_passes_everything_and_counts_nothing() -> None:
    module = made(0.9).eval()
    x = torch.ones(100)
    assert module(x) is x
    assert module.calls == 0
    module.train()(x)
    assert module.calls == 1


def test_gradient_passes_where_the_value_does() -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0), requires_grad=True)
    out = made(0.4)(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    kept = out != 0
    torch.testing.assert_close(gradient[kept], torch.full((int(kept.sum()),), 1 / 0.6))
    assert (gradient[~kept] == 0).all()


def test_value_that_is_left_out_cannot_spoil_the_rest() -> None:
    x = torch.full((1000,), torch.nan)
    out = made(0.5)(x)
    assert (out[~out.isnan()] == 0).all()
    assert 400 < out.isnan().sum() < 600


def test_changing_the_precision_of_a_model_leaves_its_masks() -> None:
    plain, double = made(0.5), made(0.5).double()
    assert (double.seed.dtype, double.calls.dtype) == (torch.int64, torch.int64)
    assert np.array_equal(dropped(plain, 100), dropped(double, 100))


def test_state_holds_all_that_the_next_mask_depends_on() -> None:
    module = made(0.5)
    for _ in range(3):
        dropped(module, 100)
    other = made(0.5, seed=99)
    other.load_state_dict(module.state_dict())
    assert np.array_equal(dropped(module, 100), dropped(other, 100))


def test_members_under_vmap_have_the_masks_they_have_alone() -> None:
    """Bit for bit, over several calls, with counters that need not be equal."""
    members = [made(0.5, seed) for seed in range(3)]
    for k, one in enumerate(members):
        one.calls.fill_(10 * k)
    template = made(0.5)
    _, buffers = stack_module_state(members)
    x = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))

    def single(buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(template, buffers, (x,))

    for call in range(1, 4):
        together = vmap(single)(buffers, x)
        for k, one in enumerate(members):
            assert torch.equal(together[k], one(x[k]))
        assert buffers["calls"].tolist() == [call, 10 + call, 20 + call]
    assert len(torch.unique(together == 0, dim=0)) == 3


def test_layers_of_a_network_have_masks_of_their_own() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stack = nn.ModuleList([Dropout(0.5), Dropout(0.5)])
    check_uncorrelated(*(dropped(module, 10_000) for module in stack), 0.5)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, math.nan])
def test_rate_that_leaves_out_nothing_or_everything_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=f"above 0 and below 1, got {rate}"):
        Dropout(rate)
