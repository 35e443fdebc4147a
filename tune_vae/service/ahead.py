"""The next pack, drawn while workers train, where they would wait for it too long."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tune_vae.errors import TuneVaeError
from tune_vae.spec.trial import TrialConfig

__all__ = ["Ahead", "Drawn"]

SHARE = 0.01
"""Of its time that a worker may wait for draws before they are done ahead."""
REMEMBERED = 16
"""Packs whose time is known."""


@dataclass(frozen=True)
class Drawn:
    """A pack, empty if one must wait, with the numbers of its attempts; see `Desk.attempts`."""

    pack: list[TrialConfig]
    attempts: dict[int, int]


class Ahead:
    """One pack that waits for a worker, so that the worker need not wait for it.

    The sampler chooses it knowing one result less. So it is done only while packs are so short
    that workers would lose more than `SHARE` of their time; and for several workers only, as what
    a lone one is given shall follow from the seed and not from how fast it was.

    Arguments:
        draw: Draws a pack; None if there will be none.
    """

    def __init__(self, draw: Callable[[], Drawn | None]) -> None:
        self._draw = draw
        self._lock = threading.Lock()
        self._drawing = threading.Lock()
        self._ready: Drawn | None = None
        self._closed = False
        self._asked: dict[str, float] = {}
        self._spans: deque[float] = deque(maxlen=REMEMBERED)
        self._took: deque[float] = deque(maxlen=REMEMBERED)

    def take(self, worker: str) -> Drawn | None:
        """What was drawn ahead, without waiting for what is being drawn; None if nothing was.

        Arguments:
            worker: Who is about to train it, having ended what it had before.
        """
        now = time.monotonic()
        with self._lock:
            if worker in self._asked:
                self._spans.append(now - self._asked[worker])
            self._asked[worker] = now
            return self._pop()

    def now(self) -> Drawn | None:
        """What is being drawn or was, or else what is drawn now."""
        with self._drawing:
            with self._lock:
                ready = self._pop()
            return ready or self._timed()

    def prepare(self, before: Callable[[], None] = lambda: None) -> None:
        """Draw the next pack in a thread, if it pays.

        Arguments:
            before: What is to be done there first, in any case.
        """
        threading.Thread(target=self._prepare, args=(before,), name="ahead", daemon=True).start()

    def close(self) -> None:
        """Wait for what is being drawn, and draw no more."""
        with self._drawing:
            self._closed = True

    def _pop(self) -> Drawn | None:
        ready, self._ready = self._ready, None
        return ready

    @property
    def _pays(self) -> bool:
        with self._lock:
            if len(self._asked) < 2 or not self._spans or not self._took:
                return False
            span, took = (sum(times) / len(times) for times in (self._spans, self._took))
            return took > SHARE * span

    def _prepare(self, before: Callable[[], None]) -> None:
        # What cannot be done now is tried again by who needs it, and told then.
        with contextlib.suppress(TuneVaeError):
            before()
            with self._drawing:
                if not self._closed and self._ready is None and self._pays:
                    drawn = self._timed()
                    with self._lock:
                        self._ready = drawn if drawn and drawn.pack else None

    def _timed(self) -> Drawn | None:
        begin = time.monotonic()
        drawn = self._draw()
        with self._lock:
            self._took.append(time.monotonic() - begin)
        return drawn
