"""A search whose bounds of beta_norm follow from the data against one of six decades.

python -m tests.benchmarks.searches.bounds             # the table, from the stored searches
python -m tests.benchmarks.searches.bounds --run       # first run those that are missing

The digits study with Gaussians only, of which there is a forecast. *wide* and *auto* train every
point that is drawn. The bounds of *auto* are those of all decoders together; *passing over*, which
is the product's default, leaves out the points that are dead for their own decoder.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.benchmarks.searches.store import Search, command, mean_error
from tune_vae.science.health import Kind

ARMS = (WIDE := "wide", "auto", "auto, passing over")
FILE = Path(__file__).with_suffix(".jsonl")
EPOCHS = 15 * 60
"""As in `compare`."""
ENDS = (Kind.COLLAPSED.value, Kind.NEVER_FORMED.value)
AFTER = (EPOCHS // 3, EPOCHS)


def collapsed(search: Search) -> int:
    """Trials that were ended because their latents were silent."""
    return sum(trial.end in ENDS for trial in search.trials)


def table(searches: Mapping[str, Sequence[Search]]) -> Iterator[str]:
    """Lines of Markdown: what each search found, and how many of its trials collapsed."""
    yield (
        f"| beta_norm | trials | of them collapsed | best after {AFTER[0]} "
        f"| best after {AFTER[1]} | after {AFTER[0]}, less wide |"
    )
    yield "|---|--:|--:|--:|--:|--:|"
    for arm, found in searches.items():
        less = [
            one.best(AFTER[0]) - other.best(AFTER[0])
            for one, other in zip(found, searches[WIDE], strict=True)
        ]
        cells = [
            f"{statistics.fmean(len(one.trials) for one in found):.0f}",
            mean_error([collapsed(one) for one in found], 1),
            *(mean_error([one.best(epochs) for one in found]) for epochs in AFTER),
            mean_error(less) if arm != WIDE else "",
        ]
        yield f"| {arm} | {' | '.join(cells)} |"


if __name__ == "__main__":
    command(__doc__, FILE, ARMS, table, epochs=EPOCHS, draws=0)
