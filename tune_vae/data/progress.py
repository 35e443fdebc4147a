"""How far a long preparation is, and how long it will still take."""

import sys
import time
from types import TracebackType

__all__ = ["Progress", "tell"]

_WIDTH = 24
_CLEAR = "\r\x1b[K"
"""Back to the start of a terminal's line, and wipe it."""

_PAUSE = 0.1
"""Seconds between two drawings."""


def tell(line: str) -> None:
    """A line for the person in front of the program, beside its results."""
    _write(f"{_CLEAR if _is_terminal() else ''}{line}\n")


class Progress:
    """A bar with the time left, while stderr is a terminal; elsewhere nothing at all.

    Arguments:
        what: What is done, in a few words.
        total: Of how many.
        done: How many were done before.

    Example:
        with Progress("decoding pictures", len(files)) as progress:
            for file in files:
                decode(file)
                progress.advance(1)
    """

    def __init__(self, what: str, total: int, *, done: int = 0) -> None:
        self._what, self._total, self._before, self._done = what, total, done, done
        self._begin, self._drawn = time.monotonic(), 0.0
        self._shown = _is_terminal()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._shown:
            _write(_CLEAR)

    def advance(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        now = time.monotonic()
        if self._shown and now - self._drawn >= _PAUSE:
            self._drawn = now
            _write(_CLEAR + self.line(now - self._begin))

    def line(self, seconds: float) -> str:
        """What is drawn so many seconds after the beginning."""
        filled = _WIDTH * self._done // self._total
        here = self._done - self._before
        left = (self._total - self._done) * seconds / here if here else 0.0
        return (
            f"{self._what} {'━' * filled}{'╌' * (_WIDTH - filled)} "
            f"{self._done:,} of {self._total:,}, {_spoken(left)} left"
        )


def _spoken(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _is_terminal() -> bool:
    return bool(sys.__stderr__ and sys.__stderr__.isatty())


def _write(text: str) -> None:
    # Not `sys.stderr`: a live view puts itself in its place, and keeps what does not end a line.
    if sys.__stderr__:
        sys.__stderr__.write(text)
        sys.__stderr__.flush()
