"""Products of networks in bfloat16: the same in a pack as alone, and nothing else rounded."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn import functional

from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.conv import Conv
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.precision import Products
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.vae import VAE

LOW = torch.bfloat16


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


PRODUCTS: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "linear": (functional.linear, (drawn(5, 8), drawn(4, 8), drawn(4))),
    "linear, no bias": (functional.linear, (drawn(5, 8), drawn(4, 8))),
    "conv2d": (functional.conv2d, (drawn(5, 2, 8, 8), drawn(4, 2, 3, 3), drawn(4))),
    "conv_transpose2d": (
        functional.conv_transpose2d,
        (drawn(5, 2, 8, 8), drawn(2, 4, 3, 3), drawn(4)),
    ),
    "@": (lambda x, y: x @ y, (drawn(5, 8), drawn(8, 4))),
    "einsum": (lambda x, y: torch.einsum("bi,io->bo", x, y), (drawn(5, 8), drawn(8, 4))),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_product_is_of_rounded_numbers_alone_and_below_vmap(name: str) -> None:
    function, operands = PRODUCTS[name]
    rounded = function(*(x.to(LOW) for x in operands))
    with Products(LOW):
        alone = function(*operands)
        together = vmap(function)(*(torch.stack([x, 2 * x]) for x in operands))
    assert alone.dtype == together.dtype == LOW
    assert torch.equal(alone, rounded)
    torch.testing.assert_close(together[0], rounded, rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize(
    ("function", "dtype"),
    [
        (torch.relu, LOW),
        (lambda x: x.flatten(1), LOW),
        (lambda x: x + 1.0, LOW),
        (lambda x: x + drawn(5, 4), torch.float32),
        (lambda x: functional.layer_norm(x, (4,), torch.ones(4), torch.zeros(4)), torch.float32),
        (lambda x: torch.cat([x, drawn(5, 1)], dim=1), torch.float32),
        (lambda x: drawn(5, 4).add_(x), torch.float32),
        (lambda x: x.index_fill(1, torch.tensor([0]), 0.0), LOW),
    ],
)
def test_what_follows_is_as_precise_as_its_best_operand(
    function: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    with Products(LOW):
        assert function(functional.linear(drawn(5, 8), drawn(4, 8))).dtype == dtype


def test_what_is_written_to_is_no_copy() -> None:
    low, high = drawn(5, 4).to(LOW), drawn(5, 4)
    place = low.data_ptr()
    with Products(LOW):
        low += high
        low[0] = high[0]
        low.mul_(high)
    assert (low.data_ptr(), low.dtype) == (place, LOW)
    assert torch.equal(low[0], (high[0].to(LOW) * high[0]).to(LOW))


class Attending(nn.Module):
    """Composed of functions that call each other, with a weight that stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.GroupNorm(2, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.front(x)[:, None]
        mixed, _ = self.attention(x, x, x)
        out: Tensor = self.norm(mixed[:, 0])
        return out


def test_module_of_many_parts_runs_and_is_about_the_same() -> None:
    torch.manual_seed(0)
    module, x = Attending(), drawn(6, 8)
    with Products(LOW):
        out = module(x)
    torch.testing.assert_close(out, module(x), rtol=0.05, atol=0.05)


def model(precision: torch.dtype | None, **changes: Any) -> VAE:
    torch.manual_seed(0)
    given: dict[str, Any] = {"network": Mlp((32,)), "likelihood": Gaussian(), "sigma": Optimal()}
    return VAE(**(given | changes), shape=(1, 8, 8), latent_dim=4, precision=precision)


@pytest.mark.parametrize("network", [Mlp((32,)), Conv((8, 16))], ids=repr)
def test_terms_of_a_model_are_not_rounded(network: Any) -> None:
    plain, low = (model(precision, network=network) for precision in (None, LOW))
    x, noise = drawn(16, 1, 8, 8).sigmoid(), drawn(16, 4)
    for exact, rounded in zip(plain(x, noise), low(x, noise), strict=True):
        assert rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.05)
    rate = low(x, noise).rate_BM
    assert not torch.equal(rate, plain(x, noise).rate_BM)
    # The rate is computed of what the encoder gives, in full.
    assert not torch.equal(rate, rate.to(LOW).float())


def test_gradients_are_those_of_the_parameters_precision() -> None:
    vae = model(LOW)
    terms = vae(drawn(16, 1, 8, 8).sigmoid(), drawn(16, 4))
    terms.distortion_B.sum().backward()
    assert {parameter.grad.dtype for parameter in vae.parameters() if parameter.grad is not None}
    assert all(
        parameter.grad is not None and parameter.grad.dtype == torch.float32
        for parameter in vae.parameters()
    )
