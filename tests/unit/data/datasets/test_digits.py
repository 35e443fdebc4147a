import torch
from sklearn.datasets import load_digits

from tune_vae.data import Splits
from tune_vae.data.datasets.digits import Digits


def test_digits_are_small_and_have_17_levels(digits: Splits) -> None:
    assert [len(digits.train), len(digits.validation), len(digits.test)] == [1297, 250, 250]
    assert digits.shape == (1, 8, 8)
    assert digits.values == 64
    assert digits.levels == 17
    assert digits.train.unique().tolist() == list(range(17))


def test_splits_hold_each_digit_of_scikit_learn_once(digits: Splits) -> None:
    whole = torch.cat([digits.train, digits.validation, digits.test]).flatten(1)
    original = torch.from_numpy(load_digits().data).to(torch.uint8)
    assert sorted(map(tuple, whole.tolist())) == sorted(map(tuple, original.tolist()))


def test_split_seed_moves_images_between_the_splits(digits: Splits) -> None:
    assert Digits(split_seed=0).load().digest() == digits.digest()
    assert Digits(split_seed=1).load().digest() != digits.digest()


def test_split_is_that_of_the_studies_searched_before(digits: Splits) -> None:
    # A ledger refuses to go on with other images than those it began with.
    assert digits.digest() == "deade0b99056a501"
