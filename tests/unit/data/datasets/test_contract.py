"""What every data set guarantees, checked on a sample of every file of the family."""

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.discovery import component_classes, is_frozen
from tests.unit.data.datasets.samples import SAMPLES, Sample
from tune_vae.data import Splits
from tune_vae.errors import DataError

CLASSES = component_classes("data.datasets")

every_class = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)

FILES = {
    "arrays": 1,
    "celeba": 3,
    "cifar10": 6,
    "counts": 3,
    "digits": 0,
    "dsprites": 1,
    "fashion_mnist": 4,
    "frey_face": 1,
    "image_folder": 8,
    "mnist": 4,
    "omniglot": 2,
    "svhn": 2,
    "synthetic": 0,
}
"""How many different files a sample has; of pictures, one of each format."""

BROKEN = [
    pytest.param(name, index, id=f"{name}-{index}")
    for name, files in FILES.items()
    for index in range(files)
]


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Sample:
    return SAMPLES[request.param](tmp_path)


def names_of(kind: type) -> set[str]:
    return {field.name for field in fields(kind)}


def need(sample: Sample, *arguments: str) -> None:
    """Leave out data sets that do not take these arguments."""
    if not set(arguments) <= names_of(type(sample.dataset)):
        pytest.skip(f"takes no {' or '.join(arguments)}")


def altered(sample: Sample, **changes: Any) -> Splits:
    return replace(sample.dataset, **changes).load()


def rows(images: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


def test_every_data_set_has_a_sample() -> None:
    assert {kind.__module__.rpartition(".")[2] for kind in CLASSES} == set(SAMPLES)


@every_class
def test_data_set_is_a_frozen_value_that_loads_nothing_when_made(kind: type) -> None:
    assert is_frozen(kind)
    one = kind()
    assert len({one, kind(**vars(one))}) == 1


def test_every_example_is_in_one_split_with_its_label(sample: Sample) -> None:
    data = sample.dataset.load()
    kept = torch.cat([data.train, data.validation, data.test])
    assert kept.dtype == sample.images.dtype
    assert sorted(rows(kept)) == sorted(rows(sample.images))
    if sample.labels is None:
        assert data.labels is None
        return
    assert data.labels is not None
    assert all(one.dtype == torch.int64 for one in data.labels)
    label = dict(zip(rows(sample.images), sample.labels.tolist(), strict=True))
    assert torch.cat(data.labels).tolist() == [label[row] for row in rows(kept)]


def test_official_test_images_are_the_test_images_in_their_order(sample: Sample) -> None:
    data = sample.dataset.load()
    if sample.test is None:
        assert rows(data.test) != rows(sample.images[-len(data.test) :])
    else:
        assert torch.equal(data.test, sample.images[-sample.test :])


def test_images_are_the_same_on_every_load_whatever_the_global_seed(sample: Sample) -> None:
    data = sample.dataset.load()
    torch.manual_seed(torch.seed() % 1000)
    before = torch.random.get_rng_state()
    again = sample.dataset.load()
    assert again.digest() == data.digest()
    if data.labels and again.labels:
        assert all(map(torch.equal, again.labels, data.labels))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_no_image_is_in_two_splits(sample: Sample) -> None:
    data = sample.dataset.load()
    parts = [set(rows(split)) for split in (data.train, data.validation, data.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(sample.images)


def test_another_split_seed_carves_other_images(sample: Sample) -> None:
    need(sample, "split_seed")
    data, other = sample.dataset.load(), altered(sample, split_seed=1)
    assert set(rows(other.validation)) != set(rows(data.validation))
    assert (rows(other.test) == rows(data.test)) == (sample.test is not None)


def test_limit_keeps_the_first_training_images_and_all_others(sample: Sample) -> None:
    data, few = sample.dataset.load(), altered(sample, limit=3)
    assert torch.equal(few.train, data.train[:3])
    assert torch.equal(few.validation, data.validation)
    assert torch.equal(few.test, data.test)
    if data.labels and few.labels:
        assert torch.equal(few.labels.train, data.labels.train[:3])
    assert altered(sample, limit=10_000).digest() == data.digest()


@pytest.mark.parametrize(
    ("name", "index"), [one for one in BROKEN if one.values[0] != "image_folder"]
)
def test_absent_file_is_named_with_its_place(name: str, index: int, tmp_path: Path) -> None:
    sample = SAMPLES[name](tmp_path)
    sample.files[index].unlink()
    with pytest.raises(
        DataError, match=f"expected (at )?{re.escape(str(sample.files[index]))}"
    ) as told:
        sample.dataset.load()
    if "root" in names_of(type(sample.dataset)):
        # Of the public ones also how large they are, and how to get them.
        assert re.search(r"\([\d.]+ [MG]B in all\); .*get it from .* as `root`", str(told.value))
        offered = "`download: true`" in str(told.value)
        assert offered == ("download" in names_of(type(sample.dataset)))


@pytest.mark.parametrize("ends", ["nothing", "one byte", "half", "nearly all", "a web page"])
@pytest.mark.parametrize(("name", "index"), BROKEN)
def test_broken_file_is_named_and_nothing_else_is_raised(
    name: str, index: int, ends: str, tmp_path: Path
) -> None:
    sample = SAMPLES[name](tmp_path)
    file = sample.files[index]
    whole = file.read_bytes()
    file.write_bytes(
        {
            "nothing": b"",
            "one byte": whole[:1],
            "half": whole[: len(whole) // 2],
            # A .mat ends in up to seven bytes that mean nothing, a .png in twelve.
            "nearly all": whole[:-40],
            "a web page": b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n" * 30,
        }[ends]
    )
    with pytest.raises(DataError, match=re.escape(str(file))):
        sample.dataset.load()


def test_folder_in_place_of_a_file_counts_as_absent(tmp_path: Path) -> None:
    sample = SAMPLES["frey_face"](tmp_path)
    sample.files[0].unlink()
    sample.files[0].mkdir()
    with pytest.raises(DataError, match="expected "):
        sample.dataset.load()


@pytest.mark.parametrize("place", ["~/here", "here", "./elsewhere/../here"])
@pytest.mark.parametrize("name", [name for name, files in FILES.items() if files])
def test_paths_start_at_the_current_folder_or_at_home(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    sample = SAMPLES[name](tmp_path / "here")
    digest = sample.dataset.load().digest()
    monkeypatch.chdir(tmp_path / ("elsewhere" if place[0] == "~" else "."))
    monkeypatch.setenv("HOME", str(tmp_path))
    if name == "counts":
        assert altered(sample, path=f"{place}/counts.npz").digest() == digest
        assert altered(sample, labels=f"{place}/labels.txt").digest() == digest
    elif name == "arrays":
        assert altered(sample, path=f"{place}/images.npz").digest() == digest
    else:
        inner = "/pictures" if name == "image_folder" else ""
        assert altered(sample, root=f"{place}{inner}").digest() == digest


@every_class
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("split_seed", -1),
        ("split_seed", 2**63),
        ("draw_seed", -1),
        ("limit", 0),
        ("validation", 0),
        ("test", 0),
        ("size", 0),
        ("crop", 0),
        ("levels", 1),
        ("examples", 0),
        ("genes", 0),
        ("validation_share", 0.0),
        ("test_share", 1.0),
    ],
)
def test_argument_that_means_nothing_is_refused_by_name(
    kind: type, name: str, value: float
) -> None:
    if name not in names_of(kind):
        return
    with pytest.raises(ValueError, match=rf"^{name} must be .*, got {value}"):
        kind(**{name: value})


def test_validation_that_leaves_nothing_to_train_on_is_refused(sample: Sample) -> None:
    if "validation" not in names_of(type(sample.dataset)):
        return
    with pytest.raises(DataError, match="leaves none to train on"):
        altered(sample, validation=len(sample.images) - (sample.test or 0))
