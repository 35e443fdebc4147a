"""Folders as people keep them: labels, splits, and what lies about in them."""

from itertools import chain
from pathlib import Path

import pytest
import torch

from tests.unit.data.datasets.samples import official, smooth
from tune_vae.data.datasets.image_folder import ImageFolder
from tune_vae.errors import DataError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "tree"


def fill(tree: Path, **counts: int) -> None:
    """So many pictures in each folder; two underscores stand for a slash."""
    for place, count in counts.items():
        folder = tree / place.replace("__", "/").replace("root", ".")
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            smooth(16, 16, hash((place, number)) % 2**31).save(folder / f"{number}.png")


def load(tree: Path, **arguments: object) -> tuple[list[int], list[list[int]] | None]:
    """Number of pictures, and the labels, of each split."""
    data = ImageFolder(root=str(tree), size=8, **arguments).load()  # type: ignore[arg-type]
    labels = [part.tolist() for part in data.labels] if data.labels else None
    return [len(data.train), len(data.validation), len(data.test)], labels


def test_one_folder_has_no_labels(tree: Path) -> None:
    fill(tree, root=20)
    assert load(tree) == ([16, 2, 2], None)


def test_single_sub_folder_is_no_label(tree: Path) -> None:
    fill(tree, only=20)
    assert load(tree, validation_share=0.25, test_share=0.2) == ([11, 5, 4], None)


def test_sub_folders_are_labels_in_the_order_of_their_names(tree: Path) -> None:
    fill(tree, cat=6, dog__big=3, dog__small__old=3, ant=8)
    sizes, labels = load(tree)
    assert sizes == [16, 2, 2]
    assert labels
    assert sorted(chain.from_iterable(labels)) == [0] * 8 + [1] * 6 + [2] * 6


def test_pictures_beside_the_sub_folders_leave_all_without_labels(tree: Path) -> None:
    fill(tree, cat=6, dog=6, root=1)
    assert load(tree)[1] is None


def test_splits_in_folders_are_kept(tree: Path) -> None:
    fill(tree, train__cat=5, train__dog=5, val__cat=2, val__dog=1, test__cat=2, test__dog=2)
    data = ImageFolder(root=str(tree), size=8).load()
    assert data.labels
    for name, images, labels in zip(
        ("train", "val", "test"),
        (data.train, data.validation, data.test),
        data.labels,
        strict=True,
    ):
        found = {
            image.numpy().tobytes(): label
            for image, label in zip(images, labels.tolist(), strict=True)
        }
        assert found == {
            official(file, crop=16, size=8).numpy().tobytes(): ["cat", "dog"].index(
                file.parent.name
            )
            for file in (tree / name).rglob("*.png")
        }


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [
        ({"train": 20, "test": 7}, [18, 2, 7]),
        ({"train": 20, "valid": 7}, [18, 7, 2]),
        ({"training": 20}, [16, 2, 2]),
        ({"train": 20, "validation": 3, "testing": 4}, [20, 3, 4]),
    ],
)
def test_absent_splits_are_held_back_from_training(
    counts: dict[str, int], sizes: list[int], tree: Path
) -> None:
    fill(tree, **counts)
    assert load(tree) == (sizes, None)


def test_pictures_in_no_split_are_not_lost_in_silence(tree: Path) -> None:
    fill(tree, train=5, test=5, extra=5)
    with pytest.raises(DataError, match="pictures that are in no split: `extra`"):
        load(tree)


def test_what_is_no_picture_does_not_count(tree: Path) -> None:
    fill(tree, root=20, _hidden=1)
    (tree / "_hidden").rename(tree / ".hidden")
    (tree / "notes.txt").write_text("none")
    (tree / "._0.png").write_bytes(b"\x00\x05\x16\x07")
    (tree / ".DS_Store").write_bytes(b"")
    assert load(tree)[0] == [16, 2, 2]


def test_links_are_followed_and_circles_are_not(tree: Path, tmp_path: Path) -> None:
    fill(tree, root=10)
    fill(tmp_path / "elsewhere", root=10)
    (tree / "more").symlink_to(tmp_path / "elsewhere")
    (tree / "again").symlink_to(tree)
    assert load(tree)[0] == [16, 2, 2]


def test_absent_or_empty_folder_is_named(tree: Path) -> None:
    with pytest.raises(DataError, match=f"expected some in {tree} or its sub-folders"):
        load(tree)
    tree.mkdir()
    (tree / "notes.txt").write_text("none")
    with pytest.raises(DataError, match=r"names that end in \.bmp, .*write `root: …`"):
        load(tree)


def test_grey_pictures_are_told_how_to_be_read(tree: Path) -> None:
    fill(tree, root=20)
    smooth(16, 16, 0).convert("L").save(tree / "3.png")
    with pytest.raises(DataError, match=r"3\.png is grey, where colour is asked for"):
        load(tree)
    sizes, _ = load(tree, skip_broken=True)
    assert sum(sizes) == 19
    data = ImageFolder(root=str(tree), size=8, colour=False).load()
    assert data.shape == (1, 8, 8)
    assert data.skipped == 0


def test_whole_pictures_need_no_size(tree: Path) -> None:
    fill(tree, root=20)
    data = ImageFolder(root=str(tree), size=None).load()
    assert data.shape == (3, 16, 16)
    assert torch.unique(data.train).numel() > 2
