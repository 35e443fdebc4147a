import math

import pytest
import torch

from tune_vae.science.networks.counts import Counts


def first_layer(x: torch.Tensor) -> torch.Tensor:
    encoder, _ = Counts(hidden=(4,)).build((1, 1, x.shape[-1]), 2, 1)
    return encoder[0](x.log1p())


def test_encoder_sees_shares_of_ten_thousand_and_the_library() -> None:
    """Worked by hand: 3 of 8 counts are 3,750 of 10,000."""
    (seen,) = first_layer(torch.tensor([[[[3.0, 5.0, 0.0]]]], dtype=torch.float64)).tolist()
    assert seen == pytest.approx([math.log(3751), math.log(6251), 0.0, math.log(8e-4)])


def test_counting_twice_as_deeply_moves_the_library_only() -> None:
    x = torch.randint(0, 50, (6, 1, 1, 9), generator=torch.Generator().manual_seed(0)).double()
    once, twice = first_layer(x), first_layer(2 * x)
    torch.testing.assert_close(twice[:, :-1], once[:, :-1])
    torch.testing.assert_close(twice[:, -1], once[:, -1] + math.log(2))


def test_example_without_counts_is_finite() -> None:
    encoder, _ = Counts().build((1, 1, 5), 2, 1)
    assert encoder(torch.zeros(1, 1, 1, 5)).isfinite().all()


def test_largest_counts_that_data_may_hold_are_finite() -> None:
    encoder, _ = Counts().build((1, 1, 5), 2, 1)
    x = torch.full((1, 1, 1, 5), 2.0**31)
    assert encoder(x.log1p()).isfinite().all()


@pytest.mark.parametrize("hidden", [(), (16, 0)])
def test_network_without_hidden_layers_is_refused(hidden: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="hidden must name at least 1 positive width"):
        Counts(hidden=hidden)
