import math

import pytest
import torch

from tune_vae.science.likelihoods.gaussian import Gaussian
from tune_vae.science.sigmas.per_gene_cell import PerGeneCell
from tune_vae.science.sigmas.per_pixel import PerPixel

SHAPE = (6, 1, 1)


@pytest.mark.parametrize("start", [0.3, 1.0])
def test_it_is_the_scale_of_per_pixel(start: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x, params = torch.ones(4, *SHAPE), torch.zeros(4, 1, *SHAPE)
    free = 5 * torch.randn(4, 1, *SHAPE, generator=generator)
    assert PerGeneCell.params_per_value == PerPixel.params_per_value == 1
    one, other = (
        make(start=start).build(SHAPE)(x, params, free, Gaussian())
        for make in (PerGeneCell, PerPixel)
    )
    assert torch.equal(one, other)


def test_only_its_own_kind_shares_a_pack_with_it() -> None:
    assert PerGeneCell(start=0.1).pack_key() == PerGeneCell(start=0.2).pack_key()
    assert PerGeneCell().pack_key() != PerPixel().pack_key()


@pytest.mark.parametrize("start", [0.0, -1.0, math.inf, math.nan])
def test_start_without_a_finite_logarithm_is_refused(start: float) -> None:
    with pytest.raises(ValueError, match=f"start must be positive and finite, got {start}"):
        PerGeneCell(start=start)
