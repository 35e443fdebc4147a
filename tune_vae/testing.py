"""What the components of your own must keep, told in plain words.

    from my_nets import WideResNet
    from tune_vae.testing import check_network

    def test_my_network():
        check_network(WideResNet(width=32), shape=(3, 32, 32))

Shapes: B batch, M latent, P parameters per value, C H W image.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from tune_vae.errors import TuneVaeError
from tune_vae.science.likelihoods import Domain
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.likelihoods.poisson import Poisson
from tune_vae.science.networks import Network
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.vae import VAE
from tune_vae.spec import components
from tune_vae.training.lifting import obstacle

__all__ = ["NetworkFault", "check_network"]

BATCH = 6


class NetworkFault(TuneVaeError, AssertionError):
    """A network that does not keep the contract; the message has a line for each fault."""


def check_network(
    network: Network | type[Network],
    *,
    shape: tuple[int, int, int] = (1, 28, 28),
    latent_dim: int = 4,
    params_per_value: int = 2,
) -> list[str]:
    """Build a network of your own, run it on noise, and say what is wrong with it.

    Arguments:
        network: The class, if all its arguments have defaults, or an instance.
        shape: C, H, W of the images it is meant for.
        latent_dim: M.
        params_per_value: P. Likelihoods ask for one number to some hundred a value, so a decoder
            must not count on one.

    Returns:
        Remarks on what works and yet is good to know: that the network must be trained with
        `pack: 1`, and why; that examples of a batch see each other in training.

    Raises:
        NetworkFault: Something must be mended before it can be trained.

    Example:
        >>> from tune_vae.science.networks.mlp import Mlp
        >>> check_network(Mlp(hidden=(16,)), shape=(1, 8, 8))
        []
    """
    made = _declared(network)
    # What it is tried with must be the same each time.
    with torch.random.fork_rng(devices=[]):
        trial = _Trial(made, shape, latent_dim, params_per_value)
        trial.run()
    if trial.faults:
        raise NetworkFault(_listed(type(made).__name__, trial.faults))
    return trial.remarks


def _listed(name: str, faults: list[str]) -> str:
    return "\n".join([f"{name} cannot be trained:", *(f"- {fault}" for fault in faults)])


def _declared(network: object) -> Network:
    """An instance, if it is what a study file can name."""
    kind = network if isinstance(network, type) else type(network)

    def refuse(fault: str) -> NetworkFault:
        return NetworkFault(_listed(kind.__name__, [fault]))

    if not issubclass(kind, Network):
        raise refuse(
            "it is not below `tune_vae.science.networks.Network`. Write a class of arguments, "
            "`class MyNet(Network)`, whose `build` returns your encoder and decoder modules"
        )
    made = getattr(kind, "__dataclass_params__", None)
    if not (made and made.frozen):
        raise refuse("it is not a frozen dataclass: write `@dataclass(frozen=True)` above it")
    if inspect.isabstract(kind):
        raise refuse(f"it lacks {', '.join(sorted(kind.__abstractmethods__))}")
    if isinstance(network, type):
        try:
            network = kind()
        except TypeError as error:
            raise refuse(f"{error}; give an instance, `{kind.__name__}(…)`") from None
    assert isinstance(network, Network)
    try:
        hash(network)
    except TypeError:
        raise refuse(
            "one of its arguments cannot be compared: write `tuple[int, ...]` instead of `list`"
        ) from None
    try:
        components.typed(kind, dataclasses.asdict(network))  # type: ignore[call-overload]
    except TypeError as error:
        raise refuse(f"a study file cannot give its arguments: {error}") from None
    except ValidationError as error:
        problem = components.problems_of(error, (kind.__name__,), [])[0]
        raise refuse(f"a study file cannot give its arguments: {problem.message}") from None
    return network


@dataclasses.dataclass
class _Trial:
    """One network on noise, and what was found."""

    network: Network
    shape: tuple[int, int, int]
    latent_dim: int
    params_per_value: int
    faults: list[str] = dataclasses.field(default_factory=list)
    remarks: list[str] = dataclasses.field(default_factory=list)

    def run(self) -> None:
        try:
            encoder, decoder = self._build()
            again = self._build()
        except Exception as error:  # noqa: BLE001  a user's code may raise anything
            size = "×".join(map(str, self.shape))
            self.faults.append(f"it cannot be built for images of {size}: {_told(error)}")
            return
        if not torch.equal(_weights(encoder, decoder), _weights(*again)):
            self.faults.append(
                "built twice with one seed it has different weights: draw them with torch, after "
                "no seed of your own"
            )
        values = math.prod(self.shape) * self.params_per_value
        images = torch.rand(BATCH, *self.shape)
        if self.network.domains == {Domain.COUNTS}:
            images = (9 * images).floor().log1p()
        self._try_part("encoder", encoder, images, self._encoder_shape)
        latents = torch.randn(BATCH, self.latent_dim)
        self._try_part("decoder", decoder, latents, lambda out: self._decoder_shape(out, values))
        if not self.faults:
            self._try_pack()

    def _build(self) -> tuple[nn.Module, nn.Module]:
        torch.manual_seed(0)
        encoder, decoder = self.network.build(self.shape, self.latent_dim, self.params_per_value)
        for part in (encoder, decoder):
            if not isinstance(part, nn.Module):
                raise TypeError(
                    f"`build` must return two modules of torch, and one is {part!r:.60}"
                )
        return encoder, decoder

    def _encoder_shape(self, out: Tensor) -> str:
        wanted = [BATCH, 2 * self.latent_dim]
        if list(out.shape) == wanted:
            return ""
        return (
            f"{wanted}: for each example the means of {self.latent_dim} latents, then the "
            "logarithms of their variances"
        )

    def _decoder_shape(self, out: Tensor, values: int) -> str:
        if len(out) == BATCH and out.numel() == BATCH * values:
            return ""
        per_value = f"{self.params_per_value} for each of {math.prod(self.shape)} values"
        return f"[{BATCH}, {values}], or what flattens to it: {per_value}, all first ones first"

    def _try_part(
        self, name: str, part: nn.Module, given: Tensor, wrong_shape: Callable[[Tensor], str]
    ) -> None:
        def fault(text: str) -> None:
            self.faults.append(f"the {name} {text}")

        for owner, attribute in _loose_tensors(part):
            fault(
                f"keeps the tensor `{attribute}` of {owner} to itself, where no checkpoint and "
                f"no GPU finds it: `self.register_buffer('{attribute}', …)`"
            )
        try:
            out = part.train()(given)
        except Exception as error:  # noqa: BLE001
            fault(f"fails on {list(given.shape)}: {_told(error)}")
            return
        if not isinstance(out, Tensor):
            fault(f"must return one tensor, and returns {type(out).__name__}")
            return
        wanted = wrong_shape(out)
        if wanted:
            fault(f"makes {list(out.shape)} of {list(given.shape)}; it must be {wanted}")
            return
        if not out.isfinite().all():
            fault("returns what is not finite, for ordinary noise and first weights")
            return
        self._try_gradient(out, part, fault)
        self._try_state(name, part, given, fault)
        self._try_evaluation(part.eval(), given, fault)

    def _try_gradient(self, out: Tensor, part: nn.Module, fault: Callable[[str], None]) -> None:
        named = [(name, p) for name, p in part.named_parameters() if p.requires_grad]
        frozen = [name for name, p in part.named_parameters() if not p.requires_grad]
        if frozen:
            fault(
                f"has parameters without `requires_grad` ({_some(frozen)}), and all are trained: "
                "make them buffers"
            )
        if not out.requires_grad:
            fault("cannot be differentiated: it detaches its result, or has no parameters")
            return
        weights = torch.randn(out.shape)
        grads = torch.autograd.grad(
            (out * weights).sum(), [p for _, p in named], allow_unused=True
        )
        unused = [name for (name, _), grad in zip(named, grads, strict=True) if grad is None]
        if unused:
            fault(
                f"does not use {_some(unused)}; training stops at parameters without a gradient, "
                "so leave them out"
            )
        if not all(grad.isfinite().all() for grad in grads if grad is not None):
            fault("has a gradient that is not finite at its first weights")

    def _try_state(
        self, name: str, part: nn.Module, given: Tensor, fault: Callable[[str], None]
    ) -> None:
        """What a step of training leaves behind, and what it is drawn from."""
        before = {key: value.clone() for key, value in part.named_buffers()}
        places = {key: value for key, value in part.named_buffers()}

        def outcome(seed: int) -> Tensor:
            for key, value in part.named_buffers():
                value.copy_(before[key])
            torch.manual_seed(seed)
            return _result(part, given)

        one, other = outcome(1), outcome(2)
        replaced = [key for key, value in part.named_buffers() if value is not places[key]]
        if replaced:
            fault(
                f"puts new tensors in the place of {_some(replaced)}, and training loses them: "
                "change buffers in place, `self.x.copy_(…)`"
            )
        if not torch.equal(one, other):
            self.remarks.append(
                f"the {name} draws from torch's global generator (`nn.Dropout`?): its trainings "
                "cannot be repeated; `tune_vae.science.dropout.Dropout` draws from the trial's "
                "seed"
            )
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in part.modules()):
            self.remarks.append(
                f"the {name} has a batch norm, by which examples of a batch see each other in "
                "training and not in evaluation; `nn.GroupNorm` or `nn.LayerNorm` do without"
            )

    def _try_evaluation(
        self, part: nn.Module, given: Tensor, fault: Callable[[str], None]
    ) -> None:
        before = {key: value.clone() for key, value in part.named_buffers()}
        try:
            whole, again, one = (_result(part, x) for x in (given, given, given[:1]))
        except Exception as error:  # noqa: BLE001
            fault(f"fails in evaluation, or on a single example: {_told(error)}")
            return
        if not torch.equal(whole, again):
            fault("answers differently each time in evaluation: ask `self.training` first")
        elif not torch.allclose(whole[0].flatten(), one.flatten(), rtol=1e-3, atol=1e-4):
            fault("mixes the examples of a batch in evaluation; look at what it reshapes")
        if any(not torch.equal(value, before[key]) for key, value in part.named_buffers()):
            fault("changes its buffers in evaluation: ask `self.training` first")

    def _try_pack(self) -> None:
        vae = VAE(
            network=self.network,
            likelihood=Poisson() if self.network.domains == {Domain.COUNTS} else Gaussian(),
            sigma=Fixed(),
            shape=self.shape,
            latent_dim=self.latent_dim,
        )
        reason = obstacle(vae)
        if reason:
            self.remarks.append(
                f"`vmap` cannot lift it, so train it with `pack: 1`, one trial at a time: {reason}"
            )


def _told(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@torch.no_grad()
def _result(part: nn.Module, given: Tensor) -> Tensor:
    result: Tensor = part(given)
    return result


def _weights(encoder: nn.Module, decoder: nn.Module) -> Tensor:
    parameters = [*encoder.parameters(), *decoder.parameters()]
    return torch.cat([torch.zeros(1), *(p.detach().reshape(-1) for p in parameters)])


def _some(names: Sequence[str]) -> str:
    """A few names, and how many more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"`{name}`" for name in names[:3]) + more


def _loose_tensors(part: nn.Module) -> Iterator[tuple[str, str]]:
    """Tensors that a module holds as plain attributes: whose, and under which name."""
    for module in part.modules():
        for attribute, value in vars(module).items():
            if isinstance(value, Tensor):
                yield type(module).__name__, attribute
