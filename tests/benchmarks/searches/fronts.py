"""Two objectives, rate and squared error: our search with ParetoPruner and without a pruner.

python -m tests.benchmarks.searches.fronts              # the table, from the stored searches
python -m tests.benchmarks.searches.fronts --run        # first run those that are missing
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.benchmarks.searches.store import Search, command, mean_error
from tune_vae.service.front import hypervolume

WITH, WITHOUT = ARMS = ("ParetoPruner", "NopPruner")

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
    """Lines of Markdown."""
    yield (
        "| pruner | "
        + " | ".join(f"trials after {epochs} | finished | hypervolume" for epochs in AFTER)
        + " |"
    )
    yield "|---|" + "--:|" * 3 * len(AFTER)
    measures: list[Callable[[Search], float]] = []
    for epochs in AFTER:
        measures += [
            lambda one, epochs=epochs: one.begun(epochs),
            lambda one, epochs=epochs: len(one.finished(epochs)),
            lambda one, epochs=epochs: share(one, epochs),
        ]
    digits = [1, 1, 4] * len(AFTER)
    for arm, found in searches.items():
        cells = [
            mean_error([measure(one) for one in found], places)
            for measure, places in zip(measures, digits, strict=True)
        ]
        yield f"| {arm} | {' | '.join(cells)} |"
    pairs = list(zip(searches[WITH], searches[WITHOUT], strict=True))
    cells = [
        mean_error([measure(one) - measure(other) for one, other in pairs], places)
        for measure, places in zip(measures, digits, strict=True)
    ]
    yield f"| difference | {' | '.join(cells)} |"
    yield ""
    for epochs in AFTER:
        ratio = statistics.fmean(one.begun(epochs) / other.begun(epochs) for one, other in pairs)
        yield f"After {epochs} epochs {ratio:.2f} times the trials."


if __name__ == "__main__":
    command(__doc__, FILE, ARMS, table, epochs=EPOCHS, draws=0)
