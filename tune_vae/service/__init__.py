"""The floor that meets the outside.

MLflow and Ray are each met in one file; Optuna in the ledger, and in the pruner, which any Optuna
user may take as it stands.
"""
