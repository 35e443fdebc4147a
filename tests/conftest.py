"""Settings and data that all tests share."""

from collections.abc import Iterator

import pytest
import torch

from tune_vae.data import Splits
from tune_vae.data.datasets.digits import Digits


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where tensors live: cpu, cuda, cuda:1 ...")


def pytest_configure() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prepared data of tests do not end up in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNE_VAE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def digits() -> Splits:
    return Digits().load()


@pytest.fixture(scope="session")
def few_digits(digits: Splits) -> Splits:
    """Enough to learn from within a second."""
    return Splits(
        train=digits.train[:256],
        validation=digits.validation[:64],
        test=digits.test[:64],
        levels=digits.levels,
    )
