"""What preparing pictures costs, and what it saves.

    python -m tests.benchmarks.prepared_pictures [--pictures 20000] [--readers 4]

Writes that many JPEGs of 178×218 pixels into a temporary folder, prepares them at 64×64 as CelebA
is, opens them again, and then lets several processes at once go through one epoch of batches.
Memory is the proportional set size (Linux), so that shared pages count once.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

READER = """
import sys, time
import torch
from tests.factories import member
from tune_vae.data.datasets.image_folder import ImageFolder
from tune_vae.training.trainer import Trainer
torch.set_num_threads(1)

def own():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:")) / 1024

begin = time.perf_counter()
data = ImageFolder(root=sys.argv[1], crop=148).load()
seconds = time.perf_counter() - begin
print("loaded", f"{seconds:.2f} s", data.digest(), flush=True)
before = own()
training = Trainer([member()], data)
order = torch.randperm(len(training._train))
for batch in order.split(128):
    training._train[batch].float().mean()
print("read", f"{own() - before:.0f}", flush=True)
sys.stdin.read()
"""


def write(folder: Path, numbers: range) -> None:
    from tests.unit.data.datasets.samples import smooth

    for number in numbers:
        smooth(218, 178, number).save(folder / f"{number:06}.jpg", quality=90)


def start(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", READER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def answer(reader: "subprocess.Popen[str]", word: str) -> str:
    assert reader.stdout
    line = reader.stdout.readline()
    assert line.startswith(word), line
    return line.removeprefix(word).strip()


def end(reader: "subprocess.Popen[str]") -> None:
    reader.communicate()


def proportional(process: int, file: str) -> float:
    """MiB of a process's mappings of a file; of all its mappings for the empty name."""
    total, counts = 0, False
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            counts = line.endswith(file)
        elif counts and line.startswith("Pss:"):
            total += int(line.split()[1])
    return total / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--readers", type=int, default=4)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["TUNE_VAE_CACHE"] = f"{place}/cache"
        folder = Path(place, "pictures")
        folder.mkdir()
        begin = time.perf_counter()
        with ProcessPoolExecutor() as pool:
            parts = [range(i, wanted.pictures, 16) for i in range(16)]
            list(pool.map(write, [folder] * 16, parts))
        print(f"wrote {wanted.pictures:,} pictures in {time.perf_counter() - begin:.1f} s")

        for which in ("first", "second"):
            reader = start(folder)
            print(f"{which} start: loaded in {answer(reader, 'loaded').split(' s')[0]} s")
            end(reader)
        (images,) = Path(place, "cache").glob("*/images")
        print(f"the file has {images.stat().st_size / 2**20:.0f} MiB")

        readers = [start(folder) for _ in range(wanted.readers)]
        for reader in readers:
            answer(reader, "loaded")
        # Each waits after its epoch, so that all are alive when they are measured.
        grown = [answer(reader, "read") for reader in readers]
        whole = sum(proportional(reader.pid, "") for reader in readers)
        shared = sum(proportional(reader.pid, str(images)) for reader in readers)
        for reader in readers:
            end(reader)
        print(
            f"{wanted.readers} processes after an epoch each: {whole:.0f} MiB together, "
            f"{shared:.0f} MiB of them the file; its memory of its own grew in each by "
            f"{', '.join(grown)} MiB"
        )


if __name__ == "__main__":
    main()
