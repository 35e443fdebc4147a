"""Real processes that prepare 300 photographs, at once and killed in the middle."""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.data.datasets.samples import official, smooth
from tune_vae.data import Splits
from tune_vae.data.datasets.image_folder import ImageFolder
from tune_vae.data.preparing import CHUNK

PICTURES = 300

PREPARER = """
import os, sys, time
from pathlib import Path
from tune_vae.data import pictures, preparing
from tune_vae.data import Splits
from tune_vae.data.datasets.image_folder import ImageFolder

folder, log, start = sys.argv[1:]
# One core, so that it is known how much a kill can cost; each decoding is noted, and slowed down.
preparing.cores = lambda: 1
decoded, noted = pictures.decoded, os.open(log, os.O_WRONLY | os.O_APPEND)

def decoded_and_noted(file, frame):
    os.write(noted, f"{os.getpid()} {file.name}\\n".encode())
    time.sleep(0.002)
    return decoded(file, frame)

pictures.decoded = decoded_and_noted
print("ready", flush=True)
while not Path(start).exists():
    time.sleep(0.001)
print(ImageFolder(root=folder, size=16, validation_share=0.2).load().digest())
"""


class Bench:
    """A folder of photographs, and the processes that prepare it.

    Arguments:
        place: An empty folder.
    """

    def __init__(self, place: Path) -> None:
        self.folder, self.log, self.start = place / "pictures", place / "log", place / "start"
        self.log.touch()
        self.folder.mkdir()
        for number in range(PICTURES):
            smooth(48, 64, number).save(self.folder / f"{number:03}.jpg")

    def decodings(self) -> list[tuple[int, str]]:
        """Process and file of each."""
        lines = self.log.read_text().splitlines()
        return [(int(process), name) for process, name in map(str.split, lines)]

    @contextmanager
    def process(self) -> Iterator[subprocess.Popen[str]]:
        """One that has started and waits for `start`."""
        arguments = [str(self.folder), str(self.log), str(self.start)]
        with subprocess.Popen(
            [sys.executable, "-c", PREPARER, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as preparer:
            assert preparer.stdout
            assert preparer.stdout.readline() == "ready\n"
            yield preparer
            preparer.kill()

    def wait_for(self, decodings: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.decodings()) < decodings:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def load(self) -> Splits:
        """Here and now."""
        return ImageFolder(root=str(self.folder), size=16, validation_share=0.2).load()

    def is_right(self, digest: str) -> bool:
        """Whether all pictures are there, as torchvision cuts and resizes them."""
        data = self.load()
        parts = (data.train, data.validation, data.test)
        ours = sorted(image.numpy().tobytes() for part in parts for image in part)
        theirs = sorted(
            official(file, crop=48, size=16).numpy().tobytes() for file in self.folder.iterdir()
        )
        return ours == theirs and data.digest() == digest


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("TUNE_VAE_CACHE", str(tmp_path / "cache"))
    return Bench(tmp_path)


def test_preparer_killed_three_times_is_right_in_the_end_and_starts_nowhere_anew(
    bench: Bench,
) -> None:
    bench.start.touch()
    moments = random.Random(0)
    for _ in range(3):
        before = len(bench.decodings())
        with bench.process() as killed:
            bench.wait_for(before + moments.randint(CHUNK + 1, 80))
            killed.kill()
        assert killed.returncode == -9
        assert not list(Path(os.environ["TUNE_VAE_CACHE"]).glob("*/ready.json"))
    noted = Counter(name for _, name in bench.decodings())
    # Each kill costs the chunk in work, and one that is done but not yet noted.
    assert len(noted) > PICTURES / 4
    assert noted.total() - len(noted) <= 2 * 2 * CHUNK
    assert bench.is_right(bench.load().digest())


def test_of_three_at_once_one_prepares_and_when_it_is_killed_another_goes_on(
    bench: Bench,
) -> None:
    with bench.process() as one, bench.process() as two, bench.process() as three:
        bench.start.touch()
        bench.wait_for(80)
        (holder,) = {process for process, _ in bench.decodings()}
        left = [each for each in (one, two, three) if each.pid != holder]
        (victim,) = {one, two, three} - set(left)
        victim.kill()
        (first, said), (second, also_said) = (each.communicate(timeout=60) for each in left)
    assert first == second
    assert bench.is_right(first.strip())
    assert len({process for process, _ in bench.decodings()}) == 2
    assert len(bench.decodings()) <= PICTURES + 2 * CHUNK
    assert (said + also_said).count("preparing 300 examples once") == 1
    assert (said + also_said).count("another process prepares these data; waiting for it") == 2


def test_two_at_once_decode_nothing_twice(bench: Bench) -> None:
    with bench.process() as one, bench.process() as two:
        bench.start.touch()
        digests = {each.communicate(timeout=60)[0].strip() for each in (one, two)}
    assert len(digests) == 1
    assert bench.is_right(*digests)
    assert Counter(name for _, name in bench.decodings()).most_common(1)[0][1] == 1
    assert len({process for process, _ in bench.decodings()}) == 1
