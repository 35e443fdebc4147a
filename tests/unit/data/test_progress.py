"""The bar against a real terminal, and its silence elsewhere."""

import contextlib
import os
import pty
import sys
import time
from pathlib import Path

import pytest

from tune_vae.data.progress import Progress, tell


def decode() -> None:
    tell("begun")
    with Progress("decoding", 4000) as progress:
        for _ in range(4):
            time.sleep(0.11)
            progress.advance(1000)


def test_terminal_shows_a_bar_and_is_clean_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "__stderr__", terminal)
        decode()
    said = ""
    # Linux answers with an error when the other side is closed and all is read.
    with contextlib.suppress(OSError):
        while part := os.read(ours, 10_000).decode():
            said += part
    os.close(ours)
    assert "begun" in said
    assert "1,000 of 4,000, 0 s left" in said
    assert said.endswith("\r\x1b[K")
    assert said.count("\n") == 1


def test_nothing_but_lines_goes_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "log").open("w") as log:
        monkeypatch.setattr(sys, "__stderr__", log)
        decode()
    assert (tmp_path / "log").read_text() == "begun\n"


@pytest.mark.parametrize(
    ("before", "done", "seconds", "says"),
    [
        (0, 0, 5.0, "0 of 1,000, 0 s left"),
        (0, 250, 5.0, "250 of 1,000, 15 s left"),
        # What was there already says nothing of the speed.
        (500, 250, 5.0, "750 of 1,000, 5 s left"),
        (0, 10, 5.0, "10 of 1,000, 8 min left"),
        (0, 1, 10.0, "1 of 1,000, 2 h 46 min left"),
        (0, 1000, 9.0, "1,000 of 1,000, 0 s left"),
    ],
)
def test_time_left_is_that_of_the_pace_so_far(
    before: int, done: int, seconds: float, says: str
) -> None:
    progress = Progress("decoding", 1000, done=before)
    progress.advance(done)
    assert progress.line(seconds).endswith(f" {says}")
    filled = progress.line(seconds).count("━")
    assert filled == 24 * (before + done) // 1000


def test_program_without_stderr_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stderr__", None)
    tell("nobody listens")
    with Progress("decoding", 1) as progress:
        progress.advance(1)
