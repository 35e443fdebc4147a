import gzip
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import sklearn.datasets
import torch
from sklearn.datasets import load_digits

from tune_vae.data import Splits
from tune_vae.data.datasets import digits as module
from tune_vae.data.datasets.digits import Digits
from tune_vae.errors import DataError


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


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the digits of a scikit-learn in another folder would be."""
    package = ModuleSpec("sklearn", None, is_package=True)
    package.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(module, "find_spec", lambda name: package)
    (tmp_path / "datasets" / "data").mkdir(parents=True)
    return tmp_path / "datasets" / "data" / "digits.csv.gz"


def test_absent_file_is_named_with_its_size_and_a_remedy(other: Path) -> None:
    with pytest.raises(DataError, match=rf"expected at {other}, .* \(58 kB\); install it again"):
        Digits().load()


@pytest.mark.parametrize("ends", [0, 1, 30_000, -40])
def test_broken_file_is_named(other: Path, ends: int) -> None:
    whole = Path(sklearn.datasets.__file__).parent / "data" / "digits.csv.gz"
    other.write_bytes(whole.read_bytes()[:ends])
    with pytest.raises(DataError, match=f"^{other} is cut off"):
        Digits().load()


@pytest.mark.parametrize("content", ["1,2,3\n4,5,6\n", "1,2\n1\n", "300,1\n", "a,b\n"])
def test_file_of_something_else_is_named(other: Path, content: str) -> None:
    other.write_bytes(gzip.compress(content.encode()))
    with pytest.raises(DataError, match=f"^{other} is cut off"):
        Digits().load()
