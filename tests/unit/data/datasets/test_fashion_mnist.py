"""Fashion-MNIST against torchvision, in each of the places where its files may be."""

import gzip
from pathlib import Path

import pytest
import torch
from torchvision.datasets import FashionMNIST

from tests.unit.data.datasets.samples import SAMPLES, Sample, write_idx
from tune_vae.data.datasets.fashion_mnist import FashionMnist
from tune_vae.errors import DataError


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return SAMPLES["fashion_mnist"](tmp_path)


def test_torchvision_reads_the_same(sample: Sample, tmp_path: Path) -> None:
    for file in sample.files:
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    data = FashionMnist(root=str(tmp_path), validation=9).load()
    train, test = (FashionMNIST(str(tmp_path), train=part) for part in (True, False))
    assert torch.equal(data.test[:, 0], test.data)
    assert data.labels is not None
    assert torch.equal(data.labels.test, test.targets)
    label = {
        image.numpy().tobytes(): int(one)
        for image, one in zip(train.data, train.targets, strict=True)
    }
    assert [label[image.numpy().tobytes()] for image in data.train] == data.labels.train.tolist()
    assert (data.levels, data.shape) == (256, (1, 28, 28))


def test_four_files_in_the_root_itself_are_found(sample: Sample, tmp_path: Path) -> None:
    digest = sample.dataset.load().digest()
    for file in sample.files:
        file.rename(tmp_path / file.name)
    assert sample.dataset.load().digest() == digest


@pytest.mark.parametrize(
    ("index", "values", "says"),
    [
        (0, torch.zeros(30, 28, 27), r"shape \[30, 28, 27\], not \[n, 28, 28\]"),
        (0, torch.zeros(30), r"shape \[30\], not \[n, 28, 28\]"),
        (1, torch.zeros(29), "29 labels for 30 examples"),
        (3, torch.zeros(12, 1), r"shape \[12, 1\], not \[n\]"),
    ],
)
def test_wrongly_sized_file_is_named(
    index: int, values: torch.Tensor, says: str, sample: Sample
) -> None:
    file = write_idx(sample.files[index], values.byte())
    with pytest.raises(DataError, match=f"{file.name} is cut off.*{says}"):
        sample.dataset.load()
