"""The forecast against trainings on a grid: 12 betas × 3 sigma modes × 2 networks × 2 data sets.

Constant schedule, learning rate 2e-3, one seed; what contradicts the forecast is trained again for
four times as many steps. What was run stays in `forecast_grid.jsonl`, so that a run goes on with
what is missing; without --run the table is made of what is there.

python -m tests.benchmarks.forecast_grid --root FOLDER_OF_FASHION_MNIST [--run]
"""

import argparse
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.forecast import COURSE, DEAD_NATS, Known, spread
from tests.benchmarks.verdicts.make_histories import fashion_mnist
from tune_vae.data import Splits
from tune_vae.data.datasets.digits import Digits
from tune_vae.science.forecast import LinearForecast
from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.networks import Network
from tune_vae.science.networks.conv import Conv
from tune_vae.science.networks.mlp import Mlp
from tune_vae.science.schedules.constant import Constant
from tune_vae.science.sigmas import Sigma
from tune_vae.science.sigmas.fixed import Fixed
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.science.sigmas.shared import Shared
from tune_vae.training.trainer import Member, Trainer

ROWS = Path(__file__).with_suffix(".jsonl")
FACTOR = 1.5
"""In β, by which the forecast may be wrong."""
RATIOS = (0.002, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0, 1.25, 1.6)
"""Of β to the collapse point."""
SIGMAS: dict[str, Sigma] = {
    "fixed": Fixed(0.2),
    "shared": Shared(start=0.3),
    "optimal": Optimal(),
}
NETWORKS: dict[str, dict[str, Network]] = {
    "digits": {"mlp": Mlp(hidden=(128,)), "conv": Conv(channels=(16, 32))},
    "fashion": {"mlp": Mlp(hidden=(256,)), "conv": Conv(channels=(8, 16))},
}
LATENTS, EPOCHS = {"digits": 8, "fashion": 20}, {"digits": 40, "fashion": 10}
LONGER = 4
"""Times as many epochs, for what contradicts the forecast."""
IMAGES = 4000
"""Of Fashion-MNIST, and 1,000 to validate."""

Row = dict[str, Any]


def trained(
    name: str,
    data: Splits,
    network: str,
    sigma: str,
    ratios: Sequence[float] = RATIOS,
    times: int = 1,
) -> Iterator[Row]:
    """All ratios as one pack, with their forecast; for so many times the usual epochs."""
    known, latents, scale = Known.of(data), LATENTS[name], SIGMAS[sigma]
    point = known.points.beta(Gaussian(), scale)
    assert point
    linear = LinearForecast(known.spectrum, latents, known.levels, known.edge)
    common = Member(
        trial=0,
        seed=0,
        network=NETWORKS[name][network],
        latent_dim=latents,
        likelihood=Gaussian(),
        sigma=scale,
        schedule=Constant(),
        beta=1.0,
        lr=2e-3,
        weight_decay=0.0,
        grad_clip=math.inf,
        epochs=times * EPOCHS[name],
        batch_size=64,
    )
    members = [replace(common, trial=i, beta=r * point) for i, r in enumerate(ratios)]
    for reports in Trainer(members, data):
        last = reports
    for ratio, member, report in zip(ratios, members, last, strict=True):
        foreseen = linear.at(member.beta, scale.sigma if isinstance(scale, Fixed) else None)
        yield {
            "data": name,
            "network": network,
            "sigma": sigma,
            "ratio": ratio,
            "times": times,
            "steps": report.step,
            "rate": [report.rate_nats, foreseen.rate_nats],
            "mse": [report.mse, foreseen.squared_error / data.values],
            "bits": [report.bits_per_dim_calibrated, foreseen.bits_per_dim],
            "scale": [report.sigma, foreseen.sigma],
        }


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Lines of Markdown: measured over forecast, by data, network and sigma mode."""
    yield (
        "| data | network | sigma | trainings | rate | squared error "
        "| bits per dim, less forecast | last alive | first dead |"
    )
    yield "|---|---|---|--:|--:|--:|--:|--:|--:|"
    kinds = dict.fromkeys((row["data"], row["network"], row["sigma"]) for row in rows)
    for kind in kinds:
        mine = [row for row in rows if (row["data"], row["network"], row["sigma"]) == kind]
        course = [row for row in mine if COURSE[0] <= row["ratio"] <= COURSE[1]]
        rates = [row["rate"][0] / row["rate"][1] for row in course]
        errors = [row["mse"][0] / row["mse"][1] for row in course]
        bits = [row["bits"][0] - row["bits"][1] for row in course]
        alive = [row["ratio"] for row in mine if row["rate"][0] >= DEAD_NATS]
        dead = [row["ratio"] for row in mine if row["rate"][0] < DEAD_NATS]
        yield (
            f"| {' | '.join(kind)} | {len(mine)} | {spread(rates)} | {spread(errors)} "
            f"| {spread(bits)} | {max(alive):g} | {min(dead):g} |"
        )


def contradicting(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """What is alive, and what is silent, on the wrong side by more than a factor in β."""
    alive = [row for row in rows if row["ratio"] > FACTOR and row["rate"][0] >= DEAD_NATS]
    silent = [row for row in rows if row["ratio"] < 1 / FACTOR and row["rate"][0] < DEAD_NATS]
    return alive, silent


def contradictions(rows: Sequence[Row], longer: Sequence[Row]) -> Iterator[str]:
    """The same in words, with what became of it in a longer training."""
    alive, silent = contradicting(rows)
    beyond = sum(row["ratio"] > FACTOR for row in rows)
    below = sum(row["ratio"] < 1 / FACTOR for row in rows)
    yield f"{len(alive)} of {beyond} above {FACTOR:g} times the point are alive,"
    yield f"{len(silent)} of {below} below 1/{FACTOR:g} of it are silent:"
    again = {_place(row): row for row in longer}
    for row in (*alive, *silent):
        later = again.get(_place(row))
        yield (
            f"- {row['data']} {row['network']} {row['sigma']} at {row['ratio']:g}: rate "
            f"{row['rate'][0]:.3f}, forecast {row['rate'][1]:.2f}; sigma {row['scale'][0]:.2f}, "
            f"forecast {row['scale'][1]:.2f}"
            + (f"; rate {later['rate'][0]:.3f} after {later['steps']:,} steps" if later else "")
        )


def _place(row: Row) -> tuple[Any, ...]:
    return row["data"], row["network"], row["sigma"], row["ratio"]


def keep(found: Sequence[Row]) -> None:
    # All of a pack at once, so that a run that is killed leaves whole ones.
    with ROWS.open("a") as file:
        file.write("".join(f"{json.dumps(row)}\n" for row in found))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", help="folder of the files of Fashion-MNIST")
    parser.add_argument("--run", action="store_true", help="train what is missing")
    given = parser.parse_args()
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []
    if given.run:
        torch.set_num_threads(1)
        data = {"digits": Digits().load()}
        if given.root:
            data["fashion"] = fashion_mnist(given.root).first(IMAGES, 1000, 100)
        there = {(row["data"], row["network"], row["sigma"]) for row in rows}
        for name, splits in data.items():
            for network in NETWORKS[name]:
                for sigma in SIGMAS:
                    if (name, network, sigma) in there:
                        continue
                    found = list(trained(name, splits, network, sigma))
                    rows += found
                    keep(found)
        usual, longer = _parted(rows)
        for row in itertools.chain(*contradicting(usual)):
            if row["data"] in data and _place(row) not in map(_place, longer):
                *place, ratio = _place(row)
                found = list(trained(place[0], data[place[0]], *place[1:], (ratio,), LONGER))
                rows += found
                keep(found)
    usual, longer = _parted(rows)
    print("\n".join([*table(usual), "", *contradictions(usual, longer)]))


def _parted(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Those of the usual length and the longer ones."""
    return [r for r in rows if r["times"] == 1], [r for r in rows if r["times"] > 1]


if __name__ == "__main__":
    main()
