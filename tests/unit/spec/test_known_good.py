"""Constants of the literature, as parameters of a study's space."""

from typing import Any

import pytest

from tests.trials import study
from tests.unit.spec.choosers import RandomChooser
from tune_vae.errors import StudyFileError
from tune_vae.spec.known_good import known_good
from tune_vae.spec.trial import TrialConfig

OPTIMAL, BERNOULLI, WARM_UP = (
    "optimal sigma at beta 1",
    "continuous Bernoulli at beta 1",
    "beta_norm 0.1 with a linear warm-up",
)
WIDE = {
    "likelihood": {"choice": ["laplace", "continuous_bernoulli", "gaussian"]},
    "sigma": {"choice": ["shared", "optimal"]},
    "schedule": {"choice": ["constant", {"linear": {"warmup": {"uniform": [0.1, 0.5]}}}]},
}


def found(**changes: Any) -> dict[str, dict[str, Any]]:
    return dict(known_good(study(**({"known_good": True} | changes)), values=64))


class Enqueued(RandomChooser):
    """Optuna's way with an enqueued trial: what is given is taken, all else drawn."""

    given: dict[str, Any]

    def choice(self, name: str, labels: Any) -> str:
        return self.given.get(name) or super().choice(name, labels)

    def real(self, name: str, low: float, high: float, *, log: bool) -> float:
        return self.given[name] if name in self.given else super().real(name, low, high, log=log)

    def integer(self, name: str, low: int, high: int, *, log: bool) -> int:
        return self.given.get(name) or super().integer(name, low, high, log=log)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"latent_dim": {"int": [2, 16]}},
        {"latent_dim": {"choice": [2, 8]}},
        {"search": WIDE | {"beta_norm": {"choice": [0.0625, 0.1, 1]}}},
        {"search": WIDE | {"schedule": {"choice": [{"linear": {"warmup": w}} for w in (0.1, 1)]}}},
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_drawn_trial_is_what_the_literature_found(changes: dict[str, Any], seed: int) -> None:
    """Whatever the sampler adds, the trial that comes out is the named one."""
    spec = study(**({"known_good": True, "search": WIDE} | changes))
    points = dict(known_good(spec, values=64))
    assert list(points) == [OPTIMAL, BERNOULLI, WARM_UP]
    made = {}
    for name, parameters in points.items():
        chooser = Enqueued(seed)
        chooser.given = parameters
        drawn = spec.draw(chooser)
        assert parameters.keys() <= set(chooser.asked) | set(parameters)
        made[name] = TrialConfig.of(spec, drawn, trial=0, shape=(1, 8, 8), levels=17)
    assert made[OPTIMAL].decoder == "gaussian·optimal"
    assert made[OPTIMAL].beta == pytest.approx(1.0)
    assert made[BERNOULLI].decoder == "continuous_bernoulli"
    assert made[BERNOULLI].beta == pytest.approx(1.0)
    assert made[WARM_UP].schedule_name == "linear"
    assert made[WARM_UP].beta_norm == 0.1


def test_parameters_are_named_as_the_sampler_knows_them_and_no_more_than_needed() -> None:
    assert found(search=WIDE) == {
        OPTIMAL: {"lr": 2e-3, "likelihood": "gaussian", "sigma": "optimal", "beta_norm": 4 / 64},
        BERNOULLI: {"lr": 2e-3, "likelihood": "continuous_bernoulli", "beta_norm": 4 / 64},
        WARM_UP: {"lr": 2e-3, "beta_norm": 0.1, "schedule": "linear"},
    }


def test_what_is_fixed_as_wanted_needs_no_parameter() -> None:
    assert found() == {OPTIMAL: {"lr": 2e-3, "beta_norm": 0.0625}}


@pytest.mark.parametrize(
    ("lr", "taken"),
    [
        ({"log_uniform": [3e-4, 0.3]}, 2e-3),
        ({"choice": [1e-3, 2e-3]}, "0.002"),
        ({"uniform": [5e-3, 0.3]}, None),
        ({"choice": [1e-3, 1e-2]}, None),
        (1e-3, None),
    ],
)
def test_learning_rate_is_the_usual_one_where_the_space_holds_it(lr: Any, taken: Any) -> None:
    points = found(search=WIDE | {"lr": lr})
    assert list(points) == [OPTIMAL, BERNOULLI, WARM_UP]
    assert {point.get("lr") for point in points.values()} == {taken}


def test_learning_rate_alone_makes_no_known_point() -> None:
    assert found(search={"beta_norm": 0.0625, "lr": {"log_uniform": [3e-4, 0.3]}}) == {}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"search": WIDE | {"beta_norm": {"log_uniform": [0.07, 1]}}}, [WARM_UP]),
        ({"search": WIDE | {"beta_norm": {"log_uniform": [0.01, 0.09]}}}, [OPTIMAL, BERNOULLI]),
        ({"search": WIDE | {"likelihood": "gaussian"}}, [OPTIMAL, WARM_UP]),
        ({"search": WIDE | {"sigma": "shared"}}, [BERNOULLI, WARM_UP]),
        ({"search": WIDE | {"schedule": "sigmoid"}}, [OPTIMAL, BERNOULLI]),
        ({"search": WIDE | {"beta_norm": {"choice": [0.06, 0.2]}}}, []),
        ({"latent_dim": 1, "search": {"beta_norm": {"uniform": [0.02, 1]}}}, []),
        # Nothing is left to choose.
        ({"search": {"beta_norm": 0.0625}}, []),
        ({"known_good": False, "search": WIDE}, []),
        ({"sampler": "BruteForceSampler", "search": WIDE}, []),
        ({"sampler": "optuna.samplers:GridSampler", "search": WIDE}, []),
    ],
)
def test_constants_outside_of_the_space_are_left_out(
    changes: dict[str, Any], names: list[str]
) -> None:
    assert list(found(**changes)) == names


def test_known_good_is_on_unless_the_study_says_no() -> None:
    assert study().known_good is False
    assert study(known_good=None).known_good is True


def test_known_good_changes_nothing_that_makes_trials_comparable() -> None:
    assert study(known_good=True).space_digest() == study().space_digest()


@pytest.mark.parametrize("given", ["maybe", 1, [True]])
def test_anything_but_yes_and_no_is_refused(given: Any) -> None:
    with pytest.raises(StudyFileError, match="`known_good` must be true or false") as caught:
        study(known_good=given)
    assert caught.value.problems[0].tip.startswith("true tries constants")
