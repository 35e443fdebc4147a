"""How fast batches come: ours against torch's DataLoader, in one run.

    python -m tests.benchmarks.pictures.feeding [--images 20000] [--rounds 7] [--device cpu]

All arms give batches of 128 shuffled pictures of 3×64×64 bytes on the device, and do nothing with
them. In every round each goes through them once, in an order that is drawn anew; the first round
does not count. So all arms meet the same disturbances, and the ratios of a round are fair.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tests.benchmarks.pictures.folder import CROP, SIZE, written
from tests.unit.data.datasets.samples import official
from tune_vae.data.datasets.image_folder import ImageFolder
from tune_vae.training.feeding import batches, streamed

BATCH = 128
REFERENCE = "DataLoader, {workers} workers"


class Mapped(Dataset[Tensor]):
    """One example at a time out of the prepared file."""

    def __init__(self, images: Tensor) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        return self._images[index]


class Files(Dataset[Tensor]):
    """One picture at a time out of its file, as is customary without preparing."""

    def __init__(self, folder: Path) -> None:
        self._files = sorted(folder.iterdir())

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Tensor:
        return official(self._files[index], crop=CROP, size=SIZE)


def by_loader(data: Dataset[Tensor], workers: int, device: torch.device) -> Iterable[Tensor]:
    loader = DataLoader(
        data,
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=workers > 0,
    )

    class Moved:
        def __iter__(self) -> Iterator[Tensor]:
            return (batch.to(device, non_blocking=True) for batch in loader)

    return Moved()


def by_us(
    feed: Callable[[Tensor, Tensor, torch.device], Iterator[Tensor]],
    images: Tensor,
    device: torch.device,
) -> Iterable[Tensor]:
    class Fed:
        def __iter__(self) -> Iterator[Tensor]:
            steps = len(images) // BATCH
            order = torch.randperm(len(images))[: steps * BATCH].view(1, steps, BATCH)
            return feed(images, order, device)

    return Fed()


def rate(arm: Iterable[Tensor], device: torch.device) -> float:
    """Pictures a second over one pass."""
    begin, count = time.perf_counter(), 0
    for batch in arm:
        count += batch.shape[-4] * (batch.shape[0] if batch.ndim == 5 else 1)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return count / (time.perf_counter() - begin)


def spread(values: list[float], form: str) -> str:
    """Median, and the range of all."""
    middle = statistics.median(values)
    return f"{middle:{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    wanted = parser.parse_args()
    device, workers = torch.device(wanted.device), wanted.workers
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        os.environ["TUNE_VAE_CACHE"] = f"{place}/cache"
        folder = written(Path(place, "pictures"), wanted.images)
        images = ImageFolder(root=str(folder), size=SIZE, crop=CROP).load().train
        reference = REFERENCE.format(workers=workers)
        arms = {
            "resident": by_us(batches, images.clone().to(device), device),
            "streamed": by_us(streamed, images, device),
            "DataLoader, no workers": by_loader(Mapped(images), 0, device),
            reference: by_loader(Mapped(images), workers, device),
            f"{reference}, decoding JPEGs": by_loader(Files(folder), workers, device),
        }
        rates: dict[str, list[float]] = {name: [] for name in arms}
        for number in range(wanted.rounds + 1):
            for name in random.sample(list(arms), len(arms)):
                found = rate(arms[name], device)
                if number:
                    rates[name].append(found)
        print(f"| {len(images):,} pictures, {device} | pictures a second | times {reference} |")
        print("|---|---|---|")
        for name, each in rates.items():
            ratios = [one / other for one, other in zip(each, rates[reference], strict=True)]
            print(f"| {name} | {spread(each, ',.0f')} | {spread(ratios, '.2f')} |")


if __name__ == "__main__":
    main()
