"""The pruner for several objectives, in studies of Optuna alone."""

import math
from collections.abc import Sequence

import optuna
import pytest

from tune_vae.service.pareto_pruner import ParetoPruner, report_vector, vectors_of

DOMINATED = (9.0, 9.0)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def study(pruner: ParetoPruner, *directions: str) -> optuna.Study:
    return optuna.create_study(
        directions=directions or ("minimize", "minimize"),
        pruner=pruner,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )


def reported(of: optuna.Study, *vectors: Sequence[float], step: int = 1) -> list[optuna.Trial]:
    trials = [of.ask() for _ in vectors]
    for trial, vector in zip(trials, vectors, strict=True):
        report_vector(trial, vector, step)
    return trials


def pruned(
    pruner: ParetoPruner, *vectors: Sequence[float], directions: tuple[str, ...] = ()
) -> list[bool]:
    """Whether each trial would be pruned, all of them having reported at step 1."""
    trials = reported(study(pruner, *directions), *vectors)
    return [pruner.should_prune(trial) for trial in trials]


def test_worse_half_of_a_rung_is_stopped_in_the_order_of_its_fronts() -> None:
    # Four fronts along the diagonal.
    vectors = [(3, 3), (1, 1), (4, 4), (2, 2)]
    assert pruned(ParetoPruner(n_min_trials=4), *vectors) == [True, False, True, False]


def test_of_a_front_that_is_cut_the_trials_far_apart_go_on() -> None:
    # The first front takes one of four places; (2, 9), then the far (9, 2), come next.
    vectors = [(1, 1), (2, 9), (3, 8), (9, 2), (4, 7), (5, 6), (6, 5), (7, 4)]
    expected = [False, False, True, False]
    assert pruned(ParetoPruner(n_min_trials=2), *vectors)[:4] != [False] * 4
    assert pruned(ParetoPruner(keep=1 / 3, n_min_trials=2), *vectors)[:4] == expected


def test_front_that_is_too_large_is_thinned_and_keeps_its_ends() -> None:
    vectors = [(n, 8 - n) for n in range(9)]
    stopped = pruned(ParetoPruner(keep=1 / 3, n_min_trials=2), *vectors)
    assert [n for n in range(9) if not stopped[n]] == [0, 4, 8]
    assert pruned(ParetoPruner(), *vectors, DOMINATED)[-1]


def test_trials_that_are_equal_stop_none_of_them() -> None:
    assert not any(pruned(ParetoPruner(), *[(1.0, 2.0)] * 8))


@pytest.mark.parametrize(("epsilon", "stopped"), [(0.0, True), (0.05, False)])
def test_difference_below_epsilon_of_the_span_stops_nothing(epsilon: float, stopped: bool) -> None:
    # Spans 100 and 100: the first two differ by 1 % of them.
    vectors = [(41, 45), (40, 45), (0, 100), (100, 0), (90, 90), (90, 90)]
    assert pruned(ParetoPruner(n_min_trials=4, epsilon=epsilon), *vectors)[0] is stopped


@pytest.mark.parametrize("bad", [(math.nan, 5.0), (math.nan, math.nan), (math.inf, 5.0)])
def test_value_that_is_not_a_number_is_the_worst(bad: tuple[float, ...]) -> None:
    vectors = [bad, (1, 1), (2, 2), (3, 3)]
    assert pruned(ParetoPruner(n_min_trials=4), *vectors) == [True, False, False, True]


def test_maximised_objective_counts_the_other_way_round() -> None:
    vectors = [(1, 9), (2, 8), (3, 7), (4, 6)]
    both = ("minimize", "maximize")
    assert pruned(ParetoPruner(n_min_trials=4), *vectors, directions=both) == [
        *(False, False),
        *(True, True),
    ]
    nan = [(5.0, math.nan), *vectors]
    assert pruned(ParetoPruner(), *nan, directions=both)[0]


def test_too_few_trials_stop_nothing() -> None:
    vectors = [DOMINATED, (1, 1), (1, 2), (2, 1)]
    assert not any(pruned(ParetoPruner(n_min_trials=5), *vectors))
    assert pruned(ParetoPruner(n_min_trials=4), *vectors)[0]


def test_trials_are_judged_at_rungs_only() -> None:
    pruner = ParetoPruner(3, 2, n_min_trials=2)
    of = study(pruner)
    good, bad = of.ask(), of.ask()
    stopped = []
    for step in range(1, 14):
        report_vector(good, (1, 1), step)
        report_vector(bad, DOMINATED, step)
        if pruner.should_prune(bad):
            stopped.append(step)
    assert stopped == [3, 6, 12]


def test_trial_that_had_nothing_to_report_is_judged_when_it_reports() -> None:
    """As after a warm-up: once, at the last rung it has passed."""
    pruner = ParetoPruner(3, 2, n_min_trials=2)
    of = study(pruner)
    good, late = of.ask(), of.ask()
    for step in range(1, 14):
        report_vector(good, (1, 1), step)
    stopped = []
    for step in range(8, 14):
        report_vector(late, DOMINATED, step)
        if pruner.should_prune(late):
            stopped.append(step)
    assert stopped == [8, 12]


def test_at_a_rung_each_trial_counts_with_its_first_vector_from_there_on() -> None:
    """A trial is not beaten by what another became later, nor by what it was before."""
    pruner = ParetoPruner(4, 2, n_min_trials=2)
    of = study(pruner)
    other, mine = of.ask(), of.ask()
    for step, vector in ((3, (0, 0)), (5, (3, 3)), (7, (0, 0))):
        report_vector(other, vector, step)
    report_vector(mine, (2, 2), 4)
    assert not pruner.should_prune(mine)
    assert pruner.beaten_by(of, of.get_trials()[1]) == (0, 1)
    worse = of.ask()
    report_vector(worse, (4, 4), 4)
    assert pruner.should_prune(worse)
    assert pruner.beaten_by(of, of.get_trials()[2]) == (2, 2)


def test_trial_that_never_reached_the_rung_is_no_rival_there() -> None:
    pruner = ParetoPruner(4, 2, n_min_trials=2)
    of = study(pruner)
    (_,) = reported(of, (1, 1), step=3)
    (mine,) = reported(of, DOMINATED, step=4)
    assert not pruner.should_prune(mine)


def test_failed_trials_are_compared_with_nothing() -> None:
    pruner = ParetoPruner(n_min_trials=2)
    of = study(pruner)
    good, bad = reported(of, (1, 1), DOMINATED)
    assert pruner.should_prune(bad)
    of.tell(good, state=optuna.trial.TrialState.FAIL)
    assert not pruner.should_prune(bad)


def test_trial_that_reported_nothing_is_not_judged() -> None:
    pruner = ParetoPruner(n_min_trials=1)
    assert not pruner.should_prune(study(pruner).ask())


def test_vectors_come_back_as_they_were_reported() -> None:
    of = study(ParetoPruner())
    (trial,) = reported(of, (0.1, -math.inf), step=7)
    report_vector(trial, (1e-300, 2), 12)
    trial.set_user_attr("epoch", 12)
    assert vectors_of(of.get_trials()[0]) == {7: (0.1, -math.inf), 12: (1e-300, 2.0)}


@pytest.mark.parametrize(
    "arguments",
    [
        {"min_resource": 0},
        {"rung_factor": 1},
        {"rung_factor": 2.5},
        {"keep": 0.0},
        {"keep": 1.0},
        {"keep": math.nan},
        {"n_min_trials": 0},
        {"epsilon": 1.0},
        {"epsilon": -0.1},
        {"epsilon": math.nan},
    ],
)
def test_argument_without_meaning_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        ParetoPruner(**arguments)


def test_study_with_tpe_saves_epochs_and_keeps_its_front() -> None:
    """Two objectives in conflict along x, both spoiled by y; the truth shows from the first
    step. The front is y = 0."""

    def search(pruner: optuna.pruners.BasePruner) -> tuple[int, float]:
        of = optuna.create_study(
            directions=["minimize"] * 2,
            pruner=pruner,
            sampler=optuna.samplers.TPESampler(seed=1),
        )
        steps = 0
        for _ in range(40):
            trial = of.ask()
            x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
            for step in range(1, 17):
                steps += 1
                vector = (x + y + 1 / step, 1 - x + y + 1 / step)
                report_vector(trial, vector, step)
                if pruner.prune(of, of.get_trials()[trial.number]):
                    of.tell(trial, state=optuna.trial.TrialState.PRUNED)
                    break
            else:
                of.tell(trial, vector)
        return steps, min(trial.params["y"] for trial in of.best_trials)

    all_steps, best = search(optuna.pruners.NopPruner())
    steps, best_pruned = search(ParetoPruner(2))
    assert all_steps == 40 * 16
    assert steps < 0.8 * all_steps
    assert best_pruned < best + 0.05
