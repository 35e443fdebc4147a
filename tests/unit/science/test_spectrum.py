"""Eigenvalues against numpy's, of data that come in batches and of data that are sketched."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tune_vae.science.spectrum import Spectrum, largest_eigenvalue, spectrum


def data(rows: int, values: int, *, decay: float = 1.0, offset: float = 0.0) -> Tensor:
    """Rows whose variances fall as a power, in directions that are no axes."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.arange(1.0, values + 1).double() ** -decay
    turn = torch.linalg.qr(torch.randn(values, values, generator=generator).double()).Q
    noise = torch.randn(rows, values, generator=generator, dtype=torch.float64)
    return (noise * scales) @ turn + offset


def expected(x_nN: Tensor) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.linalg.eigvalsh(np.cov(x_nN.numpy(), rowvar=False, bias=True))[::-1]


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sketched of a few hundred values, as it would be of thousands."""
    monkeypatch.setattr("tune_vae.science.spectrum.EXACT_VALUES", 64)


@pytest.mark.parametrize("sizes", [(60,), (1, 7, 52), (59, 1)])
def test_batches_of_any_size_give_the_spectrum_of_all(sizes: tuple[int, ...]) -> None:
    x = data(60, 12, offset=5.0)
    found = spectrum(x.reshape(60, 1, 3, 4).split(list(sizes)), 5)
    assert (found.values, found.rows) == (12, 60)
    assert list(found.eigenvalues) == pytest.approx(list(expected(x)[:5]), rel=1e-9)
    assert found.total == pytest.approx(expected(x).sum(), rel=1e-9)
    assert found.beyond(2) == pytest.approx(expected(x)[2:].sum(), rel=1e-9)


@pytest.mark.usefixtures("sketched")
def test_sketch_finds_the_largest_of_a_spectrum_that_falls() -> None:
    x = data(3000, 300, offset=1.0)
    found, truth = spectrum(x.split(500), 20), expected(x)
    assert list(found.eigenvalues[:5]) == pytest.approx(list(truth[:5]), rel=0.01)
    assert list(found.eigenvalues) == pytest.approx(list(truth[:20]), rel=0.12)
    assert np.all(np.array(found.eigenvalues) <= truth[:20] * (1 + 1e-6))
    assert found.total == pytest.approx(truth.sum(), rel=1e-9)


@pytest.mark.usefixtures("sketched")
def test_fewer_rows_than_values_leave_the_others_zero() -> None:
    found = spectrum([data(4, 100)], 10)
    assert len(found.eigenvalues) == 10
    assert found.eigenvalues[2] > 0
    assert max(found.eigenvalues[3:]) < 1e-6 * found.eigenvalues[0]
    assert found.beyond(3) < 1e-6 * found.total


@pytest.mark.usefixtures("sketched")
@pytest.mark.parametrize("values", [3, 200])
def test_spectrum_of_equal_rows_is_zero(values: int) -> None:
    found = spectrum([torch.full((5, values), 0.3)], 3)
    assert found.eigenvalues == (0.0, 0.0, 0.0)
    assert found.total == 0.0


@pytest.mark.parametrize(
    ("batches", "says"),
    [([], "there are no rows"), ([torch.tensor([[1.0, torch.nan]])], "not finite")],
)
def test_what_has_no_spectrum_is_refused(batches: list[Tensor], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        spectrum(batches, 1)


@pytest.mark.parametrize(("rows", "values"), [(50, 8), (8, 50)])
def test_largest_is_that_of_the_covariance(rows: int, values: int) -> None:
    x = data(rows, values)
    assert largest_eigenvalue(x - x.mean(0)).item() == pytest.approx(expected(x)[0])


def test_directions_that_hold_a_share_of_the_variance_are_counted() -> None:
    known = Spectrum((5.0, 3.0, 1.0), total=10.0, values=9, rows=99)
    shares = [known.directions(share) for share in (0.5, 0.51, 0.8, 0.9, 0.91)]
    assert shares == [1, 2, 2, 3, None]
