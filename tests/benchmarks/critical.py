"""Critical betas of discretised forms and counts against trainings on either side of them.

python -m tests.benchmarks.critical --counts FOLDER_OF_MOUSE_CELLS
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tune_vae.data import Splits, scale
from tune_vae.data.datasets.digits import Digits
from tune_vae.science.critical_beta import critical_beta
from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.likelihoods.discretized_gaussian import DiscretizedGaussian
from tune_vae.science.likelihoods.discretized_logistic import DiscretizedLogistic
from tune_vae.science.likelihoods.negative_binomial import NegativeBinomial
from tune_vae.science.likelihoods.poisson import Poisson
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.schedules.constant import Constant
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.sigmas.per_gene import PerGene
from tune_vae.science.sigmas.shared import Shared
from tune_vae.training.trainer import Member, Trainer

RATIOS = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.1, 1.3, 1.6, 2.0, 3.0)
"""Of β to the critical one."""
DIGITS: tuple[tuple[Likelihood, Sigma | None], ...] = (
    (DiscretizedGaussian(levels=17), Optimal()),
    (DiscretizedGaussian(levels=17), Shared(start=0.1)),
    (DiscretizedGaussian(levels=17), Fixed(0.2)),
    (DiscretizedLogistic(levels=17), Optimal()),
    (DiscretizedLogistic(levels=17), Shared(start=0.1)),
    (DiscretizedLogistic(levels=17), Fixed(0.2)),
    (DiscretizedGaussian(levels=17, link="identity"), Shared(start=0.1)),
)
COUNTS: tuple[tuple[Likelihood, Sigma | None], ...] = (
    (Poisson(), None),
    (Poisson(library="none"), None),
    (NegativeBinomial(), Shared()),
    (NegativeBinomial(), PerGene()),
    (NegativeBinomial(library="none"), Shared()),
)


def mouse(folder: str, *, cells: int = 2000, genes: int = 300) -> Splits:
    """Every fifth cell, and the genes with the most molecules."""
    stored = np.load(Path(folder) / "X_csr.npz")
    dense = torch.zeros(tuple(stored["shape"]), dtype=torch.int32)
    row = np.repeat(np.arange(len(dense)), np.diff(stored["indptr"]))
    dense[row, stored["indices"]] = torch.from_numpy(stored["data"].astype(np.int32))
    x = dense[::5, dense.sum(0).argsort(descending=True)[:genes]][:cells, None, None]
    return Splits(x[400:], x[:200], x[200:400], levels=None)


def measured(
    data: Splits, likelihood: Likelihood, sigma: Sigma | None, *, epochs: int, seed: int = 0
) -> Iterator[dict[str, object]]:
    """A row for each ratio, all trained in one pack."""
    begin = time.perf_counter()
    point = critical_beta(scale(data.train, data.levels), likelihood, sigma)
    seconds = time.perf_counter() - begin
    row = {
        "decoder": f"{likelihood}·{sigma}",
        "critical": point.beta,
        "seconds": round(seconds, 1),
    }
    if point.beta is None:
        yield row | {"why": point.why}
        return
    common = Member(
        trial=0,
        seed=seed,
        network=Mlp(hidden=(128,)),
        latent_dim=8,
        likelihood=likelihood,
        sigma=sigma,
        schedule=Constant(),
        beta=1.0,
        lr=2e-3,
        weight_decay=0.0,
        grad_clip=math.inf,
        epochs=epochs,
        batch_size=64,
    )
    members = [replace(common, trial=i, beta=r * point.beta) for i, r in enumerate(RATIOS)]
    for reports in Trainer(members, data):
        last = reports
    for ratio, report in zip(RATIOS, last, strict=True):
        yield row | {
            "ratio": ratio,
            "rate_nats": round(report.rate_nats, 4),
            "sigma": round(report.sigma, 3) if math.isfinite(report.sigma) else None,
            "steps": report.step,
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", help="folder of X_csr.npz, 10,000 cells of a mouse")
    folder = parser.parse_args().counts
    torch.set_num_threads(1)
    digits = Digits().load()
    tasks = [(digits, 60, *decoder) for decoder in DIGITS]
    if folder:
        tasks = [(mouse(folder), 16, *decoder) for decoder in COUNTS]
    for data, epochs, likelihood, sigma in tasks:
        for row in measured(data, likelihood, sigma, epochs=epochs):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
