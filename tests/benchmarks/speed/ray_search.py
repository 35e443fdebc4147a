"""The peer as a command: a study by Ray Tune's own `OptunaSearch` and `ASHAScheduler`.

    python -m tests.benchmarks.speed.ray_search digits.yaml [--reuse] [--mlflow]

It writes `epochs.jsonl`, a line for each epoch, and with `--mlflow` also `mlflow.db`, by Ray's
own `MLflowLoggerCallback`, which makes a run of each trial and sends it each epoch.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.searches.arms import digits
from tests.benchmarks.searches.ray_tune import asha
from tune_vae.spec.study import StudySpec

# Imported after our settings of Ray.
from ray import tune  # isort: skip

FILE = "epochs.jsonl"
CORES = 2


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("study", type=Path)
    parser.add_argument("--reuse", action="store_true")
    parser.add_argument("--mlflow", action="store_true")
    options = parser.parse_args()
    spec = StudySpec.load(options.study)
    log = asha(
        spec,
        spec.budget.trials * spec.train.epochs,
        digits(),
        trials=spec.budget.trials,
        workers=CORES,
        reuse=options.reuse,
        callbacks=_loggers(spec.name) if options.mlflow else (),
    )
    lines = (json.dumps(report.to_dict()) for report in log.reports)
    Path(FILE).write_text("\n".join(lines), encoding="utf-8")


def _loggers(study: str) -> Sequence[tune.Callback]:
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    return [MLflowLoggerCallback(tracking_uri="sqlite:///mlflow.db", experiment_name=study)]


if __name__ == "__main__":
    main()
