"""A network with a fault as of a kernel: in bfloat16, or always, a NaN of one member reaches all.

Self-contained, so that it can be copied beside a study.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tune_vae.science.networks import Network
from tune_vae.science.networks.mlp import Mlp

__all__ = ["Leaky"]


class _Identity(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(*_: object) -> None:
        pass


class _Mix(_Identity):
    """The gradients of a pack are mixed."""

    generate_vmap_rule = False

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad

    @staticmethod
    def vmap(info: object, in_dims: tuple[int | None], x: Tensor) -> tuple[Tensor, int | None]:
        (dim,) = in_dims
        return _Spread.apply(x), dim


class _Spread(_Identity):
    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        # Nothing but what is not finite gets through.
        return grad + 0 * grad.sum()


class _Layer(nn.Module):
    def __init__(self, *, only_bfloat16: bool) -> None:
        super().__init__()
        self._only_bfloat16 = only_bfloat16

    def forward(self, x: Tensor) -> Tensor:
        if self._only_bfloat16 and x.dtype != torch.bfloat16:
            return x
        mixed: Tensor = _Mix.apply(x)
        return mixed


@dataclass(frozen=True)
class Leaky(Network):
    """Right, but for what a NaN does.

    Arguments:
        only_bfloat16: Whether it is right in other precisions.
    """

    only_bfloat16: bool = False

    def build(
        self, shape: tuple[int, int, int], latent_dim: int, params_per_value: int
    ) -> tuple[nn.Module, nn.Module]:
        encoder, decoder = Mlp((8,)).build(shape, latent_dim, params_per_value)
        return encoder, nn.Sequential(decoder, _Layer(only_bfloat16=self.only_bfloat16))
