"""Empty databases to copy: creating their tables takes seconds, copying them does not."""

import shutil
from pathlib import Path

import pytest

__all__ = ["MLFLOW_WARNINGS", "empty_ledger", "empty_mlflow", "empty_stores"]

MLFLOW_WARNINGS = pytest.mark.filterwarnings(
    # MLflow 3.17 with SQLAlchemy 2.1.
    "ignore:The ``noload`` loader strategy:DeprecationWarning",
)


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with Optuna's tables and nothing in them."""
    import optuna

    file = tmp_path_factory.mktemp("empty") / "studies.db"
    optuna.storages.RDBStorage(f"sqlite:///{file}").engine.dispose()
    return file


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and nothing of ours in them."""
    # Takes seconds to import, which tests that are not selected need not wait for.
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture(scope="module")
def empty_stores(
    tmp_path_factory: pytest.TempPathFactory, empty_ledger: Path, empty_mlflow: Path
) -> Path:
    """A folder with both databases, where a study of a module's tests lives."""
    folder = tmp_path_factory.mktemp("stores")
    shutil.copy(empty_ledger, folder / "studies.db")
    shutil.copy(empty_mlflow, folder / "mlflow.db")
    return folder
