"""Where in the space the verdicts fell: simple rules, with a guard against chance. No library."""

import functools
import itertools
import math
import operator
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tune_vae.science.health import Kind
from tune_vae.service.rows import TrialRow

__all__ = ["Condition", "Region", "log_tail", "regions"]

ENDS = (
    (Kind.COLLAPSED, Kind.NEVER_FORMED),
    (Kind.EXPLODING, Kind.DIVERGED),
    (Kind.STALLED,),
    (Kind.HOPELESS,),
    (Kind.FAILED,),
)
"""Verdicts that end a trial; those that are alike are looked for together and one by one."""

FEWEST = 3
"""Trials of an end, and others, without which nothing is said."""
MOST, FEW = 2 / 3, 1 / 3
"""A region holds at least this share of the trials of an end, and at most this of the others."""
CHANCE = 0.05
"""A region is named if fewer than so many relabelled studies have one that is as good."""
RELABELLINGS = 199
CUTS = 64
"""Most places where the values of one knob are cut."""
BEAM = 5
"""So many of the best single conditions are tried with a second one."""
SECOND = math.log(20.0)
"""By how much the logarithm of the tail must fall for a second condition to be worth its words."""


@dataclass(frozen=True)
class Condition:
    """What a setting must be.

    Arguments:
        knob: Its name; see `TrialConfig.settings`.
        sign: `above`, `below` or `is`.
        value: The bound, or the only value.
    """

    knob: str
    sign: str
    value: float | str

    def holds(self, settings: dict[str, float | str]) -> bool:
        """Whether a trial has the knob and its value fits."""
        given = settings.get(self.knob)
        if isinstance(given, str) or isinstance(self.value, str) or given is None:
            return self.sign == "is" and given == self.value
        return given > self.value if self.sign == "above" else given < self.value

    def __str__(self) -> str:
        value = self.value if isinstance(self.value, str) else f"{self.value:g}"
        return f"{self.knob} {value}" if self.sign == "is" else f"{self.knob} {self.sign} {value}"


@dataclass(frozen=True)
class Region:
    """A part of the space that holds most trials of an end and few others.

    Arguments:
        kinds: The verdicts.
        conditions: One or two, all of which hold in it.
        inside, total: Trials of these verdicts, in it and in all.
        others_inside, others: The same of all other ended trials.
        chance: Share of studies with the same trials, but verdicts dealt out by lot, in which
            some region is as good.
    """

    kinds: tuple[Kind, ...]
    conditions: tuple[Condition, ...]
    inside: int
    total: int
    others_inside: int
    others: int
    chance: float

    @property
    def score(self) -> float:
        """Logarithm of the hypergeometric tail, and what a second condition costs."""
        drawn, count = self.inside + self.others_inside, self.total + self.others
        tail = log_tail(self.inside, drawn, marked=self.total, count=count)
        return tail + SECOND * (len(self.conditions) - 1)

    @property
    def sentence(self) -> str:
        """Example: `7 of 8 collapsed trials had beta_norm above 2.3 (1 of 12 others did)`."""
        word = " or ".join(kind.value.replace("_", " ") for kind in self.kinds)
        told = "All" if self.inside == self.total else f"{self.inside} of"
        beside = self.others_inside or "none"
        return (
            f"{told} {self.total} {word} trials had {' and '.join(map(str, self.conditions))} "
            f"({beside} of {self.others} others did)"
        )


def regions(rows: Iterable[TrialRow]) -> list[Region]:
    """The region of each end that has one, the commonest end first.

    Rules are half-lines of a number, single values of a name, and pairs of these, so that an
    interval is a pair. The best rule has the smallest hypergeometric tail: the chance that as
    many trials of the end lie in it, were they drawn by lot (Fisher's exact test). As many rules
    are tried, the same search is made with verdicts dealt out by lot; a region that comes up as
    easily there is not named.

    References:
        | Resampling-based multiple testing (Westfall & Young, 1993): the smallest p-value of
        | relabelled data as its own correction
    """
    ended, found = [row for row in rows if row.ended], list[Region]()
    there = {row.kind for row in ended}
    for kinds in (tuple(kind for kind in end if kind.value in there) for end in ENDS):
        together = [one for one in [_region(ended, kinds)] if one]
        several = kinds if len(kinds) > 1 else ()
        alone = [one for kind in several if (one := _region(ended, (kind,)))]
        # Verdicts of two causes have sharper regions each for itself.
        apart = not together or any(one.score < together[0].score for one in alone)
        found += alone if apart else together
    return sorted(found, key=lambda region: -region.total)


def _region(rows: Sequence[TrialRow], kinds: tuple[Kind, ...]) -> Region | None:
    # One that broke for no fault of its settings says nothing of them.
    rows = [row for row in rows if row.kind != Kind.FAILED.value or Kind.FAILED in kinds]
    mine = _bits(row.kind in kinds for row in rows)
    total, count = mine.bit_count(), len(rows)
    if total < FEWEST or count - total < FEWEST:
        return None
    settings = [row.config.settings for row in rows]
    rules: dict[int, Condition] = {}
    for rule in _conditions(settings):
        rules.setdefault(_bits(map(rule.holds, settings)), rule)
    best = _best(rules, mine, count)
    chance = _chance(rules, best, total, count)
    if best is None or chance > CHANCE:
        return None
    inside = functools.reduce(operator.and_, best[1])
    return Region(
        kinds=kinds,
        conditions=tuple(rules[part] for part in best[1]),
        inside=(inside & mine).bit_count(),
        total=total,
        others_inside=(inside & ~mine).bit_count(),
        others=count - total,
        chance=chance,
    )


_Found = tuple[float, tuple[int, ...]]
"""Score of a rule, low is good, and the trials that each of its conditions holds, a bit each."""


def _best(rules: Iterable[int], mine: int, count: int) -> _Found | None:
    """The best rule of one condition, or of two if the second is worth its words."""
    total = mine.bit_count()
    least, most = MOST * total, FEW * (count - total)

    def scored(rule: int) -> float:
        return log_tail((rule & mine).bit_count(), rule.bit_count(), marked=total, count=count)

    starts = sorted((scored(rule), rule) for rule in rules if (rule & mine).bit_count() >= least)
    found: list[_Found] = [
        (score, (rule,)) for score, rule in starts if (rule & ~mine).bit_count() <= most
    ]
    for _, rule in starts[:BEAM]:
        for _, other in starts:
            both = rule & other
            if (both & mine).bit_count() >= least and (both & ~mine).bit_count() <= most:
                found.append((scored(both) + SECOND, (rule, other)))
    return min(found, default=None)


def _chance(rules: Iterable[int], best: _Found | None, total: int, count: int) -> float:
    if best is None:
        return 1.0
    lot, as_good = random.Random(0), 0
    for drawn in range(1, RELABELLINGS + 1):
        mine = sum(1 << i for i in lot.sample(range(count), total))
        other = _best(rules, mine, count)
        as_good += other is not None and other[0] <= best[0]
        # Far too many already: the answer cannot change any more.
        if as_good > CHANCE * (RELABELLINGS + 1):
            return as_good / drawn
    return (as_good + 1) / (RELABELLINGS + 1)


@functools.lru_cache(maxsize=100_000)
def log_tail(hits: int, drawn: int, *, marked: int, count: int) -> float:
    r"""Logarithm of the chance that so many or more of the drawn ones are marked.

    $$ \log \sum_{i \ge h} \binom{m}{i} \binom{n - m}{d - i} \Big/ \binom{n}{d} $$

    without replacement: the one-sided p-value of Fisher's exact test.

    Arguments:
        hits: h, marked ones among the drawn, possible with the other numbers.
        drawn: d, how many are drawn.
        marked: m, how many are marked.
        count: n, how many there are.

    Example:
        >>> round(math.exp(log_tail(2, 2, marked=2, count=4)), 6) == round(1 / 6, 6)
        True
    """
    ways = sum(
        math.comb(marked, i) * math.comb(count - marked, drawn - i)
        for i in range(hits, min(drawn, marked) + 1)
    )
    # Of whole numbers, whose ratio may be too small for a float.
    return math.log(ways) - math.log(math.comb(count, drawn))


def _bits(holds: Iterable[bool]) -> int:
    return sum(1 << i for i, held in enumerate(holds) if held)


def _conditions(settings: Sequence[dict[str, float | str]]) -> Iterator[Condition]:
    """All that divide the trials, some of them alike."""
    for knob in dict.fromkeys(itertools.chain.from_iterable(settings)):
        values = [one[knob] for one in settings if knob in one]
        for name in sorted({value for value in values if isinstance(value, str)}):
            if sum(value == name for value in values) < len(settings):
                yield Condition(knob, "is", name)
        numbers = sorted({value for value in values if not isinstance(value, str)})
        for cut in _cuts(numbers):
            yield Condition(knob, "above", cut)
            yield Condition(knob, "below", cut)


def _cuts(numbers: Sequence[float]) -> list[float]:
    """Short numbers between neighbours."""
    gaps = list(itertools.pairwise(numbers))
    if len(gaps) > CUTS:
        gaps = [gaps[round(i * (len(gaps) - 1) / (CUTS - 1))] for i in range(CUTS)]
    return [_between(low, high) for low, high in gaps]


def _between(low: float, high: float) -> float:
    """A number of as few digits as may be between two, near their middle.

    Example:
        >>> _between(2.07, 2.51), _between(8, 16), _between(1e-4, 1e-2)
        (2.3, 10.0, 0.001)
    """
    middle = math.sqrt(low * high) if low > 0 else (low + high) / 2
    for digits in range(17):
        short = float(f"{middle:.{digits}e}")
        if low < short < high:
            return short
    return high
