"""Machines that search one study, lose processes, die, and are started again."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from tests.fault.chaos import diary
from tests.searching import Workplace, kill

__all__ = ["KINDS", "Machine"]

KINDS = {
    "worker": "ray::ResourceTrainable",
    "desk": "ray::Desk",
    "node": "/raylet/raylet ",
    "driver": "",
}
"""What can be killed, and how its command line tells it; a driver takes all with it."""

EXPECTED = (0, 4, -signal.SIGKILL)
"""Exit codes of a command to which all this happens; of any other its last words are shown."""

RESTART_SECONDS = 12.0
"""Within this time somebody, or a scheduler, runs the command again."""


class Machine:
    """A host name, a folder, a home and a command that is begun again whenever it ended badly.

    Arguments:
        folder: Below which each life of the machine has a folder of its own.
        name: Of the machine.
        study: Text of the study file.
        settings: Environment variables that name the stores.
        moments: When it is begun again.
        host: Whether it may have a host name of its own.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        study: str,
        settings: Mapping[str, str],
        moments: random.Random,
        *,
        host: bool,
    ) -> None:
        self._folder, self._name, self._study = folder, name, study
        self._settings, self._moments, self._host = settings, moments, host
        self._lives = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._begin_again = 0.0
        self.codes: list[int] = []
        self.place = self._new_place()

    def _new_place(self) -> Workplace:
        self._lives += 1
        name = f"{self._name}{self._lives}"
        place = Workplace(self._folder / name, self._settings, name if self._host else "")
        place.write(self._study)
        shutil.copy(diary.__file__, place.folder / "diary.py")
        return place

    def look(self) -> None:
        """Note an end of the command, and begin it again when it is time."""
        if self._process is not None and self._process.poll() is not None:
            self.codes.append(self._process.returncode)
            if self.codes[-1] not in EXPECTED:
                said = (self.place.folder / "output.txt").read_text(encoding="utf-8")
                print(f"{self.place.folder.name} ended with {self.codes[-1]}:\n{said[-3000:]}")
            (self.place.folder / "output.txt").rename(
                self.place.folder / f"output-{len(self.codes)}.txt"
            )
            self._process = None
            self._wait()
        if self._process is None and not self.done and time.monotonic() > self._begin_again:
            self._process = self.place.search()

    def _wait(self) -> None:
        self._begin_again = time.monotonic() + self._moments.uniform(0.0, RESTART_SECONDS)

    @property
    def done(self) -> bool:
        """Whether its command said that the study is at its end."""
        return bool(self.codes) and self.codes[-1] == 0

    def kill(self, kind: str) -> bool:
        """Kill something of a kind; False if there is nothing of it now."""
        if self._process is None or self._process.poll() is not None:
            return False
        if kind == "driver":
            self.end()
            # One in three never comes back: another machine takes its place.
            if self._moments.random() < 1 / 3:
                self.place = self._new_place()
            return True
        victims = [pid for pid, line in self.place.processes().items() if KINDS[kind] in line]
        if not victims:
            return False
        try:
            os.kill(self._moments.choice(victims), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def end(self) -> None:
        """Kill all that it runs."""
        if self._process is not None:
            kill(self._process)
            self.codes.append(-9)
            self._process = None
            self._wait()
