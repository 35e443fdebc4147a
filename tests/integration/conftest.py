"""A folder for each test."""

import shutil
from pathlib import Path

import pytest

from tests.servers import bucket, mlflow_server, postgres
from tests.stores import empty_ledger, empty_mlflow, empty_stores

__all__ = [
    "bucket",
    "empty_ledger",
    "empty_mlflow",
    "empty_stores",
    "folder",
    "mlflow_server",
    "postgres",
]


@pytest.fixture
def folder(empty_ledger: Path, tmp_path: Path) -> Path:
    """Where a study lives that has not begun."""
    shutil.copy(empty_ledger, tmp_path / "studies.db")
    return tmp_path
