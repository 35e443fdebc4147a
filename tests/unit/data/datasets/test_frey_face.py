"""Frey Face: where in the file each pixel is."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from tests.unit.data.datasets.samples import SAMPLES, Sample
from tune_vae.data.datasets.frey_face import FreyFace
from tune_vae.errors import DataError


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return SAMPLES["frey_face"](tmp_path)


def test_a_column_is_a_face_row_after_row(tmp_path: Path) -> None:
    table = np.zeros((560, 12), np.uint8)
    # In face 4, the pixel in row 9 and column 17 of 20.
    table[9 * 20 + 17, 4] = 200
    scipy.io.savemat(tmp_path / "frey_rawface.mat", {"ff": table})
    data = FreyFace(root=str(tmp_path), validation=1, test=1).load()
    whole = torch.cat([data.train, data.validation, data.test])
    ((face, channel, row, column),) = whole.nonzero().tolist()
    assert (channel, row, column) == (0, 9, 17)
    assert whole[face, 0, 9, 17] == 200
    assert (data.levels, data.shape, data.labels) == (256, (1, 28, 20), None)


def test_reference_code_size_is_28_by_28(sample: Sample, tmp_path: Path) -> None:
    data = FreyFace(root=str(tmp_path), validation=5, test=6, size=28).load()
    assert data.values == 784
    assert (len(data.train), len(data.validation), len(data.test)) == (19, 5, 6)
    # Only the width changes, so the mean of each row stays to within a level or so.
    whole = sample.dataset.load()
    for wide, narrow in zip(data.train.double(), whole.train.double(), strict=True):
        assert (wide.mean(2) - narrow.mean(2)).abs().max() < 10


def test_cannot_be_downloaded_and_says_from_whom_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"frey_rawface\.mat \(1\.1 MB in all\); get it from .*Row"
    ):
        FreyFace(root=str(tmp_path)).load()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"ff": np.zeros((559, 9), np.uint8)}, r"uint8 \[559, 9\], not uint8 \[560, n\]"),
        ({"ff": np.zeros((560, 9))}, "float64"),
        ({"faces": np.zeros((560, 9), np.uint8)}, "KeyError: 'ff'"),
    ],
)
def test_wrongly_sized_file_is_named(
    content: dict[str, object], says: str, sample: Sample
) -> None:
    scipy.io.savemat(sample.files[0], content)
    with pytest.raises(DataError, match=rf"frey_rawface\.mat is cut off.*{says}"):
        sample.dataset.load()
