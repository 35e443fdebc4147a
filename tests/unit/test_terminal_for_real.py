"""The views in processes of their own: at a pseudo-terminal, into a file, into a closed pipe."""

import fcntl
import json
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jsonschema
import pytest

from tests.unit.screen import Screen
from tests.unit.snapshots import ROWS
from tests.unit.test_json_lines import SCHEMA

ROOT = Path(__file__).parents[2]
WIDTHS = (80, 100, 140)
HEIGHT = 40
COLOURS = re.compile(r"\x1b\[[0-9;]*(?:3[0-7]|9[0-7]|38;[0-9;]+)m")
KEPT = ("PATH", "PYTHONPATH", "LANG", "HOME")


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return kept | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **more}


def command(folder: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "tests.unit.showing", str(folder / "end"), *options]


@dataclass
class Shown:
    """A program at a pseudo-terminal of some width.

    Arguments:
        live: What it had written before it was told to go on.
        whole: All it wrote.
    """

    folder: Path
    width: int
    settings: Mapping[str, str] = field(default_factory=dict)
    live: str = ""
    whole: str = ""

    def start(self) -> "Shown":
        self.folder.mkdir()
        self._mine, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, self.width, 0, 0))
        self._process = subprocess.Popen(
            command(self.folder),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(self.folder, **self.settings),
            cwd=self.folder,
        )
        os.close(theirs)
        return self

    def finish(self) -> None:
        self.live = self._read(until="Ctrl-C stops after this epoch", count=2)
        # It has shown both snapshots, and waits.
        os.write(self._mine, b"\n")
        self.whole = self.live + self._read(until="")
        assert self._process.wait(60) == 0
        os.close(self._mine)

    def _read(self, *, until: str, count: int = 1) -> str:
        got, deadline = b"", time.monotonic() + 120
        while time.monotonic() < deadline:
            ready, _, _ = select.select([self._mine], [], [], 0.2)
            try:
                got += os.read(self._mine, 65536) if ready else b""
            except OSError:
                # Linux tells the end of a pseudo-terminal so.
                return got.decode()
            if until and not ready and got.decode().count(until) >= count:
                return got.decode()
        raise AssertionError(got.decode())


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shown]:
    """Programs that ran side by side, one for each width and one that may not use colours."""
    folder = tmp_path_factory.mktemp("shown")
    programs = {str(width): Shown(folder / str(width), width) for width in WIDTHS}
    programs["bare"] = Shown(folder / "bare", 100, {"NO_COLOR": "1"})
    for program in programs.values():
        program.start()
    for program in programs.values():
        program.finish()
    return programs


@pytest.mark.parametrize("width", WIDTHS)
def test_block_stands_once_on_the_screen_below_the_verdicts(
    width: int, shown: dict[str, Shown]
) -> None:
    """Also after it was drawn twice: no line is wider than the screen, so none is left over."""
    lines = Screen(width).feed(shown[str(width)].live).lines
    # The header may be wrapped by the terminal, so that it can be copied whole.
    begin = next(n for n, line in enumerate(lines) if line.lstrip().startswith("study  sqlite"))
    verdicts = [line for line in lines[begin + 1 :] if re.match(r" {4}\d [✓✗∅✂!]", line)]
    assert [int(line.split()[0]) for line in verdicts] == [row.trial for row in ROWS]
    assert sum(line.startswith("6/30 trials ") for line in lines) == 1
    assert sum(line.startswith("best ") for line in lines) == 1
    assert sum(line.startswith("trial ") for line in lines) == 1
    assert lines[-1] == "Ctrl-C stops after this epoch and keeps everything"
    running = lines[next(n for n, line in enumerate(lines) if line.startswith("trial ")) + 1 :][:3]
    assert [line.split()[0] for line in running] == ["6", "7", "8"]
    assert "✓ healthy" in running[2]
    assert ("schedule" in Screen(width).feed(shown[str(width)].live)) == (width >= 96)
    assert ("rate so far" in Screen(width).feed(shown[str(width)].live)) == (width >= 116)


@pytest.mark.parametrize("width", WIDTHS)
def test_block_is_gone_at_the_end_and_the_verdicts_stay(
    width: int, shown: dict[str, Shown]
) -> None:
    screen = Screen(width).feed(shown[str(width)].whole)
    assert "Ctrl-C stops after this epoch" not in screen
    assert sum("best so far" in line for line in screen) == 1
    assert sum(re.match(r" {4}\d [✓✗∅✂!]", line) is not None for line in screen) == len(ROWS)
    assert "Best: trial 3 with 3.2500 validation bits per dim" in screen
    # What is hidden while it runs comes back.
    assert shown[str(width)].whole.rindex("\x1b[?25h") > shown[str(width)].whole.rindex(
        "\x1b[?25l"
    )
    assert (shown[str(width)].folder / "end").exists()


def test_no_color_has_the_same_words_and_no_colour(shown: dict[str, Shown]) -> None:
    coloured, bare = shown["100"], shown["bare"]
    assert COLOURS.search(coloured.whole)
    assert not COLOURS.search(bare.whole)
    words = [
        # The bar is drawn otherwise, and the study lies in a folder of each program's own.
        [re.sub(r"[━╸╺]+ *|/tmp\S*", "", line) for line in Screen(100).feed(one.whole)]
        for one in (coloured, bare)
    ]
    assert words[0] == words[1]


def test_without_a_terminal_there_are_plain_lines(tmp_path: Path) -> None:
    run = subprocess.run(
        command(tmp_path),
        input="\n",
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        check=True,
        timeout=120,
    )
    assert "\x1b" not in run.stdout
    assert run.stderr == ""
    ended = [line for line in run.stdout.splitlines() if re.match(r"\[ \d/30\]", line)]
    assert [line[:6] for line in ended] == [f"[ {n}/30" for n in range(1, 7)]
    assert "start trial 8: beta_norm" in run.stdout


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_reader_that_leaves_early_does_not_end_the_search(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    run = subprocess.Popen(
        command(tmp_path, *options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(tmp_path),
    )
    assert run.stdin
    assert run.stdout
    assert run.stderr
    first = run.stdout.readline()
    run.stdout.close()
    run.stdin.write(b"\n")
    run.stdin.close()
    assert run.wait(120) == 0
    assert run.stderr.read() == b""
    run.stderr.close()
    assert first
    assert (tmp_path / "end").read_text() == "done"


def test_lines_of_json_are_all_that_goes_to_the_standard_output(tmp_path: Path) -> None:
    run = subprocess.run(
        command(tmp_path, "--json"),
        input="\n",
        capture_output=True,
        text=True,
        env=environment(tmp_path, FORCE_COLOR="1"),
        check=True,
        timeout=120,
    )
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    for line in lines:
        jsonschema.validate(line, SCHEMA)
    assert [lines[0]["event"], lines[-1]["event"]] == ["study", "study_end"]
