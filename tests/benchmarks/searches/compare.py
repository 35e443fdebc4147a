"""Our search against Ray's OptunaSearch with ASHA and random search, at equal budgets of epochs.

python -m tests.benchmarks.searches.compare             # the tables, from the stored searches
python -m tests.benchmarks.searches.compare --run       # first run those that are missing
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.benchmarks.searches.outcomes import DRAWS, spent_by_label
from tests.benchmarks.searches.store import Search, command, mean_error

OURS = "ours"
ARMS = (
    OURS,
    "ours, first learning rates drawn",
    "OptunaSearch + ASHA",
    "random",
)
FILE = Path(__file__).with_suffix(".jsonl")
EPOCHS = 15 * 60
"""Budget of a search: as much as 15 trials take that nobody stops."""
AFTER = (EPOCHS // 3, EPOCHS)
LOST = ("collapsed", "diverged")


def wasted(search: Search, *labels: str) -> float:
    """Epochs spent in trials of these labels."""
    spent = spent_by_label(search.trials)
    return sum(spent.get(label, 0.0) for label in labels)


def table(searches: Mapping[str, Sequence[Search]]) -> Iterator[str]:
    """Lines of Markdown: what each search found and wasted, and how others differ from ours."""
    yield (
        f"| search | trials | best after {AFTER[0]} | best after {AFTER[1]} "
        "| epochs in collapsed | in diverged | wasted in all |"
    )
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for arm, found in searches.items():
        cells = [
            f"{statistics.fmean(len(one.trials) for one in found):.0f}",
            *(mean_error([one.best(epochs) for one in found]) for epochs in AFTER),
            *(
                mean_error([wasted(one, *labels) for one in found], 0)
                for labels in ((LOST[0],), (LOST[1],), LOST)
            ),
        ]
        yield f"| {arm} | {' | '.join(cells)} |"
    yield ""
    yield (
        f"| against ours | best after {AFTER[0]}, less ours | best after {AFTER[1]}, less ours "
        "| wasted, times ours |"
    )
    yield "|---|--:|--:|--:|"
    ours = searches[OURS]
    for arm, found in searches.items():
        if arm != OURS:
            pairs = list(zip(found, ours, strict=True))
            cells = [
                mean_error([one.best(epochs) - own.best(epochs) for one, own in pairs])
                for epochs in AFTER
            ]
            yield f"| {arm} | {' | '.join(cells)} | {times(pairs)} |"
    yield ""
    yield from _stopped(searches)


def times(pairs: Sequence[tuple[Search, Search]]) -> str:
    """Ratio of all that was wasted, with its standard error by leaving out one seed at a time."""

    def ratio(some: Sequence[tuple[Search, Search]]) -> float:
        theirs, own = (sum(wasted(one, *LOST) for one in side) for side in zip(*some, strict=True))
        return theirs / own

    parts = [ratio([*pairs[:i], *pairs[i + 1 :]]) for i in range(len(pairs))]
    spread = statistics.pvariance(parts) * (len(parts) - 1)
    return f"{ratio(pairs):.1f} ± {spread**0.5:.1f}"


def _stopped(searches: Mapping[str, Sequence[Search]]) -> Iterator[str]:
    """What the trials would have reached that were stopped by value."""
    yield "| stopped by value | trained on | of them healthy | would have won the search |"
    yield "|---|--:|--:|--:|"
    for arm, found in searches.items():
        stopped = [
            (trial, search.best(EPOCHS))
            for search in found
            for trial in search.trials
            if trial.end in ("hopeless", "pruned") and trial.draws
        ]
        if stopped:
            healthy = sum(trial.label == "healthy" for trial, _ in stopped)
            won = sum((trial.possible or best) < best for trial, best in stopped)
            yield f"| {arm} | {len(stopped)} | {healthy} | {won} |"


if __name__ == "__main__":
    command(__doc__, FILE, ARMS, table, epochs=EPOCHS, draws=DRAWS)
