"""A whole step of a pack as one CUDA graph, which the host launches in one go.

A small model leaves a GPU waiting for the host: some hundred kernels of a few microseconds each
are launched one by one. A graph replays them as they were recorded, from the same memory into the
same memory. So inputs are copied to where the recorded step reads them, and the state is written
back to where it was found.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tune_vae.errors import Remark
from tune_vae.training.memory import is_out_of_memory
from tune_vae.training.pack import Pack

__all__ = ["Step", "captured"]

WARM_UP = 3
"""Steps before the recording, in which libraries choose their kernels and take their memory."""

Step = Callable[..., Tensor]
"""`Pack.step`, or what stands for it."""

Record = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""Records a function of no arguments, and gives what replays it; the result is always in the same
place."""


def captured(pack: Pack, example: Sequence[Tensor], record: Record | None = None) -> Step:
    """The pack's step, recorded if it is on a GPU that can, else as it is.

    It holds for this pack as it stands: after `Pack.put` or `Pack.keep` it must be made anew.

    Arguments:
        pack: Its state is the same afterwards, bit for bit.
        example: Arguments of a step; only their shapes count.
        record: By default a CUDA graph for a pack on a GPU.
    """
    if record is None and pack.theta_KP.device.type != "cuda":
        return pack.step
    inputs = [one.clone() for one in example]
    # Places that outlive a step; the pack's own may be shared with who made it.
    pack.adopt([one.clone() for one in pack.tensors()])
    places = pack.tensors()
    before = [one.clone() for one in places]

    def whole() -> Tensor:
        measured = pack.step(*inputs)
        for place, value in zip(places, pack.tensors(), strict=True):
            place.copy_(value)
        pack.adopt(places)
        return measured

    try:
        replay = (record or _cuda_graph)(whole)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        warnings.warn(Remark(f"no CUDA graph of a step, which is slower: {reason}"), stacklevel=2)
        return pack.step
    finally:
        pack.adopt(places)
        for place, value in zip(places, before, strict=True):
            place.copy_(value)

    def step(*given: Tensor) -> Tensor:
        for place, value in zip(inputs, given, strict=True):
            place.copy_(value)
        # The next replay writes to the same place.
        return replay().clone()

    return step


def _cuda_graph(whole: Callable[[], Tensor]) -> Callable[[], Tensor]:
    current = torch.cuda.current_stream()
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(current)
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            whole()
    current.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        measured = whole()

    def replay() -> Tensor:
        graph.replay()
        return measured

    return replay
