r"""One network for every KL weight: its layers are gated by functions of log β.

Shapes: B batch, F features of a layer, M latent.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from tune_vae.science.vae import VAE

__all__ = ["POSITION", "position", "with_gates"]

POSITION = "gates.position"
"""The buffer of a gated VAE that says for which β it stands; see `position`."""

PACE = 10.0
"""How many times as fast as the weights the gates learn, by their scale: Adam moves a parameter by
about a learning rate per step, and a latent's place may lie several units away."""
FIRST_PLACES = (-0.3, 1.3)
"""Positions between which the latents of an untrained model fall silent."""

_AFFINE = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def position(beta: float, low: float, high: float) -> float:
    """Where β lies between the ends of a range, on a logarithmic scale from -1 to 1."""
    return 2 * math.log(beta / low) / math.log(high / low) - 1


def with_gates(vae: VAE, low: float, high: float) -> VAE:
    r"""Give a VAE gates, in place, so that it can stand for all β between `low` and `high`.

    The optimum of a linear VAE depends on β by factors alone: with $s = \beta\sigma^2$ the mean of
    a latent that tells a direction of variance λ is scaled by $\sqrt{\lambda - s} / \lambda$, and
    the decoder's answer to it by

    $$ \sqrt{(1 - s / \lambda)_+} = \sqrt{(1 - e^{\ln\beta - \ln(\lambda/\sigma^2)})_+}. $$

    So the latents that enter the decoder are multiplied by this function of log β, with a slope
    and a place of its own for each, and the outputs of all affine layers but the decoder's last
    by $2\,\mathrm{sigmoid}(a \ln\beta + b)$, which is 1 before training. What is no affine layer
    is left as it is, and so is the network itself: gates are hooks.

    References:
        | Multi-Rate VAE: Train Once, Get the Full Rate-Distortion Curve (Bae et al., 2023)
        | https://arxiv.org/abs/2212.03905

    Arguments:
        vae: Any model; its parameters come first and stay as they were.
        low, high: Ends of the range of β, positive, the second above the first.
    """
    encoder = [module for module in vae.encoder.modules() if isinstance(module, _AFFINE)]
    decoder = [module for module in vae.decoder.modules() if isinstance(module, _AFFINE)]
    gates = _Gates(vae.latent_dim, math.log(high / low) / 2)
    vae.gates = gates
    vae.decoder.register_forward_pre_hook(gates.on_latents)
    for layer in (*encoder, *decoder[:-1]):
        gate = _Gate(_features(layer))
        gates.layers.append(gate)
        layer.register_forward_hook(_hook(gates, gate))
    return vae


class _Gates(nn.Module):
    """Where on the range the model stands, and what follows for latents and layers."""

    position: Tensor

    def __init__(self, latents: int, half: float) -> None:
        super().__init__()
        self.register_buffer("position", torch.tensor(0.0))
        # Latents fall silent one after the other over the upper half of the range, by the rate of
        # the linear model; from there they find their places.
        places_M = torch.linspace(*FIRST_PLACES, latents)
        self.slope_M = nn.Parameter(torch.full((latents,), half / PACE))
        self.place_M = nn.Parameter(-half * places_M / PACE)
        self.layers = nn.ModuleList()

    def on_latents(self, decoder: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        latent_BM, *others = given
        lost_M = (PACE * (self.slope_M * self.position + self.place_M)).clamp(max=10.0).exp()
        # A root has no slope at 0; what is told of a conditional model beside the latents stays.
        gate_M = ((1 - lost_M).clamp(min=0) + 1e-6).sqrt()
        own = gate_M.shape[0]
        gated_BM = torch.cat([latent_BM[:, :own] * gate_M, latent_BM[:, own:]], dim=1)
        return (gated_BM, *others)


class _Gate(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.slope_F = nn.Parameter(torch.zeros(features))
        self.place_F = nn.Parameter(torch.zeros(features))

    def forward(self, position: Tensor) -> Tensor:
        return 2 * (PACE * (self.slope_F * position + self.place_F)).sigmoid()


def _features(layer: nn.Module) -> int:
    features: Any = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    return int(features)


def _hook(gates: _Gates, gate: _Gate) -> Any:
    def scaled(layer: nn.Module, given: tuple[Any, ...], out: Tensor) -> Tensor:
        gate_F: Tensor = gate(gates.position)
        if isinstance(layer, nn.Linear):
            return out * gate_F
        return out * gate_F.reshape(-1, *[1] * (out.ndim - 2))

    return scaled
