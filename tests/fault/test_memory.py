"""A pack that asks for more memory than there is: it is halved, and all its trials end."""

from pathlib import Path

import pytest

from tests.fault.test_kill import place_for
from tests.stores import MLFLOW_WARNINGS

pytestmark = [MLFLOW_WARNINGS, pytest.mark.slow]

HUNGRY_NETS = '''
from dataclasses import dataclass

import torch
from torch import nn

from tune_vae.science.networks import Network
from tune_vae.science.networks.mlp import Mlp


class Greed(torch.autograd.Function):
    """Hands on what it is given; for more than two members asks for more than any machine has."""

    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return gradient

    @staticmethod
    def vmap(info, in_dims, x):
        if info.batch_size > 2:
            x.new_empty(2**60)
        return Greed.apply(x), in_dims[0]


class Layer(nn.Module):
    def forward(self, x):
        return Greed.apply(x) if self.training and x.device.type != "meta" else x


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
