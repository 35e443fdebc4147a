"""CIFAR-10 against torchvision, and that its pickles can run nothing."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from tests.unit.data.datasets.samples import SAMPLES, Sample, md5, write_batch
from tune_vae.data.datasets.cifar10 import Cifar10
from tune_vae.errors import DataError


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return SAMPLES["cifar10"](tmp_path)


@pytest.mark.filterwarnings("ignore:dtype.*align should be passed as Python or NumPy boolean")
def test_torchvision_reads_the_same(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = [[file.name, md5(file)] for file in sample.files]
    meta = CIFAR10.meta | {"md5": md5(sample.files[0].parent / "batches.meta")}
    monkeypatch.setattr(CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", sums[5:])
    monkeypatch.setattr(CIFAR10, "meta", meta)
    train, test = (CIFAR10(str(tmp_path), train=part) for part in (True, False))
    data = sample.dataset.load()
    # There the colour is the last axis.
    assert (data.test.numpy() == test.data.transpose(0, 3, 1, 2)).all()
    assert data.labels is not None
    assert data.labels.test.tolist() == test.targets
    pictures = (image.tobytes() for image in train.data.transpose(0, 3, 1, 2))
    official = dict(zip(pictures, train.targets, strict=True))
    assert [
        official[image.numpy().tobytes()] for image in data.train
    ] == data.labels.train.tolist()
    assert (data.levels, data.shape) == (256, (3, 32, 32))


def test_size_resizes_all_splits(sample: Sample, tmp_path: Path) -> None:
    data = Cifar10(root=str(tmp_path), validation=5, size=28).load()
    assert data.shape == (3, 28, 28)
    assert (len(data.train), len(data.validation), len(data.test)) == (15, 5, 4)


class Calls:
    """What is called with what when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._reduced = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


def test_pickle_that_calls_anything_is_refused_before_the_call(
    sample: Sample, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    write_batch(sample.files[2], {"data": Calls(os.mkdir, str(canary))})
    with pytest.raises(DataError, match=r"data_batch_3 is cut off.*it asks for posix\.mkdir"):
        sample.dataset.load()
    write_batch(sample.files[2], {"data": Calls(eval, f"open({str(canary)!r}, 'w')")})
    with pytest.raises(DataError, match=r"it asks for __builtin__\.eval"):
        sample.dataset.load()
    assert not canary.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"data": np.zeros((4, 3071), np.uint8), "labels": [0] * 4}, r"\[4, 3071\], not uint8"),
        ({"data": np.zeros((4, 3072), np.int64), "labels": [0] * 4}, "holds int64"),
        ({"data": np.zeros((3, 3072), np.uint8), "labels": [0] * 4}, "4 labels for 3 examples"),
        ({"data": [1, 2, 3], "labels": [0]}, "AttributeError"),
        ({"labels": [0]}, "KeyError: 'data'"),
        (["data"], "TypeError"),
    ],
)
def test_wrongly_sized_file_is_named(content: object, says: str, sample: Sample) -> None:
    write_batch(sample.files[0], content)
    with pytest.raises(DataError, match=f"data_batch_1 is cut off.*{says}"):
        sample.dataset.load()


def test_no_label_of_a_batch_is_lost(sample: Sample) -> None:
    data = sample.dataset.load()
    assert data.labels is not None
    assert sample.labels is not None
    assert torch.equal(
        torch.cat(data.labels).bincount(minlength=10), sample.labels.bincount(minlength=10)
    )
