"""Dropout whose mask is a pure function of two numbers, so that it can be repeated anywhere."""

import torch
from torch import Tensor, nn

__all__ = ["Dropout"]

BITS = 64


def _signed(word: int) -> int:
    """The int64 of the same 64 bits."""
    return word - (1 << BITS) if word >> (BITS - 1) else word


GAMMA = _signed(0x9E3779B97F4A7C15)
FIRST, SECOND = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


class Dropout(nn.Module):
    r"""Sets each value to 0 with probability p in training, and divides the others by 1 - p.

    `nn.Dropout` draws from one generator for the whole process, which cannot be drawn from under
    `vmap`, and would make a member depend on its neighbours and a resumed run on its past. Here
    the mask is a hash of (seed, number of the call, position), so a member's masks are the same,
    bit for bit, alone and in a pack, on every device, and after resuming from the buffers.

    The hash is SplitMix64: each call splits off a generator of its own, each of whose outputs
    decides over two values, one with each half of its bits.

    References:
        | Dropout: A Simple Way to Prevent Neural Networks from Overfitting (Srivastava et al.,
          2014)
        | https://jmlr.org/papers/v15/srivastava14a.html
        | Fast Splittable Pseudorandom Number Generators (Steele, Lea & Flood, 2014)
        | https://doi.org/10.1145/2660193.2660195

    Arguments:
        rate: p, above 0 and below 1. For 0, use no module.

    Attributes:
        seed: int64, drawn from torch's global generator at the start.
        calls: int64, how often it was applied in training.
    """

    seed: Tensor
    calls: Tensor

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 < rate < 1:
            raise ValueError(f"the rate of dropout must be above 0 and below 1, got {rate}")
        self.rate = rate
        # Of all int64, the share `rate` lies below this.
        self._end = round((rate - 0.5) * 2.0**BITS)
        self.register_buffer("seed", torch.randint(2**63 - 1, ()))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        start = _mixed(self.seed + self.calls * GAMMA)
        self.calls.add_(1)
        counter = torch.arange(1, (x.numel() + 1) // 2 + 1, device=x.device)
        word = _mixed(start + counter * GAMMA)
        # The lower half of each word, brought up to where a comparison looks first.
        noise = torch.cat([word, word << BITS // 2])[: x.numel()].view(x.shape)
        return torch.where(noise < self._end, 0.0, x / (1 - self.rate))

    def extra_repr(self) -> str:
        return f"{self.rate:g}"


def _mixed(word: Tensor) -> Tensor:
    """64 bits that look like noise, from 64 bits that count. Products of int64 wrap around."""
    word = (word ^ _shifted(word, 30)) * FIRST
    word = (word ^ _shifted(word, 27)) * SECOND
    return word ^ _shifted(word, 31)


def _shifted(word: Tensor, places: int) -> Tensor:
    # torch's shift copies the sign into the places that it frees.
    return (word >> places) & ((1 << (BITS - places)) - 1)
