"""What preparing pictures costs, survives and saves. Linux only.

    python -m tests.benchmarks.pictures.preparing [--pictures 20000] [--trials 4] [--seed 0]

Writes JPEGs into a temporary folder. Processes that prepare them are killed at three random
moments; then two at once go on to the end. Then the data are opened again, and trials train on
them for an epoch each, one alone and several at once.
"""

import argparse
import os
import random
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from tests.benchmarks.pictures.folder import CROP, SIZE, written
from tests.memory import mebibytes, of_file
from tests.unit.data.datasets.samples import official
from tune_vae.data.datasets.image_folder import ImageFolder

LOOKED_AT = 500
"""Pictures that are compared with torchvision's reading."""

PREPARER = """
import os, sys, time
from tune_vae.data import pictures
from tune_vae.data.datasets.image_folder import ImageFolder

decoded, noted = pictures.decoded, os.open(sys.argv[4], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def decoded_and_noted(file, frame):
    os.write(noted, f"{os.getpid()} {file.name}\\n".encode())
    return decoded(file, frame)

pictures.decoded = decoded_and_noted
begin = time.perf_counter()
data = ImageFolder(root=sys.argv[1], size=int(sys.argv[2]), crop=int(sys.argv[3])).load()
print("loaded", time.perf_counter() - begin, data.digest())
"""

TRIAL = """
import sys
from tests.factories import member
from tune_vae.data.datasets.image_folder import ImageFolder
from tune_vae.science.networks.conv import Conv
from tune_vae.training.trainer import Trainer
import torch
torch.set_num_threads(1)
data = ImageFolder(root=sys.argv[1], size=int(sys.argv[2]), crop=int(sys.argv[3])).load()
one = member(network=Conv(channels=(4, 8)), epochs=1, batch_size=128)
print("begins", flush=True)
for _ in Trainer([one], data):
    pass
print("trained", flush=True)
sys.stdin.read()
"""


def command(program: str, folder: Path) -> list[str]:
    return [sys.executable, "-c", program, str(folder), str(SIZE), str(CROP)]


def decodings(log: Path) -> Counter[str]:
    """How often each picture was decoded."""
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter(line.split()[1] for line in lines)


def preparer(folder: Path, log: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*command(PREPARER, folder), str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def killed_three_times(folder: Path, log: Path, moments: random.Random) -> None:
    """At a random moment of what is left, in decodings: a clock would know a machine's speed."""
    count = len(list(folder.iterdir()))
    for _ in range(3):
        before = decodings(log).total()
        left = count - len(decodings(log))
        moment = before + moments.randint(1, max(1, left // 2))
        victim = preparer(folder, log)
        while decodings(log).total() < moment:
            time.sleep(0.02)
            assert victim.poll() is None
        victim.kill()
        victim.communicate()
        noted = decodings(log)
        print(
            f"killed after {noted.total() - before:,} more decodings: {len(noted):,} of {count:,} "
            f"pictures were decoded once or more, {noted.total() - len(noted):,} decodings were "
            "repetitions",
            flush=True,
        )


def loaded(process: "subprocess.Popen[str]") -> tuple[float, str]:
    """Seconds until the data could be used, and their fingerprint."""
    seconds, digest = process.communicate()[0].removeprefix("loaded ").split()
    return float(seconds), digest


def is_right(folder: Path, generator: random.Random) -> bool:
    """Whether pictures taken by lot are among the data, as torchvision cuts and resizes them."""
    data = ImageFolder(root=str(folder), size=SIZE, crop=CROP).load()
    parts = (data.train, data.validation, data.test)
    ours = Counter(hash(image.numpy().tobytes()) for part in parts for image in part)
    files = sorted(folder.iterdir())
    some = generator.sample(files, min(LOOKED_AT, len(files)))
    theirs = (official(file, crop=CROP, size=SIZE).numpy().tobytes() for file in some)
    return ours.total() == len(files) and all(ours[hash(image)] for image in theirs)


def said(trial: "subprocess.Popen[str]") -> bool:
    """Whether a process wrote something since it was last asked."""
    ready, _, _ = select.select([trial.stdout], [], [], 0)
    return bool(ready)


def most_memory(folder: Path, images: Path, trials: int) -> tuple[float, float]:
    """Highest sums over trials that train at once, MiB: of everything, and of the mapped file."""
    running = [
        subprocess.Popen(
            command(TRIAL, folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(trials)
    ]
    for trial in running:
        assert trial.stdout
        assert trial.stdout.readline() == "begins\n"
    most, of_map, waiting = 0.0, 0.0, set(range(trials))
    while waiting:
        most = max(most, sum(mebibytes(trial.pid) for trial in running))
        of_map = max(of_map, sum(of_file(trial.pid, images) for trial in running))
        waiting -= {k for k in waiting if said(running[k])}
        time.sleep(0.1)
    for trial in running:
        assert trial.communicate()[0] == "trained\n"
    return most, of_map


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    moments = random.Random(wanted.seed)
    with tempfile.TemporaryDirectory() as place:
        os.environ["TUNE_VAE_CACHE"] = f"{place}/cache"
        log, begin = Path(place, "log"), time.perf_counter()
        folder = written(Path(place, "pictures"), wanted.pictures)
        print(f"wrote {wanted.pictures:,} pictures in {time.perf_counter() - begin:.0f} s")

        killed_three_times(folder, log, moments)
        before = decodings(log)
        both = [preparer(folder, log) for _ in range(2)]
        (_, one), (_, other) = map(loaded, both)
        after = decodings(log) - before
        print(
            f"two at once then decoded {after.total():,} more, {after.total() - len(after):,} of "
            f"them twice; the same data: {one == other}; right: {is_right(folder, moments)}"
        )
        seconds, again = loaded(preparer(folder, log))
        print(
            f"second start: {seconds:.2f} s, {(decodings(log) - before - after).total()} decoded, "
            f"the same data: {again == one}"
        )
        os.environ["TUNE_VAE_CACHE"] = f"{place}/another"
        seconds, clean = loaded(preparer(folder, log))
        print(f"prepared without a kill in {seconds:.0f} s, the same data: {clean == one}")

        (images,) = Path(place, "another").glob("*/images")
        size = images.stat().st_size / 2**20
        alone, map_alone = most_memory(folder, images, 1)
        own = alone - map_alone
        most, of_map = most_memory(folder, images, wanted.trials)
        allowed = 1.3 * size + wanted.trials * own
        print(
            f"memory: the map has {size:.0f} MiB, a trial alone {own:.0f} of its own; "
            f"{wanted.trials} trials at once took {most:.0f} at most, {of_map:.0f} of it the map; "
            f"1.3 maps and {wanted.trials} trials are {allowed:.0f}: "
            f"{'held' if most <= allowed else 'NOT held'}"
        )


if __name__ == "__main__":
    main()
