"""Strided convolutions and their mirror image."""

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from tune_vae.science.networks import Network, activation, check_capacity, widened

__all__ = ["Conv"]


@dataclass(frozen=True)
class Conv(Network):
    """Convolutions of kernel 4 and stride 2, a linear map to the latents, and the mirror.

    Any image size is allowed that leaves at least one pixel after the last convolution; odd
    sizes are restored by the padding of the transposed convolutions.

    Arguments:
        channels: Output channels of the encoder's layers, at least one layer. Each layer halves
            the image.
        dropout: Share of the values that training leaves out after every hidden layer of encoder
            and decoder, in [0, 1). Each value of a channel is left out by itself.
        decoder_factor: How many times as many channels the decoder has as the encoder, above 0
            and at most 16.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    dropout: float = 0.0
    decoder_factor: float = 1.0

    def __post_init__(self) -> None:
        if not self.channels or any(width < 1 for width in self.channels):
            raise ValueError(
                f"channels must name at least one positive width, got {list(self.channels)}"
            )
        check_capacity(self.dropout, self.decoder_factor)

    def build(
        self, shape: tuple[int, int, int], latent_dim: int, params_per_value: int
    ) -> tuple[nn.Module, nn.Module]:
        channels, height, width = shape
        sizes = [(height, width)]
        for _ in self.channels:
            height, width = height // 2, width // 2
            sizes.append((height, width))
        if min(sizes[-1]) < 1:
            raise ValueError(
                f"conv with {len(self.channels)} layers needs images of at least "
                f"{2 ** len(self.channels)} pixels on each side, got {shape[1]}x{shape[2]}. "
                "Name fewer channels."
            )
        encoder: list[nn.Module] = []
        for inputs, outputs in pairwise([channels, *self.channels]):
            encoder += [
                nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1),
                *activation(self.dropout),
            ]
        flat = self.channels[-1] * math.prod(sizes[-1])
        encoder += [nn.Flatten(), nn.Linear(flat, 2 * latent_dim)]

        widths = widened(self.channels[::-1], self.decoder_factor)
        inner = (widths[0], *sizes[-1])
        decoder: list[nn.Module] = [
            nn.Linear(latent_dim, math.prod(inner)),
            nn.Unflatten(1, inner),
        ]
        widths.append(channels * params_per_value)
        for (inputs, outputs), (small, large) in zip(
            pairwise(widths), pairwise(reversed(sizes)), strict=True
        ):
            decoder += [
                *activation(self.dropout),
                nn.ConvTranspose2d(
                    inputs,
                    outputs,
                    kernel_size=4,
                    stride=2,
                    padding=1,
                    output_padding=(large[0] - 2 * small[0], large[1] - 2 * small[1]),
                ),
            ]
        return nn.Sequential(*encoder), nn.Sequential(*decoder)
