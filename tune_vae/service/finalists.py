r"""Whether the best trials of a study differ by more than chance.

A finalist is the trial of a search that is trained again with other seeds. Its own value helped
to choose it, so that it is too good on average (the winner's curse), the more so the more trials
there were; only the repeats, which chose nothing, enter mean and error. Two finalists are told
apart when Welch's interval of the difference of their means leaves out 0.

References:
    | The generalization of Student's problem (Welch, 1947)
    | https://doi.org/10.1093/biomet/34.1-2.28
    | A hitchhiker's guide to statistical comparisons of RL algorithms (Colas et al., 2019)
    | https://arxiv.org/abs/1904.06979
"""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tune_vae.service.front import knee, net_order
from tune_vae.service.rows import TrialRow

__all__ = ["LEVEL", "Difference", "Estimate", "Finalist", "chosen", "difference", "estimate"]

LEVEL = 0.95
"""Share of intervals that hold the true difference; at most 1 - LEVEL of equals are told apart."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Arguments:
        mean: Of the values.
        error: Its standard error; NaN for a single value.
        count: Values.
    """

    mean: float
    error: float
    count: int

    def __str__(self) -> str:
        error = f" ± {self.error:.2g}" if math.isfinite(self.error) else ""
        return f"{self.mean:.4f}{error}"


def estimate(values: Sequence[float]) -> Estimate:
    r"""Mean and its standard error :math:`s / \sqrt n`.

    Example:
        >>> str(estimate([1.0, 2.0, 3.0]))
        '2.0000 ± 0.58'
    """
    count = len(values)
    error = statistics.stdev(values) / math.sqrt(count) if count > 1 else math.nan
    return Estimate(statistics.fmean(values), error, count)


@dataclass(frozen=True)
class Difference:
    """A difference of two means, and half the width of its interval; NaN if there is none."""

    mean: float
    half_width: float

    def __str__(self) -> str:
        return f"{self.mean:.3g} ± {self.half_width:.2g}"

    @property
    def real(self) -> bool:
        """Whether the interval leaves out 0."""
        return abs(self.mean) > self.half_width


def difference(one: Estimate, other: Estimate) -> Difference:
    r"""`other` less `one`, with Welch's interval at `LEVEL`.

    Half its width is :math:`t_\nu \sqrt{e_1^2 + e_2^2}`, with the standard errors `e` and
    :math:`\nu = (e_1^2 + e_2^2)^2 / (e_1^4 / (n_1 - 1) + e_2^4 / (n_2 - 1))`.
    """
    squares = [each.error**2 for each in (one, other)]
    total = math.fsum(squares)
    if not total > 0.0:
        # Of one value there is no error; and values that never vary differ for certain.
        return Difference(other.mean - one.mean, total)
    freedom = total**2 / math.fsum(
        square**2 / (each.count - 1) for square, each in zip(squares, (one, other), strict=True)
    )
    return Difference(other.mean - one.mean, _quantile(freedom) * math.sqrt(total))


def _quantile(freedom: float) -> float:
    r"""Where Student's t of so many degrees of freedom, at least 1, holds `LEVEL` around 0.

    In the angle of :math:`t = \sqrt\nu \tan\theta` its density is a constant times
    :math:`\cos^{\nu - 1} \theta`, which is summed up by the midpoint rule.
    """
    steps = 4096
    width = 0.5 * math.pi / steps
    log_constant = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    top = 2 * width * math.exp(log_constant) / math.sqrt(math.pi)
    step, left = 0, LEVEL
    while (share := top * math.cos((step + 0.5) * width) ** (freedom - 1)) < left:
        step, left = step + 1, left - share
    return math.sqrt(freedom) * math.tan((step + left / share) * width)


@dataclass(frozen=True)
class Finalist:
    """A trial with its repeats.

    Arguments:
        row: The trial of the search.
        repeats: The same with other seeds, in the order of their numbers; at least one.
    """

    row: TrialRow
    repeats: tuple[TrialRow, ...]

    def __str__(self) -> str:
        if not self.ended:
            ended = sum(row.ended for row in self.repeats)
            return f"{ended} of {len(self.repeats)} repeats have ended"
        means = ", ".join(map(str, self.estimates))
        return f"{means} {self.basis}" if means else self.lost

    @property
    def basis(self) -> str:
        """What its means are of, as in `over 2 other seeds`."""
        count = len(self.repeats)
        return f"over {count} other seed{'s' * (count > 1)}"

    @property
    def ended(self) -> bool:
        return all(row.ended for row in self.repeats)

    @property
    def lost(self) -> str:
        """How seeds ended without a value, as in `1 of 3 seeds collapsed`; empty if none did."""
        kinds = Counter(
            row.kind.replace("_", " ") + " without a value" * row.finished
            for row in self.repeats
            if row.ended and not row.scored
        )
        seeds = len(self.repeats) + 1
        return ", ".join(f"{count} of {seeds} seeds {kind}" for kind, count in kinds.items())

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Of each objective over the repeats. Empty while one of them has no value.

        A mean over the survivors alone would flatter a setting some of whose seeds collapse.
        """
        if not all(row.scored for row in self.repeats):
            return ()
        columns = zip(*(row.values for row in self.repeats), strict=True)
        return tuple(map(estimate, columns))

    def differences(self, other: "Finalist") -> tuple[Difference, ...]:
        """How much the other is above this one, by objective; both have estimates."""
        pairs = zip(self.estimates, other.estimates, strict=True)
        return tuple(difference(mine, theirs) for mine, theirs in pairs)


def chosen(front: Sequence[TrialRow], scored: Sequence[TrialRow], count: int) -> list[TrialRow]:
    """Which trials to repeat: the best of one objective; of two the knee and those beside it.

    Without a knee it is those that lie farthest apart on the front. Of trials with the same
    settings, as a sampler of a finite space may draw them, only the best is taken.

    Arguments:
        front: Trials that no other dominates, the best in the first objective first.
        scored: All trials with values.
        count: How many at most.
    """
    if scored and len(scored[0].values) == 1:
        return _distinct(sorted(scored, key=lambda row: (row.values, row.trial)))[:count]
    distinct = _distinct(front)
    vectors = [row.values for row in distinct]
    bend = knee(vectors)
    places = range(len(distinct))
    order = (
        net_order(vectors) if bend is None else sorted(places, key=lambda place: abs(place - bend))
    )
    return [distinct[place] for place in sorted(order[:count])]


def _distinct(rows: Sequence[TrialRow]) -> list[TrialRow]:
    settings: dict[str, TrialRow] = {}
    for row in rows:
        own = {"trial", "seed", "known_good", "repeat_of"}
        settings.setdefault(row.config.model_dump_json(exclude=own), row)
    return list(settings.values())
