"""The archive of dSprites: its factors, and arrays that are others."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.data.datasets.samples import SAMPLES
from tune_vae.data.datasets.dsprites import Dsprites
from tune_vae.errors import DataError


def test_factors_are_those_of_the_images_without_the_only_colour(tmp_path: Path) -> None:
    sample = SAMPLES["dsprites"](tmp_path)
    data = sample.dataset.load()
    assert (data.levels, data.shape, len(data.validation), len(data.test)) == (
        2,
        (1, 64, 64),
        6,
        5,
    )
    assert data.factors
    assert data.labels
    with np.load(sample.files[0]) as held:
        known = {
            image.tobytes(): classes.tolist()
            for image, classes in zip(held["imgs"], held["latents_classes"], strict=True)
        }
    for images, factors, labels in zip(
        (data.train, data.validation, data.test), data.factors, data.labels, strict=True
    ):
        for image, factor, label in zip(images, factors.tolist(), labels.tolist(), strict=True):
            assert [0, *factor] == known[image.numpy().tobytes()]
            assert label == factor[0]


def test_archive_in_the_root_itself_is_found(tmp_path: Path) -> None:
    sample = SAMPLES["dsprites"](tmp_path)
    digest = sample.dataset.load().digest()
    sample.files[0].rename(tmp_path / sample.files[0].name)
    assert sample.dataset.load().digest() == digest


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("imgs", np.zeros((40, 64, 63), np.uint8), r"imgs is uint8 \[40, 64, 63\]"),
        ("imgs", np.zeros((40, 64, 64)), r"imgs is float64"),
        ("latents_classes", np.zeros((39, 6), int), r"latents_classes is int64 \[39, 6\]"),
        ("latents_classes", np.zeros((40, 5), int), r"not six whole numbers for each of 40"),
        ("imgs", None, "KeyError: 'imgs'"),
        ("imgs", np.full((40, 64, 64), 2, np.uint8), r"hold the value 2, but only 2 levels"),
    ],
)
def test_other_arrays_are_refused(
    name: str, values: np.ndarray | None, says: str, tmp_path: Path
) -> None:
    file = SAMPLES["dsprites"](tmp_path).files[0]
    with np.load(file) as held:
        arrays = {one: held[one] for one in ("imgs", "latents_classes")}
    arrays[name] = values  # type: ignore[assignment]
    np.savez(file, **{one: array for one, array in arrays.items() if array is not None})
    with pytest.raises(DataError, match=says):
        Dsprites(root=str(tmp_path), validation=6, test=5).load()


def test_limit_keeps_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_VAE_CACHE", str(tmp_path / "cache"))
    SAMPLES["dsprites"](tmp_path)
    data = Dsprites(root=str(tmp_path), validation=6, test=5, limit=9).load()
    (kept,) = (tmp_path / "cache").glob("*/images")
    assert kept.stat().st_size == 20 * 64 * 64
    assert isinstance(data.train, torch.Tensor)
