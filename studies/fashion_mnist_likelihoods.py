"""Which decoder distribution and variance? Every one of them on Fashion-MNIST, in one table.

    uv run python studies/fashion_mnist_likelihoods.py --root data

trains each likelihood × sigma mode at several beta (the same network, steps and seed) and writes
`studies/fashion_mnist_likelihoods.md`. What is done is kept in a file beside it, so that an
interrupted run goes on where it was. About 80 minutes on one CPU core; `--workers` uses more.
"""

import argparse
import json
import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch

from tune_vae.data import Splits
from tune_vae.data.datasets.fashion_mnist import FashionMnist
from tune_vae.science.networks.conv import Conv
from tune_vae.science.schedules.constant import Constant
from tune_vae.spec import components
from tune_vae.training.appraisal import Appraiser
from tune_vae.training.trainer import Member, Trainer, restored_vae

LATENTS, BATCH, STEPS = 20, 64, 859
BETAS = (1.0, 0.1, 0.01, 10.0)
WITHOUT_SCALE = (
    "bernoulli",
    "continuous_bernoulli",
    "logistic_mixture",
    "bitwise_categorical",
    "categorical",
)
WITH_SCALE = (
    "gaussian",
    "laplace",
    "student_t",
    "beta",
    "discretized_gaussian",
    "discretized_logistic",
)
SIGMAS = ("fixed", "shared", "optimal", "per_image", "per_gene", "per_pixel")
NARROW = "shared from 0.1"
"""A mode that is tried with the discretised forms, which do not survive a start at 1."""
INTRODUCTION = f"""\
Made by `uv run python studies/fashion_mnist_likelihoods.py --root data`; the numbers of every
training stand in the `.jsonl` beside it.

Each training is one pass over 55,000 images, {STEPS} steps of {BATCH}, of convolutions with 16, 32
and 64 channels and {LATENTS} latents, by Adam at 1e-3, with one seed; scores are of 5,000
validation images. Every decoder was trained at beta 0.1, 1 and 10, and with sigma fixed at 1 also
at 0.01. Rows are ordered by the calibrated bits per dim, which also choose the best beta. With one
channel `per_channel` is `shared`, and `per_gene_cell` is `per_pixel`.
"""
TABLE = Path(__file__).with_suffix(".md")
CELLS = Path(__file__).with_suffix(".jsonl")


@dataclass(frozen=True)
class Cell:
    """One training."""

    likelihood: str
    sigma: str
    beta: float


def cells() -> Iterator[Cell]:
    """All trainings, in the order in which they are run."""
    for beta in BETAS:
        for likelihood in WITH_SCALE:
            if beta >= 0.1 and likelihood.startswith("discretized"):
                yield Cell(likelihood, NARROW, beta)
            kind = components.find("likelihood", likelihood)
            for sigma in SIGMAS:
                needs = components.find("sigma", sigma).needs_optimal_scale
                # Only a scale of 1, far too wide, asks for so small a beta.
                useful = beta >= 0.1 or sigma == "fixed"
                if useful and (kind.has_optimal_scale or not needs):
                    yield Cell(likelihood, sigma, beta)
        if beta >= 0.1:
            yield from (Cell(likelihood, "", beta) for likelihood in WITHOUT_SCALE)


@cache
def images(root: str) -> Splits:
    torch.set_num_threads(1)
    return FashionMnist(root=root).load()


def train(cell: Cell, root: str) -> dict[str, float]:
    """Scores of one training on validation images, at beta 1."""
    data = images(root)
    likelihood = components.completed("likelihood", cell.likelihood, levels=data.levels)
    sigma = {"shared": {"start": 0.1}} if cell.sigma == NARROW else cell.sigma
    member = Member(
        trial=0,
        seed=0,
        network=Conv(channels=(16, 32, 64)),
        latent_dim=LATENTS,
        likelihood=components.build("likelihood", likelihood),
        sigma=components.build("sigma", sigma) if sigma else None,
        schedule=Constant(),
        beta=cell.beta,
        lr=1e-3,
        weight_decay=0.0,
        grad_clip=math.inf,
        epochs=1,
        batch_size=BATCH,
    )
    trainer = Trainer([member], data)
    ((report,),) = trainer
    vae = restored_vae(member, data.shape, trainer.state(0))
    return {
        "steps": report.step,
        "bits_per_dim": report.bits_per_dim,
        "bits_per_dim_calibrated": report.bits_per_dim_calibrated,
        "rate_nats": report.rate_nats,
        "distortion_nats": report.distortion_nats,
        "active_units": report.active_units,
        "sigma": report.sigma,
        "mse": report.mse,
        "seconds": report.seconds,
    } | Appraiser(data).sample_scores(vae)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default="data", help="folder that holds FashionMNIST/raw")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    lines = CELLS.read_text(encoding="utf-8").splitlines() if CELLS.exists() else []
    done = {tuple(entry["cell"]): entry["scores"] for entry in map(json.loads, lines)}
    todo = [cell for cell in cells() if tuple(asdict(cell).values()) not in done]
    with ProcessPoolExecutor(options.workers) as pool, CELLS.open("a", encoding="utf-8") as file:
        jobs = {pool.submit(train, cell, options.root): cell for cell in todo}
        for job in as_completed(jobs):
            cell, scores = tuple(asdict(jobs[job]).values()), job.result()
            done[cell] = scores
            file.write(json.dumps({"cell": cell, "scores": scores}) + "\n")
            file.flush()
            print(f"{len(done)} {cell} {scores['bits_per_dim_calibrated']:.4f}", flush=True)
    TABLE.write_text(table(done), encoding="utf-8")


def table(done: dict[tuple[str, str, float], dict[str, float]]) -> str:
    """Markdown: every decoder at beta 1, and at the best of all beta."""
    decoders = sorted(
        {(likelihood, sigma) for likelihood, sigma, _ in done},
        key=lambda decoder: _order(done[(*decoder, 1.0)]),
    )
    tuned = {
        decoder: min((cell for cell in done if cell[:2] == decoder), key=lambda c: _order(done[c]))
        for decoder in decoders
    }
    return "\n".join(
        [
            "# Decoders on Fashion-MNIST",
            "",
            INTRODUCTION,
            "## At beta 1",
            "",
            *_rows(decoders, {decoder: (*decoder, 1.0) for decoder in decoders}, done),
            "",
            "## At the best beta of each",
            "",
            *_rows(sorted(decoders, key=lambda d: _order(done[tuned[d]])), tuned, done),
            "",
        ]
    )


def _order(scores: dict[str, float]) -> float:
    bits = scores["bits_per_dim_calibrated"]
    return bits if math.isfinite(bits) else math.inf


def _rows(
    decoders: list[tuple[str, str]],
    chosen: dict[tuple[str, str], tuple[str, str, float]],
    done: dict[tuple[str, str, float], dict[str, float]],
) -> Iterator[str]:
    yield (
        "| likelihood | sigma | beta | bits per dim | calibrated | rate, nats | "
        "distortion, nats | active | sample distance |"
    )
    yield "|---|---|--:|--:|--:|--:|--:|--:|--:|"
    for decoder in decoders:
        scores = done[chosen[decoder]]
        bits = scores["bits_per_dim"]
        numbers = (
            f"{chosen[decoder][2]:g}",
            f"{bits:.3f}" if math.isfinite(bits) else "improper",
            f"{scores['bits_per_dim_calibrated']:.3f}",
            f"{scores['rate_nats']:.3g}",
            f"{scores['distortion_nats']:.5g}",
            f"{scores['active_units']:.0f}",
            f"{scores['sample_distance']:.1f}",
        )
        yield f"| {decoder[0]} | {decoder[1] or '–'} | {' | '.join(numbers)} |"


if __name__ == "__main__":
    main()
