"""What counts as a data set, and when two of them are the same."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tune_vae.data import Splits, Targets, scale
from tune_vae.errors import DataError


def images(count: int = 4, seed: int = 0, *, shape: tuple[int, ...] = (1, 3, 5)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(17, (count, *shape), generator=generator, dtype=torch.uint8)


def splits() -> Splits:
    return Splits(train=images(6), validation=images(4, 1), test=images(3, 2), levels=17)


def test_shape_and_number_of_values_are_those_of_one_image() -> None:
    assert splits().shape == (1, 3, 5)
    assert splits().values == 15


@pytest.mark.parametrize("name", ["train", "validation", "test"])
@pytest.mark.parametrize(
    "broken",
    [images().float(), images().long(), images()[:, 0], images(0), images().flatten()],
    ids=["float", "long", "no channel", "empty", "flat"],
)
def test_images_of_the_wrong_kind_are_refused(name: str, broken: Tensor) -> None:
    with pytest.raises(DataError, match=rf"the {name} images must be a non-empty uint8 .* got "):
        replace(splits(), **{name: broken})


@pytest.mark.parametrize("name", ["validation", "test"])
def test_splits_of_different_shapes_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=rf"the {name} images have the shape \[1, 5, 3\]"):
        replace(splits(), **{name: images(shape=(1, 5, 3))})


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_value_beyond_the_stated_levels_is_refused(name: str) -> None:
    bright = images()
    bright[1, 0, 2, 2] = 17
    with pytest.raises(DataError, match=f"the {name} images hold the value 17, but only 17"):
        replace(splits(), **{name: bright})


@pytest.mark.parametrize("levels", [-1, 0, 1, 257])
def test_levels_that_a_byte_cannot_tell_apart_are_refused(levels: int) -> None:
    black = torch.zeros_like(images())
    with pytest.raises(DataError, match=f"levels must be from 2 to 256, .*, got {levels}"):
        Splits(train=black, validation=black, test=black, levels=levels)


def counts() -> Splits:
    data = splits()
    return Splits(
        train=data.train.int() * 1000,
        validation=data.validation.int(),
        test=data.test.int(),
        levels=None,
    )


def test_counts_have_no_largest_value_and_a_type_of_their_own() -> None:
    assert int(counts().train.max()) > 256
    with pytest.raises(DataError, match="the train images must be a non-empty int32 tensor"):
        replace(counts(), train=splits().train)
    with pytest.raises(DataError, match="the test images must be a non-empty uint8 tensor"):
        replace(splits(), test=counts().test)


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_count_below_zero_is_refused(name: str) -> None:
    below = counts().test.clone()
    below[1, 0, 2, 2] = -3
    with pytest.raises(DataError, match=f"the {name} counts hold -3, below 0"):
        replace(counts(), **{name: below})


@pytest.mark.parametrize("kind", ["labels", "factors", "covariate"])
@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_targets_must_be_as_many_as_the_examples(kind: str, name: str) -> None:
    targets = Targets(*(torch.zeros(count, dtype=torch.int64) for count in (6, 4, 3)))
    assert replace(splits(), **{kind: targets}).digest() == splits().digest()
    short = targets._replace(**{name: targets.test[:2]})
    with pytest.raises(DataError, match=f"2 labels for . {name} images"):
        replace(splits(), **{kind: short})
    below = targets._replace(**{name: getattr(targets, name) - 2})
    with pytest.raises(DataError, match=f"the {name} images have the label -2, below 0"):
        replace(splits(), **{kind: below})


def test_digest_depends_on_the_content_alone() -> None:
    data = splits()
    copied = Splits(
        train=data.train.clone(),
        # The same images, laid out otherwise in memory.
        validation=data.validation.transpose(2, 3).contiguous().transpose(2, 3),
        test=data.test.repeat(1, 2, 1, 1)[:, :1],
        levels=17,
    )
    assert copied.digest() == data.digest()
    assert len(data.digest()) == 16
    assert int(data.digest(), 16) >= 0


def test_digest_notices_every_change() -> None:
    data = splits()
    one_value = data.train.clone()
    one_value[5, 0, 2, 4] ^= 1
    turned = {
        name: getattr(data, name).transpose(2, 3) for name in ("train", "validation", "test")
    }
    reshaped = {
        name: getattr(data, name).reshape(-1, 1, 5, 3) for name in ("train", "validation", "test")
    }
    others = [
        replace(data, train=one_value),
        replace(data, train=data.train.flip(0)),
        replace(data, train=data.train[:5]),
        replace(data, validation=data.test, test=data.validation),
        replace(data, levels=18),
        Splits(
            train=data.train.int(),
            validation=data.validation.int(),
            test=data.test.int(),
            levels=None,
        ),
        replace(data, **turned),
        replace(data, **reshaped),
        # The last training image moves to the front of the validation images.
        replace(
            data,
            train=data.train[:5],
            validation=torch.cat([data.train[5:], data.validation]),
        ),
    ]
    assert len({data.digest(), *(other.digest() for other in others)}) == len(others) + 1


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_levels_are_spread_evenly_over_the_unit_interval(
    levels: int, device: torch.device
) -> None:
    scaled = scale(torch.arange(levels, dtype=torch.uint8, device=device), levels)
    assert scaled.dtype == torch.float32
    assert scaled.device.type == device.type
    expected = torch.linspace(0, 1, levels, dtype=torch.float64, device=device)
    torch.testing.assert_close(scaled.double(), expected, rtol=0, atol=1e-7)
    assert scaled[0] == 0
    assert scaled[-1] == 1


def test_counts_stay_what_they_are(device: torch.device) -> None:
    counted = torch.tensor([0, 1, 7, 2**24], dtype=torch.int32, device=device)
    scaled = scale(counted, None)
    assert scaled.dtype == torch.float32
    assert scaled.tolist() == [0.0, 1.0, 7.0, 2.0**24]
