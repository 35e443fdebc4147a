"""Strided convolutions and their mirror image."""

from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from tune_vae.science.networks import Network

__all__ = ["Conv"]


@dataclass(frozen=True)
class Conv(Network):
    """Convolutions of kernel 4 and stride 2, a linear map to the latents, and the mirror.

    Any image size is allowed that leaves at least one pixel after the last convolution; odd
    sizes are restored by the padding of the transposed convolutions.

    Arguments:
        channels: Output channels of the encoder's layers, at least one layer. Each layer halves
            the image.
    """

    channels: tuple[int, ...] = (32, 64, 128)

    def __post_init__(self) -> None:
        if not self.channels or any(width < 1 for width in self.channels):
            raise ValueError(
                f"channels must name at least one positive width, got {list(self.channels)}"
            )

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
        widths = [channels, *self.channels]
        encoder: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            encoder += [nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1), nn.ReLU()]
        inner = (widths[-1], *sizes[-1])
        flat = inner[0] * inner[1] * inner[2]
        encoder += [nn.Flatten(), nn.Linear(flat, 2 * latent_dim)]

        widths[0] = channels * params_per_value
        decoder: list[nn.Module] = [
            nn.Linear(latent_dim, flat),
            nn.ReLU(),
            nn.Unflatten(1, inner),
        ]
        for layer in reversed(range(len(self.channels))):
            (high, wide), (small_high, small_wide) = sizes[layer], sizes[layer + 1]
            decoder += [
                nn.ConvTranspose2d(
                    widths[layer + 1],
                    widths[layer],
                    kernel_size=4,
                    stride=2,
                    padding=1,
                    output_padding=(high - 2 * small_high, wide - 2 * small_wide),
                ),
                nn.ReLU(),
            ]
        return nn.Sequential(*encoder), nn.Sequential(*decoder[:-1])
