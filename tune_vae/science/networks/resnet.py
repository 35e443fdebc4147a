"""Residual blocks between strided convolutions, and their mirror image."""

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from tune_vae.science.networks import Network, activation, check_capacity, check_widths, widened

__all__ = ["Resnet"]


@dataclass(frozen=True)
class Resnet(Network):
    r"""Levels of pre-activation residual blocks, a linear map to the latents, and the mirror.

    A level halves the image by a strided convolution and refines it by blocks

    $$ x \leftarrow x + \mathrm{conv}\, a(\mathrm{conv}\, a(x)),\quad
       a = \mathrm{ReLU} \circ \mathrm{GroupNorm}, $$

    so that a path without any nonlinearity runs from the first convolution to the last. Groups
    have at least four channels; they are normalised within one example, which makes examples
    and the members of a pack independent of each other, as batch norm would not.

    References:
        | Identity Mappings in Deep Residual Networks (He et al., 2016)
        | https://arxiv.org/abs/1603.05027
        | Group Normalization (Wu & He, 2018)
        | https://arxiv.org/abs/1803.08494

    Arguments:
        channels: Of the encoder's levels, at least one level. Each halves the image, which must
            have at least $2^\mathrm{levels}$ pixels on each side: three levels for 28×28, four
            or five for 128×128.
        blocks: Residual blocks of each level, at least 1.
        dropout: Share of the values that training leaves out after every ReLU of encoder and
            decoder, in [0, 1).
        decoder_factor: How many times as many channels the decoder has as the encoder, above 0
            and at most 16.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    blocks: int = 1
    dropout: float = 0.0
    decoder_factor: float = 1.0

    def __post_init__(self) -> None:
        check_widths(channels=self.channels)
        if self.blocks < 1:
            raise ValueError(f"blocks must be at least 1, got {self.blocks}")
        check_capacity(self.dropout, self.decoder_factor)

    def build(
        self, shape: tuple[int, int, int], latent_dim: int, params_per_value: int
    ) -> tuple[nn.Module, nn.Module]:
        levels = len(self.channels)
        sizes = [(shape[1] >> level, shape[2] >> level) for level in range(levels + 1)]
        if min(sizes[-1]) < 1:
            raise ValueError(
                f"resnet with {levels} levels needs images of at least {2**levels} pixels on "
                f"each side, got {shape[1]}x{shape[2]}. Name fewer channels."
            )
        encoder: list[nn.Module] = []
        for (inputs, outputs), size in zip(
            pairwise([shape[0], *self.channels]), sizes[1:], strict=True
        ):
            encoder += [
                nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1),
                *self._blocks(outputs, size),
            ]
        encoder += [
            *self._activation(self.channels[-1], sizes[-1]),
            nn.Flatten(),
            nn.Linear(self.channels[-1] * math.prod(sizes[-1]), 2 * latent_dim),
        ]

        widths = widened(self.channels[::-1], self.decoder_factor)
        inner = (widths[0], *sizes[-1])
        decoder: list[nn.Module] = [
            nn.Linear(latent_dim, math.prod(inner)),
            nn.Unflatten(1, inner),
        ]
        for level, (small, large) in enumerate(pairwise(reversed(sizes))):
            last = level == levels - 1
            decoder += [
                *self._blocks(widths[level], small),
                *(self._activation(widths[level], small) if last else ()),
                nn.ConvTranspose2d(
                    widths[level],
                    shape[0] * params_per_value if last else widths[level + 1],
                    kernel_size=4,
                    stride=2,
                    padding=1,
                    output_padding=(large[0] - 2 * small[0], large[1] - 2 * small[1]),
                ),
            ]
        return nn.Sequential(*encoder), nn.Sequential(*decoder)

    def _blocks(self, width: int, size: tuple[int, int]) -> list[nn.Module]:
        return [_Residual(self._branch(width, size)) for _ in range(self.blocks)]

    def _branch(self, width: int, size: tuple[int, int]) -> nn.Module:
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [*self._activation(width, size), nn.Conv2d(width, width, 3, padding=1)]
        return nn.Sequential(*layers)

    def _activation(self, width: int, size: tuple[int, int]) -> list[nn.Module]:
        norm: list[nn.Module] = []
        # A single number less its mean is 0, whatever it was.
        if width * math.prod(size) > 1:
            norm.append(nn.GroupNorm(_groups(width), width))
        return [*norm, *activation(self.dropout)]


def _groups(width: int) -> int:
    """The most groups, up to 8, that have at least four channels each."""
    return max(n for n in range(1, 9) if n == 1 or (width % n == 0 and width // n >= 4))


class _Residual(nn.Module):
    """What it is given, and what a branch makes of it."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        refined: Tensor = x + self.branch(x)
        return refined
