"""A sampler that does not read all trials draws as from a study of those that it reads."""

import random
import warnings
from collections.abc import Sequence

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from tune_vae.service.bounded_sampler import BoundedSampler
from tune_vae.service.front import fronts

SPACE = {"x": FloatDistribution(0, 1), "kind": CategoricalDistribution(("a", "b"))}


def rows(count: int, *, objectives: int = 1, seed: int = 0) -> list[FrozenTrial]:
    """Ended trials, a third of them stopped early."""
    dice, made = random.Random(seed), []
    for number in range(count):
        finished = number % 3 != 0
        curve = {} if objectives > 1 else {1: dice.random()}
        made.append(
            optuna.create_trial(
                state=TrialState.COMPLETE if finished else TrialState.PRUNED,
                values=[dice.random() for _ in range(objectives)] if finished else None,
                params={"x": dice.random(), "kind": dice.choice("ab")},
                distributions=SPACE,
                intermediate_values=curve,
            )
        )
    return made


def draws(
    sampler: optuna.samplers.BaseSampler, ended: Sequence[FrozenTrial], *, objectives: int = 1
) -> dict[str, object]:
    """What a sampler suggests beside one trial that runs."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=sampler, directions=["minimize"] * objectives)
    study.add_trials(ended)
    study.ask(SPACE)
    return study.ask(SPACE).params


def tpe() -> optuna.samplers.TPESampler:
    return optuna.samplers.TPESampler(seed=7)


def expected(ended: list[FrozenTrial], best: int, most: int) -> list[FrozenTrial]:
    """The best by non-dominated sorting, and the newest of the others, in their order."""
    finished = [row for row in ended if row.state is TrialState.COMPLETE]
    order = [i for front in fronts([row.values for row in finished]) for i in front]
    if len(finished[0].values) == 1:
        order = sorted(range(len(finished)), key=lambda i: finished[i].values)
    chosen = [id(finished[i]) for i in order[:best]]
    newest = [id(row) for row in ended if id(row) not in chosen][best - most :]
    return [row for row in ended if id(row) in {*chosen, *newest}]


@pytest.mark.parametrize("objectives", [1, 2])
def test_beyond_the_bound_it_draws_as_from_the_best_and_the_newest_alone(objectives: int) -> None:
    ended = rows(400, objectives=objectives)
    bounded = BoundedSampler(tpe(), best=30, most=90)
    part = expected(ended, 30, 90)
    assert len(part) == 90
    found = draws(bounded, ended, objectives=objectives)
    assert found == draws(tpe(), part, objectives=objectives)
    assert found != draws(tpe(), ended, objectives=objectives)


def test_within_the_bound_it_draws_as_without() -> None:
    ended = rows(90)
    assert draws(BoundedSampler(tpe(), best=30, most=90), ended) == draws(tpe(), ended)


def test_trials_that_run_are_seen_though_they_are_old() -> None:
    seen: list[int] = []

    class Watching(optuna.samplers.RandomSampler):
        def sample_independent(self, study, trial, name, distribution):  # noqa: ANN001, ANN202
            going = study.get_trials(states=(TrialState.RUNNING,))
            seen[:] = [row.number for row in going]
            return super().sample_independent(study, trial, name, distribution)

    study = optuna.create_study(sampler=BoundedSampler(Watching(seed=0), best=2, most=5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = study.ask()
    study.add_trials(rows(20))
    last = study.ask(SPACE)
    assert seen == [first.number, last.number]
