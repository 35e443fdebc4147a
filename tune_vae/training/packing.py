"""How many trials are worth training as one program on a device, found out by a short timing."""

import math
import time

import torch

from tune_vae.science.vae import VAE
from tune_vae.training.capture import captured
from tune_vae.training.lifting import example
from tune_vae.training.memory import is_out_of_memory, make_room
from tune_vae.training.pack import Knobs, Pack, fresh_row

__all__ = ["best_size"]

STEPS, ROUNDS = 5, 5
"""The first round warms up; the fastest counts, because others may use the machine as well."""
GAIN = 1.15
"""Factor in examples a second for which twice as many members are worth it: what they cost beside
is that the sampler knows less when it chooses them."""


def best_size(vae: VAE, batch: int, *, most: int) -> int:
    """1, 2, 4, … members, as long as each doubling gains enough and fits into memory.

    Two that gain too little do not end it: a single trial does without `vmap`, the cost of which
    two members hardly earn.

    Arguments:
        vae: A model, where it is to be trained.
        batch: Examples of a step.
        most: No more than so many.

    Example:
        best_size(build_vae(member, data.shape), member.batch_size, most=16)
    """
    size, rate, tried = 1, 0.0, 1
    while tried <= most:
        try:
            found = _rate(vae, batch, tried)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            make_room()
            break
        if found >= GAIN ** math.log2(tried / size) * rate:
            size, rate = tried, found
        elif tried > 2:
            break
        tried *= 2
    return size


def _rate(vae: VAE, batch: int, size: int) -> float:
    """Examples a second that a pack trains, of all members together."""
    row = fresh_row(vae)
    like = row["theta"]
    knobs = Knobs(beta=1.0, lr=1e-3, weight_decay=0.0, grad_clip=math.inf)
    pack = Pack(vae, [row] * size, [knobs] * size)
    examples = [example(vae, batch, seed=k) for k in range(size)]
    x_KBCHW, noise_KBM, label_KB = (
        torch.stack(column).to(like.device) for column in zip(*examples, strict=True)
    )
    given = (x_KBCHW.to(like.dtype), noise_KBM.to(like.dtype), like.new_ones(size), label_KB)
    step = captured(pack, given)
    gpu = like.device.type == "cuda"
    # Of its own time on a CPU, which others may use as well.
    clock = time.perf_counter if gpu else time.process_time
    seconds = []
    for _ in range(ROUNDS):
        begin = clock()
        for _ in range(STEPS):
            step(*given)
        if gpu:
            torch.cuda.synchronize(like.device)
        seconds.append(clock() - begin)
    return STEPS * batch * size / min(seconds[1:])
