"""One scout against plain trials on Fashion-MNIST: its time, and its error along the curve.

A plain trial is a training with one β, with the same network, seed, epochs and learning rate. All
are timed one after the other in one process of one thread.

python -m tests.benchmarks.scout --root FOLDER_OF_FASHION_MNIST
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version

import torch

from tests.benchmarks.verdicts.make_histories import fashion_mnist
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks.conv import Conv
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.schedules.constant import Constant
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.sigmas.per_pixel import PerPixel
from tune_vae.training.scout import Sighting, scout
from tune_vae.training.trainer import Member, Trainer

IMAGES, VALIDATION = 6000, 1000
LOW, HIGH = 0.03, 700.0
PLACES = (0, 2, 4, 6, 8, 10, 12)
"""Of the scout's points, where a plain trial is trained: seven of thirteen."""

CASES = {
    "mlp gaussian·optimal": (Mlp(hidden=(256, 256)), Gaussian(), Optimal()),
    "mlp gaussian·per_pixel": (Mlp(hidden=(256, 256)), Gaussian(), PerPixel(start=0.3)),
    "conv gaussian·optimal": (Conv(channels=(8, 16)), Gaussian(), Optimal()),
}


def member(case: str, epochs: int) -> Member:
    network, likelihood, sigma = CASES[case]
    return Member(
        trial=0,
        seed=0,
        network=network,
        latent_dim=20,
        likelihood=likelihood,
        sigma=sigma,
        schedule=Constant(),
        beta=1.0,
        lr=1e-3,
        weight_decay=0.0,
        grad_clip=math.inf,
        epochs=epochs,
        batch_size=128,
    )


def compared(case: str, root: str, epochs: int) -> Iterator[dict[str, object]]:
    data = fashion_mnist(root).first(IMAGES, VALIDATION, 100)
    one = member(case, epochs)
    begin = time.process_time()
    curve, _ = scout(one, data, LOW, HIGH)
    seconds = time.process_time() - begin
    yield {"case": case, "epochs": epochs, "scout_seconds": round(seconds, 1)}
    for place in PLACES:
        seen = curve[place]
        begin = time.process_time()
        for (report,) in Trainer([replace(one, beta=seen.beta)], data):
            last = report
        yield {
            "case": case,
            "beta": round(seen.beta, 4),
            "trial_seconds": round(time.process_time() - begin, 1),
            **_pair("rate_nats", seen, last.rate_nats),
            **_pair("mse", seen, last.mse),
            **_pair("bits_per_dim", seen, last.bits_per_dim),
            **_pair("bits_per_dim_calibrated", seen, last.bits_per_dim_calibrated),
        }


def _pair(name: str, seen: Sighting, trial: float) -> dict[str, object]:
    return {name: [round(getattr(seen, name), 4), round(trial, 4)]}


def table(rows: list[dict[str, object]]) -> Iterator[str]:
    """Lines of Markdown."""
    head, *trials = rows
    seconds = [float(row["trial_seconds"]) for row in trials]
    mean = sum(seconds) / len(seconds)
    ratio = float(head["scout_seconds"]) / mean
    yield f"{head['case']}, {head['epochs']} epochs: scout {head['scout_seconds']} s of CPU, "
    yield f"a trial {mean:.1f} s on average; ratio {ratio:.2f}"
    yield ""
    yield "| beta | rate, nats | squared error | bits per dim | calibrated |"
    yield "|--:|--:|--:|--:|--:|"
    for row in trials:
        cells = " | ".join(
            f"{row[name][0]:.{digits}f} / {row[name][1]:.{digits}f}"
            for name, digits in (
                ("rate_nats", 2),
                ("mse", 4),
                ("bits_per_dim", 3),
                ("bits_per_dim_calibrated", 3),
            )
        )
        yield f"| {row['beta']:.3g} | {cells} |"
    errors = [abs(row["bits_per_dim"][0] - row["bits_per_dim"][1]) for row in trials]
    yield ""
    yield f"Error of bits per dim: mean {sum(errors) / len(errors):.3f}, largest {max(errors):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of the files of Fashion-MNIST")
    parser.add_argument("--case", choices=CASES, default=next(iter(CASES)))
    parser.add_argument("--epochs", type=int, default=12)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {version('torch')}, one thread")
    rows = []
    for row in compared(given.case, given.root, given.epochs):
        print(json.dumps(row), flush=True)
        rows.append(row)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
