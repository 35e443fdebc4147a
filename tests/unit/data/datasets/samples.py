"""A small sample of each data set, written in the official layout by the format's own writer."""

import gzip
import hashlib
import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.io
import scipy.sparse
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

from tune_vae.data import Dataset
from tune_vae.data.datasets.arrays import Arrays
from tune_vae.data.datasets.celeba import Celeba
from tune_vae.data.datasets.cifar10 import Cifar10
from tune_vae.data.datasets.counts import Counts
from tune_vae.data.datasets.digits import Digits
from tune_vae.data.datasets.dsprites import Dsprites
from tune_vae.data.datasets.fashion_mnist import FashionMnist
from tune_vae.data.datasets.frey_face import FreyFace
from tune_vae.data.datasets.image_folder import ImageFolder
from tune_vae.data.datasets.mnist import Mnist
from tune_vae.data.datasets.omniglot import Omniglot
from tune_vae.data.datasets.svhn import Svhn
from tune_vae.data.datasets.synthetic import Synthetic

__all__ = ["SAMPLES", "Sample", "md5", "noise", "official", "smooth", "write_idx"]


@dataclass(frozen=True)
class Sample:
    """What was written, and the data set that reads it.

    Arguments:
        dataset: With arguments that fit the sample's size.
        files: All that it needs.
        images, labels: All examples, the official training ones first.
        test: How many of the last ones are the official test; None when there is none.
    """

    dataset: Dataset
    files: list[Path]
    images: Tensor
    labels: Tensor | None
    test: int | None


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def noise(*shape: int, seed: int = 0, below: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(below, shape, generator=generator, dtype=torch.uint8)


def smooth(height: int, width: int, seed: int) -> Image.Image:
    """A picture in colours that survives JPEG about as a photograph does."""
    coarse = noise(height // 16 + 2, width // 16 + 2, 3, seed=seed).numpy()
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def official(file: Path, *, crop: int, size: int) -> Tensor:
    """A picture as torchvision cuts and resizes it."""
    with Image.open(file) as picture:
        steps = [CenterCrop(crop), Resize(size), PILToTensor()]
        return Compose(steps)(picture.convert("RGB"))


def write_idx(file: Path, values: Tensor) -> Path:
    """As the authors of MNIST describe it; packed when the name ends in `.gz`."""
    content = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    content += bytes(values.flatten().tolist())
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


def mnist_files(root: Path, folder: str, end: str, dataset: Dataset) -> Sample:
    images, labels = noise(42, 28, 28), torch.arange(42) * 3 % 10
    raw = root / folder / "raw"
    files = [
        write_idx(raw / f"train-images-idx3-ubyte{end}", images[:30]),
        write_idx(raw / f"train-labels-idx1-ubyte{end}", labels[:30]),
        write_idx(raw / f"t10k-images-idx3-ubyte{end}", images[30:]),
        write_idx(raw / f"t10k-labels-idx1-ubyte{end}", labels[30:]),
    ]
    return Sample(dataset, files, images[:, None], labels, 12)


def fashion_mnist(root: Path) -> Sample:
    return mnist_files(root, "FashionMNIST", ".gz", FashionMnist(root=str(root), validation=9))


def mnist(root: Path) -> Sample:
    return mnist_files(root, "MNIST", "", Mnist(root=str(root), validation=9))


def svhn(root: Path) -> Sample:
    images, labels = noise(20, 3, 32, 32), torch.arange(20) % 10
    parts = {"train": slice(0, 14), "test": slice(14, 20)}
    for name, part in parts.items():
        scipy.io.savemat(
            root / f"{name}_32x32.mat",
            {
                "X": images[part].permute(2, 3, 1, 0).numpy(),
                # There a 0 is a 10, in a column of its own.
                "y": torch.where(labels[part] == 0, 10, labels[part])[:, None].byte().numpy(),
            },
        )
    files = [root / f"{name}_32x32.mat" for name in parts]
    return Sample(Svhn(root=str(root), validation=4), files, images, labels, 6)


class Python2Pickler(pickle._Pickler):
    """Writes text, bytes and booleans in the way of Python 2, which pickled CIFAR-10."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_text(self, given: str | bytes) -> None:
        content = given.encode("latin1") if isinstance(given, str) else given
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(given)

    def save_bool(self, given: bool) -> None:
        self.save_long(int(given))

    dispatch[str] = dispatch[bytes] = save_text
    dispatch[bool] = save_bool


def write_batch(file: Path, content: object) -> Path:
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(content)
    # Where numpy kept the function then.
    pickled = stream.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickled)
    return file


def cifar10(root: Path) -> Sample:
    images, labels = noise(24, 3, 32, 32), torch.arange(24) * 7 % 10
    folder = root / "cifar-10-batches-py"
    files = []
    for number, part in enumerate(torch.arange(24).split(4), start=1):
        content = {
            "batch_label": f"training batch {number} of 5",
            "labels": labels[part].tolist(),
            "data": images[part].flatten(1).numpy(),
            "filenames": [f"tree_{one}.png" for one in part.tolist()],
        }
        name = f"data_batch_{number}" if number < 6 else "test_batch"
        files.append(write_batch(folder / name, content))
    write_batch(folder / "batches.meta", {"label_names": [f"kind {one}" for one in range(10)]})
    return Sample(Cifar10(root=str(root), validation=5), files, images, labels, 4)


def omniglot(root: Path) -> Sample:
    ink = noise(20, 1, 105, 105, below=2)
    alphabets = {
        "images_background": ["Latin/character01", "Latin/character02", "Greek/character01"],
        "images_evaluation": ["Tifinagh/character01", "Tifinagh/character02"],
    }
    files, labels, drawn, first = [], [], 0, 0
    for archive_name, characters in alphabets.items():
        file = root / "omniglot-py" / f"{archive_name}.zip"
        file.parent.mkdir(parents=True, exist_ok=True)
        files.append(file)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{archive_name}/", "")
            for character in characters:
                for person in range(4):
                    # Black ink on white paper, one bit a pixel.
                    paper = Image.fromarray((ink[drawn, 0] == 0).numpy())
                    assert paper.mode == "1"
                    png = io.BytesIO()
                    paper.save(png, "PNG")
                    name = f"{archive_name}/{character}/{drawn:04}_{person:02}.png"
                    archive.writestr(name, png.getvalue())
                    labels.append(first + sorted(characters).index(character))
                    drawn += 1
        first += len(characters)
    dataset = Omniglot(root=str(root), size=None, validation=3)
    return Sample(dataset, files, ink, torch.tensor(labels), 8)


def frey_face(root: Path) -> Sample:
    images = noise(30, 1, 28, 20)
    file = root / "frey_rawface.mat"
    scipy.io.savemat(file, {"ff": images.flatten(1).T.numpy()})
    return Sample(FreyFace(root=str(root), validation=5, test=6), [file], images, None, None)


def counts(root: Path) -> Sample:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-9, 5, (40, 12), generator=generator, dtype=torch.int32).clamp(min=0)
    # No two cells alike, and more than a byte holds.
    values[:, 3] = 100 * torch.arange(40)
    file, labels, batches = root / "counts.npz", root / "labels.txt", root / "batches.npy"
    scipy.sparse.save_npz(file, scipy.sparse.csr_matrix(values.numpy()))
    classes = torch.arange(40) % 3
    labels.write_text("".join(f"{'ABC'[one]}\n" for one in classes.tolist()))
    np.save(batches, (torch.arange(40) % 5).numpy())
    dataset = Counts(path=str(file), labels=str(labels), covariate=str(batches))
    return Sample(dataset, [file, labels, batches], values[:, None, None, :], classes, None)


def arrays(root: Path) -> Sample:
    images, labels = noise(30, 10, 12, 3), torch.arange(30) % 4
    file = root / "images.npz"
    np.savez(file, pixels=images.numpy(), kinds=labels.numpy())
    dataset = Arrays(path=str(file), labels="kinds")
    return Sample(dataset, [file], images.permute(0, 3, 1, 2), labels, None)


def celeba(root: Path) -> Sample:
    """The official layout; the list of attributes has its number and headings above it."""
    folder = root / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    names = [f"{number:06}.jpg" for number in range(1, 25)]
    for seed, name in enumerate(names):
        smooth(218, 178, seed).save(folder / name, quality=90)
    parts = [0] * 12 + [1] * 5 + [2] * 7
    smiling = torch.arange(24) % 2
    partition = folder.parent / "list_eval_partition.txt"
    partition.write_text(
        "".join(f"{name} {part}\n" for name, part in zip(names, parts, strict=True))
    )
    attributes = folder.parent / "list_attr_celeba.txt"
    rows = [f"{n} {-1:2d} {2 * s - 1:2d}" for n, s in zip(names, smiling.tolist(), strict=True)]
    attributes.write_text("\n".join([str(len(rows)), "Bald Smiling ", *rows]) + "\n")
    images = torch.stack([official(folder / name, crop=148, size=64) for name in names])
    dataset = Celeba(root=str(root), attribute="Smiling")
    files = [partition, folder / names[0], attributes]
    return Sample(dataset, files, images, smiling, 7)


def dsprites(root: Path) -> Sample:
    images = noise(40, 64, 64, below=2)
    classes = torch.arange(40)[:, None] // torch.tensor([40, 14, 7, 1, 2, 4]) % 3
    classes[:, 0] = 0
    file = root / "dsprites" / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
    file.parent.mkdir()
    np.savez_compressed(
        file,
        # Of this array the official file has objects, which nobody should unpickle.
        metadata=np.array({"title": "dSprites"}, dtype=object),
        imgs=images.numpy(),
        latents_classes=classes.numpy(),
        latents_values=classes.double().numpy(),
    )
    dataset = Dsprites(root=str(root), validation=6, test=5)
    return Sample(dataset, [file], images[:, None], classes[:, 1], None)


def image_folder(root: Path) -> Sample:
    """A tree of two kinds of pictures, in several formats and sizes."""
    ends = [".jpg", ".png", ".JPEG", ".bmp", ".webp", ".tif", ".ppm", ".gif"]
    files, images, labels = [], [], []
    for number in range(24):
        folder = root / "pictures" / ("cats", "dogs")[number % 2] / f"{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{number}{ends[number % 8]}"
        smooth(40 + number, 50, number).save(file)
        files.append(file)
        images.append(official(file, crop=40, size=16))
        labels.append(number % 2)
    dataset = ImageFolder(root=str(root / "pictures"), size=16, crop=40)
    return Sample(dataset, files, torch.stack(images), torch.tensor(labels), None)


def synthetic(_: Path) -> Sample:
    dataset = Synthetic(size=16, examples=60, validation=9, test=8)
    data = dataset.load()
    assert data.labels
    # They come in no order of their own; let it be another one than that of the splits.
    images = torch.cat([data.test, data.validation, data.train])
    return Sample(dataset, [], images, torch.cat(data.labels[::-1]), None)


def digits(_: Path) -> Sample:
    from sklearn.datasets import load_digits

    held: Any = load_digits()
    images = torch.from_numpy(held.images.astype(np.uint8))[:, None]
    return Sample(Digits(), [], images, torch.from_numpy(held.target).long(), None)


SAMPLES: dict[str, Callable[[Path], Sample]] = {
    writer.__name__: writer
    for writer in (
        arrays,
        celeba,
        cifar10,
        counts,
        digits,
        dsprites,
        fashion_mnist,
        frey_face,
        image_folder,
        mnist,
        omniglot,
        svhn,
        synthetic,
    )
}
"""By the name of the data set; each writes its files into a folder."""
