"""The journey on fakes of ledger and tracker, with the real trainer and real checkpoints."""

from collections.abc import Iterator
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path

import pytest
import torch

from tests.trials import EPOCHS
from tests.trials import trial_config as config
from tests.unit.service.fakes import Diary, Event, FakeLedger, FakeTracker, KilledError
from tune_vae.data import Splits
from tune_vae.science.health import Kind, Limits, Verdict
from tune_vae.science.history import EpochReport
from tune_vae.service.journey import Decision, run_pack
from tune_vae.spec.trial import TrialConfig
from tune_vae.training.appraisal import Appraiser
from tune_vae.training.checkpoint import CheckpointStore
from tune_vae.training.trainer import restored_vae

HOPELESS = Decision(stop=True, verdict=Verdict(Kind.HOPELESS, "far behind"))
LOST = Decision(stop=True, verdict=None)
RAW = {"tests.losing:RawVariance": {"start": 2.0}}


def collapsing(trial: int = 0) -> TrialConfig:
    # A Bernoulli has no scale that would first have to settle.
    return config(trial, likelihood={"bernoulli": {}}, sigma=None, beta_norm=1e6)


def diverging(trial: int = 0) -> TrialConfig:
    return config(trial, lr=1e12)


def losing(trial: int = 0, **changes: object) -> TrialConfig:
    """Lost at step 15 in epoch 2, and not at half the learning rate."""
    settings = {"seed": 0, "batch_size": 32, "lr": 0.014, "sigma": RAW, "rollbacks": 1}
    return config(trial, **(settings | changes))


def losing_at_once(trial: int = 0) -> TrialConfig:
    """Lost in epoch 1, and not at half the learning rate."""
    return losing(trial, lr=0.026, sigma={"tests.losing:RawVariance": {"start": 1.0}})


def losing_twice(trial: int = 0) -> TrialConfig:
    """Lost in epoch 2, also at half the learning rate."""
    return losing(trial, lr=0.02)


@dataclass
class Stage:
    """A place to run journeys that survives the kills of those who run them."""

    data: Splits
    folder: Path
    decisions: dict[tuple[int, int], Decision] = field(default_factory=dict)
    limits: Limits = field(default_factory=lambda: Limits(steps=4))
    attempts: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.diary = Diary()
        self.ledger = FakeLedger(self.diary, self.decisions)
        self.tracker = FakeTracker(self.diary)
        self.store = CheckpointStore(self.folder, "journey", self.attempts)

    def journey(self, *configs: TrialConfig) -> Iterator[None]:
        return run_pack(
            configs,
            data=self.data,
            limits=self.limits,
            ledger=self.ledger,
            tracker=self.tracker,
            store=self.store,
        )

    def refilled(self, most: int, *configs: TrialConfig) -> list[int]:
        """Run a pack of the first `most` trials, refilled by the others; places that were free."""
        waiting, asked = list(configs[most:]), []

        def refill(places: int) -> list[TrialConfig]:
            asked.append(places)
            return [waiting.pop(0) for _ in range(min(places, len(waiting)))]

        journey = run_pack(
            configs[:most],
            data=self.data,
            limits=self.limits,
            ledger=self.ledger,
            tracker=self.tracker,
            store=self.store,
            refill=refill,
        )
        for _ in journey:
            pass
        return asked

    def run(self, *configs: TrialConfig) -> int:
        """Epochs that were trained until the end."""
        return len(list(self.journey(*configs)))

    def run_until_killed(self, fatal: Event, *configs: TrialConfig) -> None:
        self.diary.fatal = fatal
        with pytest.raises(KilledError):
            self.run(*configs)

    def files(self, trial: int) -> dict[Path, int]:
        """Files of the newest states, and when they were written."""
        files = map(Path, self.store.files(trial, "last"))
        return {file: file.stat().st_mtime_ns for file in files}

    def curve(self, trial: int) -> list[tuple[object, ...]]:
        """What the tracker shows of a trial, but for the time that it took."""
        shown = self.tracker.curves[trial]
        assert list(shown) == list(range(1, len(shown) + 1))
        return [without_time(report) for report in shown.values()]


def without_time(report: EpochReport) -> tuple[object, ...]:
    # As text, in which a NaN equals a NaN.
    return tuple(repr(value) for value in astuple(replace(report, seconds=0.0, ended_at=0.0)))


def same_weights(one: Stage, other: Stage, trial: int) -> bool:
    a, b = one.store.last(trial), other.store.last(trial)
    assert a is not None
    assert b is not None
    return torch.equal(a["theta"], b["theta"]) and torch.equal(a["second"], b["second"])


@pytest.fixture
def stage(few_digits: Splits, tmp_path: Path) -> Stage:
    return Stage(few_digits, tmp_path / "disturbed")


@pytest.fixture
def undisturbed(few_digits: Splits, tmp_path: Path) -> Stage:
    return Stage(few_digits, tmp_path / "undisturbed")


def test_finished_trial_is_committed_last_after_its_page_is_concluded(stage: Stage) -> None:
    stage.run(config(epochs=2))
    assert stage.diary.events == [
        ("report", 0, 1),
        ("log", 0, 1),
        ("report", 0, 2),
        ("log", 0, 2),
        ("conclude", 0, 2),
        ("commit", 0, 2),
    ]


def test_resumed_trial_is_told_with_the_verdicts_it_had_at_the_time(
    stage: Stage, undisturbed: Stage
) -> None:
    # Silent from the second epoch on, which the eighth proves.
    for one in (stage, undisturbed):
        one.limits = Limits(steps=24)
    undisturbed.run(collapsing())
    kinds = [verdict.kind for verdict in undisturbed.tracker.verdicts[0].values()]
    assert len(set(kinds)) > 1, kinds
    stage.run_until_killed(("commit", 0, len(kinds)), collapsing())
    told = stage.tracker.verdicts[0]
    stage.tracker.verdicts = {}
    stage.run(collapsing())
    assert stage.tracker.verdicts[0] == told == undisturbed.tracker.verdicts[0]


def test_finished_trial_has_its_best_comparable_epoch_as_result(stage: Stage) -> None:
    stage.run(config())
    (result,) = stage.ledger.results
    curve = list(stage.tracker.curves[0].values())
    best = min(curve, key=lambda report: report.bits_per_dim)
    assert result.finished
    assert result.verdict.kind is Kind.HEALTHY
    assert result.best == best
    assert result.values == (best.bits_per_dim,)
    assert result.last == curve[-1]


def test_result_of_a_study_with_two_objectives_has_both_values_of_one_epoch(stage: Stage) -> None:
    stage.run(config(objective=("rate_nats", "mse")))
    (result,) = stage.ledger.results
    assert result.best is not None
    assert result.values == (result.best.rate_nats, result.best.mse)
    assert result.best == result.last


def test_best_checkpoint_holds_the_best_epoch_and_last_the_last(stage: Stage) -> None:
    stage.run(config())
    (result,) = stage.ledger.results
    assert result.best is not None
    best = stage.store.best(0, result.best.epoch)
    last = stage.store.last(0)
    assert best is not None
    assert last is not None
    assert best["epoch"] == result.best.epoch
    assert last["epoch"] == EPOCHS
    assert len(last["reports"]) == EPOCHS


def test_trial_stopped_by_the_ledger_ends_with_the_ledgers_verdict(stage: Stage) -> None:
    stage.decisions[(0, 2)] = HOPELESS
    stage.run(config())
    assert stage.diary.events[-2:] == [("conclude", 0, 2), ("commit", 0, 2)]
    (result,) = stage.ledger.results
    assert result.verdict == HOPELESS.verdict
    assert not result.finished


def test_stopped_trial_frees_its_place_and_its_neighbours_go_on_as_they_were(
    stage: Stage, undisturbed: Stage
) -> None:
    pack = [config(0), config(1), config(2)]
    undisturbed.run(*pack)
    stage.decisions[(1, 2)] = HOPELESS
    journey = stage.journey(*pack)
    next(journey)
    next(journey)
    before = stage.files(1)
    assert len(list(journey)) == EPOCHS - 2
    assert stage.files(1) == before
    assert stage.diary.of("report").count(("report", 1, 3)) == 0
    for trial in (0, 2):
        reports = stage.tracker.curves[trial]
        assert len(reports) == EPOCHS
        for epoch, report in reports.items():
            expected = undisturbed.tracker.curves[trial][epoch]
            assert report.bits_per_dim == pytest.approx(expected.bits_per_dim, rel=1e-5)
            assert report.rate_nats == pytest.approx(expected.rate_nats, rel=1e-4)


@pytest.mark.parametrize(
    ("broken", "kind"), [(collapsing(), Kind.NEVER_FORMED), (diverging(), Kind.DIVERGED)]
)
def test_trial_of_a_fatal_verdict_ends_early_without_a_finish(
    stage: Stage, broken: TrialConfig, kind: Kind
) -> None:
    assert stage.run(broken) < EPOCHS
    (result,) = stage.ledger.results
    assert result.verdict.kind is kind
    assert not result.finished


def test_nothing_is_written_of_a_trial_that_another_machine_took_over(stage: Stage) -> None:
    stage.decisions[(0, 2)] = LOST
    assert stage.run(config()) == 2
    assert stage.diary.events == [("report", 0, 1), ("log", 0, 1), ("report", 0, 2)]


def test_nothing_is_written_of_a_trial_that_was_taken_over_before_it_resumed(stage: Stage) -> None:
    stage.run_until_killed(("report", 0, 3), config())
    stage.diary.events.clear()
    stage.decisions[(0, 3)] = LOST
    assert stage.run(config()) == 0
    assert stage.diary.events == [("report", 0, 3)]


def test_worker_that_lost_its_trial_while_it_slept_writes_nothing_of_it(stage: Stage) -> None:
    journey = stage.journey(config(0), config(1))
    next(journey)
    files, events = stage.files(0), len(stage.diary.events)
    stage.ledger.lost.add(0)
    assert len(list(journey)) > 0
    assert stage.files(0) == files
    assert {trial for _, trial, _ in stage.diary.events[events:]} == {1}
    # Its neighbour goes on to its end.
    assert len(stage.curve(1)) == EPOCHS


@pytest.mark.parametrize("epoch", range(1, EPOCHS))
def test_resumed_trial_goes_on_bit_for_bit_after_any_epoch(
    stage: Stage, undisturbed: Stage, epoch: int
) -> None:
    undisturbed.run(config())
    journey = stage.journey(config())
    for _ in range(epoch):
        next(journey)
    assert stage.run(config()) == EPOCHS - epoch
    assert stage.curve(0) == undisturbed.curve(0)
    assert same_weights(stage, undisturbed, 0)
    assert len(stage.ledger.results) == 1


@pytest.mark.parametrize("epoch", range(1, EPOCHS + 1))
@pytest.mark.parametrize("call", ["report", "log"])
def test_kill_between_checkpoint_and_page_neither_loses_nor_repeats_an_epoch(
    stage: Stage, undisturbed: Stage, call: str, epoch: int
) -> None:
    undisturbed.run(config())
    stage.run_until_killed((call, 0, epoch), config())
    assert stage.run(config()) == EPOCHS - epoch
    assert stage.curve(0) == undisturbed.curve(0)
    assert same_weights(stage, undisturbed, 0)
    assert sorted(set(stage.diary.of("report"))) == [("report", 0, n + 1) for n in range(EPOCHS)]
    assert stage.diary.of("conclude", "commit") == undisturbed.diary.of("conclude", "commit")


@pytest.mark.parametrize("call", ["conclude", "commit"])
@pytest.mark.parametrize("trial", [config(), collapsing(), diverging()])
def test_trial_killed_before_its_end_was_noted_is_concluded_without_training(
    stage: Stage, undisturbed: Stage, trial: TrialConfig, call: str
) -> None:
    undisturbed.run(trial)
    last = undisturbed.ledger.results[0].last.epoch
    stage.run_until_killed((call, 0, last), trial)
    assert stage.ledger.results == []
    before = stage.files(0)
    assert stage.run(trial) == 0
    assert stage.files(0) == before
    (result,), (expected,) = stage.ledger.results, undisturbed.ledger.results
    assert result.verdict == expected.verdict
    assert result.values == expected.values
    assert result.finished == expected.finished
    assert stage.curve(0) == undisturbed.curve(0)


def test_torn_checkpoint_costs_one_epoch_and_changes_nothing(
    stage: Stage, undisturbed: Stage
) -> None:
    undisturbed.run(config())
    stage.run_until_killed(("report", 0, 3), config())
    torn = Path(stage.store.files(0, "last")[0])
    torn.write_bytes(torn.read_bytes()[:-100])
    assert stage.run(config()) == EPOCHS - 2
    assert stage.curve(0) == undisturbed.curve(0)
    assert same_weights(stage, undisturbed, 0)


def test_worker_that_wakes_after_its_trial_was_taken_over_overwrites_nothing(
    few_digits: Splits, tmp_path: Path
) -> None:
    """The order of events when a machine sleeps for longer than its lease."""
    sleeper = Stage(few_digits, tmp_path, attempts={0: 0})
    journey = sleeper.journey(config())
    next(journey)
    next(journey)
    # It sleeps in the midst of an epoch; another machine takes the trial over, one epoch further.
    owner = Stage(few_digits, tmp_path, attempts={0: 5})
    taken_over = owner.journey(config())
    next(taken_over)
    ours, best = reports_of(owner), owner.store.files(0, "best")
    assert len(ours) == 3

    sleeper.decisions[(0, 3)] = LOST
    assert len(list(journey)) == 1
    assert sleeper.diary.of("conclude", "commit") == []
    # Its reports took other times, so that they would be known.
    assert reports_of(owner) == ours
    assert owner.store.files(0, "best")[: len(best)] == best
    assert len(list(taken_over)) == EPOCHS - 3
    (result,) = owner.ledger.results
    assert result.best is not None
    assert result.appraisal
    last = reports_of(owner)
    assert last[:3] == ours
    assert len(last) == EPOCHS


def test_machine_after_the_sleeper_goes_on_from_the_newer_attempt(
    few_digits: Splits, tmp_path: Path
) -> None:
    sleeper = Stage(few_digits, tmp_path, attempts={0: 0})
    journey = sleeper.journey(config())
    next(journey)
    owner = Stage(few_digits, tmp_path, attempts={0: 5})
    owner.run_until_killed(("log", 0, 2), config())
    ours = reports_of(owner)
    assert len(ours) == 2
    # It wakes up and, before the ledger can tell it to stop, is ahead of the attempt that counts.
    next(journey)
    next(journey)
    third = Stage(few_digits, tmp_path, attempts={0: 6})
    assert third.run(config()) == EPOCHS - 2
    assert reports_of(third)[:2] == ours


def reports_of(stage: Stage) -> list[dict[str, object]]:
    last = stage.store.last(0)
    assert last is not None
    reports: list[dict[str, object]] = last["reports"]
    return reports


def test_best_checkpoint_that_a_kill_kept_from_being_written_is_written_by_the_next(
    stage: Stage, undisturbed: Stage
) -> None:
    undisturbed.run(config())
    (expected,) = undisturbed.ledger.results
    assert expected.best is not None
    best = expected.best.epoch
    stage.run_until_killed(("report", 0, best), config())
    for file in stage.store.files(0, "best"):
        # The kill came before the second of the two files of this epoch.
        if file.endswith(f"{best:04d}.pt"):
            Path(file).unlink()
    stage.run(config())
    found = stage.store.best(0, best)
    assert found is not None
    assert found["epoch"] == best
    (result,) = stage.ledger.results
    assert result.appraisal == pytest.approx(expected.appraisal)


def test_members_of_a_pack_may_be_at_different_epochs(stage: Stage, undisturbed: Stage) -> None:
    ahead, behind, fresh = config(0), config(1, epochs=6), config(2)
    for one in (ahead, behind, fresh):
        undisturbed.run(one)
    for one, epochs in ((ahead, 3), (behind, 1)):
        journey = stage.journey(one)
        for _ in range(epochs):
            next(journey)
    assert stage.run(ahead, behind, fresh) == 5
    for one in (ahead, behind, fresh):
        curve, expected = (d.tracker.curves[one.trial] for d in (stage, undisturbed))
        assert list(curve) == list(expected)
        assert [report.bits_per_dim for report in curve.values()] == pytest.approx(
            [report.bits_per_dim for report in expected.values()], rel=1e-5
        )
    assert {result.trial for result in stage.ledger.results if result.finished} == {0, 1, 2}


def test_pack_whose_members_have_all_ended_trains_nothing(stage: Stage) -> None:
    stage.run_until_killed(("conclude", 0, EPOCHS), config(0), config(1))
    stage.run(config(0), config(1))
    assert {result.trial for result in stage.ledger.results} == {0, 1}
    stage.diary.events.clear()
    assert stage.run(config(0), config(1)) == 0
    assert stage.diary.of("log") == []


def test_a_checkpoint_of_another_study_of_that_name_is_not_gone_on_from(
    few_digits: Splits, tmp_path: Path
) -> None:
    Stage(few_digits, tmp_path / "shared").run(config(0, lr=1e-4))
    fresh = Stage(few_digits, tmp_path / "fresh")
    fresh.run(config(0))

    stage = Stage(few_digits, tmp_path / "shared")
    assert stage.run(config(0)) == EPOCHS
    assert stage.curve(0) == fresh.curve(0)
    assert same_weights(stage, fresh, 0)


def test_a_trial_that_never_compared_leaves_no_best_of_an_older_one(
    few_digits: Splits, tmp_path: Path
) -> None:
    Stage(few_digits, tmp_path).run(config(0))
    stage = Stage(few_digits, tmp_path)
    assert stage.store.files(0, "best")
    stage.run(diverging(0))
    assert stage.store.files(0, "best") == []


def test_finished_trial_is_appraised_at_its_best_epoch(stage: Stage) -> None:
    stage.run(config(0), diverging(1))
    finished, lost = stage.ledger.results
    if finished.trial:
        finished, lost = lost, finished
    assert lost.appraisal == {}
    assert finished.appraisal == stage.tracker.results[-1].appraisal
    assert finished.best is not None
    best = stage.store.best(0, finished.best.epoch)
    assert best is not None
    assert finished.best is not None
    assert best["epoch"] == finished.best.epoch
    vae = restored_vae(config(0).member(), stage.data.shape, best)
    assert finished.appraisal == Appraiser(stage.data).appraise(vae).known()


def told(stage: Stage, trial: int = 0) -> list[tuple[int, float, int]]:
    """Epoch, learning rate and rollbacks of each epoch that the tracker shows."""
    return [(r.epoch, r.lr, r.rollbacks) for r in stage.tracker.curves[trial].values()]


def test_lost_trial_is_rolled_back_once_and_finishes(stage: Stage) -> None:
    assert stage.run(losing()) == EPOCHS + 1
    (result,) = stage.ledger.results
    assert result.verdict.kind is Kind.HEALTHY
    assert result.finished
    assert result.rollbacks == stage.tracker.rollbacks[0]
    assert [str(one) for one in result.rollbacks] == [
        "lost at step 15 in epoch 2, lr 0.014 → 0.007, went on from epoch 1"
    ]
    assert told(stage) == [(1, 0.014, 0), (2, 0.007, 1), (3, 0.007, 1), (4, 0.007, 1)]


def test_lost_epoch_is_told_to_nobody_as_an_epoch(stage: Stage) -> None:
    stage.run(losing())
    assert stage.diary.events == [
        ("report", 0, 1),
        ("log", 0, 1),
        ("roll back", 0, 2),
        *((call, 0, epoch) for epoch in (2, 3, 4) for call in ("report", "log")),
        ("conclude", 0, 4),
        ("commit", 0, 4),
    ]
    last = stage.store.last(0)
    assert last is not None
    assert [report["finite"] for report in last["reports"]] == [True] * EPOCHS


def test_trial_that_is_lost_in_its_first_epoch_begins_again(stage: Stage) -> None:
    stage.run(losing_at_once())
    (result,) = stage.ledger.results
    assert result.finished
    assert not result.verdict.kind.fatal
    assert [str(one) for one in result.rollbacks] == [
        "lost at step 5 in epoch 1, lr 0.026 → 0.013, began again"
    ]
    assert told(stage) == [(epoch + 1, 0.013, 1) for epoch in range(EPOCHS)]


def test_trial_that_is_lost_again_ends_diverged_and_says_so(stage: Stage) -> None:
    assert stage.run(losing_twice()) == 3
    (result,) = stage.ledger.results
    assert result.verdict.kind is Kind.DIVERGED
    assert not result.finished
    assert result.last.epoch == 2
    assert result.last.lr == 0.01
    assert result.verdict.reason.endswith(
        "Rolled back already: lost at step 11 in epoch 2, lr 0.02 → 0.01, went on from epoch 1."
    )


@pytest.mark.parametrize("rollbacks", [0, 1, 2])
def test_trial_is_rolled_back_as_often_as_it_may_be(stage: Stage, rollbacks: int) -> None:
    stage.run(losing(lr=1e12, rollbacks=rollbacks))
    (result,) = stage.ledger.results
    assert result.verdict.kind is Kind.DIVERGED
    assert result.last.rollbacks == len(result.rollbacks) == rollbacks
    assert result.last.lr == 1e12 / 2**rollbacks
    assert len(stage.diary.of("roll back")) == rollbacks
    assert ("Rolled back already" in result.verdict.reason) is (rollbacks > 0)


@pytest.mark.parametrize(
    "trial",
    [losing(), losing_at_once(), losing_twice()],
    ids=["epoch 2", "epoch 1", "twice"],
)
def test_kill_at_any_moment_around_a_rollback_changes_no_bit(
    few_digits: Splits, tmp_path: Path, undisturbed: Stage, trial: TrialConfig
) -> None:
    turns = undisturbed.run(trial)
    (expected,) = undisturbed.ledger.results
    events = undisturbed.diary.of("report", "roll back", "commit")
    for number, event in enumerate(events):
        stage = Stage(few_digits, tmp_path / str(number))
        stage.run_until_killed(event, trial)
        # The turn in which a call is killed had been saved before.
        assert stage.run(trial) == turns - min(number + 1, turns)
        assert stage.curve(0) == undisturbed.curve(0)
        assert same_weights(stage, undisturbed, 0)
        assert stage.tracker.rollbacks == undisturbed.tracker.rollbacks
        (result,) = stage.ledger.results
        assert result.verdict == expected.verdict
        assert result.rollbacks == expected.rollbacks
        assert result.values == expected.values


@pytest.mark.parametrize("turn", range(1, EPOCHS + 1))
def test_trial_that_is_taken_up_between_two_epochs_keeps_its_rollback(
    stage: Stage, undisturbed: Stage, turn: int
) -> None:
    undisturbed.run(losing())
    journey = stage.journey(losing())
    for _ in range(turn):
        next(journey)
    assert stage.run(losing()) == EPOCHS + 1 - turn
    assert stage.curve(0) == undisturbed.curve(0)
    assert same_weights(stage, undisturbed, 0)


def test_torn_checkpoint_of_a_rollback_is_made_again(stage: Stage, undisturbed: Stage) -> None:
    undisturbed.run(losing())
    stage.run_until_killed(("roll back", 0, 2), losing())
    torn = Path(stage.store.files(0, "last")[0])
    torn.write_bytes(torn.read_bytes()[:-100])
    assert stage.run(losing()) == EPOCHS + 1
    assert stage.curve(0) == undisturbed.curve(0)
    assert stage.tracker.rollbacks == undisturbed.tracker.rollbacks


def test_neighbours_of_a_trial_that_is_rolled_back_end_as_they_would_alone(
    stage: Stage, undisturbed: Stage
) -> None:
    pack = [losing(0, seed=5, lr=0.006), losing(1), losing_twice(2)]
    for one in pack:
        undisturbed.run(one)
    assert stage.run(*pack) == EPOCHS + 1
    assert set(stage.tracker.rollbacks) == {1, 2}
    assert stage.tracker.rollbacks == undisturbed.tracker.rollbacks
    ended = {result.trial: result for result in stage.ledger.results}
    for expected in undisturbed.ledger.results:
        assert ended[expected.trial].verdict.kind is expected.verdict.kind
        assert told(stage, expected.trial) == told(undisturbed, expected.trial)
        assert ended[expected.trial].values == pytest.approx(expected.values, rel=1e-4)


def test_rollback_is_from_the_newest_checkpoint_that_is_sound(stage: Stage) -> None:
    journey = stage.journey(losing())
    next(journey)
    last = stage.store.last(0)
    assert last is not None
    stage.store.save_last(0, last | {"epoch": 2, "theta": last["theta"] * torch.nan})
    next(journey)
    (back,) = stage.tracker.rollbacks[0]
    assert back.resumed == 1
    assert len(list(journey)) == EPOCHS - 1


def test_free_places_of_a_pack_are_taken_by_other_trials(stage: Stage) -> None:
    trials = [config(trial, lr=1e-3 * (1 + trial)) for trial in range(5)]
    stage.decisions[1, 1] = HOPELESS
    asked = stage.refilled(2, *trials)
    # After the first epoch one is stopped; then they end by ones, and at last nobody comes.
    assert asked[0] == 1
    assert stage.ledger.results[0].trial == 1
    assert sorted(result.trial for result in stage.ledger.results) == list(range(5))
    for trial in (0, 2, 3, 4):
        assert len(stage.tracker.curves[trial]) == EPOCHS
        assert stage.store.last(trial)["epoch"] == EPOCHS


def test_trial_that_was_interrupted_goes_on_in_a_free_place(
    stage: Stage, undisturbed: Stage
) -> None:
    stage.run_until_killed(("log", 2, 2), config(2))
    stage.decisions[1, 1] = HOPELESS
    stage.refilled(2, config(0), config(1), config(2))
    undisturbed.run(config(2))
    assert [epoch for _, trial, epoch in stage.diary.of("log") if trial == 2] == list(
        range(1, EPOCHS + 1)
    )
    ended = {result.trial: result for result in stage.ledger.results}[2]
    assert ended.last.bits_per_dim == pytest.approx(
        undisturbed.ledger.results[0].last.bits_per_dim, rel=1e-4
    )
