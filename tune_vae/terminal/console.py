"""Where words go: a console that keeps to NO_COLOR and outlives its reader."""

import os

from rich.console import Console

__all__ = ["console"]


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # `tune-vae search … | head` must not end the study: say no more and go on.
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


def console(*, stderr: bool = False) -> Console:
    """A console that honours NO_COLOR, leaves numbers uncoloured and outlives its reader."""
    # Without emoji, or line 100 of a file would be shown as 💯.
    return _Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False)
