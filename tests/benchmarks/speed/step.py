"""The training step in its forms: images a second of all members, against those of a plain one.

    python -m tests.benchmarks.speed.step                    # a GPU: all; a CPU: a reduced form
    python -m tests.benchmarks.speed.step --networks mlp --members 1 8 --rounds 3

In each round every form takes a few steps, so that all meet the same disturbances; the ratio to
the plain form is of the same round, and medians are shown with their range. *Plain* is one model
of one trial, written as a user of torch would, with `torch.optim.Adam` and a step at a time. The
peak of memory is that of a process of its own for each form. *Isolated* is whether a NaN stays in
its member, *operations* what a step asks of the device, and *products* the matrix products and
convolutions among them. There is no form of a pack that is fused by hand: `vmap` takes as many of
these for a pack as for one trial, each for all members.

What is expected of an H200, from counts of kernels and bytes, for the first run there to refute:
at 32 pixels a graph of a single trial 3 (2 to 4) times plain, a pack of 16 under a graph 6 (2.5 to
9) times, in bfloat16 11 (4 to 16) times, the knee at 8 to 16 members; at 64×64 packs and graphs
1.1 times, bfloat16 1.7 times.
"""

import argparse
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.operations import Operations
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks import Network
from tune_vae.science.networks.conv import Conv
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.vae import VAE
from tune_vae.training.capture import captured
from tune_vae.training.isolation import leaks
from tune_vae.training.lifting import example
from tune_vae.training.memory import is_out_of_memory, make_room
from tune_vae.training.pack import Knobs, Pack, fresh_row

__all__ = ["NETWORKS", "Form", "forms", "measure", "peak_bytes", "rates"]

STEPS, WARM_UP = 10, 3
KNOBS = Knobs(beta=1.0, lr=1e-3, weight_decay=0.0, grad_clip=math.inf)


@dataclass(frozen=True)
class Kind:
    """A network as it is used, with its batch."""

    network: Network
    shape: tuple[int, int, int]
    batch: int = 128
    latents: int = 20

    def model(self, precision: torch.dtype | None = None) -> VAE:
        return VAE(
            network=self.network,
            likelihood=Gaussian(),
            sigma=Fixed(sigma=0.2),
            shape=self.shape,
            latent_dim=self.latents,
            precision=precision,
        )


NETWORKS = {
    "mlp, 8×8": Kind(Mlp((128, 128)), (1, 8, 8), batch=64, latents=8),
    "3 convolutions, 32×32": Kind(Conv((32, 64, 128)), (1, 32, 32)),
    "5 convolutions, 64×64": Kind(Conv((32, 64, 128, 256, 256)), (3, 64, 64)),
}


@dataclass(frozen=True)
class Form:
    """How steps are taken.

    Arguments:
        members: K; 0 for the plain form, or a compiled one.
        graph: Whether recorded as a CUDA graph.
        compiled: Whether the plain form's model is compiled by `torch.compile`.
        precision: Of the networks' products; see `VAE`.
    """

    members: int
    graph: bool = False
    compiled: bool = False
    precision: torch.dtype | None = None

    def __str__(self) -> str:
        if not self.members:
            return "plain, compiled" if self.compiled else "plain"
        words = [f"pack of {self.members}", "graph" if self.graph else ""]
        words.append("bfloat16" if self.precision else "")
        return ", ".join(filter(None, words))


PLAIN = Form(0)


def forms(members: Sequence[int], *, gpu: bool) -> list[Form]:
    """Those that there are on a device."""
    recorded = [Form(k, graph=True) for k in members if gpu]
    rounded = [Form(k, graph=gpu, precision=torch.bfloat16) for k in members]
    return [PLAIN, Form(0, compiled=True), *(Form(k) for k in members), *recorded, *rounded]


def prepared(kind: Kind, form: Form, device: torch.device) -> Callable[[], object]:
    """A step of this form, ready to be taken again and again."""
    torch.manual_seed(0)
    vae = kind.model(form.precision).to(device)
    examples = [example(vae, kind.batch, seed=k) for k in range(max(1, form.members))]
    x_KBCHW, noise_KBM, label_KB = (
        torch.stack(column).to(device) for column in zip(*examples, strict=True)
    )
    if not form.members:
        return _plain(vae, x_KBCHW[0], noise_KBM[0], compiled=form.compiled)
    pack = Pack(vae, [fresh_row(vae)] * form.members, [KNOBS] * form.members)
    given = (x_KBCHW, noise_KBM, torch.ones(form.members, device=device), label_KB)
    step = captured(pack, given) if form.graph else pack.step
    return lambda: step(*given)


def _plain(vae: VAE, x_BCHW: Tensor, noise_BM: Tensor, *, compiled: bool) -> Callable[[], object]:
    optimizer = torch.optim.Adam(vae.parameters(), lr=KNOBS.lr)
    forward = torch.compile(vae) if compiled else vae

    def step() -> None:
        optimizer.zero_grad()
        terms = forward(x_BCHW, noise_BM)
        loss = terms.distortion_B.mean() + terms.rate_BM.sum(1).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), math.inf)
        optimizer.step()

    return step


def rates(kind: Kind, form: Form, step: Callable[[], object], device: torch.device) -> float:
    """Images a second, of all members together."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    wait()
    # On a CPU its own time, which hardly changes when others use the machine as well.
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    begin = clock()
    for _ in range(STEPS):
        step()
    wait()
    return STEPS * kind.batch * max(1, form.members) / (clock() - begin)


def measure(
    kind: Kind, some: Sequence[Form], device: torch.device, *, rounds: int
) -> dict[Form, list[float]]:
    """Images a second of each form in each round, but for forms that do not fit into memory."""
    steps: dict[Form, Callable[[], object]] = {}
    for form in some:
        try:
            steps[form] = prepared(kind, form, device)
            for _ in range(WARM_UP):
                steps[form]()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            steps.pop(form, None)
            make_room()
    told: dict[Form, list[float]] = {form: [] for form in steps}
    for _ in range(rounds):
        for form, step in steps.items():
            told[form].append(rates(kind, form, step, device))
    return told


def peak_bytes(kind: Kind, form: Form, device: torch.device) -> int:
    """Peak memory of a process that takes a few steps, beyond what it took before."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (kind, form, device))


def _peak(kind: Kind, form: Form, device: torch.device) -> int:
    torch.set_num_threads(1)
    # What libraries take for themselves at their first use is not of the form.
    prepared(NETWORKS["mlp, 8×8"], Form(1), device)()
    before = _forget_peak(device)
    step = prepared(kind, form, device)
    for _ in range(WARM_UP):
        step()
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) - before
    return _status_bytes("VmHWM") - before


def operations(kind: Kind, form: Form, device: torch.device) -> Operations | None:
    """What a step asks of the device; None for what is recorded or compiled, which is not seen."""
    if form.graph or form.compiled:
        return None
    step = prepared(kind, form, device)
    step()
    with Operations() as seen:
        step()
    return seen


def _forget_peak(device: torch.device) -> int:
    """Begin to look for the peak anew; what is taken now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_reserved(device)
    Path("/proc/self/clear_refs").write_text("5")
    return _status_bytes("VmRSS")


def _status_bytes(name: str) -> int:
    """A size of this process, of Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return 1024 * int(value)


def table(
    name: str,
    told: dict[Form, list[float]],
    peaks: dict[Form, int],
    isolated: dict[Form, bool],
    asked: dict[Form, Operations | None],
) -> Iterator[str]:
    yield (
        f"| {name} | images a second, all members | times plain | MiB | operations, products "
        "| isolated |"
    )
    yield "|---|--:|--:|--:|--:|---|"
    for form, found in told.items():
        ratios = [one / plain for one, plain in zip(found, told[PLAIN], strict=True)]
        sound = {None: "", True: "yes", False: "**no**"}[isolated.get(form)]
        seen = asked[form]
        counts = f"{seen.all}, {seen.products}" if seen else ""
        yield (
            f"| {form} | {statistics.median(found):,.0f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) | {peaks[form] / 2**20:.0f} "
            f"| {counts} | {sound} |"
        )
    yield ""


def main() -> None:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [1, 2, 4, 8, 16, 32, 64] if gpu else [1, 4, 8, 16]
    parser.add_argument("--members", nargs="+", type=int, default=every)
    parser.add_argument("--networks", nargs="+", choices=[n.partition(",")[0] for n in NETWORKS])
    parser.add_argument("--rounds", type=int, default=7 if gpu else 5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cuda" if gpu else "cpu")
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name() if gpu else 'cpu'}\n")
    for name, kind in NETWORKS.items():
        if options.networks and name.partition(",")[0] not in options.networks:
            continue
        told = measure(kind, forms(options.members, gpu=gpu), device, rounds=options.rounds)
        peaks = {form: peak_bytes(kind, form, device) for form in told}
        isolated = {
            form: not leaks(
                kind.model(form.precision).to(device), size=form.members, batch=kind.batch
            )
            for form in told
            if form.members > 1
        }
        asked = {form: operations(kind, form, device) for form in told}
        print("\n".join(table(name, told, peaks, isolated, asked)), flush=True)


if __name__ == "__main__":
    main()
