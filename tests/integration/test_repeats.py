"""Finalists with other seeds: on real Optuna in the ledger, on real MLflow at the desk."""

import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState

from tests.factories import report
from tests.integration.elsewhere import HEALTHY, finish, open_ledger, search_all, train
from tests.stores import MLFLOW_WARNINGS
from tests.trials import DIGEST, EPOCHS, LEVELS, SHAPE, study
from tune_vae.science.health import Kind, Verdict
from tune_vae.service.desk import DataFacts, Desk
from tune_vae.service.journey import Decision, Fault, TrialResult
from tune_vae.service.ledger.looking import read_rows
from tune_vae.service.ledger.optuna_ledger import OptunaLedger
from tune_vae.service.results import StudyResults
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig

pytestmark = MLFLOW_WARNINGS

COLLAPSED = Verdict(Kind.COLLAPSED, "latents unused")
DEAD = f"{socket.gethostname()} 1 1"
PAIR = ["rate_nats", "mse"]


def results_of(spec: StudySpec) -> StudyResults:
    rows = read_rows(spec)
    assert rows is not None
    return StudyResults.of(spec, rows)


def optuna_rows(spec: StudySpec, suffix: str = "/repeats") -> list[FrozenTrial]:
    """Optuna's own rows, as another program would read them."""
    name = f"{spec.name}{suffix}"
    return optuna.load_study(study_name=name, storage=spec.storage.ledger).get_trials()


def searched(folder: Path, *, trials: int = 4, **changes: object) -> StudySpec:
    """A study whose trials have ended, each better than the one before."""
    budget = {"trials": trials, "seeds": 3, "finalists": 2}
    spec = study(folder, budget=budget, **changes)
    ledger = open_ledger(spec)
    for number in range(trials):
        (config,) = ledger.ask_pack(1) or []
        end(ledger, config, 3.0 - 0.1 * number)
    return spec


def end(ledger: OptunaLedger, config: TrialConfig, value: float, *, begun: int = 0) -> None:
    """Train to the end, and reach a value."""
    train(ledger, config, epochs=EPOCHS, begun=begun)
    last = report(EPOCHS, trial=config.trial, bits_per_dim=value)
    values = (value,) if len(config.objective) == 1 else (value, -value)
    ledger.commit(TrialResult(config.trial, HEALTHY, True, values, last, last))


def labels(configs: Sequence[TrialConfig] | None) -> list[str]:
    return [config.label for config in configs or []]


# The ledger


def test_repeats_are_their_finalists_with_seeds_of_their_own_in_one_pack(folder: Path) -> None:
    spec = searched(folder)
    wanted = results_of(spec).wanted
    assert labels(wanted) == ["3/2", "3/3", "2/2", "2/3"]
    ledger = open_ledger(spec)
    first, second = ledger.ask_repeats(wanted, 8), ledger.ask_repeats(wanted, 8)
    assert (first, second) == (wanted[:2], wanted[2:])
    assert ledger.ask_repeats(wanted, 8) is None
    finalist = results_of(spec).front[0].config
    own = {"trial", "seed", "repeat_of"}
    for config in first or []:
        assert config.model_dump(exclude=own) == finalist.model_dump(exclude=own)
        assert config.repeat_of == finalist.trial
    seeds = {config.seed for config in wanted} | {row.config.seed for row in results_of(spec).rows}
    assert len(seeds) == 4 + 4
    trials = optuna_rows(spec, "")
    assert [row.params for row in optuna_rows(spec)] == [trials[n].params for n in (3, 3, 2, 2)]


def test_pack_of_repeats_is_no_larger_than_the_study_wants(folder: Path) -> None:
    spec = searched(folder)
    wanted, ledger = results_of(spec).wanted, open_ledger(spec)
    assert [labels(ledger.ask_repeats(wanted, 1)) for _ in range(5)] == [
        ["3/2"],
        ["3/3"],
        ["2/2"],
        ["2/3"],
        [],
    ]


def test_repeats_are_no_trials(folder: Path) -> None:
    spec = searched(folder)
    ledger = open_ledger(spec)
    before = results_of(spec)
    while pack := ledger.ask_repeats(results_of(spec).wanted, 2):
        for config in pack:
            end(ledger, config, 2.0)
    after = results_of(spec)
    assert [row.values for row in after.repeats] == [(2.0,)] * 4
    assert after.pending == []
    for name in ("rows", "counts", "course", "idle", "front", "ended"):
        assert repr(getattr(after, name)) == repr(getattr(before, name)), name
    assert ledger.ask_pack(1) is None
    assert [row.state for row in optuna_rows(spec)] == [TrialState.COMPLETE] * 4
    assert len(optuna_rows(spec, "")) == 4


def drawn(spec: StudySpec, more: StudySpec, repeat: Callable[[], object]) -> list[TrialConfig]:
    """What is drawn for a study, with something in between the two budgets."""
    search_all(spec)
    repeat()
    search_all(more)
    return [row.config for row in results_of(more).rows]


@pytest.mark.parametrize("end_them", [True, False])
def test_sampler_suggests_the_same_with_and_without_repeats(
    folder: Path, empty_ledger: Path, end_them: bool
) -> None:
    """Beyond the trials that TPE draws at random; also while repeats run."""
    places = [folder / name for name in ("with", "without")]
    for place in places:
        place.mkdir()
        shutil.copy(empty_ledger, place / "studies.db")
    (first, more), (plain, plain_more) = (
        [study(place, budget={"trials": n, "seeds": 3}) for n in (11, 14)] for place in places
    )

    def repeat() -> None:
        ledger = open_ledger(first)
        while pack := ledger.ask_repeats(results_of(first).wanted, 2):
            for config in pack if end_them else []:
                end(ledger, config, 0.5)

    found = drawn(first, more, repeat)
    assert len(results_of(first).repeats) == 6
    assert found == drawn(plain, plain_more, lambda: None)
    assert len({config.beta_norm for config in found}) == 14


def test_repeat_is_never_stopped_for_its_value(folder: Path) -> None:
    pruner = {"MedianPruner": {"n_startup_trials": 1, "n_warmup_steps": 0}}
    spec = searched(folder, pruner=pruner)
    more = study(folder, pruner=pruner, budget={"trials": 5})
    ledger = open_ledger(more)
    (trial,) = ledger.ask_pack(1) or []
    (repeat,) = ledger.ask_repeats(results_of(spec).wanted, 1) or []
    bad = [report(2, trial=one.trial, bits_per_dim=99.0) for one in (trial, repeat)]
    assert ledger.report(bad[0], HEALTHY).stop
    assert ledger.report(bad[1], HEALTHY) == Decision()


@pytest.mark.parametrize("by", ["kill", "release", "worker"])
def test_interrupted_repeat_is_taken_up_again_and_done_once(folder: Path, by: str) -> None:
    spec = searched(folder)
    wanted = results_of(spec).wanted
    gone = open_ledger(spec)
    pack = gone.ask_repeats(wanted, 2) or []
    end(gone, pack[0], 2.9)
    train(gone, pack[1], epochs=2)
    if by == "release":
        gone.release()
    elif by == "worker":
        gone.fail([pack[1].trial], Fault.PROCESS, "its worker died")
    else:
        (row,) = [row for row in optuna_rows(spec) if row.state is TrialState.RUNNING]
        optuna.load_study(
            study_name=f"{spec.name}/repeats", storage=spec.storage.ledger
        )._storage.set_trial_user_attr(row._trial_id, "owner", DEAD)
    ledger = open_ledger(spec)
    assert ledger.ask_repeats(wanted, 2) == [pack[1]]
    assert ledger.ask_repeats(wanted, 2) == wanted[2:]
    rows = {row.trial: row for row in results_of(spec).repeats}
    assert (rows[pack[1].trial].attempts, rows[pack[1].trial].epoch) == (2, 2)
    end(ledger, pack[1], 2.8, begun=2)
    for config in wanted[2:]:
        end(ledger, config, 2.7)
    assert ledger.ask_repeats(wanted, 2) is None
    ended = results_of(spec).repeats
    assert [row.trial for row in ended] == sorted(config.trial for config in wanted)
    assert sorted(row.values for row in ended) == [(2.7,), (2.7,), (2.8,), (2.9,)]
    assert [row.attempts for row in ended].count(2) == 1


def test_two_processes_share_the_repeats_without_doing_one_twice(folder: Path) -> None:
    spec = searched(folder)
    wanted = results_of(spec).wanted
    here, there = open_ledger(spec), open_ledger(spec)
    packs = [ledger.ask_repeats(wanted, 2) or [] for ledger in (here, there)]
    assert labels([*packs[0], *packs[1]]) == labels(wanted)
    # They may yet be dropped by the other one.
    assert (here.ask_repeats(wanted, 2), there.ask_repeats(wanted, 2)) == ([], [])
    for ledger, pack in zip((here, there), packs, strict=True):
        for config in pack:
            end(ledger, config, 2.0)
    assert (here.ask_repeats(wanted, 2), there.ask_repeats(wanted, 2)) == (None, None)


def test_repeat_that_two_processes_added_at_once_is_run_once(folder: Path) -> None:
    spec = searched(folder)
    wanted = results_of(spec).wanted
    ledger = open_ledger(spec)
    for config in wanted * 2:
        ledger._repeats._add(config)
    done = []
    while pack := ledger.ask_repeats(wanted, 1):
        done += labels(pack)
        end(ledger, pack[0], 2.0)
    assert done == labels(wanted)
    assert [row.ended for row in results_of(spec).repeats] == [True] * 4
    states = [row.state for row in optuna_rows(spec)]
    assert states == [TrialState.COMPLETE] * 4 + [TrialState.FAIL] * 4


def test_repeats_that_were_wanted_and_never_begun_leave_no_trace(folder: Path) -> None:
    spec = searched(folder)
    many = results_of(spec.with_seeds(30, finalists=1)).wanted
    ledger = open_ledger(spec)
    for config in ledger.ask_repeats(many, 2) or []:
        end(ledger, config, 2.0)
    (finalist,) = results_of(spec).finalists
    assert (len(finalist.repeats), finalist.ended) == (2, True)


def test_repeat_that_collapses_or_breaks_has_ended_and_is_not_tried_again(folder: Path) -> None:
    spec = searched(folder)
    wanted = results_of(spec).wanted
    ledger = open_ledger(spec)
    first, second = ledger.ask_repeats(wanted, 2) or []
    last = report(1, trial=first.trial)
    assert ledger.report(last, COLLAPSED) == Decision(stop=True, verdict=COLLAPSED)
    ledger.commit(TrialResult(first.trial, COLLAPSED, False, (), None, last))
    ledger.fail([second.trial], Fault.PROGRAM, "ValueError: no such layer")
    for config in ledger.ask_repeats(wanted, 2) or []:
        end(ledger, config, 2.75)
    assert ledger.ask_repeats(wanted, 2) is None
    found = results_of(spec)
    assert found.pending == []
    best, other = found.finalists
    assert (best.row.trial, best.lost) == (2, "")
    assert other.lost == "1 of 3 seeds collapsed, 1 of 3 seeds failed"
    assert (found.winner, found.settled) == (best.row, True)


def test_repeat_that_never_finishes_an_epoch_is_given_up(folder: Path) -> None:
    spec = searched(folder)
    wanted = results_of(spec).wanted[:1]
    ledger = open_ledger(spec)
    for _ in range(spec.budget.retries + 1):
        (config,) = ledger.ask_repeats(wanted, 1) or []
        ledger.fail([config.trial], Fault.PROCESS, "its worker died")
    assert ledger.ask_repeats(wanted, 1) is None
    (row,) = results_of(spec).repeats
    assert (row.ended, row.kind) == (True, "failed")


def test_repeats_of_two_objectives_have_both_values(folder: Path) -> None:
    spec = searched(folder, objective=PAIR)
    wanted = results_of(spec).wanted
    assert labels(wanted) == ["3/2", "3/3", "0/2", "0/3"]
    ledger = open_ledger(spec)
    for config in ledger.ask_repeats(wanted, 2) or []:
        end(ledger, config, 2.0 + config.trial % 2)
    (finalist,) = (one for one in results_of(spec).finalists if one.estimates)
    assert [found.mean for found in finalist.estimates] == [3.0, -3.0]


# The desk


@pytest.fixture
def place(folder: Path, empty_mlflow: Path) -> Path:
    shutil.copy(empty_mlflow, folder / "mlflow.db")
    return folder


@contextmanager
def desk_of(spec: StudySpec, *, confirm: bool = False) -> Iterator[Desk]:
    desk = Desk(spec, DataFacts(SHAPE, LEVELS, DIGEST), confirm=confirm)
    yield desk
    assert desk.close("a note")


def run_pack(desk: Desk, value: Callable[[TrialConfig], float]) -> list[str]:
    """Take a pack and train it to its end; returns who was in it."""
    pack = desk.ask()
    for config in pack or []:
        last = report(config.epochs, trial=config.trial, bits_per_dim=value(config))
        desk.report(last, HEALTHY)
        result = TrialResult(config.trial, HEALTHY, True, (last.bits_per_dim,), last, last)
        desk.conclude(result)
        desk.commit(result)
    return labels(pack)


def by_number(config: TrialConfig) -> float:
    """The first trials are the best, and a repeat is a little worse than its finalist."""
    if config.repeat_of is None:
        return 3.0 + 0.1 * config.trial
    return 3.05 + 0.1 * config.repeat_of + config.trial * 1e-9


def runs_of(spec: StudySpec, kind: str) -> dict[str, Run]:
    client = MlflowClient(spec.storage.tracking)
    experiment = client.get_experiment_by_name(spec.name)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], f"tags.`tune_vae.kind` = '{kind}'")
    return {run.info.run_name.split()[0]: run for run in found}


def test_repeats_follow_when_all_trials_have_ended_and_are_shown_apart(place: Path) -> None:
    spec = study(place, budget={"trials": 3, "seeds": 3, "finalists": 2}, train={"pack": 2})
    with desk_of(spec) as desk:
        assert run_pack(desk, by_number) == ["0", "1"]
        alone = desk.ask()
        assert labels(alone) == ["2"]
        # It may yet become a finalist.
        assert desk.ask() == []
        desk.fail(desk.attempts([2]), Fault.PROCESS, "its worker died")
        assert desk.has_work()
        assert run_pack(desk, by_number) == ["2"]
        assert run_pack(desk, by_number) == ["0/2", "0/3"]
        assert desk.has_work()
        seen = desk.snapshot(0)
        assert (len(seen.results.ended), len(seen.results.pending)) == (3, 2)
        assert [ended.config.label for ended in seen.ended][-2:] == ["0/2", "0/3"]
        assert not any(ended.is_best for ended in seen.ended[-2:])
        assert run_pack(desk, by_number) == ["1/2", "1/3"]
        assert (desk.ask(), desk.has_work()) == (None, False)
        assert desk.snapshot(0).results.proven
    trials, repeats = runs_of(spec, "trial"), runs_of(spec, "repeat")
    assert sorted(trials) == ["000", "001", "002"]
    assert sorted(repeats) == ["000/2", "000/3", "001/2", "001/3"]
    assert {run.data.tags["tune_vae.repeat_of"] for run in repeats.values()} == {"0", "1"}
    assert all(run.info.status == "FINISHED" for run in repeats.values())
    assert trials["000"].data.tags["seeds"] == "3.0515 ± 0.0005 over 2 other seeds"
    assert "seeds" not in trials["002"].data.tags
    with desk_of(spec) as again:
        assert (again.ask(), again.has_work()) == (None, False)


def test_repeats_follow_also_when_patience_ends_the_trials(place: Path) -> None:
    budget = {"trials": 30, "patience": 2, "seeds": 2, "finalists": 1}
    spec = study(place, budget=budget)
    with desk_of(spec) as desk:
        ran = [run_pack(desk, by_number) for _ in range(4)]
        assert ran == [["0"], ["1"], ["2"], ["0/2"]]
        assert (desk.ask(), desk.has_work()) == (None, False)


def test_repeats_wait_for_trials_of_another_machine(place: Path) -> None:
    spec = study(place, budget={"trials": 2, "seeds": 2, "finalists": 1})
    elsewhere = open_ledger(spec)
    (theirs,) = elsewhere.ask_pack(1) or []
    with desk_of(spec) as desk:
        assert run_pack(desk, by_number) == ["1"]
        assert desk.ask() == []
        assert desk.has_work()
        finish(elsewhere, theirs)
        assert run_pack(desk, by_number) == ["1/2"]


def test_study_of_one_seed_has_no_repeats(place: Path) -> None:
    spec = study(place, budget={"trials": 1})
    with desk_of(spec) as desk:
        assert run_pack(desk, by_number) == ["0"]
        assert (desk.ask(), desk.has_work()) == (None, False)
    assert results_of(spec).repeats == []


def test_confirming_runs_repeats_of_what_has_ended_and_no_trial(place: Path) -> None:
    spec = study(place, budget={"trials": 4})
    with desk_of(spec) as desk:
        assert [run_pack(desk, by_number) for _ in range(2)] == [["0"], ["1"]]
    other = open_ledger(spec)
    assert other.ask_pack(1)
    sure = spec.with_seeds(2, finalists=3)
    with desk_of(sure, confirm=True) as desk:
        assert [run_pack(desk, by_number) for _ in range(3)] == [["0/2"], ["1/2"], []]
        assert not desk.has_work()
    # What was known of the repeats stays known to commands that ask for none.
    found = results_of(spec)
    assert (found.wanted, [row.config.label for row in found.repeats]) == ([], ["0/2", "1/2"])
    more = spec.with_seeds(3, finalists=1)
    with desk_of(more, confirm=True) as desk:
        assert [run_pack(desk, by_number) for _ in range(2)] == [["0/3"], []]
    assert [len(one.repeats) for one in results_of(spec).finalists] == [2, 1]
