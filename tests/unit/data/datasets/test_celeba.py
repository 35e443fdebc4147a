"""CelebA against torchvision's own reading, its lists, and pictures that are no such faces."""

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torchvision.datasets import CelebA as Official
from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

from tests.unit.data.datasets.samples import SAMPLES, Sample, md5, smooth
from tune_vae.data.datasets.celeba import Celeba
from tune_vae.errors import DataError


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return SAMPLES["celeba"](tmp_path)


def test_torchvision_reads_the_same_splits_faces_and_attributes(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("identity_CelebA.txt", "list_bbox_celeba.txt", "list_landmarks_align_celeba.txt"):
        rows = "".join(f"{number:06}.jpg 1\n" for number in range(1, 25))
        head = "" if name.startswith("identity") else "24\nfirst\n"
        (tmp_path / "celeba" / name).write_text(head + rows)
    monkeypatch.setattr(Official, "_check_integrity", lambda self: True)
    data = sample.dataset.load()
    assert data.labels
    crop = Compose([CenterCrop(148), Resize(64), PILToTensor()])
    for split, ours, labels in zip(
        ("train", "valid", "test"),
        (data.train, data.validation, data.test),
        data.labels,
        strict=True,
    ):
        theirs = Official(str(tmp_path), split=split, transform=crop)
        smiling = theirs.attr_names.index("Smiling")
        assert len(theirs) == len(ours)
        for (face, attributes), our_face, label in zip(theirs, ours, labels, strict=True):
            assert torch.equal(face, our_face)
            assert attributes[smiling] == label


def test_lists_with_commas_and_the_root_itself_are_read(sample: Sample, tmp_path: Path) -> None:
    digest, labels = sample.dataset.load().digest(), sample.dataset.load().labels
    folder = tmp_path / "celeba"
    for name, heading in (("list_eval_partition", "image_id,partition"), ("list_attr_celeba", "")):
        lines = (folder / f"{name}.txt").read_text().splitlines()
        rows = [re.sub(" +", ",", line.strip()) for line in lines if ".jpg" in line]
        text = "\n".join([heading or "image_id,Bald,Smiling", *rows])
        (tmp_path / f"{name}.csv").write_text(text)
    (folder / "img_align_celeba").rename(tmp_path / "img_align_celeba")
    shutil.rmtree(folder)
    found = sample.dataset.load()
    assert found.digest() == digest
    assert found.labels
    assert labels
    assert all(map(torch.equal, found.labels, labels))


def test_attribute_is_by_name_and_none_means_no_labels(sample: Sample) -> None:
    bald = replace(sample.dataset, attribute="Bald").load()
    assert bald.labels
    assert not torch.cat(bald.labels).any()
    assert replace(sample.dataset, attribute=None).load().labels is None
    with pytest.raises(DataError, match="no attribute `Blad`; it has: Bald, Smiling"):
        replace(sample.dataset, attribute="Blad").load()


def test_without_labels_their_list_need_not_be_there(sample: Sample) -> None:
    sample.files[2].unlink()
    assert replace(sample.dataset, attribute=None).load().labels is None


def test_limit_decodes_no_others(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "celeba" / "img_align_celeba" / "000009.jpg").write_bytes(b"")
    assert len(replace(sample.dataset, limit=8).load().train) == 8
    with pytest.raises(DataError, match=r"000009\.jpg"):
        replace(sample.dataset, limit=9).load()


@pytest.mark.parametrize("size", [None, 32])
def test_no_crop_is_the_whole_width(size: int | None, sample: Sample) -> None:
    found = replace(sample.dataset, crop=None, size=size).load()
    assert found.shape == (3, size or 178, size or 178)
    with pytest.raises(ValueError, match="crop must be at most 178, got 179"):
        Celeba(crop=179)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda file: file.unlink(), "cannot be opened: No such file"),
        (lambda file: file.write_bytes(file.read_bytes()[:900]), "is cut off"),
        (lambda file: smooth(178, 218, 0).save(file), "is 178 pixels high and 218 wide, not 218"),
        (lambda file: smooth(218, 178, 0).convert("L").save(file), "is grey, where colour"),
    ],
)
def test_bad_face_is_named_or_left_out(
    damage: object, says: str, sample: Sample, tmp_path: Path
) -> None:
    damage(tmp_path / "celeba" / "img_align_celeba" / "000014.jpg")  # type: ignore[operator]
    with pytest.raises(DataError, match=rf"000014\.jpg {says}"):
        sample.dataset.load()
    good = replace(sample.dataset, skip_broken=True).load()
    assert good.skipped == 1
    assert torch.equal(good.validation, sample.images[[12, 14, 15, 16]])
    assert good.labels
    assert good.labels.validation.tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("list_eval_partition.txt", "000001.jpg 0\n000002.jpg\n", "is no list of pictures"),
        ("list_eval_partition.txt", "000001.jpg 0\n000002.jpg 5\n", "is cut off"),
        ("list_eval_partition.txt", "000001.jpg 0\nx\n000002.jpg 0\n", "is no list of pictures"),
        ("list_eval_partition.txt", "000001.jpg 0\n", "does not list 000002.jpg and 22 more"),
        ("list_attr_celeba.txt", "24\nSmiling\n000001.jpg 1\n", "states 24 pictures, but lists 1"),
        ("list_attr_celeba.txt", "Smiling\n000001.jpg 1\n", "000002.jpg"),
    ],
)
def test_bad_list_is_named(
    file: str, text: str, says: str, sample: Sample, tmp_path: Path
) -> None:
    (tmp_path / "celeba" / file).write_text(text)
    with pytest.raises(DataError, match=f"{file}.*{says}"):
        sample.dataset.load()


class Drive(ModuleType):
    """The package gdown, whose drive is a folder of this machine."""

    def __init__(self, files: dict[str, Path]) -> None:
        super().__init__("gdown")
        self.files = files

    def download(self, id: str, output: str, **_: object) -> None:
        if id not in self.files:
            raise LookupError("Cannot retrieve the public link: too many users have viewed it")
        shutil.copy(self.files[id], output)


def test_absent_files_are_downloaded_from_the_drive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = SAMPLES["celeba"](tmp_path / "there")
    archive = shutil.make_archive(
        str(tmp_path / "img_align_celeba"),
        "zip",
        tmp_path / "there" / "celeba",
        "img_align_celeba",
    )
    files = {"list_eval_partition.txt": sample.files[0], "list_attr_celeba.txt": sample.files[2]}
    files["img_align_celeba.zip"] = Path(archive)
    listed = [(name, md5(file), name) for name, file in files.items()]
    monkeypatch.setattr(Official, "file_list", listed)
    drive = Drive(files)
    monkeypatch.setitem(sys.modules, "gdown", drive)
    here = tmp_path / "here"
    wanted = replace(sample.dataset, root=str(here), download=True)

    absent = drive.files.pop("img_align_celeba.zip")
    with pytest.raises(DataError, match=r"could not be downloaded.*too many users.*get it from"):
        wanted.load()
    drive.files["img_align_celeba.zip"] = absent
    assert wanted.load().digest() == sample.dataset.load().digest()
    assert sorted(file.name for file in (here / "celeba").iterdir()) == [
        "img_align_celeba",
        "list_attr_celeba.txt",
        "list_eval_partition.txt",
    ]
    assert not list(here.glob(".download*"))


def test_absent_package_of_the_drive_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(DataError, match=r"pip install gdown.*get it from the CelebA page"):
        Celeba(root=str(tmp_path), download=True).load()
