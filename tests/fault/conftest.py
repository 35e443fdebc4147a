"""An empty MLflow database to copy, and servers that several machines can reach."""

from tests.servers import bucket, mlflow_server, postgres
from tests.stores import empty_mlflow

__all__ = ["bucket", "empty_mlflow", "mlflow_server", "postgres"]
