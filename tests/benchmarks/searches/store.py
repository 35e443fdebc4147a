"""The searches that were run, one line of JSON each, and how those that are missing are run."""

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import astuple, dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.searches.arms import ARMS, digits
from tests.benchmarks.searches.log import Log
from tests.benchmarks.searches.outcomes import Outcome, outcomes

__all__ = ["SEEDS", "Search", "command", "load", "mean_error", "run", "save"]

SEEDS = range(10)


@dataclass(frozen=True)
class Search:
    """One search.

    Arguments:
        arm: Its name in `ARMS`.
        seed: Of weights, data order and suggestions.
        epochs: Its budget.
        bests: Each improvement of the lowest bits per dim: epochs spent so far, and the value.
        trials: In the order in which they ran.
    """

    arm: str
    seed: int
    epochs: int
    bests: Sequence[tuple[int, float]]
    trials: Sequence[Outcome]

    @classmethod
    def of(cls, arm: str, seed: int, log: Log, trials: Sequence[Outcome]) -> "Search":
        bests, best = [], math.inf
        for spent, report in enumerate(log.reports, 1):
            if report.bits_per_dim < best:
                best = report.bits_per_dim
                bests.append((spent, best))
        return cls(arm, seed, len(log.reports), bests, trials)

    def best(self, epochs: int) -> float:
        """Lowest bits per dim of any epoch of any trial when so many epochs were spent."""
        return min((value for spent, value in self.bests if spent <= epochs), default=math.inf)

    def begun(self, epochs: int) -> int:
        """Trials begun by then."""
        return sum(begin < epochs for begin, _ in self._spans())

    def finished(self, epochs: int) -> list[Outcome]:
        """Trials that had run to their ends by then."""
        return [
            trial
            for trial, (_, end) in zip(self.trials, self._spans(), strict=True)
            if trial.end == "finished" and end <= epochs
        ]

    def _spans(self) -> Iterator[tuple[int, int]]:
        spent = 0
        for trial in self.trials:
            yield spent, spent + trial.epochs
            spent += trial.epochs


def run(arm: str, seed: int, epochs: int, draws: int) -> Search:
    """Run a search and find out what became of its trials."""
    torch.set_num_threads(1)
    log = ARMS[arm](seed, epochs, digits())
    return Search.of(arm, seed, log, outcomes(log, digits(), draws=draws, seed=seed))


Table = Callable[[Mapping[str, Sequence[Search]]], Iterator[str]]
"""Lines of Markdown from the searches of each arm, which are in the order of their seeds."""


def command(
    doc: str, file: Path, arms: Sequence[str], table: Table, *, epochs: int, draws: int
) -> None:
    """A benchmark's command line: print its table, with `--run` after running what is missing.

    Arguments:
        doc: What it says of itself.
        file: Where its searches are stored.
        arms: Its searches.
        table: Makes its table.
        epochs: Budget of each search.
        draws: See `outcomes`.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", action="store_true", help="run what is missing")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if options.run:
        _run_missing(file, arms, epochs, draws, options.workers)
    found = {(search.arm, search.seed): search for search in load(file)}
    # Only seeds of which every search is there can be compared.
    seeds = [seed for seed in SEEDS if all((arm, seed) in found for arm in arms)]
    if len(seeds) < 2:
        print("Fewer than two seeds have all their searches: use --run.")
        return
    print(f"{len(seeds)} seeds, {epochs} epochs each; mean ± standard error.\n")
    print("\n".join(table({arm: [found[arm, seed] for seed in seeds] for arm in arms})))


def _run_missing(file: Path, arms: Sequence[str], epochs: int, draws: int, workers: int) -> None:
    done = {(search.arm, search.seed) for search in load(file)}
    missing = [(arm, seed) for seed in SEEDS for arm in arms if (arm, seed) not in done]
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        jobs = [pool.submit(run, arm, seed, epochs, draws) for arm, seed in missing]
        for job in as_completed(jobs):
            search = job.result()
            save(search, file)
            print(f"{search.arm}, seed {search.seed}: {search.best(epochs):.3f}", flush=True)


def load(file: Path) -> list[Search]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [_search(json.loads(line)) for line in lines]


def save(search: Search, file: Path) -> None:
    """Add a line; numbers with five digits."""
    entry = {
        "arm": search.arm,
        "seed": search.seed,
        "epochs": search.epochs,
        "bests": _short(search.bests),
        "columns": [field.name for field in fields(Outcome)],
        "trials": _short([astuple(trial) for trial in search.trials]),
    }
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(entry, separators=(",", ":")) + "\n")


def mean_error(values: Sequence[float], digits: int = 3) -> str:
    """Mean and its standard error."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{statistics.fmean(values):.{digits}f} ± {error:.{digits}f}"


def _short(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_short(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _search(entry: dict[str, Any]) -> Search:
    rows = (dict(zip(entry["columns"], row, strict=True)) for row in entry["trials"])
    trials = [Outcome(**row | {"values": tuple(row["values"])}) for row in rows]
    bests = [(spent, value) for spent, value in entry["bests"]]
    return Search(entry["arm"], entry["seed"], entry["epochs"], bests, trials)
