"""The floor that meets the outside: Optuna, MLflow and Ray, each in one file."""
