"""An empty MLflow database to copy, and servers that several machines can reach."""

import itertools
import os

import pytest

from tests.servers import Postgres, bucket, mlflow_server, postgres
from tests.stores import empty_mlflow

__all__ = ["bucket", "empty_mlflow", "mlflow_server", "postgres"]

_numbers = itertools.count()


@pytest.fixture
def settings(postgres: Postgres, bucket: str, mlflow_server: str) -> dict[str, str]:
    """What every machine would have in its environment, for a study of its own."""
    name = f"study{next(_numbers)}"
    aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return aws | {
        "TUNE_VAE_LEDGER": postgres.create(name),
        "TUNE_VAE_TRACKING": mlflow_server,
        "TUNE_VAE_CHECKPOINTS": f"{bucket}/{name}",
    }
