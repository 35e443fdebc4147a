import pytest
import torch
from torch import nn

from tune_vae.science.networks.mlp import Mlp


def test_without_hidden_layers_the_model_is_linear() -> None:
    encoder, decoder = Mlp(hidden=()).build((1, 4, 4), 3, 1)
    for function, one, other in (
        (encoder, torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4)),
        (decoder, torch.randn(1, 3), torch.randn(1, 3)),
    ):
        zero = function(torch.zeros_like(one))
        torch.testing.assert_close(
            function(one + other) - zero, function(one) - zero + function(other) - zero
        )


def test_decoder_mirrors_the_encoder() -> None:
    encoder, decoder = Mlp(hidden=(20, 10)).build((1, 4, 4), 3, 2)

    def widths(stack: nn.Module) -> list[tuple[int, int]]:
        layers = (module for module in stack.modules() if isinstance(module, nn.Linear))
        return [(layer.in_features, layer.out_features) for layer in layers]

    assert widths(encoder) == [(16, 20), (20, 10), (10, 6)]
    assert widths(decoder) == [(3, 10), (10, 20), (20, 32)]


def test_layer_of_no_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 1, got \[32, 0\]"):
        Mlp(hidden=(32, 0))
