"""The instruments of the comparison, and that its tables can be printed from what is stored."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from scipy import stats

from tests.benchmarks.searches import compare, fronts
from tests.benchmarks.searches.arms import ARMS, digits, ours, random_search, study
from tests.benchmarks.searches.log import Log
from tests.benchmarks.searches.outcomes import Outcome, draw, outcomes, spent_by_label
from tests.benchmarks.searches.store import SEEDS, Search, load, mean_error, save

SHORT = {"train": {"epochs": 4, "batch_size": 256}}


@pytest.fixture(scope="module")
def stored() -> list[Search]:
    return [one for benchmark in (compare, fronts) for one in load(benchmark.FILE)]


@pytest.fixture(scope="module")
def full() -> Log:
    """Random search: every trial to its end."""
    return random_search(study(1, **SHORT), 12, digits())


def trial(epochs: int, end: str = "finished", **changes: object) -> Outcome:
    return replace(Outcome(epochs, end, None, (1.0, 1.0)), **changes)


def search(*trials: Outcome, bests: Sequence[tuple[int, float]] = ()) -> Search:
    return Search("ours", 0, sum(one.epochs for one in trials), bests, trials)


def test_each_stored_search_spent_its_budget(stored: list[Search]) -> None:
    for one in stored:
        epochs = (fronts if one.arm in fronts.ARMS else compare).EPOCHS
        assert one.epochs == sum(trial.epochs for trial in one.trials) == epochs
        if one.arm in compare.ARMS:
            assert sum(spent_by_label(one.trials).values()) == pytest.approx(epochs)
        assert [value for _, value in one.bests] == sorted(
            (value for _, value in one.bests), reverse=True
        )
    assert max(Counter((one.arm, one.seed) for one in stored).values()) == 1
    assert {one.arm for one in stored} <= set(ARMS)


def test_table_names_every_search(stored: list[Search]) -> None:
    found = {(one.arm, one.seed): one for one in stored}
    seeds = [s for s in SEEDS if all((arm, s) in found for arm in compare.ARMS)]
    assert len(seeds) >= 2
    lines = list(compare.table({a: [found[a, s] for s in seeds] for a in compare.ARMS}))
    assert all(any(f"| {arm} |" in line for line in lines) for arm in compare.ARMS)
    assert not any("nan" in line for line in lines)


@pytest.mark.parametrize("run", [ours, random_search])
def test_search_ends_with_its_budget(run: object) -> None:
    log = run(study(0, **SHORT), 10, digits())
    assert [(report.trial, report.epoch) for report in log.reports] == [
        *((0, epoch) for epoch in range(1, 5)),
        *((1, epoch) for epoch in range(1, 5)),
        *((2, epoch) for epoch in range(1, 3)),
    ]
    assert set(log.ends) == {0, 1}
    assert [one.end for one in outcomes(log, digits(), draws=0)] == [*log.ends.values(), "cut"]


def test_a_stopped_trial_becomes_what_it_would_have_become(full: Log) -> None:
    kept = [
        report for report in full.reports if (report.trial, report.epoch) not in [(1, 3), (1, 4)]
    ]
    stopped = Log(full.configs, kept, full.ends | {1: "pruned"})
    truth, found = outcomes(full, digits())[1], outcomes(stopped, digits())[1]
    assert (found.epochs, found.end, found.draws) == (2, "pruned", 1)
    assert found.label == truth.label
    assert found.possible == pytest.approx(truth.best, rel=1e-4)
    assert found.best == min(r.bits_per_dim for r in kept if r.trial == 1)


def test_what_the_draws_say_of_all_stopped_trials_is_right_on_average() -> None:
    """Short trials collapse and long ones do not, so that drawing trials evenly would show."""
    spent = {n: 1 + n for n in range(10)}
    truth = {n: "collapsed" if n < 7 else "healthy" for n in spent}
    estimates = []
    for seed in range(2000):
        drawn = draw(spent, 4, seed)
        found = [trial(30, label="diverged")] + [
            trial(spent[n], "pruned", label=truth[n] if n in drawn else None, draws=drawn.count(n))
            for n in spent
        ]
        by_label = spent_by_label(found)
        assert by_label["diverged"] == 30
        assert sum(by_label.values()) == pytest.approx(30 + sum(spent.values()))
        estimates.append(by_label.get("collapsed", 0.0))
    error = statistics.stdev(estimates) / math.sqrt(len(estimates))
    assert statistics.fmean(estimates) == pytest.approx(sum(range(1, 8)), abs=4 * error)


def test_with_enough_draws_nothing_is_estimated() -> None:
    drawn = draw({0: 5, 1: 50}, 2, 0)
    assert drawn == [0, 1]
    found = [
        trial(5, "pruned", label="collapsed", draws=1),
        trial(50, "pruned", label="healthy", draws=1),
    ]
    assert spent_by_label(found) == {"collapsed": 5, "healthy": 50}


def test_what_was_known_after_so_many_epochs() -> None:
    one = search(trial(4), trial(2, "pruned"), trial(4), bests=[(1, 3.0), (7, 2.0)])
    assert [one.best(epochs) for epochs in (0, 1, 6, 7)] == [math.inf, 3.0, 3.0, 2.0]
    assert [one.begun(epochs) for epochs in (4, 5, 6, 7)] == [1, 2, 2, 3]
    assert [len(one.finished(epochs)) for epochs in (3, 4, 9, 10)] == [0, 1, 1, 2]


def test_bests_are_the_improvements(full: Log) -> None:
    log = Log(
        full.configs, [replace(full.reports[0], bits_per_dim=b) for b in (3, math.nan, 4, 2)]
    )
    assert Search.of("ours", 0, log, ()).bests == [(1, 3), (4, 2)]


def test_stored_search_comes_back(full: Log, tmp_path: object) -> None:
    made = Search.of("random", 1, full, outcomes(full, digits()))
    save(made, tmp_path / "one.jsonl")
    (back,) = load(tmp_path / "one.jsonl")
    assert back.trials[0].values == pytest.approx(made.trials[0].values, rel=1e-4)
    assert [one.epochs for one in back.trials] == [4, 4, 4]
    assert back.best(12) == pytest.approx(made.best(12), rel=1e-4)


def test_errors_are_standard_errors() -> None:
    values = [1.0, 4.0, 2.5, 7.0]
    assert mean_error(values) == f"{statistics.fmean(values):.3f} ± {stats.sem(values):.3f}"


def test_ratio_of_what_is_wasted_has_the_error_of_its_mean_if_ours_is_constant() -> None:
    ours = search(trial(10, label="diverged"))
    theirs = [search(trial(n, label="collapsed")) for n in (20, 50, 45)]
    mean, error = statistics.fmean((2, 5, 4.5)), stats.sem((2, 5, 4.5))
    assert compare.times([(one, ours) for one in theirs]) == f"{mean:.1f} ± {error:.1f}"


def test_share_of_the_box_counts_finished_trials_only() -> None:
    half = tuple(worst / 2 for worst in fronts.WORST)
    one = search(trial(4, values=half), trial(4, "hopeless", values=(0.0, 0.0)), trial(4))
    assert fronts.share(one, 3) == 0
    assert fronts.share(one, 12) == pytest.approx(0.25)


@pytest.mark.slow
def test_asha_stops_at_its_rungs_only() -> None:
    # Takes seconds to import, which other tests need not wait for.
    from tests.benchmarks.searches.ray_tune import asha

    log = asha(study(0, **SHORT), 24, digits(), grace_period=1)
    lengths = [len(history) for history in log.histories().values()]
    assert sum(lengths) == 24
    assert lengths[0] == 4
    assert set(lengths[:-1]) == {1, 4}
    ended = {trial: end for trial, end in log.ends.items() if trial in log.histories()}
    assert {len(log.histories()[trial]): end for trial, end in ended.items()} == {
        1: "pruned",
        4: "finished",
    }
