"""Which configurations are dead by the data's spectrum."""

from typing import Any

import pytest

from tests.trials import trial_config
from tune_vae.science.collapse_point import CollapsePoints
from tune_vae.service.foretold import dead_beyond, foretold, passed_over

# With N 64 and M 4, beta is 16 times beta_norm: 8 is 0.5.
POINTS = CollapsePoints(gaussian=2.0, variance=0.25, bernoulli=4.0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0.75),
        ({"sigma": {"shared": {}}}, 0.75),
        ({"sigma": {"fixed": {"sigma": 0.5}}}, 0.75),
        ({"sigma": {"fixed": {"sigma": 0.25}}}, 3.0),
        ({"likelihood": {"bernoulli": {}}, "sigma": None}, 0.375),
        ({"latent_dim": 8}, 1.5),
    ],
)
def test_limit_follows_from_decoder_and_sizes(changes: dict[str, Any], expected: float) -> None:
    config = trial_config(**changes)
    assert dead_beyond(config, POINTS, factor=1.5) == pytest.approx(expected)
    below, above = (
        config.model_copy(update={"beta_norm": expected * ratio}) for ratio in (0.999, 1.001)
    )
    assert foretold(below, POINTS, factor=1.5) == ""
    assert foretold(above, POINTS, factor=1.5).startswith("not trained: beta_norm ")


def test_sentence_names_the_numbers() -> None:
    assert foretold(trial_config(beta_norm=2.0), POINTS, factor=1.5) == (
        "not trained: beta_norm 2 of gaussian·optimal is beyond 0.75, which is 1.5 times the "
        "collapse point of these data"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"likelihood": {"laplace": {}}},
        {"prior": {"normal": {}}},
        {"free_bits": 0.1},
        {"free_bits_total": 1.0},
        {"kl_target": 5.0},
        {"classes": 10},
    ],
)
def test_nothing_is_foretold_of_what_may_live_beyond(changes: dict[str, Any]) -> None:
    config = trial_config(beta_norm=1e6, **changes)
    assert foretold(config, POINTS, factor=1.5) == ""


def test_nothing_is_foretold_without_points_or_factor() -> None:
    config = trial_config(beta_norm=1e6)
    assert foretold(config, None, factor=1.5) == foretold(config, POINTS, factor=0.0) == ""
    assert foretold(config, CollapsePoints(0.0, 0.0, 0.0), factor=1.5) == ""


def test_points_are_counted_in_words() -> None:
    assert passed_over(0) == ""
    assert passed_over(1).startswith("1 drawn point was not trained: ")
    assert passed_over(1200).startswith("1,200 drawn points were not trained: ")
