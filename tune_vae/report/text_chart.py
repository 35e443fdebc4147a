"""A curve as lines of text, for terminals."""

import itertools
from collections.abc import Iterator, Sequence

__all__ = ["text_chart"]

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Of a character of Unicode's Braille patterns, by row and column."""
_ACROSS, _DOWN = 2, 4
_EMPTY = 0x2800


def text_chart(
    xs: Sequence[float], ys: Sequence[float], *, columns: int = 56, rows: int = 9
) -> list[str]:
    r"""A curve through some points, joined by straight lines, in a frame with its bounds.

    Arguments:
        xs, ys: Finite, as many of each, at least one.
        columns, rows: Of the curve, in characters.

    Example:
        >>> print("\n".join(text_chart([0, 1, 3], [4, 1, 0], columns=5, rows=2)))
        4 ┤⢣⠀⠀⠀⠀
        0 ┤⠀⠑⠤⢄⣀
          └─────
           0   3
    """
    width, height = _ACROSS * columns - 1, _DOWN * rows - 1
    cells = [[_EMPTY] * columns for _ in range(rows)]
    for x, y in _joined(_places(xs, width), _places(ys, height)):
        down = height - y
        cells[down // _DOWN][x // _ACROSS] |= _DOTS[down % _DOWN][x % _ACROSS]
    low, high = f"{min(ys):.3g}", f"{max(ys):.3g}"
    margin = max(len(low), len(high))
    names = [high] + [""] * (rows - 2) + [low]
    lines = [
        f"{name:>{margin}} {'┤' if name else '│'}{''.join(map(chr, row))}"
        for name, row in zip(names, cells, strict=True)
    ]
    left, right = f"{min(xs):.3g}", f"{max(xs):.3g}"
    return [
        *lines,
        f"{'':{margin}} └{'─' * columns}",
        f"{'':{margin}}  {left}{right:>{columns - len(left)}}",
    ]


def _places(values: Sequence[float], top: int) -> list[int]:
    """From the least to the greatest as 0 to `top`."""
    low, span = min(values), max(values) - min(values) or 1.0
    return [round(top * (value - low) / span) for value in values]


def _joined(xs: Sequence[int], ys: Sequence[int]) -> Iterator[tuple[int, int]]:
    points = list(zip(xs, ys, strict=True))
    yield points[0]
    for (x, y), (to_x, to_y) in itertools.pairwise(points):
        steps = max(abs(to_x - x), abs(to_y - y), 1)
        for step in range(1, steps + 1):
            yield x + (to_x - x) * step // steps, y + (to_y - y) * step // steps
