"""An empty MLflow database to copy."""

from tests.stores import empty_mlflow

__all__ = ["empty_mlflow"]
