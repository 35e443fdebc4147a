"""Empty databases to copy: creating their tables takes seconds, copying them does not."""

import shutil
from pathlib import Path

import optuna
import pytest


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with Optuna's tables and nothing in them."""
    file = tmp_path_factory.mktemp("empty") / "studies.db"
    optuna.storages.RDBStorage(f"sqlite:///{file}").engine.dispose()
    return file


@pytest.fixture
def folder(empty_ledger: Path, tmp_path: Path) -> Path:
    """Where a study lives that has not begun."""
    shutil.copy(empty_ledger, tmp_path / "studies.db")
    return tmp_path
