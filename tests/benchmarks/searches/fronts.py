"""Two objectives, rate and squared error: our search with ParetoPruner and without a pruner.

python -m tests.benchmarks.searches.fronts              # the table, from the stored searches
python -m tests.benchmarks.searches.fronts --run        # first run those that are missing
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.benchmarks.searches.store import Search, command, mean_error
from tune_vae.service.front import hypervolume

ARMS = ("ParetoPruner", WITHOUT := "NopPruner")

FILE = Path(__file__).with_suffix(".jsonl")
EPOCHS = 20 * 60
"""Budget of a search: as much as 20 trials take that nobody stops."""
AFTER = (EPOCHS // 2, EPOCHS)

WORST = (60.0, 0.0735)
"""Reference point: 60 nats, which a model of these digits hardly needs, and the squared error of
the mean digit, which is the variance of the data."""


def share(search: Search, epochs: int) -> float:
    """Hypervolume of the trials finished by then, as a share of the box up to `WORST`."""
    vectors = [trial.values for trial in search.finished(epochs)]
    return hypervolume(vectors, WORST) / (WORST[0] * WORST[1])


def table(searches: Mapping[str, Sequence[Search]]) -> Iterator[str]:
    """Lines of Markdown: each arm, and its differences from the one without a pruner."""
    yield from compared(searches, AFTER)


def compared(searches: Mapping[str, Sequence[Search]], after: Sequence[int]) -> Iterator[str]:
    """The same after any numbers of epochs."""
    heads = (
        f"trials after {epochs} | times {WITHOUT}'s | finished | hypervolume | less {WITHOUT}'s"
        for epochs in after
    )
    yield f"| pruner | {' | '.join(heads)} |"
    yield "|---|" + "--:|" * 5 * len(after)
    for arm, found in searches.items():
        cells = []
        for epochs in after:
            pairs = list(zip(found, searches[WITHOUT], strict=True))
            trials, others = (
                [one.begun(epochs) for one in side] for side in zip(*pairs, strict=True)
            )
            cells += [
                f"{statistics.fmean(trials):.1f}",
                f"{sum(trials) / sum(others):.2f}",
                f"{statistics.fmean(len(one.finished(epochs)) for one in found):.1f}",
                mean_error([share(one, epochs) for one in found]),
                mean_error([share(one, epochs) - share(other, epochs) for one, other in pairs]),
            ]
        yield f"| {arm} | {' | '.join(cells)} |"


if __name__ == "__main__":
    command(__doc__, FILE, ARMS, table, epochs=EPOCHS, draws=0)
