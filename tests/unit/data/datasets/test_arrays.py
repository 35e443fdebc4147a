"""Arrays in each format by its own writer, each layout, each type of number."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tune_vae.data.datasets.arrays import Arrays
from tune_vae.errors import DataError

VALUES = np.random.default_rng(0).integers(256, size=(20, 3, 6, 5), dtype=np.uint8)


def rows(dataset: Arrays) -> list[bytes]:
    data = dataset.load()
    whole = torch.cat([data.train, data.validation, data.test])
    return sorted(row.numpy().tobytes() for row in whole)


RIGHT = sorted(row.tobytes() for row in VALUES)


def saved(folder: Path, values: Any, **arguments: Any) -> Arrays:
    np.save(folder / "images.npy", values)
    return Arrays(path=str(folder / "images.npy"), **arguments)


def test_every_format_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VALUES)
    np.save(tmp_path / "f.npy", np.asfortranarray(VALUES))
    np.savez(tmp_path / "a.npz", VALUES)
    np.savez_compressed(tmp_path / "b.npz", x=VALUES, notes=np.array([{}], dtype=object))
    torch.save(torch.from_numpy(VALUES), tmp_path / "a.pt")
    torch.save({"x": torch.from_numpy(VALUES), "y": 3}, tmp_path / "a.pth")
    torch.save(torch.from_numpy(VALUES), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for file in tmp_path.iterdir():
        assert rows(Arrays(path=str(file))) == RIGHT, file


@pytest.mark.parametrize(
    ("layout", "axes"), [("NCHW", (0, 1, 2, 3)), ("NHWC", (0, 2, 3, 1)), ("auto", (0, 2, 3, 1))]
)
def test_layouts_of_colour(layout: str, axes: tuple[int, ...], tmp_path: Path) -> None:
    assert rows(saved(tmp_path, VALUES.transpose(axes), layout=layout)) == RIGHT


def test_three_axes_are_grey(tmp_path: Path) -> None:
    data = saved(tmp_path, VALUES[:, 0]).load()
    assert data.shape == (1, 6, 5)


def test_ambiguous_layout_is_asked_for(tmp_path: Path) -> None:
    square = VALUES[:, :, :3, :3]
    with pytest.raises(DataError, match=r"axes \[20, 3, 3, 3\]; say what they mean with `layout"):
        saved(tmp_path, square).load()
    first = saved(tmp_path, square, layout="NCHW").load()
    last = saved(tmp_path, square, layout="NHWC").load()
    assert torch.equal(first.train, last.train.permute(0, 2, 3, 1))
    with pytest.raises(DataError, match="say what they mean"):
        saved(tmp_path, square, layout="NHW").load()


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.uint16])
def test_whole_numbers_stay(kind: Any, tmp_path: Path) -> None:
    assert rows(saved(tmp_path, VALUES.astype(kind))) == RIGHT


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_real_numbers_from_0_to_1_become_levels(kind: Any, tmp_path: Path) -> None:
    assert rows(saved(tmp_path, (VALUES / 255).astype(kind))) == RIGHT
    half = saved(tmp_path, np.full((20, 2, 2), 0.5, kind), levels=17).load()
    assert half.levels == 17
    assert half.train.unique().tolist() == [8]


def test_bool_has_two_levels(tmp_path: Path) -> None:
    data = saved(tmp_path, VALUES > 99).load()
    assert data.levels == 2
    assert data.train.unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("values", "levels", "says"),
    [
        (
            np.full((20, 2, 2), 1.5),
            256,
            r"holds 1.5 in image \d+, but real numbers must be",
        ),
        (np.full((20, 2, 2), -0.1), 256, r"holds -0.1 in image"),
        (np.full((20, 2, 2), np.nan), 256, r"holds nan in image"),
        (np.full((20, 2, 2), 256), 256, r"whole numbers must be from 0 to 255"),
        (np.full((20, 2, 2), -1), 256, r"holds -1 in image"),
        (np.full((20, 2, 2), 2, np.uint8), 2, r"holds 2 .* from 0 to 1, one less than `levels`"),
        (np.full((20, 2, 2), 1j), 256, r"holds complex128, not numbers"),
        (
            np.zeros((20, 4)),
            256,
            r"one array of three or four axes, it holds `` \[20, 4",
        ),
    ],
)
def test_values_that_are_no_images_are_refused(
    values: Any, levels: int, says: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=says):
        saved(tmp_path, values, levels=levels).load()


def test_array_is_named_when_there_are_several(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, x=VALUES, y=VALUES[:, ::-1])
    with pytest.raises(DataError, match=r"holds `x` \[20, 3, 6, 5\], `y` .*name the one"):
        Arrays(path=str(file)).load()
    with pytest.raises(DataError, match="has no array `z`; it has: `x`"):
        Arrays(path=str(file), images="z").load()
    assert rows(Arrays(path=str(file), images="x")) == RIGHT
    assert rows(Arrays(path=str(file), images="y")) != RIGHT


def test_labels_come_from_the_archive_or_from_a_file(tmp_path: Path) -> None:
    kinds = np.arange(20) % 4
    np.savez(tmp_path / "a.npz", x=VALUES, kind=kinds[:, None], short=kinds[:9])
    np.save(tmp_path / "kinds.npy", kinds)
    (tmp_path / "kinds.txt").write_text("\n".join("abcd"[kind] for kind in kinds))
    inside = Arrays(path=str(tmp_path / "a.npz"), labels="kind")
    truth = dict(zip((row.tobytes() for row in VALUES), kinds.tolist(), strict=True))
    for labels in ("kind", str(tmp_path / "kinds.npy"), str(tmp_path / "kinds.txt")):
        data = replace(inside, labels=labels).load()
        assert data.labels
        for images, known in zip(
            (data.train, data.validation, data.test), data.labels, strict=True
        ):
            assert [truth[image.numpy().tobytes()] for image in images] == known.tolist()
    with pytest.raises(DataError, match=r"not one label for each of 20 examples"):
        replace(inside, labels="short").load()
    with pytest.raises(DataError, match=r"labels are expected at .*/none, .*: `x` .*, `kind`"):
        replace(inside, labels=str(tmp_path / "none")).load()


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected at .*none\.npy: write `path"):
        Arrays(path=str(tmp_path / "none.npy")).load()
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"a\.csv must end in \.npy, \.npz, \.pt, \.pth"):
        Arrays(path=str(tmp_path / "a.csv")).load()
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(DataError, match="it holds a list, not a tensor or a dict of tensors"):
        Arrays(path=str(tmp_path / "list.pt")).load()
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"objects\.npy"):
        Arrays(path=str(tmp_path / "objects.npy")).load()


@pytest.mark.parametrize("ends", ["nothing", "half", "nearly all"])
@pytest.mark.parametrize("name", ["a.npy", "packed.npz", "a.pt", "dict.pth", "old.pt"])
def test_every_format_that_is_cut_off_is_named(name: str, ends: str, tmp_path: Path) -> None:
    file, values = tmp_path / name, torch.from_numpy(VALUES)
    {
        "a.npy": lambda: np.save(file, VALUES),
        "packed.npz": lambda: np.savez_compressed(file, x=VALUES),
        "a.pt": lambda: torch.save(values, file),
        "dict.pth": lambda: torch.save({"x": values}, file),
        "old.pt": lambda: torch.save(values, file, _use_new_zipfile_serialization=False),
    }[name]()
    whole = file.read_bytes()
    assert rows(Arrays(path=str(file))) == RIGHT
    kept = {"nothing": 0, "half": len(whole) // 2, "nearly all": -9}[ends]
    file.write_bytes(whole[:kept])
    with pytest.raises(DataError, match=f"^{file} is cut off"):
        Arrays(path=str(file)).load()


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"x": Path(tmp_path)}, tmp_path / "code.pt")
    with pytest.raises(DataError, match=r"code\.pt is cut off, damaged or not what its name says"):
        Arrays(path=str(tmp_path / "code.pt")).load()


def test_changed_file_is_read_anew(tmp_path: Path) -> None:
    first = saved(tmp_path, VALUES)
    assert rows(first) == RIGHT
    np.save(tmp_path / "images.npy", VALUES[:, ::-1])
    assert rows(first) == sorted(row.tobytes() for row in VALUES[:, ::-1])
