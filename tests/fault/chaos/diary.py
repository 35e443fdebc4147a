"""A network that notes every step that anybody trains, so that work done twice can be counted.

It stands beside the study file, as a user's own network does, and says the truth about what ran,
whatever ledger and checkpoints say.
"""

import os
import uuid
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tune_vae.science.networks import Network
from tune_vae.science.networks.mlp import Mlp

__all__ = ["Entry", "Noted", "read"]


@dataclass(frozen=True)
class Entry:
    """One step of training.

    Arguments:
        trial: A number that is drawn from the trial's seed, the same in each of its attempts.
        life: Whoever trained it, from its first step until it died or ended.
        step: Of the trial, from 1.
    """

    trial: str
    life: str
    step: int


def read(file: str) -> list[Entry]:
    """What was noted, in the order of time."""
    with open(file) as lines:
        words = [line.split() for line in lines]
    return [Entry(trial, life, int(step)) for trial, life, step in words]


class _Diary(nn.Module):
    """Passes on what it is given, and counts in a buffer, which goes into the checkpoint."""

    steps: Tensor
    trial: Tensor

    def __init__(self, file: str) -> None:
        super().__init__()
        self._file, self._life = file, uuid.uuid4().hex[:12]
        self.register_buffer("steps", torch.tensor(0.0))
        self.register_buffer("trial", torch.rand(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.device.type != "meta":
            self.steps.add_(1)
            trials, steps = (_whole(one).reshape(-1).tolist() for one in (self.trial, self.steps))
            # One write for each line: a kill leaves no half of one.
            for trial, step in zip(trials, steps, strict=True):
                _append(self._file, f"{trial:.12f} {self._life} {step:.0f}\n")
        return x


def _append(file: str, line: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def _whole(tensor: Tensor) -> Tensor:
    """What all members of a pack have, where `vmap` shows that of one."""
    while torch._C._functorch.is_batchedtensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


@dataclass(frozen=True)
class Noted(Network):
    """A small network with a diary.

    Arguments:
        file: Where it is written, by all machines.
    """

    file: str

    def build(
        self, shape: tuple[int, int, int], latent_dim: int, params_per_value: int
    ) -> tuple[nn.Module, nn.Module]:
        encoder, decoder = Mlp(hidden=(32,)).build(shape, latent_dim, params_per_value)
        return nn.Sequential(_Diary(self.file), encoder), decoder
