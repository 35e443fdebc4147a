"""Modules as users write them: in front of an encoder, and of networks that hold one."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tune_vae.science.networks import Network
from tune_vae.science.networks.mlp import Mlp

HIDDEN = 16


@dataclass(frozen=True)
class Fronted(Network):
    """A small perceptron with a module of the name given before its encoder."""

    front: str = "Plain"

    def build(
        self, shape: tuple[int, int, int], latent_dim: int, params_per_value: int
    ) -> tuple[nn.Module, nn.Module]:
        encoder, decoder = Mlp(hidden=(HIDDEN,)).build(shape, latent_dim, params_per_value)
        return nn.Sequential(FRONTS[self.front](), encoder), decoder


class RunningMean(nn.Module):
    """Centres by a mean that it keeps of all batches, in a buffer that it changes in place."""

    def __init__(self, *, persistent: bool = True) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()), persistent=persistent)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * x.detach().mean())
        return x - self.mean


class Replaced(RunningMean):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean()
        return x - self.mean


class Unasked(RunningMean):
    """Does not ask whether it is trained."""

    def forward(self, x: Tensor) -> Tensor:
        self.mean.add_(x.detach().mean())
        return x - self.mean


class Loose(nn.Module):
    """A tensor that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.ones(())

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x


class Branching(nn.Module):
    """Looks at values to decide what to do, without telling examples apart."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > -1e9 else -x


class Numbering(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0 * float(x.sum())


class Leaving(nn.Module):
    """Goes through numpy."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.from_numpy(0 * x.detach().cpu().numpy())


class Mixing(nn.Module):
    """Centres by the mean of the batch, in evaluation as well."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean()


class Shaking(nn.Module):
    """Noise in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Infinite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 0


class Steep(nn.Module):
    """Finite, and its slope at 0 is not."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain.abs().sqrt()


class Spare(nn.Module):
    """A parameter that it never uses."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return x


class Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


class Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("the third layer is missing")


FRONTS = {
    "Plain": nn.Identity,
    "BatchNorm": lambda: nn.BatchNorm2d(1),
    "AveragingBatchNorm": lambda: nn.BatchNorm2d(1, momentum=None),
    "Dropout": lambda: nn.Dropout(0.3),
    "Unsaved": lambda: RunningMean(persistent=False),
} | {
    kind.__name__: kind
    for kind in (
        RunningMean, Replaced, Unasked, Loose, Branching, Numbering, Leaving, Mixing, Shaking,
        Infinite, Steep, Spare, Frozen, Failing,
    )
}  # fmt: skip
