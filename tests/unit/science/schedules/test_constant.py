import torch

from tune_vae.science.schedules.constant import Constant


def test_weight_is_one_from_the_first_step() -> None:
    assert (Constant().weight(torch.linspace(0, 1, 11)) == 1).all()
