"""A pack that asks for more memory than there is: it is halved, and all its trials end."""

from pathlib import Path

import pytest

from tests.fault.test_kill import place_for
from tests.stores import MLFLOW_WARNINGS

pytestmark = [MLFLOW_WARNINGS, pytest.mark.slow]

HUNGRY_NETS = '''
import resource
from dataclasses import dataclass

from torch import nn

from tune_vae.science.networks import Network
from tune_vae.science.networks.mlp import Mlp

GIB = 2**30


def used():
    """Bytes of address space that this process has."""
    return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()


class Layer(nn.Module):
    """Takes 1 GiB for each member, in a process that may take 3 more; gives it back."""

    def forward(self, x):
        if self.training and x.device.type != "meta":
            before = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (used() + 3 * GIB, before[1]))
            try:
                # Of the shape of `x`, so that it grows with the pack; it is never touched.
                x.new_empty((*x.shape, GIB // 4 // x[..., :1, :1, :1].numel() // 64))
            finally:
                resource.setrlimit(resource.RLIMIT_AS, before)
        return x


@dataclass(frozen=True)
class Hungry(Network):
    """Fits into memory twice, but not four times."""

    def build(self, shape, latent_dim, params_per_value):
        encoder, decoder = Mlp((16,)).build(shape, latent_dim, params_per_value)
        return nn.Sequential(Layer(), encoder), decoder
'''


def test_pack_that_runs_out_of_memory_is_halved_and_all_its_trials_end(
    tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_for(
        tmp_path,
        empty_mlflow,
        network="hungry_nets:Hungry",
        train={"epochs": 3, "batch_size": 128, "pack": 4},
        budget={"trials": 6, "concurrency": 1, "retries": 0},
    )
    (place.folder / "hungry_nets.py").write_text(HUNGRY_NETS)
    monkeypatch.syspath_prepend(place.folder)
    ended = place.run("search", "study.yaml")
    assert ended.code == 0, ended.output
    assert "Traceback" not in ended.output
    rows = place.rows()
    assert len(rows) == 6
    assert all(row.finished and row.epoch == 3 for row in rows)
    # The first four met the want of memory; the pack after them was made so small at once.
    assert sorted(row.attempts for row in rows) == [1, 1, 2, 2, 2, 2]
    lacked = [row for row in place.optuna_rows() if row.user_attrs.get("out_of_memory")]
    assert [row.user_attrs["members"] for row in lacked] == [4] * 4
    assert all("can't allocate memory" in row.user_attrs["interrupted"] for row in lacked)
    place.assert_shown_exactly_once()
    place.assert_nothing_is_left_running()
