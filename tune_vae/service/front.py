"""Geometry of two or more objectives, all of them minimised. Knows no library."""

import math
from collections.abc import Sequence

__all__ = ["dominates", "fronts", "hypervolume", "knee", "net_order", "spans", "undominated"]

Vector = Sequence[float]


def dominates(one: Vector, other: Vector, margins: Vector | None = None) -> bool:
    """Whether `one` is nowhere worse than `other`, and somewhere better by more than a margin.

    Also with margins this is a strict partial order: no two beat each other, and who beats a
    winner beats the loser as well.

    Arguments:
        one, other: As long as each other, without NaN.
        margins: For each objective what counts as no difference, at least 0; by default 0.
    """
    pairs = list(zip(one, other, strict=True))
    margins = margins or [0.0] * len(pairs)
    return all(a <= b for a, b in pairs) and any(
        a + margin < b for (a, b), margin in zip(pairs, margins, strict=True)
    )


def undominated(vectors: Sequence[Vector]) -> list[int]:
    """Positions of the vectors of one or two objectives that nothing beats, the first best first.

    Sorted, a pair can only be beaten by the last one that was not: of those before it, this is
    the best in the second objective.

    Example:
        >>> undominated([(2, 2), (2, 1), (1, 2), (3, 3), (1, 2)])
        [2, 4, 1]
    """
    found: list[int] = []
    for i in sorted(range(len(vectors)), key=lambda i: (*vectors[i], i)):
        if not found or not dominates(vectors[found[-1]], vectors[i]):
            found.append(i)
    return found


def fronts(vectors: Sequence[Vector], margins: Vector | None = None) -> list[list[int]]:
    """Non-dominated sorting: positions that nothing beats, then those that only these beat, …

    References:
        | NSGA-II (Deb et al., 2002)
        | https://doi.org/10.1109/4235.996017

    Example:
        >>> fronts([(1, 2), (2, 1), (2, 2), (3, 3)])
        [[0, 1], [2], [3]]
    """
    left, sorted_out = list(range(len(vectors))), list[list[int]]()
    while left:
        front = [
            i for i in left if not any(dominates(vectors[j], vectors[i], margins) for j in left)
        ]
        sorted_out.append(front)
        left = [i for i in left if i not in front]
    return sorted_out


def spans(vectors: Sequence[Vector]) -> list[float]:
    """Largest less smallest finite value of each objective; 0 where there are none."""
    columns = ([v for v in column if math.isfinite(v)] for column in zip(*vectors, strict=True))
    return [max(column) - min(column) if column else 0.0 for column in columns]


def net_order(vectors: Sequence[Vector]) -> list[int]:
    """Positions such that any first few of them lie as far apart as may be: an epsilon net.

    The first is the best in the first objective; each next one is the farthest from all before
    it, with every objective scaled to its span. Vectors that are not finite come last.

    References:
        | Multi-objective Asynchronous Successive Halving (Schmucker et al., 2021), EpsNet
        | https://arxiv.org/abs/2106.12639

    Example:
        >>> net_order([(0, 9), (1, 8), (5, 4), (9, 0)])
        [0, 3, 2, 1]
    """
    scales = [span or 1.0 for span in spans(vectors)]
    points = [[v / scale for v, scale in zip(vector, scales, strict=True)] for vector in vectors]
    finite = [all(map(math.isfinite, point)) for point in points]
    left = sorted((i for i in range(len(points)) if finite[i]), key=lambda i: (*points[i], i))
    order: list[int] = []
    while left:
        # The first of equals, which is the best in the first objective.
        chosen = max(
            left, key=lambda i: min((math.dist(points[i], points[j]) for j in order), default=0.0)
        )
        order.append(chosen)
        left.remove(chosen)
    return order + [i for i in range(len(points)) if not finite[i]]


def hypervolume(vectors: Sequence[Vector], reference: Vector) -> float:
    """Area that pairs of values dominate, up to a reference point: larger is better.

    Arguments:
        vectors: Pairs, finite, dominated ones allowed. Those not better than the reference in
            both objectives add nothing.
        reference: The worst corner.

    Example:
        >>> hypervolume([(1, 2), (2, 1)], (3, 3))
        3.0
    """
    area, ceiling = 0.0, reference[1]
    for x, y in sorted((x, y) for x, y in vectors if x < reference[0] and y < reference[1]):
        if y < ceiling:
            area += (reference[0] - x) * (ceiling - y)
            ceiling = y
    return area


def knee(vectors: Sequence[Vector]) -> int | None:
    """Position where a front of pairs bends most; None if it bends towards no corner.

    Both objectives are scaled to [0, 1] over the front; the knee lies farthest below the chord
    between its two ends.

    References:
        | Normal-boundary intersection (Das, 1999), as the distance from the chord
        | https://doi.org/10.1007/BF01195985

    Example:
        >>> knee([(0, 10), (1, 2), (10, 0)])
        1
    """
    if len(vectors) < 3:
        return None
    lows = [min(column) for column in zip(*vectors, strict=True)]
    scales = [span or 1.0 for span in spans(vectors)]

    def below_chord(i: int) -> float:
        # The ends lie at (0, 1) and (1, 0): the chord is x + y = 1.
        x, y = ((v - low) / s for v, low, s in zip(vectors[i], lows, scales, strict=True))
        return float(1.0 - x - y) / math.sqrt(2.0)

    best = max(range(len(vectors)), key=below_chord)
    return best if below_chord(best) > 1e-9 else None
