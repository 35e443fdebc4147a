"""Cutting: nothing lost, nothing twice, labels beside their images."""

import pytest
import torch

from tune_vae.data import Targets
from tune_vae.data.carving import Examples, carve, divide
from tune_vae.errors import DataError


def numbered(first: int, count: int, *, labelled: bool = True) -> Examples:
    """Examples whose only value is their number, and whose label is it plus 1000."""
    number = torch.arange(first, first + count)
    return Examples(
        number.to(torch.uint8)[:, None, None, None], number + 1000 if labelled else None
    )


def test_carving_takes_validation_from_training_and_leaves_the_test_alone() -> None:
    data = carve(
        numbered(0, 50), numbered(50, 20), levels=256, validation=15, split_seed=3, limit=None
    )
    train, validation, test = (
        part.flatten().tolist() for part in (data.train, data.validation, data.test)
    )
    assert (len(train), len(validation)) == (35, 15)
    assert sorted(train + validation) == list(range(50))
    assert test == list(range(50, 70))
    assert isinstance(data.labels, Targets)
    for part, labels in zip((train, validation, test), data.labels, strict=True):
        assert labels.tolist() == [number + 1000 for number in part]
    # Shuffled: neither the last nor the first ones are held back, nor in order.
    assert validation not in (sorted(validation), list(range(35, 50)), list(range(15)))


def test_dividing_uses_each_example_once() -> None:
    data = divide(numbered(0, 60), levels=256, validation=7, test=13, split_seed=0, limit=None)
    parts = [data.train, data.validation, data.test]
    assert [len(part) for part in parts] == [40, 7, 13]
    assert sorted(torch.cat(parts).flatten().tolist()) == list(range(60))
    assert data.labels is not None
    assert torch.equal(torch.cat(data.labels), torch.cat(parts).flatten().long() + 1000)


def test_every_example_is_held_back_by_some_seed_about_equally_often() -> None:
    held = torch.zeros(20)
    for seed in range(400):
        data = carve(
            numbered(0, 20), numbered(20, 1), levels=256, validation=5, split_seed=seed, limit=None
        )
        held[data.validation.flatten().long()] += 1
    # Binomial(400, 1/4): 100 ± 8.7; five standard deviations for the worst of twenty.
    assert (held - 100).abs().max() < 44


def test_limit_applies_to_training_after_the_split() -> None:
    whole, few = (
        divide(numbered(0, 60), levels=256, validation=7, test=13, split_seed=0, limit=limit)
        for limit in (None, 4)
    )
    assert torch.equal(few.train, whole.train[:4])
    assert torch.equal(few.validation, whole.validation)
    assert torch.equal(few.test, whole.test)


def test_without_labels_there_are_none() -> None:
    unlabelled = numbered(0, 9, labelled=False)
    rest = {"levels": 256, "validation": 2, "split_seed": 0, "limit": None}
    assert carve(unlabelled, unlabelled, **rest).labels is None
    assert carve(numbered(0, 9), unlabelled, **rest).labels is None


@pytest.mark.parametrize(("validation", "test"), [(5, 5), (10, 1), (1, 9)])
def test_holding_back_everything_is_refused(validation: int, test: int) -> None:
    with pytest.raises(
        DataError, match=f"holding back {validation} . {test} of 10 examples leaves"
    ):
        divide(
            numbered(0, 10), levels=256, validation=validation, test=test, split_seed=0, limit=None
        )


def test_labels_must_be_as_many_as_examples() -> None:
    with pytest.raises(ValueError, match="3 labels for 4 examples"):
        Examples(torch.zeros(4, 1, 1, 1, dtype=torch.uint8), torch.arange(3))
