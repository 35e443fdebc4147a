"""What every data set guarantees, checked on every file of the family that has its data."""

import pytest
import torch

from tests.discovery import component_classes, is_frozen
from tune_vae.data import Dataset, Splits
from tune_vae.errors import DataError

every_dataset = pytest.mark.parametrize(
    "dataset", [make() for make in component_classes("data.datasets")], ids=repr
)


def load(dataset: Dataset) -> Splits:
    try:
        return dataset.load()
    except DataError as error:
        pytest.skip(f"absent here: {error}")


@every_dataset
def test_data_set_is_a_frozen_value(dataset: Dataset) -> None:
    assert is_frozen(type(dataset))
    assert len({dataset, type(dataset)(**vars(dataset))}) == 1


@every_dataset
def test_images_are_the_same_on_every_load_whatever_the_global_seed(dataset: Dataset) -> None:
    data = load(dataset)
    torch.manual_seed(torch.seed() % 1000)
    before = torch.random.get_rng_state()
    assert dataset.load().digest() == data.digest()
    assert torch.equal(torch.random.get_rng_state(), before)


@every_dataset
def test_no_image_is_in_two_splits(dataset: Dataset) -> None:
    data = load(dataset)
    whole = torch.cat([data.train, data.validation, data.test]).flatten(1)
    parts = [
        {bytes(image) for image in split.flatten(1).numpy()}
        for split in (data.train, data.validation, data.test)
    ]
    assert len(torch.unique(whole, dim=0)) == len(whole) == sum(map(len, parts))
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
