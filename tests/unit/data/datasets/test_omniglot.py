"""Omniglot against torchvision, which unpacks the archives first."""

import io
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.datasets import Omniglot as Official
from torchvision.transforms import PILToTensor

from tests.unit.data.datasets.samples import SAMPLES, Sample, md5
from tune_vae.data.datasets.omniglot import Omniglot
from tune_vae.data.resizing import resized
from tune_vae.errors import DataError


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return SAMPLES["omniglot"](tmp_path)


def test_torchvision_reads_the_same_drawings(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Official, "zips_md5", {file.stem: md5(file) for file in sample.files})
    for file in sample.files:
        with zipfile.ZipFile(file) as archive:
            archive.extractall(file.parent)
    parts = [
        Official(str(tmp_path), background=part, transform=PILToTensor()) for part in (True, False)
    ]
    data = sample.dataset.load()
    drawn = [torch.cat([data.train, data.validation]), data.test]
    assert data.labels is not None
    labels = [torch.cat(data.labels[:2]), data.labels.test]
    for official, ours, classes in zip(parts, drawn, labels, strict=True):
        theirs = {}
        for paper, number in official:
            # The folders come in no order there, so classes are compared by their members.
            theirs[(paper == 0).byte().numpy().tobytes()] = official._characters[number]
        mine = [theirs.pop(image.numpy().tobytes()) for image in ours]
        assert not theirs
        pairs = set(zip(mine, classes.tolist(), strict=True))
        assert len(pairs) == len(set(mine)) == len(set(classes.tolist()))


def test_original_size_has_two_levels_and_28_has_greys(sample: Sample, tmp_path: Path) -> None:
    data = sample.dataset.load()
    assert (data.levels, data.shape) == (2, (1, 105, 105))
    small = Omniglot(root=str(tmp_path), validation=3).load()
    assert (small.levels, small.shape) == (256, (1, 28, 28))
    assert torch.equal(small.test, resized(255 * data.test, 28))


def test_characters_of_the_test_have_labels_of_their_own(sample: Sample) -> None:
    labels = sample.dataset.load().labels
    assert labels is not None
    assert set(torch.cat(labels[:2]).tolist()) == {0, 1, 2}
    assert set(labels.test.tolist()) == {3, 4}


def test_archives_in_the_root_itself_are_found(sample: Sample, tmp_path: Path) -> None:
    digest = sample.dataset.load().digest()
    for file in sample.files:
        file.rename(tmp_path / file.name)
    assert sample.dataset.load().digest() == digest


@pytest.mark.parametrize("sizes", [[(104, 105)], [(105, 105), (28, 28)]])
def test_drawings_of_another_size_are_refused(
    sizes: list[tuple[int, int]], sample: Sample
) -> None:
    with zipfile.ZipFile(sample.files[0], "w") as archive:
        for number, size in enumerate(sizes):
            png = io.BytesIO()
            Image.new("1", size).save(png, "PNG")
            archive.writestr(f"images_background/Latin/a/{number}.png", png.getvalue())
    with pytest.raises(DataError, match=r"images_background\.zip is cut off.*10[45]"):
        sample.dataset.load()


@pytest.mark.parametrize(
    ("name", "content"), [("odd.txt", b"no drawing"), ("a/b/torn.png", b"\x89PNG\r\n\x1a\n")]
)
def test_archive_without_good_drawings_is_named(name: str, content: bytes, sample: Sample) -> None:
    with zipfile.ZipFile(sample.files[1], "w") as archive:
        archive.writestr(name, content)
    with pytest.raises(DataError, match=r"images_evaluation\.zip is cut off"):
        sample.dataset.load()
