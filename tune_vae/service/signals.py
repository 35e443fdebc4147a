"""Ctrl-C and SIGTERM: once, to finish the epoch and save; twice, to leave now."""

import os
import signal
from types import FrameType

from tune_vae.errors import TuneVaeError

__all__ = ["Interrupted", "Signals"]


_NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(TuneVaeError):
    """The search was asked to stop and has stopped; it can be continued."""

    exit_code = 130


class Signals:
    """Notes that the search shall stop, for as long as it is entered. Schedulers send SIGTERM."""

    def __init__(self) -> None:
        self.stop = False

    def __enter__(self) -> "Signals":
        self._before = {number: signal.signal(number, self._note) for number in _NUMBERS}
        return self

    def renew(self) -> None:
        """Note them again, after a library has put its own handlers in the place of ours."""
        for number in _NUMBERS:
            signal.signal(number, self._note)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.stop:
            # Everything that counts is on disk; what is in flight is taken up by the next search.
            os._exit(Interrupted.exit_code)
        self.stop = True
