"""How much each knob mattered among the trials that finished. Knows no library."""

import math
import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from tune_vae.service.rows import TrialRow

__all__ = ["Influence", "influences", "ranks", "shared_spread", "spearman"]

FEWEST = 8
"""Finished trials without which nothing is said."""
GROUPS = 3
"""Numbers are cut into so many groups of equal size: low, middle, high."""
SHUFFLES = 199
CHANCE = 0.05


@dataclass(frozen=True)
class Influence:
    """What a knob alone tells of a value.

    Arguments:
        knob: Its name; `decoder` is likelihood and sigma mode as one.
        share: Of the spread of the trials' ranks, adjusted for chance, in [0, 1].
        chance: Share of shuffled studies in which it would be as large.
        slope: Spearman's rank correlation with the value, for numbers; positive where a larger
            one is worse.
    """

    knob: str
    share: float
    chance: float
    slope: float | None = None

    @property
    def certain(self) -> bool:
        """Whether chance seldom does as much."""
        return self.chance <= CHANCE


def influences(rows: Sequence[TrialRow], place: int = 0) -> list[Influence]:
    """The knobs that all of some trials have and that differ between them, the strongest first.

    Ranks, because one bad trial would otherwise make the spread; groups instead of a line,
    because the best beta_norm is seldom at an end. The trials are those that the sampler chose,
    which are near each other, and only finished ones: a knob that decides between life and
    death may seem to matter little here.

    Arguments:
        rows: Finished trials with finite values.
        place: Which objective.
    """
    if len(rows) < FEWEST:
        return []
    rank = ranks([row.values[place] for row in rows])
    found = []
    for knob, values in _columns(rows).items():
        numbers = [value for value in values if not isinstance(value, str)]
        number = len(numbers) == len(values) and len(set(values)) > GROUPS
        groups: list[Hashable] = [*_thirds(numbers)] if number else [*values]
        if len(set(groups)) == len(groups):
            continue
        share, lot, as_large = shared_spread(rank, groups), random.Random(0), 0
        shuffled = list(rank)
        for _ in range(SHUFFLES):
            lot.shuffle(shuffled)
            as_large += shared_spread(shuffled, groups) >= share
        slope = spearman(numbers, rank) if len(numbers) == len(values) else None
        chance = (as_large + 1) / (SHUFFLES + 1)
        found.append(Influence(knob, max(0.0, share), chance, slope))
    return sorted(found, key=lambda one: -one.share)


def _columns(rows: Sequence[TrialRow]) -> dict[str, list[float | str]]:
    """What every trial has, by knob, where they differ."""
    tables = []
    for row in rows:
        table: dict[str, float | str] = dict(row.config.settings)
        # A sigma mode means nothing without its likelihood.
        for part in ("likelihood", "sigma"):
            table.pop(part, None)
        first: dict[str, float | str] = {"decoder": row.config.decoder}
        tables.append(first | table)
    common = [key for key in tables[0] if all(key in table for table in tables)]
    columns = {key: [table[key] for table in tables] for key in common}
    return {key: values for key, values in columns.items() if len(set(values)) > 1}


def _thirds(numbers: Sequence[float]) -> list[int]:
    rank = ranks(numbers)
    return [min(GROUPS - 1, int(GROUPS * (r - 0.5) / len(numbers))) for r in rank]


def ranks(values: Sequence[float]) -> list[float]:
    """From 1; equal values share the mean of theirs.

    Example:
        >>> ranks([3.0, 1.0, 3.0])
        [2.5, 1.0, 2.5]
    """
    order = sorted(values)
    first = {value: order.index(value) for value in set(values)}
    return [first[value] + (order.count(value) + 1) / 2 for value in values]


def shared_spread(rank: Sequence[float], groups: Sequence[Hashable]) -> float:
    r"""Share of the variance of ranks that lies between groups, adjusted for their number.

    $$ 1 - (1 - \eta^2) \frac{n - 1}{n - k} = \frac{H - k + 1}{n - k} $$

    with H of Kruskal and Wallis (1952); 0 on average where groups mean nothing, at most 1.

    References:
        | The need to report effect size estimates revisited (Tomczak & Tomczak, 2014)

    Arguments:
        rank: Ranks, not all equal.
        groups: The group of each; fewer than ranks.
    """
    members: dict[Hashable, list[float]] = defaultdict(list)
    for value, group in zip(rank, groups, strict=True):
        members[group].append(value)
    count, mean = len(rank), math.fsum(rank) / len(rank)
    total = math.fsum((value - mean) ** 2 for value in rank)
    between = math.fsum(
        len(some) * (math.fsum(some) / len(some) - mean) ** 2 for some in members.values()
    )
    if not total:
        return 0.0
    return 1 - (1 - between / total) * (count - 1) / (count - len(members))


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation, in [-1, 1]; 0 if one of the two does not vary.

    Example:
        >>> spearman([1.0, 2.0, 5.0], [9.0, 4.0, 1.0])
        -1.0
    """
    pairs, middle = list(zip(ranks(a), ranks(b), strict=True)), (len(a) + 1) / 2
    spread = [math.fsum((pair[i] - middle) ** 2 for pair in pairs) for i in (0, 1)]
    shared = math.fsum((x - middle) * (y - middle) for x, y in pairs)
    return shared / math.sqrt(spread[0] * spread[1]) if all(spread) else 0.0
