"""SVHN against torchvision, which is told the sample's sums instead of the official ones."""

from pathlib import Path
from typing import Any

import pytest
import scipy.io
import torch
from torchvision.datasets import SVHN

from tests.unit.data.datasets.samples import SAMPLES, Sample, md5
from tune_vae.data.datasets.svhn import Svhn
from tune_vae.errors import DataError


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return SAMPLES["svhn"](tmp_path)


def test_torchvision_reads_the_same(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        split: ["", file.name, md5(file)]
        for split, file in zip(("train", "test"), sample.files, strict=True)
    }
    monkeypatch.setattr(SVHN, "split_list", files)
    train, test = (SVHN(str(tmp_path), split=split) for split in ("train", "test"))
    data = sample.dataset.load()
    assert (data.test.numpy() == test.data).all()
    assert data.labels is not None
    assert data.labels.test.tolist() == test.labels.tolist()
    official = dict(zip((image.tobytes() for image in train.data), train.labels, strict=True))
    assert [
        official[image.numpy().tobytes()] for image in data.train
    ] == data.labels.train.tolist()
    assert set(torch.cat(data.labels).tolist()) == set(range(10))
    assert (data.levels, data.shape) == (256, (3, 32, 32))


def test_size_resizes_all_splits(sample: Sample, tmp_path: Path) -> None:
    data = Svhn(root=str(tmp_path), validation=4, size=28).load()
    whole = sample.dataset.load()
    assert data.shape == (3, 28, 28)
    assert data.labels is not None
    assert whole.labels is not None
    assert all(map(torch.equal, data.labels, whole.labels))
    # Averages of neighbours: each image keeps its mean colour to within a level or so.
    for small, large in zip(data.train.double(), whole.train.double(), strict=True):
        assert (small.mean((1, 2)) - large.mean((1, 2))).abs().max() < 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"X": torch.zeros(32, 32, 3, 14)}, "float32"),
        (
            {"X": torch.zeros(3, 32, 32, 14).byte()},
            r"\[3, 32, 32, 14\], not uint8 \[32, 32, 3, n\]",
        ),
        ({"X": torch.zeros(32, 32, 3, 13).byte()}, "14 labels for 13 examples"),
        ({"X": None}, "KeyError: 'X'"),
        ({"y": None}, "KeyError: 'y'"),
    ],
)
def test_wrongly_sized_file_is_named(
    content: dict[str, torch.Tensor | None], says: str, sample: Sample
) -> None:
    held: dict[str, Any] = {
        "X": torch.ones(32, 32, 3, 14).byte(),
        "y": torch.ones(14, 1).byte(),
    } | content
    kept = {key: value.numpy() for key, value in held.items() if value is not None}
    scipy.io.savemat(sample.files[0], kept)
    with pytest.raises(DataError, match=f"train_32x32.mat is cut off.*{says}"):
        sample.dataset.load()
