"""Strided convolutions and their mirror image."""

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from tune_vae.science.networks import Network, activation, check_capacity, check_widths, widened

__all__ = ["Conv"]

_KERNELS = {1: 3, 2: 4}
"""By stride; with a padding of 1 they keep the size of an image, or halve it."""


@dataclass(frozen=True)
class Conv(Network):
    r"""Convolutions, a linear map to the latents, and the mirror.

    Any image size is allowed that leaves at least one pixel after the last convolution; odd
    sizes are restored by the padding of the transposed convolutions.

    | the networks of Rybkin et al. (2021)   | arguments                                     |
    |----------------------------------------|-----------------------------------------------|
    | three layers, $28 \to 28 \to 14 \to 7$ | `channels: [32, 64, 128], strides: [1, 2, 2]` |
    | five layers, from 32×32 pixels on      | `channels: [32, 64, 128, 256, 512]`           |

    They have the widths, and the three layers the feature maps, of the authors' code. Kernels
    are 3 at stride 1 and 4 at stride 2; theirs are 3, 4, 5 and in the decoder 6, 6, 5, and they
    have no activation between the linear and the first transposed layer.

    References:
        | Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2021)
        | https://arxiv.org/abs/2006.13202

    Arguments:
        channels: Output channels of the encoder's layers, at least one layer.
        strides: Of these layers, 1 or 2, as many as there are channels. A layer of stride 2
            halves the image; by default all do.
        dropout: Share of the values that training leaves out after every hidden layer of encoder
            and decoder, in [0, 1). Each value of a channel is left out by itself.
        decoder_factor: How many times as many channels the decoder has as the encoder, above 0
            and at most 16.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    strides: tuple[int, ...] = ()
    dropout: float = 0.0
    decoder_factor: float = 1.0

    def __post_init__(self) -> None:
        check_widths(channels=self.channels)
        if self.strides and (
            len(self.strides) != len(self.channels) or not set(self.strides) <= set(_KERNELS)
        ):
            raise ValueError(
                f"strides must be 1 or 2 for each of the {len(self.channels)} channels, got "
                f"{list(self.strides)}"
            )
        check_capacity(self.dropout, self.decoder_factor)

    def build(
        self, shape: tuple[int, int, int], latent_dim: int, params_per_value: int
    ) -> tuple[nn.Module, nn.Module]:
        channels, height, width = shape
        strides = self.strides or (2,) * len(self.channels)
        sizes = [(height, width)]
        for stride in strides:
            height, width = height // stride, width // stride
            sizes.append((height, width))
        if min(sizes[-1]) < 1:
            raise ValueError(
                f"conv with {len(self.channels)} layers needs images of at least "
                f"{math.prod(strides)} pixels on each side, got {shape[1]}x{shape[2]}. "
                "Name fewer channels."
            )
        encoder: list[nn.Module] = []
        for (inputs, outputs), stride in zip(
            pairwise([channels, *self.channels]), strides, strict=True
        ):
            encoder += [
                nn.Conv2d(inputs, outputs, kernel_size=_KERNELS[stride], stride=stride, padding=1),
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
        for (inputs, outputs), (small, large), stride in zip(
            pairwise(widths), pairwise(reversed(sizes)), strides[::-1], strict=True
        ):
            decoder += [
                *activation(self.dropout),
                nn.ConvTranspose2d(
                    inputs,
                    outputs,
                    kernel_size=_KERNELS[stride],
                    stride=stride,
                    padding=1,
                    output_padding=(large[0] - stride * small[0], large[1] - stride * small[1]),
                ),
            ]
        return nn.Sequential(*encoder), nn.Sequential(*decoder)
