"""K models of one graph, stepped as one program; K = 1 is the plain case of the same code.

Shapes: K member of a pack, B batch, P parameters of one member, M latent, C H W image.

A member is a row: its parameters, moments and buffers lie in row k of every tensor here, so
that retiring is one `index_select`, a checkpoint is a row, and finiteness, clipping and Adam
are row-wise. What differs between the members of a pack is data (`Knobs`); what changes the
graph must be equal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from tune_vae.science.vae import VAE, Terms
from tune_vae.training.adam import AdamState, adam_step, fresh_state

__all__ = ["Knobs", "Pack", "Row", "fresh_row"]

Row = dict[str, Any]
"""One member's state: `theta`, `first`, `second` `[P]`, `updates` and `alive` scalars, and
`buffers` by name."""


@dataclass(frozen=True)
class Knobs:
    """What may differ between the members of a pack.

    Arguments:
        beta: Final KL weight β, at least 0.
        lr: Learning rate, positive.
        weight_decay: Decoupled weight decay, at least 0.
        grad_clip: Largest gradient norm; infinity for none.
        free_bits: Rate of each latent that costs nothing, nats, at least 0.
        free_bits_total: Rate of all latents together that costs nothing, nats, at least 0.
        kl_target: Rate to be held, nats; 0 for none.
    """

    beta: float
    lr: float
    weight_decay: float
    grad_clip: float
    free_bits: float = 0.0
    free_bits_total: float = 0.0
    kl_target: float = 0.0


def fresh_row(vae: VAE) -> Row:
    """The state of an untrained member, from the weights and buffers of `vae`."""
    theta = torch.cat([p.detach().reshape(-1) for p in vae.parameters()])
    first, second, updates = fresh_state(theta[None])
    return {
        "theta": theta,
        "first": first[0],
        "second": second[0],
        "updates": updates[0],
        "alive": torch.tensor(True),
        "buffers": {name: value.clone() for name, value in vae.named_buffers()},
    }


class Pack:
    """Rows of parameters with one training step for all of them.

    Arguments:
        template: A model of the common graph; only its structure is used.
        rows: The members' states, from `fresh_row` or `row`.
        knobs: What differs between them, in the same order.
    """

    def __init__(
        self,
        template: VAE,
        rows: Sequence[Row],
        knobs: Sequence[Knobs],
    ) -> None:
        self.template = template
        self.theta_KP = torch.stack([row["theta"] for row in rows])
        self.adam = AdamState(
            torch.stack([row["first"] for row in rows]),
            torch.stack([row["second"] for row in rows]),
            torch.stack([row["updates"] for row in rows]),
        )
        self.alive_K = torch.stack([row["alive"] for row in rows])
        self.buffers = {
            name: torch.stack([row["buffers"][name] for row in rows])
            for name, _ in template.named_buffers()
        }
        self.knobs = tuple(knobs)
        self._layout = [(name, p.shape, p.numel()) for name, p in template.named_parameters()]
        self._knobs_to_device()

    def _knobs_to_device(self) -> None:
        def column(name: str) -> Tensor:
            values = [getattr(knobs, name) for knobs in self.knobs]
            return torch.tensor(values, dtype=self.theta_KP.dtype, device=self.theta_KP.device)

        self._beta_K, self._lr_K = column("beta"), column("lr")
        self._weight_decay_K, self._grad_clip_K = column("weight_decay"), column("grad_clip")
        self._free_K1, self._target_K = column("free_bits")[:, None], column("kl_target")
        self._free_total_K = column("free_bits_total")

    @property
    def size(self) -> int:
        """K."""
        return len(self.theta_KP)

    def step(
        self,
        x_KBCHW: Tensor,
        noise_KBM: Tensor,
        weight_K: Tensor,
        label_KB: Tensor | None = None,
    ) -> Tensor:
        r"""One optimiser step of every member on its own batch.

        The loss is $D + \beta\,c(R)$, all sums over dimensions and means over the batch, with
        the charge c(R) of `_charge`, plainly $w R$. A member whose loss is not finite is dead
        from here on; one whose loss is finite and whose gradient is not leaves out this update
        and lives. Neither touches the others. Nothing is read back to the host.

        Arguments:
            x_KBCHW: Images in [0, 1], or counts.
            noise_KBM: Standard normal noise.
            weight_K: KL weight w of each member at its own step.
            label_KB: Classes of the images, for conditional models.

        Returns:
            `[K, 5]`: rate and distortion in nats, gradient norm before clipping (0 where not
            finite), 1 if the update was left out, 1 if the member is alive.
        """
        self.template.train()
        leaves = self._leaves()
        given = (x_KBCHW, noise_KBM) if label_KB is None else (x_KBCHW, noise_KBM, label_KB)
        terms: Terms = self._lift(VAE.__call__, leaves, *given, in_dims=(0,) * len(given))
        rate_KM = terms.rate_BM.mean(1)
        rate_K = rate_KM.sum(-1)
        distortion_K = terms.distortion_B.mean(-1)
        loss_K = distortion_K + self._beta_K * self._charge(rate_KM, weight_K)
        grads = torch.autograd.grad(loss_K.sum(), list(leaves.values()))
        grad_KP = torch.cat([grad.reshape(self.size, -1) for grad in grads], dim=1)

        norm_K = grad_KP.norm(dim=1)
        grad_finite_K = norm_K.isfinite()
        self.alive_K = self.alive_K & loss_K.detach().isfinite()
        clip_K = (self._grad_clip_K / norm_K).clamp(max=1.0)
        self.theta_KP, self.adam = adam_step(
            self.theta_KP,
            grad_KP * clip_K[:, None],
            self.adam,
            lr_K=self._lr_K,
            weight_decay_K=self._weight_decay_K,
            update_K=self.alive_K & grad_finite_K,
        )
        return torch.stack(
            [
                rate_K.detach(),
                distortion_K.detach(),
                torch.where(grad_finite_K, norm_K, 0.0),
                (~grad_finite_K).to(norm_K.dtype),
                self.alive_K.to(norm_K.dtype),
            ],
            dim=1,
        )

    def _charge(self, rate_KM: Tensor, weight_K: Tensor) -> Tensor:
        r"""What the loss charges for the rate, before β.

        $$ c = w F,\quad F = \max\Bigl(\sum_m \max(R_m, \lambda), \Lambda\Bigr) $$

        with the free bits λ of each latent and Λ of all; or with a target C, towards which the
        schedule leads the rate, $c = |F - w C|$.

        References:
            | Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al.,
              2016), section C.8: free bits
            | https://arxiv.org/abs/1606.04934
            | Understanding disentangling in beta-VAE (Burgess et al., 2018): the target
            | https://arxiv.org/abs/1804.03599
        """
        charged_KM = torch.maximum(rate_KM, self._free_K1)
        charged_K = torch.maximum(charged_KM.sum(-1), self._free_total_K)
        off_target_K = (charged_K - weight_K * self._target_K).abs()
        return torch.where(self._target_K > 0, off_target_K, weight_K * charged_K)

    @torch.no_grad()
    def evaluate(
        self, function: Callable[..., Any], *args: Tensor, in_dims: tuple[int | None, ...]
    ) -> Any:
        """`function(vae, *args)` of every member in evaluation mode, stacked to a leading K.

        Arguments:
            function: A function of one model that returns a tensor or a named tuple of tensors.
            args: Tensors; those whose entry in `in_dims` is 0 have a leading K.
        """
        self.template.eval()
        return self._lift(function, self._leaves(), *args, in_dims=in_dims)

    def _lift(
        self,
        function: Callable[..., Any],
        leaves: dict[str, Tensor],
        *args: Tensor,
        in_dims: tuple[int | None, ...],
    ) -> Any:
        """`function` of one model, applied to all K."""
        module = _Apply(self.template, function)

        def single(state: dict[str, Tensor], *one: Tensor) -> Any:
            return functional_call(module, state, one, tie_weights=False)

        state = {f"vae.{name}": value for name, value in (leaves | self.buffers).items()}
        if self.size > 1:
            return vmap(single, in_dims=(0, *in_dims))(state, *args)
        # The plain case needs no vmap; views, so that buffers are still updated in place.
        out = single(
            {name: value[0] for name, value in state.items()},
            *(arg if dim is None else arg[0] for arg, dim in zip(args, in_dims, strict=True)),
        )
        if isinstance(out, Tensor):
            return out.unsqueeze(0)
        return type(out)(*(value.unsqueeze(0) for value in out))

    def _leaves(self) -> dict[str, Tensor]:
        """Views of the rows in the shapes of the parameters, each a leaf of a new graph."""
        parts = torch.split(self.theta_KP, [size for _, _, size in self._layout], dim=1)
        return {
            name: part.reshape(self.size, *shape).detach().requires_grad_()
            for part, (name, shape, _) in zip(parts, self._layout, strict=True)
        }

    def row(self, k: int) -> Row:
        """A copy of member k's state, on the host."""
        return {
            "theta": self.theta_KP[k].cpu().clone(),
            "first": self.adam.first_KP[k].cpu().clone(),
            "second": self.adam.second_KP[k].cpu().clone(),
            "updates": self.adam.updates_K[k].cpu().clone(),
            "alive": self.alive_K[k].cpu().clone(),
            "buffers": {name: value[k].cpu().clone() for name, value in self.buffers.items()},
        }

    def tensors(self) -> list[Tensor]:
        """All that a step changes, always in the same order; not copies."""
        return [self.theta_KP, *self.adam, self.alive_K, *self.buffers.values()]

    def adopt(self, tensors: Sequence[Tensor]) -> None:
        """Go on with these in the place of `tensors()`."""
        self.theta_KP, *moments, self.alive_K = tensors[:5]
        self.adam = AdamState(*moments)
        self.buffers = dict(zip(self.buffers, tensors[5:], strict=True))

    def put(self, k: int, row: Row, knobs: Knobs) -> None:
        """Give member k another state and other knobs; the others stay as they are."""
        self.theta_KP[k] = row["theta"]
        first, second, updates = self.adam
        first[k], second[k], updates[k] = row["first"], row["second"], row["updates"]
        self.alive_K[k] = row["alive"]
        for name, value in self.buffers.items():
            value[k] = row["buffers"][name]
        self.knobs = (*self.knobs[:k], knobs, *self.knobs[k + 1 :])
        self._knobs_to_device()

    def keep(self, members: Sequence[int]) -> None:
        """Go on with these members only; their rows are bit for bit what they were."""
        index = torch.tensor(list(members), device=self.theta_KP.device)
        self.theta_KP = self.theta_KP[index]
        self.adam = AdamState(*(value[index] for value in self.adam))
        self.alive_K = self.alive_K[index]
        self.buffers = {name: value[index] for name, value in self.buffers.items()}
        self.knobs = tuple(self.knobs[k] for k in members)
        self._knobs_to_device()


class _Apply(nn.Module):
    """A function of a model as a module, so that `functional_call` can replace its state."""

    def __init__(self, vae: VAE, function: Callable[..., Any]) -> None:
        super().__init__()
        self.vae = vae
        self.function = function

    def forward(self, *args: Tensor) -> Any:
        return self.function(self.vae, *args)
