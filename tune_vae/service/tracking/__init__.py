"""What people look at: MLflow's pages. MLflow is imported here and nowhere else."""

from tune_vae.service.tracking.client import is_server, read_run, try_server
from tune_vae.service.tracking.serving import serve, web_application
from tune_vae.service.tracking.study_page import attach_report, experiment_link
from tune_vae.service.tracking.tracker import EPOCHS_IN_A_REQUEST, MlflowTracker

__all__ = [
    "EPOCHS_IN_A_REQUEST",
    "MlflowTracker",
    "attach_report",
    "experiment_link",
    "is_server",
    "read_run",
    "serve",
    "try_server",
    "web_application",
]
