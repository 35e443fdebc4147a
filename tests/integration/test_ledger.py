"""The ledger on real Optuna with SQLite, without Ray."""

import os
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState

from tests.factories import report
from tests.integration.elsewhere import (
    HEALTHY,
    dying_owner,
    finish,
    open_ledger,
    search_all,
    search_here_and_elsewhere,
    take_rows_here_and_elsewhere,
    train,
)
from tests.trials import DIGEST, EPOCHS, LEVELS, SHAPE, study
from tune_vae.errors import StorageError, StudyError
from tune_vae.science.collapse_point import CollapsePoints
from tune_vae.science.health import Kind, Verdict
from tune_vae.science.history import EpochReport
from tune_vae.service import databases
from tune_vae.service.journey import Decision, Fault, TrialResult
from tune_vae.service.ledger import drawing, leases, patience, recovery
from tune_vae.service.ledger.looking import read_bounds, read_rows, read_study
from tune_vae.service.ledger.open_study import GRACE_SECONDS, OpenStudy
from tune_vae.service.ledger.optuna_ledger import OptunaLedger
from tune_vae.service.ledger.recovery import ERRORS_IN_A_ROW
from tune_vae.service.pareto_pruner import vectors_of
from tune_vae.service.plugins import plugin_problems
from tune_vae.service.remedy import remedy
from tune_vae.service.results import StudyResults
from tune_vae.service.rows import TrialRow
from tune_vae.spec.known_good import USUAL_LR
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig

COLLAPSED = Verdict(Kind.COLLAPSED, "latents unused")
DIVERGED = Verdict(Kind.DIVERGED, "loss not finite")
PAIR = ["rate_nats", "mse"]
ELSEWHERE = f"not-{socket.gethostname()} 1 1"


def optuna_study(spec: StudySpec) -> optuna.Study:
    return optuna.load_study(study_name=spec.name, storage=spec.storage.ledger)


def rows_of(spec: StudySpec) -> list[FrozenTrial]:
    """Optuna's own rows, as another program would read them."""
    return optuna_study(spec).get_trials()


def foretold_in(spec: StudySpec) -> int:
    found = read_study(spec)
    assert found
    return found[1]


def states(spec: StudySpec) -> list[TrialState]:
    return [row.state for row in rows_of(spec)]


def one(pack: list[TrialConfig] | None) -> TrialConfig:
    assert pack is not None
    (config,) = pack
    return config


def trial_row(spec: StudySpec, number: int) -> TrialRow:
    rows = read_rows(spec)
    assert rows is not None
    (row,) = [row for row in rows if row.trial == number]
    return row


def stop(ledger: OptunaLedger, config: TrialConfig, verdict: Verdict, epoch: int = 1) -> None:
    """End a trial in an epoch by a verdict of its health."""
    last = report(epoch, trial=config.trial, bits_per_dim=9.0)
    assert ledger.report(last, verdict) == Decision(stop=True, verdict=verdict)
    ledger.commit(TrialResult(config.trial, verdict, False, (), None, last))


def disown(spec: StudySpec, number: int, owner: str) -> None:
    """Let a running row belong to someone else."""
    (row,) = [row for row in rows_of(spec) if row.number == number]
    storage = optuna_study(spec)._storage
    storage.set_trial_user_attr(row._trial_id, "owner", owner)


def silence(spec: StudySpec, seconds: float) -> None:
    """Move all heartbeats into the past."""
    with closing(sqlite3.connect(spec.storage.ledger.removeprefix("sqlite:///"))) as database:
        database.execute(
            "UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, ?)",
            (f"-{seconds} seconds",),
        )
        database.commit()


# What is told


def test_study_ends_when_its_budget_is_spent_to_the_trial(folder: Path) -> None:
    spec = study(folder, budget={"trials": 7})
    assert search_all(spec) == list(range(7))
    assert open_ledger(spec).ask_pack(1) is None
    assert states(spec) == [TrialState.COMPLETE] * 7


def test_larger_budget_continues_an_ended_study(folder: Path) -> None:
    search_all(study(folder, budget={"trials": 2}))
    assert search_all(study(folder, budget={"trials": 5})) == [2, 3, 4]


def test_healthy_trial_is_complete_with_its_best_value(folder: Path) -> None:
    spec = study(folder)
    ledger = open_ledger(spec)
    config = one(ledger.ask_pack(1))
    last = train(ledger, config, epochs=EPOCHS)
    best = replace(report(2, bits_per_dim=2.5, sigma=0.2), trial=config.trial)
    last = replace(last, sigma=0.1)
    ledger.commit(TrialResult(config.trial, HEALTHY, True, (2.5,), best, last))
    (row,) = rows_of(spec)
    assert row.state is TrialState.COMPLETE
    assert row.value == 2.5
    assert sorted(row.intermediate_values) == list(range(1, EPOCHS + 1))
    assert trial_row(spec, 0).best == best
    assert trial_row(spec, 0).last == last


@pytest.mark.parametrize("verdict", [COLLAPSED, DIVERGED])
def test_collapse_and_divergence_are_pruned_and_infeasible_but_never_failed(
    folder: Path, verdict: Verdict
) -> None:
    spec = study(folder)
    ledger = open_ledger(spec)
    stop(ledger, one(ledger.ask_pack(1)), verdict)
    (row,) = rows_of(spec)
    assert row.state is TrialState.PRUNED
    assert row.constraints == {verdict.kind.value: 1.0}
    ended = trial_row(spec, 0)
    assert (ended.ended, ended.finished) == (True, False)
    assert (ended.kind, ended.reason) == (verdict.kind.value, verdict.reason)


def test_numbers_that_are_not_finite_survive_the_ledger(folder: Path) -> None:
    spec = study(folder)
    ledger = open_ledger(spec)
    config = one(ledger.ask_pack(1))
    bad = report(
        1,
        trial=config.trial,
        neg_elbo=float("inf"),
        bits_per_dim=float("nan"),
        rate_per_latent_nats=(float("nan"), 1.0),
    )
    ledger.report(bad, DIVERGED)
    ledger.commit(TrialResult(config.trial, DIVERGED, False, (), None, bad))
    last = trial_row(spec, 0).last
    assert repr(last) == repr(bad)


def test_broken_trial_is_failed_and_not_tried_again(folder: Path) -> None:
    spec = study(folder, budget={"trials": 1})
    ledger = open_ledger(spec)
    ledger.fail([one(ledger.ask_pack(1)).trial], Fault.PROGRAM, "ValueError: no such layer")
    assert states(spec) == [TrialState.FAIL]
    assert ledger.ask_pack(1) is None
    ended = trial_row(spec, 0)
    assert (ended.ended, ended.kind) == (True, "failed")
    assert ended.reason == "ValueError: no such layer"


def test_no_row_is_left_running_at_the_end_of_a_mixed_study(folder: Path) -> None:
    spec = study(folder, budget={"trials": 6})
    ledger = open_ledger(spec)
    for number in range(6):
        config = one(ledger.ask_pack(1))
        if number % 3 == 0:
            stop(ledger, config, DIVERGED)
        elif number % 3 == 1:
            finish(ledger, config)
        else:
            ledger.fail([config.trial], Fault.PROGRAM, "broke")
    assert ledger.ask_pack(1) is None
    assert TrialState.RUNNING not in states(spec)
    rows = read_rows(spec)
    assert rows is not None
    assert [row.kind for row in rows] == ["diverged", "healthy", "failed"] * 2


def test_search_stops_when_trial_after_trial_breaks(folder: Path) -> None:
    ledger = open_ledger(study(folder))
    for _ in range(ERRORS_IN_A_ROW):
        ledger.fail([one(ledger.ask_pack(1)).trial], Fault.PROGRAM, "no module named nets")
    with pytest.raises(StudyError, match=r"trials all broke.*no module named nets"):
        ledger.ask_pack(1)


def test_whoever_mended_the_fault_may_go_on_with_the_study(folder: Path) -> None:
    spec = study(folder, budget={"trials": ERRORS_IN_A_ROW + 1})
    broken = open_ledger(spec)
    for _ in range(ERRORS_IN_A_ROW):
        broken.fail([one(broken.ask_pack(1)).trial], Fault.PROGRAM, "typo")
    assert search_all(spec) == [ERRORS_IN_A_ROW]


def test_sparse_faults_do_not_stop_a_search(folder: Path) -> None:
    ledger = open_ledger(study(folder))
    for number in range(2 * ERRORS_IN_A_ROW):
        config = one(ledger.ask_pack(1))
        if number % 2:
            finish(ledger, config)
        else:
            ledger.fail([config.trial], Fault.PROGRAM, "now and then")
    assert ledger.ask_pack(1)


def test_study_of_two_objectives_is_complete_with_both_values(folder: Path) -> None:
    spec = study(folder, objective=PAIR, budget={"trials": 3})
    assert search_all(spec) == [0, 1, 2]
    expected = report(1)
    assert [row.values for row in rows_of(spec)] == [[expected.rate_nats, expected.mse]] * 3
    rows = read_rows(spec)
    assert rows is not None
    assert all(row.finished and len(row.values) == 2 for row in rows)


def vector_report(trial: int, epoch: int, rate: float, mse: float) -> EpochReport:
    return report(epoch, trial=trial, rate_nats=rate, mse=mse)


def test_pareto_pruner_gives_up_a_trial_that_others_dominate_and_says_by_how_many(
    folder: Path,
) -> None:
    spec = study(folder, objective=PAIR)
    assert spec.pruner == {"ParetoPruner": {"min_resource": 1}}
    ledger = open_ledger(spec)
    for rate in range(4):
        config = one(ledger.ask_pack(1))
        last = vector_report(config.trial, 1, rate, 4 - rate)
        assert ledger.report(last, HEALTHY) == Decision()
        ledger.commit(TrialResult(config.trial, HEALTHY, True, (rate, 4 - rate), last, last))
    config = one(ledger.ask_pack(1))
    warming_up = replace(vector_report(config.trial, 1, 9.0, 9.0), kl_weight_low=0.5)
    assert ledger.report(warming_up, HEALTHY) == Decision()
    bad = vector_report(config.trial, 1, 3.0, 3.0)
    decision = ledger.report(bad, HEALTHY)
    assert decision.verdict is not None
    assert decision.verdict.kind is Kind.HOPELESS
    assert decision.verdict.reason == (
        "rate_nats 3, mse 3 in epoch 1; 3 of 4 other trials dominate it there"
    )
    ledger.commit(TrialResult(config.trial, decision.verdict, False, (3.0, 3.0), bad, bad))
    assert rows_of(spec)[-1].state is TrialState.PRUNED
    # TPE must go on to work with it.
    spec = study(folder, objective=PAIR, budget={"trials": 14})
    ledger.release()
    assert len(search_all(spec)) == 9


def test_vectors_of_an_interrupted_trial_are_kept_and_noted_once(folder: Path) -> None:
    spec = study(folder, objective=PAIR)
    ledger = open_ledger(spec)
    config = one(ledger.ask_pack(1))
    ledger.report(vector_report(0, 1, 2.0, 3.0), HEALTHY)
    ledger.report(vector_report(0, 2, float("nan"), 3.5), HEALTHY)
    ledger.release()
    successor = open_ledger(spec)
    assert one(successor.ask_pack(1)) == config
    successor.report(vector_report(0, 2, 7.0, 7.0), HEALTHY)
    for row in rows_of(spec):
        assert repr(vectors_of(row)) == "{1: (2.0, 3.0), 2: (nan, 3.5)}"


# What is asked


def test_pack_has_the_graph_in_common_and_nothing_else(folder: Path) -> None:
    spec = study(
        folder,
        network={"mlp": {"hidden": {"choice": [[16], [32]]}}},
        latent_dim={"int": [2, 16]},
        search={
            "likelihood": {"choice": ["gaussian", "continuous_bernoulli"]},
            "sigma": {"choice": ["shared", "optimal"]},
            "schedule": {"choice": ["constant", {"linear": {"warmup": {"uniform": [0.1, 0.5]}}}]},
        },
        train={"batch_size": {"choice": [32, 64]}},
        budget={"trials": 40},
    )
    ledger = open_ledger(spec)
    packs = [ledger.ask_pack(4) for _ in range(5)]
    keys = []
    for pack in packs:
        assert pack is not None
        assert len(pack) == 4
        assert len({config.member().pack_key() for config in pack}) == 1
        assert len({config.beta_norm for config in pack}) == 4
        assert len({config.lr for config in pack}) == 4
        keys.append(pack[0].member().pack_key())
    assert len(set(keys)) > 1


WIDE = {
    "likelihood": {"choice": ["gaussian", "continuous_bernoulli"]},
    "schedule": {"choice": ["constant", "linear"]},
}


def named(spec: StudySpec) -> list[str]:
    """Which constant of the literature each trial tries."""
    rows = read_rows(spec)
    assert rows is not None
    return [row.config.known_good for row in rows]


CONSTANTS = [
    "optimal sigma at beta 1",
    "continuous Bernoulli at beta 1",
    "beta_norm 0.1 with a linear warm-up",
]


def test_constants_of_the_literature_come_first_and_count_in_the_budget(folder: Path) -> None:
    spec = study(folder, known_good=True, search=WIDE, budget={"trials": 5})
    assert search_all(spec) == [0, 1, 2, 3, 4]
    assert named(spec) == [*CONSTANTS, "", ""]
    rows = read_rows(spec)
    assert rows is not None
    first, second, third = (row.config for row in rows[:3])
    assert (first.decoder, first.beta) == ("gaussian·optimal", 1.0)
    assert (second.decoder, second.beta) == ("continuous_bernoulli", 1.0)
    assert (third.schedule_name, third.beta_norm) == ("linear", 0.1)
    assert {row.config.lr for row in rows[:3]} == {USUAL_LR}
    # What is drawn after them is drawn anew for each.
    assert len({row.config.lr for row in rows[2:]}) == 3


def test_constants_are_tried_once_over_restarts_and_a_larger_budget(folder: Path) -> None:
    def spec(trials: int) -> StudySpec:
        return study(folder, known_good=True, search=WIDE, budget={"trials": trials})

    open_ledger(spec(2))
    gone = open_ledger(spec(4))
    finish(gone, one(gone.ask_pack(1)))
    interrupted = one(gone.ask_pack(1))
    gone.release()
    again = open_ledger(spec(4))
    # Rows are asked in their order: the interrupted one is the newest.
    ran = search_all(spec(6))
    assert again.ask_pack(1) is None
    assert interrupted.trial in ran
    assert sorted(named(spec(6))) == sorted([*CONSTANTS, *[""] * 3])


def test_two_processes_that_begin_a_study_at_once_try_each_constant_once(folder: Path) -> None:
    spec = study(folder, known_good=True, search=WIDE, budget={"trials": 5})
    open_ledger(spec)
    optuna_of = optuna_study(spec)
    for row in rows_of(spec):
        optuna_of.add_trial(row)
    assert states(spec) == [TrialState.WAITING] * 6
    here, there = search_here_and_elsewhere(spec)
    assert len(here + there) == 5
    assert sorted(named(spec)) == sorted([*CONSTANTS, "", ""])
    assert states(spec).count(TrialState.COMPLETE) == 5
    assert TrialState.WAITING not in states(spec)


def test_small_budget_tries_no_more_constants_than_trials(folder: Path) -> None:
    spec = study(folder, known_good=True, search=WIDE, budget={"trials": 2})
    assert search_all(spec) == [0, 1]
    assert named(spec) == CONSTANTS[:2]


def test_study_that_has_begun_is_not_given_constants(folder: Path) -> None:
    search_all(study(folder, search=WIDE, budget={"trials": 1}))
    later = study(folder, known_good=True, search=WIDE, budget={"trials": 3})
    assert search_all(later) == [1, 2]
    assert named(later) == [""] * 3


def test_constants_run_in_packs_of_their_own(folder: Path) -> None:
    spec = study(folder, known_good=True, search=WIDE, budget={"trials": 8})
    ledger = open_ledger(spec)
    packs = [ledger.ask_pack(3) for _ in range(5)]
    assert [len(pack or []) for pack in packs] == [1, 1, 1, 3, 2]
    for pack in packs:
        assert pack is not None
        assert len({config.member().pack_key() for config in pack}) == 1


@pytest.mark.parametrize(
    "sampler",
    [
        "BruteForceSampler",
        {"GridSampler": {"search_space": {"beta_norm": ["0.0625", "0.1", "1"]}}},
    ],
)
def test_sampler_that_enumerates_a_space_is_left_alone(folder: Path, sampler: Any) -> None:
    spec = study(
        folder,
        known_good=True,
        search={"beta_norm": {"choice": [0.0625, 0.1, 1]}, "lr": 0.001},
        sampler=sampler,
        budget={"trials": 3},
    )
    search_all(spec)
    rows = read_rows(spec)
    assert rows is not None
    assert sorted(row.config.beta_norm for row in rows) == [0.0625, 0.1, 1]
    assert named(spec) == [""] * 3


class Meddler(optuna.samplers.RandomSampler):
    """A sampler during whose work something happens elsewhere, once."""

    happening: ClassVar[list[Callable[[], None]]] = []

    def sample_independent(self, *args: Any) -> Any:
        while self.happening:
            self.happening.pop()()
        return super().sample_independent(*args)


def test_trial_that_is_dropped_elsewhere_while_a_pack_is_drawn_gets_a_pack_of_its_own(
    folder: Path,
) -> None:
    spec = study(
        folder,
        latent_dim={"int": [2, 1000]},
        sampler=f"{__name__}:Meddler",
        budget={"trials": 4},
    )
    elsewhere, ledger = open_ledger(spec), open_ledger(spec)
    dropped = one(elsewhere.ask_pack(1))
    Meddler.happening.append(elsewhere.release)
    pack = ledger.ask_pack(3)
    assert pack is not None
    assert Meddler.happening == []
    assert len({config.member().pack_key() for config in pack}) == 1
    assert dropped not in pack
    assert one(ledger.ask_pack(3)) == dropped


def test_last_pack_is_no_larger_than_the_budget(folder: Path) -> None:
    ledger = open_ledger(study(folder, budget={"trials": 6}))
    first, second, third = (ledger.ask_pack(4) for _ in range(3))
    assert first is not None
    assert second is not None
    assert [len(first), len(second)] == [4, 2]
    assert third is None


def suggestions(
    spec: StudySpec, count: int, points: CollapsePoints | None = None, *, restart_after: int = -1
) -> list[Any]:
    """What a search of one trial at a time is suggested."""
    ledger, drawn = open_ledger(spec, points), []
    for number in range(count):
        if number == restart_after:
            ledger = open_ledger(spec, points)
        config = one(ledger.ask_pack(1))
        drawn.append((config.beta_norm, config.lr))
        finish(ledger, config)
    return drawn


@pytest.fixture
def three_folders(folder: Path, empty_ledger: Path) -> list[Path]:
    folders = [folder / name for name in "abc"]
    for one_of_them in folders:
        one_of_them.mkdir()
        (one_of_them / "studies.db").write_bytes(empty_ledger.read_bytes())
    return folders


@pytest.mark.parametrize("dead", [False, True], ids=["all trained", "dead passed over"])
def test_same_seed_is_suggested_the_same_also_after_a_restart(
    three_folders: list[Path], dead: bool
) -> None:
    points = POINTS if dead else None
    a, b, c = (study(place, budget={"trials": 14}) for place in three_folders)
    expected = suggestions(a, 14, points)
    assert suggestions(b, 14, points, restart_after=12) == expected
    assert bool(foretold_in(a)) is dead
    assert len(set(expected)) == 14
    other = study(three_folders[2], train={"seed": 1}, budget={"trials": 14})
    assert suggestions(other, 1) != expected[:1]
    assert c.name == other.name


def test_interruptions_change_no_suggestion_of_a_sequential_search(
    three_folders: list[Path],
) -> None:
    expected = suggestions(study(three_folders[0], budget={"trials": 14}), 14)
    spec = study(three_folders[1], budget={"trials": 14})
    seen = []
    for number in range(14):
        ledger = open_ledger(spec)
        config = one(ledger.ask_pack(1))
        # One is handed over, two lose their worker, of which one had begun.
        if number in (2, 5, 11):
            if number == 5:
                train(ledger, config, epochs=1)
            if number == 2:
                ledger.release()
            else:
                ledger.fail([config.trial], Fault.PROCESS, "its worker died")
            ledger = open_ledger(spec)
            assert one(ledger.ask_pack(1)) == config
        finish(ledger, config, begun=int(number == 5))
        seen.append((config.beta_norm, config.lr))
    assert seen == expected


def test_any_seed_of_a_study_can_be_searched_with(folder: Path) -> None:
    spec = study(folder, train={"seed": 2**63 - 1}, budget={"trials": 2})
    assert search_all(spec) == [0, 1]


def test_sampler_of_a_finite_space_runs_to_the_end_of_the_budget(folder: Path) -> None:
    spec = study(
        folder,
        search={"beta_norm": {"choice": [0.1, 1.0]}, "lr": {"choice": [0.001, 0.01]}},
        sampler="BruteForceSampler",
        budget={"trials": 6},
    )
    ledger = open_ledger(spec)
    seen = []
    while (pack := ledger.ask_pack(1)) is not None:
        config = one(pack)
        seen.append((config.beta_norm, config.lr))
        finish(ledger, config)
    assert len(set(seen[:4])) == 4
    assert states(spec) == [TrialState.COMPLETE] * 6


def test_sampler_that_cannot_search_a_space_says_so_and_leaves_nothing_running(
    folder: Path,
) -> None:
    spec = study(folder, sampler="BruteForceSampler")
    with pytest.raises(StudyError, match=r"sampler `BruteForceSampler` cannot .*step"):
        open_ledger(spec).ask_pack(1)
    assert TrialState.RUNNING not in states(spec)
    assert read_rows(spec) == []


def test_median_pruner_gives_up_a_hopeless_trial_and_says_why(folder: Path) -> None:
    spec = study(folder, pruner={"MedianPruner": {"n_startup_trials": 3, "n_warmup_steps": 2}})
    ledger = open_ledger(spec)
    for _ in range(3):
        finish(ledger, one(ledger.ask_pack(1)))
    config = one(ledger.ask_pack(1))
    worse = [report(n, trial=config.trial, bits_per_dim=7.0 + 1 / n) for n in (1, 2)]
    assert ledger.report(worse[0], HEALTHY) == Decision()
    decision = ledger.report(worse[1], HEALTHY)
    assert decision.stop
    assert decision.verdict is not None
    assert decision.verdict.kind is Kind.HOPELESS
    assert decision.verdict.reason == (
        "bits_per_dim 7.500 at best by epoch 2; better by then: 3 of 3 others"
    )
    ledger.commit(TrialResult(config.trial, decision.verdict, False, (8.0,), *worse))
    row = rows_of(spec)[config.trial]
    assert row.state is TrialState.PRUNED
    assert row.constraints == {}


def test_trial_is_compared_with_one_that_runs_behind_it(folder: Path) -> None:
    spec = study(folder, pruner={"SuccessiveHalvingPruner": {"min_resource": 2}})
    ledger = open_ledger(spec)
    good, bad = one(ledger.ask_pack(1)), one(ledger.ask_pack(1))
    for epoch in (1, 2):
        ledger.report(report(epoch, trial=good.trial, bits_per_dim=3.0), HEALTHY)
    ledger.report(report(1, trial=bad.trial, bits_per_dim=9.0), HEALTHY)
    decision = ledger.report(report(3, trial=bad.trial, bits_per_dim=8.0), HEALTHY)
    assert decision.verdict is not None
    assert decision.verdict.reason == (
        "bits_per_dim 8.000 at best by epoch 3; better by then: 1 of 1 others"
    )


def test_trial_is_compared_with_one_that_has_no_value_of_the_same_epoch(folder: Path) -> None:
    """As when their schedules hold the KL term down in different epochs."""
    spec = study(folder, pruner={"SuccessiveHalvingPruner": {"min_resource": 2}})
    ledger = open_ledger(spec)
    short, good, bad = (one(ledger.ask_pack(1)) for _ in range(3))
    last = report(1, trial=short.trial, bits_per_dim=2.0)
    ledger.report(last, HEALTHY)
    collapsed = Verdict(Kind.COLLAPSED, "its latents are silent")
    ledger.commit(TrialResult(short.trial, collapsed, False, (2.0,), last, last))
    for epoch in (2, 4):
        last = report(epoch, trial=good.trial, bits_per_dim=3.0)
        ledger.report(last, HEALTHY)
    ledger.commit(TrialResult(good.trial, HEALTHY, True, (3.0,), last, last))
    decision = ledger.report(report(3, trial=bad.trial, bits_per_dim=8.0), HEALTHY)
    assert decision.verdict is not None
    assert decision.verdict.reason == (
        "bits_per_dim 8.000 at best by epoch 3; better by then: 1 of 1 others"
    )


def test_trial_is_compared_with_another_once_however_often_that_was_interrupted(
    folder: Path,
) -> None:
    spec = study(folder, pruner={"SuccessiveHalvingPruner": {"min_resource": 2}})
    ledger = open_ledger(spec)
    good = one(ledger.ask_pack(1))
    train(ledger, good, epochs=3)
    ledger.release()
    ledger = open_ledger(spec)
    assert one(ledger.ask_pack(1)) == good
    finish(ledger, good, begun=3)
    bad = one(ledger.ask_pack(1))
    decision = ledger.report(report(2, trial=bad.trial, bits_per_dim=8.0), HEALTHY)
    assert decision.verdict is not None
    assert decision.verdict.reason == (
        "bits_per_dim 8.000 at best by epoch 2; better by then: 1 of 1 others"
    )


def test_trial_that_has_a_value_first_is_compared_with_the_first_of_others(folder: Path) -> None:
    spec = study(folder, pruner={"SuccessiveHalvingPruner": {"min_resource": 1}})
    ledger = open_ledger(spec)
    good, bad, silent = (one(ledger.ask_pack(1)) for _ in range(3))
    ledger.report(report(1, trial=silent.trial, kl_weight_low=0.0), HEALTHY)
    ledger.report(report(3, trial=good.trial, bits_per_dim=3.0), HEALTHY)
    decision = ledger.report(report(2, trial=bad.trial, bits_per_dim=8.0), HEALTHY)
    assert decision.verdict is not None
    assert decision.verdict.reason == (
        "bits_per_dim 8.000 at best by epoch 2; better with their first value: 1 of 1 others"
    )


def test_best_trial_is_not_given_up_when_it_begins_to_overfit(folder: Path) -> None:
    spec = study(folder, pruner={"SuccessiveHalvingPruner": {"min_resource": 2}})
    ledger = open_ledger(spec)
    for _ in range(3):
        finish(ledger, one(ledger.ask_pack(1)))
    for first, stops in ((2.0, False), (6.0, True)):
        config = one(ledger.ask_pack(1))
        ledger.report(report(1, trial=config.trial, bits_per_dim=first), HEALTHY)
        overfitted = report(2, trial=config.trial, bits_per_dim=9.0)
        assert ledger.report(overfitted, HEALTHY).stop is stops


def test_epochs_of_a_warm_up_are_compared_with_nothing(folder: Path) -> None:
    spec = study(folder, pruner={"MedianPruner": {"n_startup_trials": 1}})
    ledger = open_ledger(spec)
    finish(ledger, one(ledger.ask_pack(1)))
    config = one(ledger.ask_pack(1))
    warming_up = report(2, trial=config.trial, kl_weight=0.3, bits_per_dim=99.0)
    assert ledger.report(warming_up, HEALTHY) == Decision()
    assert rows_of(spec)[1].intermediate_values == {}
    assert trial_row(spec, 1).epoch == 2


def test_repeated_report_is_noted_once(folder: Path) -> None:
    spec = study(folder)
    ledger = open_ledger(spec)
    config = one(ledger.ask_pack(1))
    first = report(1, trial=config.trial, bits_per_dim=3.0)
    ledger.report(first, HEALTHY)
    assert ledger.report(first, HEALTHY) == Decision()
    assert rows_of(spec)[0].intermediate_values == {1: 3.0}


# What ends a study that goes badly


def test_two_trials_that_are_told_at_once_are_both_kept(folder: Path) -> None:
    spec = study(folder, budget={"trials": 8})
    ledger = open_ledger(spec)
    pack = ledger.ask_pack(8)
    assert pack is not None
    ready = threading.Barrier(len(pack))

    def tell(config: TrialConfig) -> None:
        last = report(EPOCHS, trial=config.trial, bits_per_dim=3.0 + config.trial)
        ready.wait()
        ledger.report(last, HEALTHY)
        ledger.commit(TrialResult(config.trial, HEALTHY, True, (3.0 + config.trial,), last, last))

    workers = [threading.Thread(target=tell, args=[config]) for config in pack]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [row.value for row in rows_of(spec)] == [3.0 + n for n in range(8)]
    assert ledger.ask_pack(1) is None


def test_first_value_that_is_not_a_number_ends_nothing(folder: Path) -> None:
    spec = study(folder, pruner={"MedianPruner": {"n_startup_trials": 0}}, budget={"trials": 2})
    ledger = open_ledger(spec)
    for _ in range(2):
        config = one(ledger.ask_pack(1))
        nothing = report(1, trial=config.trial, bits_per_dim=float("nan"))
        assert ledger.report(nothing, HEALTHY) == Decision()
        finish(ledger, config, begun=1)
    assert states(spec) == [TrialState.COMPLETE] * 2


@pytest.mark.parametrize("values", [(), (float("nan"), 1.0), (1.0, float("nan"))])
def test_trial_without_a_value_of_each_objective_ends_as_pruned_and_for_good(
    folder: Path, values: tuple[float, ...]
) -> None:
    spec = study(folder, objective=PAIR, budget={"trials": 1})
    ledger = open_ledger(spec)
    config = one(ledger.ask_pack(1))
    last = train(ledger, config, epochs=EPOCHS)
    ledger.commit(TrialResult(config.trial, HEALTHY, True, values, last, last))
    assert states(spec) == [TrialState.PRUNED]
    assert open_ledger(spec).ask_pack(1) is None


@pytest.mark.parametrize("objective", ["bits_per_dim", PAIR])
def test_study_in_which_everything_collapses_runs_to_its_end(folder: Path, objective: Any) -> None:
    """More trials than TPE draws at random before it looks at them."""
    spec = study(folder, objective=objective, budget={"trials": 14})
    ledger = open_ledger(spec)
    while (pack := ledger.ask_pack(1)) is not None:
        stop(ledger, one(pack), COLLAPSED)
    assert states(spec) == [TrialState.PRUNED] * 14
    rows = read_rows(spec)
    assert rows is not None
    found = StudyResults(spec.name, spec.objective, 14, rows, patience=14)
    assert (found.front, found.winner, found.idle, found.stalled) == ([], None, 14, True)
    lowest = min(row.config.beta_norm for row in rows)
    assert (
        f"All 14 trials collapsed, down to the lowest beta_norm that was tried: {lowest:.3g}"
        in (remedy(found, spec))
    )


# What the data decided


def test_bounds_that_the_data_decided_are_those_of_every_machine(folder: Path) -> None:
    written = study(folder, search={"beta_norm": {"log_uniform": [0.02, 0.5]}})
    auto = study(folder, search={"beta_norm": "auto"})
    assert read_bounds(auto) is None
    open_ledger(auto.with_bounds(0.02, 0.5))
    assert read_bounds(auto) == (0.02, 0.5)
    # Another forecast, or another file, is another space, and the same numbers are the same.
    with pytest.raises(StudyError, match=r"search.beta_norm: 0.02 … 0.5 \(log\) → 0.03"):
        open_ledger(auto.with_bounds(0.03, 0.5))
    drawn = one(open_ledger(written).ask_pack(1)).beta_norm
    assert 0.02 <= drawn <= 0.5


def test_study_with_written_bounds_has_none_that_were_decided(folder: Path) -> None:
    open_ledger(study(folder))
    assert read_bounds(study(folder)) is None


# What is not trained

# Of optimal sigma, beta_norm beyond 0.5 with the N 64 and M 4 of these trials.
POINTS = CollapsePoints(gaussian=2.0, variance=0.25, bernoulli=4.0, continuous_bernoulli=8.0)
ALIVE = 0.5


def test_points_that_are_foretold_dead_are_told_and_not_trained(folder: Path) -> None:
    spec = study(folder, budget={"trials": 9})
    ledger = open_ledger(spec, POINTS)
    trained = []
    while (pack := ledger.ask_pack(1)) is not None:
        finish(ledger, one(pack))
        trained.append(one(pack))
    assert len(trained) == 9
    assert max(config.beta_norm for config in trained) <= ALIVE
    dead = [row for row in rows_of(spec) if "foretold" in row.user_attrs]
    assert dead
    assert min(row.params["beta_norm"] for row in dead) > ALIVE
    for row in dead:
        assert (row.state, row.values) == (TrialState.PRUNED, None)
        assert row.constraints == {"never_formed": 1.0}
        assert row.user_attrs["foretold"].startswith("not trained: beta_norm ")
        assert "config" not in row.user_attrs
    assert len(rows_of(spec)) == 9 + len(dead)
    assert [row.trial for row in ledger.look()[0]] == [config.trial for config in trained]
    assert ledger.look()[1] == foretold_in(spec) == len(dead)
    # And what was not trained is not counted by whoever goes on.
    assert search_all(study(folder, budget={"trials": 9})) == []


def test_factor_of_zero_trains_all(folder: Path) -> None:
    spec = study(folder, budget={"trials": 9}, health={"foretold": 0})
    ledger = open_ledger(spec, POINTS)
    drawn = [one(ledger.ask_pack(1)).beta_norm for _ in range(9)]
    assert max(drawn) > ALIVE
    assert ledger.look()[1] == foretold_in(spec) == 0


def test_pack_is_filled_with_the_living(folder: Path) -> None:
    ledger = open_ledger(study(folder, budget={"trials": 8}), POINTS)
    pack = ledger.ask_pack(8)
    assert pack is not None
    assert len({config.trial for config in pack}) == 8
    assert max(config.beta_norm for config in pack) <= ALIVE
    assert ledger.look()[1] > 0
    assert ledger.ask_pack(8) is None


def test_point_is_trained_if_all_are_dead(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "REDRAWS", 3)
    spec = study(folder, search={"beta_norm": {"log_uniform": [5, 10]}}, budget={"trials": 2})
    ledger = open_ledger(spec, POINTS)
    trials = [one(ledger.ask_pack(1)).trial for _ in range(2)]
    assert trials == [3, 7]
    assert ledger.ask_pack(1) is None
    assert ledger.look()[1] == 6


def test_constants_of_the_literature_are_trained_even_if_dead(folder: Path) -> None:
    everywhere = CollapsePoints(1e-9, 1.0, 1e-9, 1e-9)
    spec = study(folder, known_good=True, budget={"trials": 1})
    config = one(open_ledger(spec, everywhere).ask_pack(1))
    assert (config.trial, config.known_good) == (0, "optimal sigma at beta 1")


def test_interrupted_trial_is_taken_up_even_if_dead(folder: Path) -> None:
    spec = study(folder, search={"beta_norm": {"log_uniform": [5, 10]}})
    with dying_owner(spec, epochs=1) as theirs:
        pass
    ledger = open_ledger(spec, POINTS)
    assert one(ledger.ask_pack(1)) == theirs
    assert ledger.look()[1] == 0


@pytest.mark.parametrize("sampler", ["BruteForceSampler", "GridSampler"])
def test_whoever_asks_for_every_point_has_it(folder: Path, sampler: str) -> None:
    choice, lr = [0.1, 5.0, 7.0], 0.003
    grid = {"GridSampler": {"search_space": {"beta_norm": [f"{one:g}" for one in choice]}}}
    spec = study(
        folder,
        search={"beta_norm": {"choice": choice}, "lr": lr},
        sampler=grid if sampler in grid else sampler,
        budget={"trials": 3},
    )
    ledger = open_ledger(spec, POINTS)
    drawn = []
    while (pack := ledger.ask_pack(1)) is not None:
        drawn.append(one(pack).beta_norm)
        finish(ledger, one(pack))
    assert sorted(drawn) == choice


class Killed(BaseException):
    """What no handler of ours takes for a fault."""


@pytest.mark.parametrize(
    ("owner", "call", "end"),
    [
        # Before it is marked nobody knows what it was; after that the sampler shall hear of it.
        (optuna.Trial, "set_constraint", TrialState.FAIL),
        (OpenStudy, "tell", TrialState.PRUNED),
    ],
)
def test_death_while_a_point_is_passed_over_loses_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, owner: type, call: str, end: TrialState
) -> None:
    def die(*_: object, **__: object) -> None:
        raise Killed

    spec = study(folder, budget={"trials": 6})
    ledger, begun = open_ledger(spec, POINTS), []

    def begin_all() -> None:
        for _ in range(6):
            begun.append(one(ledger.ask_pack(1)))

    with monkeypatch.context() as patched:
        patched.setattr(owner, call, die)
        with pytest.raises(Killed):
            begin_all()
    torn = rows_of(spec)[-1]
    assert torn.state is TrialState.RUNNING
    for number in range(torn.number + 1):
        disown(spec, number, f"{socket.gethostname()} 1 1")
    again, trained = open_ledger(spec, POINTS), []
    while (pack := again.ask_pack(1)) is not None:
        finish(again, one(pack))
        trained.append(one(pack))
    assert trained[: len(begun)] == begun
    assert len(trained) == len({config.trial for config in trained}) == 6
    assert torn.number not in {config.trial for config in trained}
    assert states(spec)[torn.number] is end
    assert TrialState.RUNNING not in states(spec)
    told = sum("foretold" in row.user_attrs for row in rows_of(spec))
    assert again.look()[1] == told


# What is taken over


def test_rows_of_a_killed_process_are_taken_over_at_once(folder: Path) -> None:
    spec = study(folder, budget={"trials": 2})
    with dying_owner(spec, epochs=2) as theirs:
        ledger = open_ledger(spec)
    config = one(ledger.ask_pack(1))
    assert config == theirs
    assert trial_row(spec, config.trial).attempts == 2
    assert trial_row(spec, config.trial).epoch == 2
    finish(ledger, config, begun=2)
    assert search_all(spec) == [2]
    rows = read_rows(spec)
    assert rows is not None
    assert [(row.trial, row.attempts, row.kind) for row in rows] == [
        (0, 2, "healthy"),
        (2, 1, "healthy"),
    ]
    assert sorted(rows_of(spec)[1].intermediate_values) == list(range(1, EPOCHS + 1))
    assert states(spec) == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]


def test_rows_of_a_living_process_are_not_taken(folder: Path) -> None:
    spec = study(folder, budget={"trials": 2})
    ledger = open_ledger(spec)
    with dying_owner(spec, epochs=1) as theirs:
        mine = one(ledger.ask_pack(1))
        assert mine.trial != theirs.trial
        assert ledger.ask_pack(1) == []
        finish(ledger, mine)
        assert ledger.ask_pack(1) == []
    assert one(ledger.ask_pack(1)) == theirs


def test_process_that_has_the_number_of_a_dead_one_is_not_taken_for_it(folder: Path) -> None:
    spec = study(folder, budget={"trials": 1})
    gone = open_ledger(spec)
    config = one(gone.ask_pack(1))
    disown(spec, 0, f"{socket.gethostname()} {os.getpid()} 1")
    assert one(open_ledger(spec).ask_pack(1)) == config


def test_row_of_another_machine_is_taken_only_after_the_grace_period(folder: Path) -> None:
    spec = study(folder, budget={"trials": 1})
    config = one(open_ledger(spec).ask_pack(1))
    disown(spec, 0, ELSEWHERE)
    ledger = open_ledger(spec)
    silence(spec, GRACE_SECONDS - 20)
    assert ledger.ask_pack(1) == []
    silence(spec, 30)
    assert one(ledger.ask_pack(1)) == config
    assert trial_row(spec, 0).attempts == 2


def test_beat_keeps_a_row_from_being_taken(folder: Path) -> None:
    spec = study(folder, budget={"trials": 1})
    owner = open_ledger(spec)
    owner.ask_pack(1)
    disown(spec, 0, ELSEWHERE)
    silence(spec, GRACE_SECONDS + 10)
    owner.beat()
    assert open_ledger(spec).ask_pack(1) == []


def test_machine_that_wakes_from_a_sleep_keeps_its_trials(folder: Path) -> None:
    spec = study(folder, budget={"trials": 2})
    ledger = open_ledger(spec)
    config = one(ledger.ask_pack(1))
    silence(spec, GRACE_SECONDS + 10)
    assert one(ledger.ask_pack(1)) != config
    finish(ledger, config)
    assert trial_row(spec, config.trial).attempts == 1


def test_machine_that_wakes_finds_out_at_once_which_trial_it_has_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = study(folder, budget={"trials": 2})
    sleeper = open_ledger(spec)
    lost, kept = one(sleeper.ask_pack(1)), one(sleeper.ask_pack(1))
    disown(spec, lost.trial, ELSEWHERE)
    silence(spec, GRACE_SECONDS + 10)
    other = open_ledger(spec)
    assert one(other.ask_pack(1)) == lost
    # A lease lasts so long that it need not ask, and then it must.
    assert not sleeper.is_lost(lost.trial)
    monkeypatch.setattr(leases, "GRACE_SECONDS", 0)
    assert sleeper.is_lost(lost.trial)
    assert not sleeper.is_lost(kept.trial)
    assert not sleeper.holds(lost.trial)
    finish(other, lost)
    assert sleeper.is_lost(lost.trial)
    assert not other.is_lost(lost.trial)


def test_trial_that_was_handed_over_is_lost_once_somebody_takes_it(folder: Path) -> None:
    spec = study(folder, budget={"trials": 2})
    ledger = open_ledger(spec)
    config = one(ledger.ask_pack(1))
    ledger.fail([config.trial], Fault.PROCESS, "its worker died")
    assert not ledger.is_lost(config.trial)
    assert one(ledger.ask_pack(1)) == config
    assert not ledger.is_lost(config.trial)
    finish(ledger, config)
    assert not ledger.is_lost(config.trial)
    other = one(ledger.ask_pack(1))
    ledger.release()
    assert not ledger.is_lost(other.trial)
    assert one(open_ledger(spec).ask_pack(1)) == other
    assert ledger.is_lost(other.trial)


def test_row_without_a_beat_is_found_stale_as_well(folder: Path) -> None:
    spec = study(folder, budget={"trials": 1})
    config = one(open_ledger(spec).ask_pack(1))
    disown(spec, 0, ELSEWHERE)
    with closing(sqlite3.connect(folder / "studies.db")) as database:
        database.execute("DELETE FROM trial_heartbeats")
        database.commit()
    ledger = open_ledger(spec)
    assert ledger.ask_pack(1) == []
    silence(spec, GRACE_SECONDS + 10)
    assert one(ledger.ask_pack(1)) == config


def test_row_whose_process_died_before_it_knew_its_parameters_is_replaced(folder: Path) -> None:
    spec = study(folder, budget={"trials": 2})
    with dying_owner(study(folder, study="other"), epochs=0):
        pass
    dead = rows_of(study(folder, study="other"))[0].user_attrs["owner"]
    open_ledger(spec)
    optuna_study(spec)._storage.create_new_trial(optuna_study(spec)._study_id)
    disown(spec, 0, dead)
    assert search_all(spec) == [1, 2]
    assert states(spec) == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    rows = read_rows(spec)
    assert rows is not None
    assert [row.trial for row in rows] == [1, 2]


def test_death_between_the_end_of_a_row_and_its_successor_is_mended(folder: Path) -> None:
    spec = study(folder, budget={"trials": 1})
    gone = open_ledger(spec)
    config = one(gone.ask_pack(1))
    train(gone, config, epochs=3)
    storage, row = optuna_study(spec)._storage, rows_of(spec)[0]
    storage.set_trial_user_attr(row._trial_id, "interrupted", "its process died")
    storage.set_trial_state_values(row._trial_id, TrialState.FAIL)
    assert trial_row(spec, 0).state == "waiting"
    ledger = open_ledger(spec)
    assert one(ledger.ask_pack(1)) == config
    assert (trial_row(spec, 0).attempts, trial_row(spec, 0).epoch) == (2, 3)
    finish(ledger, config, begun=3)
    assert ledger.ask_pack(1) is None


@pytest.mark.parametrize("owner", ["here", "elsewhere"])
def test_death_between_verdict_and_end_loses_nothing(folder: Path, owner: str) -> None:
    spec = study(folder, budget={"trials": 1})
    gone = open_ledger(spec)
    config = one(gone.ask_pack(1))
    train(gone, config, epochs=EPOCHS)
    storage, row = optuna_study(spec)._storage, rows_of(spec)[0]
    storage.set_trial_user_attr(row._trial_id, "verdict", "healthy")
    storage.set_trial_user_attr(row._trial_id, "reason", "written just before the kill")
    disown(spec, 0, f"{socket.gethostname()} 1 1" if owner == "here" else ELSEWHERE)
    silence(spec, GRACE_SECONDS + 10)
    ledger = open_ledger(spec)
    assert one(ledger.ask_pack(1)) == config
    ledger.report(report(EPOCHS, trial=0, bits_per_dim=3.0 + 1 / EPOCHS), HEALTHY)
    ledger.commit(TrialResult(0, HEALTHY, True, (3.1,), None, report(EPOCHS)))
    assert states(spec) == [TrialState.FAIL, TrialState.COMPLETE]
    assert trial_row(spec, 0).finished


def test_lineage_that_two_processes_mended_at_once_is_run_once(folder: Path) -> None:
    spec = study(folder, budget={"trials": 2})
    ledger = open_ledger(spec)
    config = one(ledger.ask_pack(1))
    ledger.release()
    optuna_study(spec).add_trial(rows_of(spec)[1])
    assert states(spec) == [TrialState.FAIL, TrialState.WAITING, TrialState.WAITING]
    assert one(ledger.ask_pack(1)) == config
    assert ledger.ask_pack(1) == []
    # And the one that is left goes on to be taken over.
    ledger.release()
    assert one(ledger.ask_pack(1)) == config
    finish(ledger, config)
    finish(ledger, one(ledger.ask_pack(1)))
    assert ledger.ask_pack(1) is None
    assert [row.state for row in rows_of(spec) if row.state is TrialState.COMPLETE]
    rows = read_rows(spec)
    assert rows is not None
    assert [(row.attempts, row.kind) for row in rows] == [(3, "healthy"), (1, "healthy")]


def test_trial_that_is_interrupted_without_ever_finishing_an_epoch_is_given_up(
    folder: Path,
) -> None:
    spec = study(folder, budget={"trials": 1, "retries": 2})
    ledger = open_ledger(spec)
    for _ in range(3):
        config = one(ledger.ask_pack(1))
        ledger.fail([config.trial], Fault.PROCESS, "its worker died")
    assert ledger.ask_pack(1) is None
    ended = trial_row(spec, 0)
    assert ended.kind == "failed"
    assert ended.reason == "interrupted 3 times without finishing an epoch: its worker died"
    assert TrialState.RUNNING not in states(spec)


CONSTANT_GRAPH = {"beta_norm": {"log_uniform": [0.01, 0.1]}}


def sizes_of_packs(ledger: OptunaLedger, size: int) -> list[int]:
    """How all that can be run now is given out."""
    sizes = []
    while pack := ledger.ask_pack(size):
        sizes.append(len(pack))
    return sizes


def test_pack_that_breaks_its_worker_is_halved_until_each_is_alone(folder: Path) -> None:
    spec = study(folder, search=CONSTANT_GRAPH, budget={"trials": 8, "retries": 0})
    seen: list[list[int]] = []
    # After five trials that were given up, a search would stop; a new one begins to count.
    while packs := list(iter(partial((ledger := open_ledger(spec)).ask_pack, 8), None)):
        seen.append([len(pack) for pack in packs])
        for pack in packs:
            ledger.fail([config.trial for config in pack], Fault.PROCESS, "its worker died")
    assert seen == [[8], [4, 4], [2] * 4, [1] * 8]
    # Alone, each had the one chance that `retries: 0` gives; before, none was blamed.
    assert {trial_row(spec, number).reason for number in range(8)} == {
        "interrupted 1 times without finishing an epoch: its worker died"
    }


def test_half_of_a_pack_is_of_one_graph(folder: Path) -> None:
    search = {"sigma": {"choice": ["optimal", "shared", "per_pixel"]}}
    ledger = open_ledger(study(folder, search=search, budget={"trials": 15}))
    packs = [ledger.ask_pack(5) for _ in range(3)]
    assert len({str(pack[0].sigma) for pack in packs}) > 1
    for pack in packs:
        ledger.fail([config.trial for config in pack], Fault.PROCESS, "its worker died")
    # The odd one of each would have a place beside that of another.
    halves = [ledger.ask_pack(5) for _ in range(9)]
    assert [len(half) for half in halves] == [2, 2, 1] * 3
    assert all(len({str(config.sigma) for config in half}) == 1 for half in halves)


def test_kind_of_pack_that_lacked_memory_is_not_begun_again(folder: Path) -> None:
    spec = study(folder, search=CONSTANT_GRAPH, budget={"trials": 12})
    ledger = open_ledger(spec)
    ledger.fail([config.trial for config in ledger.ask_pack(4)], Fault.MEMORY, "out of memory")
    assert sizes_of_packs(ledger, 4) == [2] * 6
    # Also by another machine, and after a worker died for a reason that nobody knows.
    ledger.release()
    assert sizes_of_packs(open_ledger(spec), 4) == [2, 2, *[1] * 8]
    other = study(folder, study="other", search=CONSTANT_GRAPH, budget={"trials": 12})
    ledger = open_ledger(other)
    ledger.fail([config.trial for config in ledger.ask_pack(4)], Fault.PROCESS, "died")
    assert sizes_of_packs(ledger, 4) == [2, 2, 4, 4]


def test_trials_that_ended_before_their_pack_broke_are_no_part_of_it(folder: Path) -> None:
    ledger = open_ledger(study(folder, search=CONSTANT_GRAPH, budget={"trials": 4}))
    first, *others = ledger.ask_pack(4)
    finish(ledger, first)
    trials = [config.trial for config in (first, *others)]
    ledger.fail(trials, Fault.MEMORY, "out of memory")
    assert sizes_of_packs(ledger, 4) == [1, 1, 1]


def test_death_before_the_halves_wait_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = study(folder, search=CONSTANT_GRAPH, budget={"trials": 4})
    dying = open_ledger(spec)
    pack = dying.ask_pack(4)
    monkeypatch.setattr(dying._recovery, "_succeed", lambda study, row: None)
    dying.fail([config.trial for config in pack], Fault.PROCESS, "its worker died")
    assert sizes_of_packs(open_ledger(spec), 4) == [2, 2]


def test_place_that_does_not_answer_is_no_reason_for_smaller_packs(folder: Path) -> None:
    ledger = open_ledger(study(folder, search=CONSTANT_GRAPH, budget={"trials": 8}))
    ledger.fail([config.trial for config in ledger.ask_pack(4)], Fault.PLACE, "no answer")
    assert sizes_of_packs(ledger, 4) == [1, 1, 1, 1, 4]


def test_trial_whose_machines_fall_silent_is_given_up_as_well(folder: Path) -> None:
    spec = study(folder, budget={"trials": 1, "retries": 0})
    open_ledger(spec).ask_pack(1)
    disown(spec, 0, ELSEWHERE)
    silence(spec, GRACE_SECONDS + 10)
    assert open_ledger(spec).ask_pack(1) is None
    assert "its machine fell silent" in trial_row(spec, 0).reason


def test_resumed_trial_stands_at_a_rung_with_the_value_it_had_there(folder: Path) -> None:
    pruner = {"SuccessiveHalvingPruner": {"min_resource": 1, "reduction_factor": 2}}
    spec = study(folder, pruner=pruner)
    first = open_ledger(spec)
    (config,) = first.ask_pack(1) or []
    first.report(report(1, trial=config.trial, bits_per_dim=4.0), HEALTHY)
    first.release()
    second = open_ledger(spec)
    assert second.ask_pack(1) == [config]
    assert second.report(report(2, trial=config.trial, bits_per_dim=3.0), HEALTHY) == Decision()
    *_, newest = second._opened.rows()
    assert newest.system_attrs["completed_rung_0"] == 4.0
    assert newest.system_attrs["completed_rung_1"] == 3.0


def test_trial_that_makes_progress_is_never_given_up(folder: Path) -> None:
    spec = study(folder, budget={"trials": 1, "retries": 0}, train={"epochs": 6})
    ledger = open_ledger(spec)
    for epoch in range(5):
        config = one(ledger.ask_pack(1))
        train(ledger, config, epochs=epoch + 1, begun=epoch)
        ledger.fail([config.trial], Fault.PROCESS, "its worker died")
    finish(ledger, one(ledger.ask_pack(1)), begun=5)
    assert trial_row(spec, 0).finished
    assert trial_row(spec, 0).attempts == 6


def test_released_trials_wait_for_whoever_comes_next(folder: Path) -> None:
    spec = study(folder, budget={"trials": 2})
    ledger = open_ledger(spec)
    pack = ledger.ask_pack(2)
    assert pack is not None
    train(ledger, pack[0], epochs=2)
    ledger.release()
    assert [trial_row(spec, number).state for number in (0, 1)] == ["waiting", "waiting"]
    successor = open_ledger(spec)
    assert [one(successor.ask_pack(2)), one(successor.ask_pack(2))] == pack


def test_owner_who_lost_a_trial_is_told_to_stop_and_changes_nothing(folder: Path) -> None:
    spec = study(folder, budget={"trials": 1})
    slept = open_ledger(spec)
    config = one(slept.ask_pack(1))
    train(slept, config, epochs=1)
    disown(spec, 0, ELSEWHERE)
    silence(spec, GRACE_SECONDS + 10)
    ledger = open_ledger(spec)
    assert one(ledger.ask_pack(1)) == config
    before = [(row.state, row.user_attrs) for row in rows_of(spec)]

    late = report(2, trial=0)
    assert slept.report(late, HEALTHY) == Decision(stop=True, verdict=None)
    assert slept.report(late, HEALTHY) == Decision(stop=True, verdict=None)
    slept.commit(TrialResult(0, HEALTHY, True, (0.1,), late, late))
    slept.fail([0], Fault.PROGRAM, "too late")
    slept.release()
    assert [(row.state, row.user_attrs) for row in rows_of(spec)] == before

    finish(ledger, config, begun=1)
    assert trial_row(spec, 0).values == (3.0 + 1 / EPOCHS,)


@pytest.mark.parametrize("fault", Fault)
def test_owner_who_lost_a_trial_without_noticing_cannot_end_it(folder: Path, fault: Fault) -> None:
    spec = study(folder, budget={"trials": 1})
    slept = open_ledger(spec)
    slept.ask_pack(1)
    disown(spec, 0, ELSEWHERE)
    silence(spec, GRACE_SECONDS + 10)
    ledger = open_ledger(spec)
    ledger.ask_pack(1)
    slept.fail([0], fault, "too late")
    assert states(spec) == [TrialState.FAIL, TrialState.RUNNING]
    assert trial_row(spec, 0).state == "running"


def test_owner_who_lost_a_trial_without_noticing_cannot_commit_it(folder: Path) -> None:
    spec = study(folder, budget={"trials": 1})
    slept = open_ledger(spec)
    slept.ask_pack(1)
    disown(spec, 0, ELSEWHERE)
    silence(spec, GRACE_SECONDS + 10)
    open_ledger(spec).ask_pack(1)
    slept.commit(TrialResult(0, HEALTHY, True, (0.1,), report(), report()))
    assert states(spec) == [TrialState.FAIL, TrialState.RUNNING]


def test_two_processes_share_a_study_without_doing_a_trial_twice(folder: Path) -> None:
    spec = study(folder, budget={"trials": 12})
    here, there = search_here_and_elsewhere(spec)
    assert here
    assert there
    assert sorted(here + there) == sorted(set(here + there))
    assert len(here + there) == 12
    complete = [row for row in rows_of(spec) if row.state is TrialState.COMPLETE]
    assert len(complete) == 12
    assert TrialState.RUNNING not in states(spec)


def test_waiting_trials_are_never_taken_by_two_processes(folder: Path) -> None:
    spec = study(folder, budget={"trials": 10})
    before = open_ledger(spec)
    before.ask_pack(10)
    before.release()
    here, there = search_here_and_elsewhere(spec)
    assert here
    assert there
    assert sorted(here + there) == list(range(10))
    rows = read_rows(spec)
    assert rows is not None
    assert [row.attempts for row in rows] == [2] * 10


def test_row_that_two_processes_reach_for_goes_to_one_of_them(folder: Path) -> None:
    spec = study(folder)
    ledger = open_ledger(spec)
    for _ in range(150):
        ledger._opened.study.enqueue_trial({})
    here, there = take_rows_here_and_elsewhere(spec)
    assert sorted(here + there) == list(range(150))


# What is refused


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (
            {"search": {"lr": {"log_uniform": [1e-4, 1e-2]}}},
            "search.lr: 0.001 … 0.01 (log) → 0.0001 … 0.01 (log). ",
        ),
        (
            {"train": {"epochs": 9, "seed": 3}},
            "train.epochs: 4 → 9; train.seed: 0 → 3. ",
        ),
        ({"objective": "mse"}, "objective: bits_per_dim → mse. "),
        ({"search": {"prior": "vamp"}}, "search.prior: the default → vamp. "),
        (
            {"data": {"digits": {"split_seed": 2}}},
            "data: {digits: {}} → {digits: {split_seed: 2}}",
        ),
    ],
)
def test_study_goes_on_only_with_the_space_it_began_with(
    folder: Path, changes: dict[str, Any], what: str
) -> None:
    open_ledger(study(folder))
    changed = study(folder, **changes)
    with pytest.raises(StudyError, match=re.escape(what)) as refused:
        open_ledger(changed)
    assert f"tune-vae search {changed.file} --fork NEW-NAME" in str(refused.value)
    # It is as it was, and a study of another name may begin beside it.
    open_ledger(study(folder))
    open_ledger(study(folder, study="fork", **changes))


def test_study_that_an_earlier_version_began_goes_on_and_is_compared_from_then_on(
    folder: Path,
) -> None:
    spec = study(folder)
    open_ledger(spec)
    forget_content(folder)
    with pytest.raises(StudyError, match="another search space, epochs, seed or objective"):
        open_ledger(study(folder, train={"epochs": 9}))
    open_ledger(spec)
    with pytest.raises(StudyError, match=r"train\.epochs: 4 → 9"):
        open_ledger(study(folder, train={"epochs": 9}))


def forget_content(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "studies.db")) as database:
        done = database.execute("DELETE FROM study_user_attributes WHERE key = 'content'")
        assert done.rowcount == 1
        database.commit()


def test_passwords_in_comments_of_a_study_file_are_not_kept(folder: Path) -> None:
    spec = study(folder)
    text = spec.text + "\n# was postgresql://me:hunter2@host/db\n"
    open_ledger(replace(spec, source=replace(spec.source, text=text)))
    kept = optuna_study(spec).user_attrs["study_file"]
    assert kept.endswith("# was postgresql://me:***@host/db\n")
    assert kept.startswith(spec.text)


def test_study_goes_on_only_with_the_data_it_began_with(folder: Path) -> None:
    spec = study(folder)
    open_ledger(spec)
    with pytest.raises(StudyError, match=rf"data set, by fingerprint: {DIGEST} → {DIGEST[::-1]}"):
        OptunaLedger(spec, shape=SHAPE, levels=LEVELS, digest=DIGEST[::-1])


def test_attempts_of_a_trial_have_rising_numbers_and_the_sleeper_keeps_its_own(
    folder: Path,
) -> None:
    spec = study(folder, budget={"trials": 2})
    sleeper = open_ledger(spec)
    first, second = one(sleeper.ask_pack(1)), one(sleeper.ask_pack(1))
    assert sleeper.attempts([0, 1, 2]) == {0: 0, 1: 1}
    train(sleeper, first, epochs=2)
    disown(spec, 0, ELSEWHERE)
    disown(spec, 1, ELSEWHERE)
    silence(spec, 10 * GRACE_SECONDS)
    owner = open_ledger(spec)
    taken = [one(owner.ask_pack(1)), one(owner.ask_pack(1))]
    assert sorted(config.trial for config in taken) == [0, 1]
    numbers = owner.attempts([0, 1])
    assert sorted(numbers.values()) == [2, 3]
    # It wakes up, and is told at its first word.
    assert sleeper.attempts([0, 1]) == {0: 0, 1: 1}
    assert sleeper.report(report(3, trial=0), HEALTHY) == Decision(stop=True)
    assert sleeper.attempts([0, 1]) == {1: 1}
    assert second.trial == 1


def test_budget_and_pack_may_change_freely(folder: Path) -> None:
    open_ledger(study(folder))
    changed = study(folder, budget={"trials": 99, "retries": 9}, train={"pack": 3})
    pack = open_ledger(changed).ask_pack(3)
    assert pack is not None
    assert len(pack) == 3


@pytest.mark.parametrize(
    ("changes", "message", "tip"),
    [
        ({"sampler": "TPESampler"}, None, None),
        ({"sampler": {"TPESampler": {"n_startup_trials": 3}}}, None, None),
        ({"sampler": "optuna.samplers:RandomSampler"}, None, None),
        ({"pruner": "NopPruner"}, None, None),
        (
            {"pruner": {"PatientPruner": {"wrapped_pruner": {"MedianPruner": {}}, "patience": 2}}},
            None,
            None,
        ),
        ({"sampler": "TPESample"}, "unknown sampler `TPESample`", "did you mean `TPESampler`?"),
        ({"sampler": {"TPESampler": {"trials": 3}}}, "sampler `TPESampler`", "its arguments"),
        ({"sampler": "no_such_module:Sampler"}, "no_such_module", "its arguments"),
        ({"sampler": "optuna.samplers:Nothing"}, "Nothing", "its arguments"),
        (
            {"pruner": "MedianPrune"},
            "unknown pruner `MedianPrune`",
            "did you mean `MedianPruner`?",
        ),
        ({"pruner": {"MedianPruner": {"n_startup_trials": -1}}}, "pruner `MedianPruner`", "its"),
        ({"objective": PAIR}, None, None),
        ({"objective": PAIR, "pruner": "NopPruner"}, None, None),
        ({"objective": PAIR, "pruner": {"ParetoPruner": {"epsilon": 0.1}}}, None, None),
        ({"objective": PAIR, "pruner": "MedianPruner"}, "two objectives", "use `ParetoPruner`"),
        ({"pruner": "ParetoPruner"}, "for two objectives", "use `SuccessiveHalvingPruner`"),
        (
            {"objective": PAIR, "pruner": {"ParetoPruner": {"epsilon": 1.5}}},
            "epsilon must lie in [0, 1)",
            "its arguments",
        ),
        ({"objective": PAIR, "pruner": "ParetPruner"}, "unknown", "did you mean `ParetoPruner`?"),
    ],
)
def test_problems_of_sampler_and_pruner_are_found_before_the_search(
    changes: dict[str, Any], message: str | None, tip: str | None
) -> None:
    found = plugin_problems(study(**changes))
    if message is None:
        assert found == []
    else:
        (problem,) = found
        assert message in problem.message
        assert tip is not None
        assert problem.tip.startswith(tip)
        assert problem.path == (list(changes)[-1],)


# What the storage does


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "postgresql://user:hunter2@localhost:port/none",
        "postgresql://user:hunter2@127.0.0.1:9/none",
        "nosuchdatabase://user:hunter2@127.0.0.1/none",
        "mysql+nosuchdriver://user:hunter2@127.0.0.1/none",
        "sqlite:////proc/hunter2/none.db",
        "sqlite:////dev/null/none.db",
    ],
)
def test_storage_that_cannot_be_opened_is_told_at_once_without_its_password(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_VAE_LEDGER", url)
    spec = study()
    begin = time.monotonic()
    with pytest.raises(StorageError) as caught:
        open_ledger(spec)
    assert time.monotonic() - begin < 5
    assert "ledger" in str(caught.value)
    if "sqlite" not in url:
        assert "hunter2" not in str(caught.value)
        with pytest.raises(StorageError) as read:
            read_rows(spec)
        assert "hunter2" not in str(read.value)


def test_file_that_is_no_database_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "studies.db").write_text("my thesis\n" * 1000)
    with pytest.raises(StorageError, match="not a database"):
        open_ledger(study(tmp_path))
    assert (tmp_path / "studies.db").read_text() == "my thesis\n" * 1000


def test_database_that_does_not_answer_for_a_while_costs_no_trial(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "LOCK_SECONDS", 0.05)
    spec = study(folder, budget={"trials": 2})
    ledger = open_ledger(spec)
    config = one(ledger.ask_pack(1))
    with closing(sqlite3.connect(folder / "studies.db", check_same_thread=False)) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(sqlite3.OperationalError),
            closing(sqlite3.connect(folder / "studies.db", timeout=0)) as probe,
        ):
            probe.execute("BEGIN IMMEDIATE")
        unlock = threading.Timer(1.0, other.execute, ["COMMIT"])
        unlock.start()
        finish(ledger, config)
        unlock.join()
    assert trial_row(spec, 0).finished
    finish(ledger, one(ledger.ask_pack(1)))


@pytest.mark.parametrize("method", ["set_user_attr", "enqueue_trial"])
def test_database_that_goes_away_while_a_study_is_begun_is_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    done, failures = getattr(optuna.Study, method), iter(range(2))

    def away_at_first(*args: Any, **options: Any) -> None:
        done(*args, **options)
        # Written, but the answer was lost.
        if next(failures, None) is not None:
            raise StorageInternalError("terminating connection due to administrator command")

    monkeypatch.setattr(optuna.Study, method, away_at_first)
    spec = study(folder, known_good=True, search=WIDE, budget={"trials": 5})
    ledger = open_ledger(spec)
    assert next(failures, None) is None
    assert ledger.trouble == ""
    names = [one(ledger.ask_pack(1)).known_good for _ in range(4)]
    assert len(set(names[:3])) == 3
    assert "" not in names[:3]
    assert names[3] == ""


def test_machines_that_an_outage_kept_silent_keep_their_trials(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "LOCK_SECONDS", 0.05)
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(recovery, "HEARTBEAT_SECONDS", 2.0)
    spec = study(folder, budget={"trials": 2})
    there = open_ledger(spec)
    config = one(there.ask_pack(1))
    disown(spec, config.trial, ELSEWHERE)
    here = open_ledger(spec)
    with closing(sqlite3.connect(folder / "studies.db")) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="locked"):
            here.ask_pack(1)
    silence(spec, GRACE_SECONDS + 30)
    # Here the database answers again before the other machine has had time for a beat.
    other_trial = one(here.ask_pack(1))
    assert other_trial.trial != config.trial
    assert here.trouble == ""
    time.sleep(4.1)
    # It had, and did not use it.
    assert one(here.ask_pack(1)).trial == config.trial


def test_database_that_never_answers_again_is_told_after_a_while(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "LOCK_SECONDS", 0.05)
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.5)
    ledger = open_ledger(study(folder))
    config = one(ledger.ask_pack(1))
    with closing(sqlite3.connect(folder / "studies.db")) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="locked"):
            ledger.report(report(1, trial=config.trial), HEALTHY)
    # Once it is back, nothing was lost.
    finish(ledger, config)


def test_spent_time_adds_up_over_all_commands(folder: Path) -> None:
    spec = study(folder)
    open_ledger(spec).spend(10)
    later = open_ledger(spec)
    later.spend(5)
    assert later.spent_seconds() == 15


def test_study_that_never_began_has_no_rows_and_reading_begins_none(tmp_path: Path) -> None:
    assert read_rows(study(tmp_path)) is None
    assert list(tmp_path.iterdir()) == []


def test_other_study_in_the_same_database_is_not_mixed_up(folder: Path) -> None:
    assert search_all(study(folder, study="one", budget={"trials": 2})) == [0, 1]
    assert read_rows(study(folder, study="other")) is None
    assert search_all(study(folder, study="other", budget={"trials": 3})) == [0, 1, 2]


@pytest.mark.parametrize("sampler", ["RandomSampler", "TPESampler"])
def test_machines_that_ask_at_the_same_moment_draw_different_points(
    folder: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    spec = study(folder, sampler=sampler, budget={"trials": 14})
    here, there = open_ledger(spec), open_ledger(spec)
    for _ in range(12):
        # TPE draws at random before.
        finish(here, one(here.ask_pack(1)))
    ask, given = here._opened.study.ask, list[TrialConfig]()

    def after_the_other() -> optuna.Trial:
        given.append(one(there.ask_pack(1)))
        return ask()

    monkeypatch.setattr(here._opened.study, "ask", after_the_other)
    mine, theirs = one(here.ask_pack(1)), given[0]
    assert (theirs.trial, mine.trial) == (12, 13)
    assert mine.beta_norm != theirs.beta_norm
    assert mine.lr != theirs.lr
