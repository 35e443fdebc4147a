"""One study, by `tune-vae search` and by what a user of Ray Tune would write.

    python -m tests.benchmarks.speed.peer --run     # about a quarter of an hour; then the table
    python -m tests.benchmarks.speed.peer           # the table of what was run

All arms search the digits study with the same trainer, space, number of trials, epochs per
finished trial and cores, each as a command in a folder of its own, from its start to its end. The
peer is Ray's `OptunaSearch` and `ASHAScheduler` with a process for each trial, which is Ray's
default, and with processes that serve trial after trial, each with and without MLflow. A round
runs every arm once; another round has another seed.
"""

import argparse
import contextlib
import ctypes
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml

from tests.benchmarks.searches.arms import STUDY
from tests.benchmarks.speed.ray_search import CORES, FILE
from tune_vae import api
from tune_vae.science.history import EpochReport
from tune_vae.spec.study import StudySpec
from tune_vae.training.checkpoint import CheckpointStore

__all__ = ["ARMS", "Epoch", "Search", "load", "run", "table"]

RESULTS = Path(__file__).with_name("peer.jsonl")
TRIALS = 40

_RAY = (sys.executable, "-m", "tests.benchmarks.speed.ray_search", "study.yaml")
_OURS = (str(Path(sys.executable).with_name("tune-vae")), "search", "study.yaml")
ARMS = {
    "tune-vae": _OURS,
    "tune-vae, pack: 4": _OURS,
    "Ray, MLflow": (*_RAY, "--mlflow"),
    "Ray": _RAY,
    "Ray, processes reused, MLflow": (*_RAY, "--reuse", "--mlflow"),
    "Ray, processes reused": (*_RAY, "--reuse"),
}
"""What is run, by its name in the table."""

OURS = [arm for arm, command in ARMS.items() if command is _OURS]
PR_SET_CHILD_SUBREAPER = 36
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Epoch:
    """An epoch that some trial ran.

    Arguments:
        trial, epoch: Which, from 0 and from 1.
        ended: When it ended, seconds after the command.
        seconds: How long it took with its evaluation; in a pack, all members together.
        bits_per_dim: What the search minimises.
    """

    trial: int
    epoch: int
    ended: float
    seconds: float
    bits_per_dim: float


@dataclass(frozen=True)
class Search:
    """A search that was run.

    Arguments:
        arm: Its name in `ARMS`.
        seed: Of the study.
        wall, cpu: Seconds from the command to its end, and of processors by all its processes,
            which hardly change when others use the machine as well.
        length: Epochs of a trial that finishes.
        epochs: All of them, as they ended.
    """

    arm: str
    seed: int
    wall: float
    cpu: float
    length: int
    epochs: Sequence[Epoch]

    @property
    def trials(self) -> int:
        return len({epoch.trial for epoch in self.epochs})

    @property
    def finished(self) -> int:
        return sum(epoch.epoch == self.length for epoch in self.epochs)

    @property
    def outside(self) -> float:
        """Share of the workers' wall time that is not spent in epochs."""
        # The members of a pack share their time, to the last digit.
        training = sum({epoch.seconds for epoch in self.epochs})
        return 1 - training / (CORES * self.wall)

    @property
    def begins(self) -> float:
        """When the first epoch began."""
        return min(epoch.ended - epoch.seconds for epoch in self.epochs)

    @property
    def pauses(self) -> list[float]:
        """From the last epoch of a trial to the first of the next one, for each but the first.

        Which of the workers ran a trial is not noted: it is taken for the one that was free last.
        """
        spans: dict[int, tuple[float, float]] = {}
        for epoch in self.epochs:
            begin, end = spans.get(epoch.trial, (math.inf, 0.0))
            spans[epoch.trial] = min(begin, epoch.ended - epoch.seconds), max(end, epoch.ended)
        free: list[float] = []
        found = []
        for begin, end in sorted(spans.values()):
            before = max((one for one in free if one <= begin), default=None)
            if before is not None:
                found.append(begin - before)
                free.remove(before)
            free.append(end)
        return found

    @property
    def best(self) -> float:
        return min(self._values())

    def reaches(self, value: float) -> float:
        """When a value was reached; infinity if it never was."""
        return min((e.ended for e in self.epochs if e.bits_per_dim <= value), default=math.inf)

    def _values(self) -> Iterator[float]:
        return (e.bits_per_dim for e in self.epochs if math.isfinite(e.bits_per_dim))


def run(arm: str, seed: int, *, trials: int = TRIALS, epochs: int | None = None) -> Search:
    """Run an arm once.

    Raises:
        CalledProcessError: It failed.
    """
    with tempfile.TemporaryDirectory(prefix="speed-") as name:
        folder = Path(name)
        study = yaml.safe_load(STUDY.read_text(encoding="utf-8"))
        study["train"] |= {"seed": seed} | ({"epochs": epochs} if epochs else {})
        study["train"] |= {"pack": 4} if arm == "tune-vae, pack: 4" else {}
        study["budget"]["trials"] = trials
        (folder / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
        spec = StudySpec.load(folder / "study.yaml")
        # On one thread each, as is best for all arms.
        paths = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
        there = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
        begin = time.time()
        wall, cpu = _spent(ARMS[arm], folder, there)
        reports = _reports(folder, spec)
        found = [
            Epoch(r.trial, r.epoch, (r.ended_at or begin) - begin, r.seconds, r.bits_per_dim)
            for r in sorted(reports, key=lambda r: r.ended_at or 0)
        ]
        return Search(arm, seed, wall, cpu, spec.train.epochs, found)


def _spent(command: Sequence[str], folder: Path, there: dict[str, str]) -> tuple[float, float]:
    """Seconds of a command: by the clock, and of processors by it and all that it started."""
    # So that what outlives its parent, as Ray's processes do, becomes a child of this one.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    ticks: dict[int, int] = {}
    clock = time.perf_counter()
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(command, cwd=folder, env=there, stdout=said, stderr=said)
        while process.poll() is None:
            ticks |= _ticks_of_descendants()
            time.sleep(LOOK_SECONDS)
    wall = time.perf_counter() - clock
    if process.returncode:
        text = (folder / "said.txt").read_text(encoding="utf-8")
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{text}")
    return wall, sum(ticks.values()) / os.sysconf("SC_CLK_TCK")


def _ticks_of_descendants() -> dict[int, int]:
    """Processor time so far of every process below this one, by number."""
    parent, spent = {}, {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # After the name, which may hold anything: state, parent, and so on.
            fields = file.read_text(encoding="utf-8").rpartition(")")[2].split()
            number = int(file.parent.name)
            parent[number], spent[number] = int(fields[1]), int(fields[11]) + int(fields[12])
    found, family = {}, {os.getpid()}
    while grown := {n for n, of in parent.items() if of in family and n not in family}:
        family |= grown
        found |= {number: spent[number] for number in grown}
    return found


def _reports(folder: Path, spec: StudySpec) -> list[EpochReport]:
    diary = folder / FILE
    if diary.exists():
        lines = diary.read_text(encoding="utf-8").splitlines()
        return [EpochReport.from_dict(json.loads(line)) for line in lines]
    spec = replace(spec, storage=spec.storage.at(folder))
    store = CheckpointStore(spec.storage.checkpoints, spec.name)
    states = [store.last(row.trial) for row in api.results(spec).rows]
    return [EpochReport.from_dict(one) for state in states if state for one in state["reports"]]


def save(search: Search) -> None:
    entry = asdict(search)
    entry["epochs"] = [
        [e.trial, e.epoch, round(e.ended, 3), round(e.seconds, 5), round(e.bits_per_dim, 5)]
        for e in search.epochs
    ]
    with RESULTS.open("a", encoding="utf-8") as out:
        out.write(json.dumps(entry, separators=(",", ":")) + "\n")


def load() -> list[Search]:
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    entries = [json.loads(line) for line in lines]
    return [Search(**one | {"epochs": [Epoch(*e) for e in one["epochs"]]}) for one in entries]


def table(searches: Sequence[Search]) -> Iterator[str]:
    """Lines of Markdown; medians over the rounds, ratios within a round."""
    yield (
        "| search | rounds | wall, s | processors, s | trials an hour | first epoch begins, s "
        "| outside training | between two trials, s | epochs | of unfinished trials | best "
        "| finished |"
    )
    yield "|---|" + "--:|" * 11
    for arm in ARMS:
        mine = [one for one in searches if one.arm == arm]
        if mine:
            unfinished = [_unfinished(one) for one in mine]
            yield (
                f"| {arm} | {len(mine)} | {_median([s.wall for s in mine], 0)} "
                f"| {_median([s.cpu for s in mine], 0)} "
                f"| {_median([3600 * s.trials / s.wall for s in mine], 0)} "
                f"| {_median([s.begins for s in mine], 1)} "
                f"| {100 * statistics.median(s.outside for s in mine):.0f} % "
                f"| {_median([statistics.median(s.pauses or [0.0]) for s in mine], 2)} "
                f"| {_median([len(s.epochs) for s in mine], 0)} | {_median(unfinished, 0)} "
                f"| {_median([s.best for s in mine], 3)} "
                f"| {_median([s.finished for s in mine], 0)} |"
            )
    yield ""
    yield (
        "| search | against | its wall time to ours | its processors' "
        "| its best, reached by it and by us, s | ratio |"
    )
    yield "|---|---|--:|--:|--:|--:|"
    for peer, mine in itertools.product(ARMS, OURS):
        ours = {one.seed: one for one in searches if one.arm == mine}
        pairs = [(s, ours[s.seed]) for s in searches if s.arm == peer and s.seed in ours]
        if peer not in OURS and pairs:
            theirs = [one.reaches(one.best) for one, _ in pairs]
            us = [us.reaches(one.best) for one, us in pairs]
            ratios = [a / b for a, b in zip(theirs, us, strict=True)]
            yield (
                f"| {peer} | {mine} | {_median([one.wall / us.wall for one, us in pairs], 2)} "
                f"| {_median([one.cpu / us.cpu for one, us in pairs], 2)} "
                f"| {_median(theirs, 0)}, {_median(us, 0)} | {_median(ratios, 2)} |"
            )


def _unfinished(search: Search) -> int:
    whole = {epoch.trial for epoch in search.epochs if epoch.epoch == search.length}
    return sum(epoch.trial not in whole for epoch in search.epochs)


def _median(values: Sequence[float], digits: int) -> str:
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--epochs", type=int, help="of a trial; by default those of the study")
    options = parser.parse_args()
    if options.run:
        for seed in options.seeds:
            for arm in options.arms:
                found = run(arm, seed, trials=options.trials, epochs=options.epochs)
                save(found)
                print(f"{arm}, seed {seed}: {found.wall:.0f} s", file=sys.stderr, flush=True)
    print("\n".join(table(load())))


if __name__ == "__main__":
    main()
