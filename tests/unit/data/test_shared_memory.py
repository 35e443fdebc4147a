"""Real processes that train on one prepared file: it is in memory once."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.memory import mebibytes, of_file

TRIALS, IMAGES = 2, 2000

TRIAL = """
import sys
import numpy as np
import torch
from tests.factories import member
from tune_vae.data.prepared import prepared
from tune_vae.data.preparing import Recipe
from tune_vae.training.trainer import Trainer

torch.set_num_threads(1)
count, shape = int(sys.argv[1]), (3, 64, 64)
recipe = Recipe("test", "key", shape, count, lambda at: np.full(shape, at % 256, np.uint8))
data = prepared(recipe).splits([count - 40, 20, 20], levels=256)
for _ in Trainer([member(epochs=1)], data):
    pass
print("trained", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory of processes")
def test_trials_that_train_at_once_hold_the_examples_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_VAE_CACHE", str(tmp_path))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", TRIAL, str(IMAGES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(TRIALS)
    ]
    assert [trial.stdout.readline() for trial in running if trial.stdout] == ["trained\n"] * TRIALS
    (file,) = tmp_path.glob("*/images")
    size = file.stat().st_size / 2**20
    shared = sum(of_file(trial.pid, file) for trial in running)
    whole = sum(mebibytes(trial.pid) for trial in running)
    # Each has looked at nearly all of it.
    assert 0.9 * size < shared <= 1.3 * size
    assert shared < whole
    assert max(of_file(trial.pid, file) for trial in running) < 0.7 * size
    for trial in running:
        trial.communicate()
