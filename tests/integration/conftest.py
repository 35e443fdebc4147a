"""A folder for each test."""

import shutil
from pathlib import Path

import pytest

from tests.stores import empty_ledger, empty_mlflow

__all__ = ["empty_ledger", "empty_mlflow", "folder"]


@pytest.fixture
def folder(empty_ledger: Path, tmp_path: Path) -> Path:
    """Where a study lives that has not begun."""
    shutil.copy(empty_ledger, tmp_path / "studies.db")
    return tmp_path
