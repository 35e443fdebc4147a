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


def collapsing(trial: int = 0) -> TrialConfig:
    # A Bernoulli has no scale that would first have to settle.
    return config(trial, likelihood={"bernoulli": {}}, sigma=None, beta_norm=1e6)


def diverging(trial: int = 0) -> TrialConfig:
    return config(trial, lr=1e12)


@dataclass
class Stage:
    """A place to run journeys that survives the kills of those who run them."""

    data: Splits
    folder: Path
    decisions: dict[tuple[int, int], Decision] = field(default_factory=dict)
    limits: Limits = field(default_factory=lambda: Limits(steps=4))

    def __post_init__(self) -> None:
        self.diary = Diary()
        self.ledger = FakeLedger(self.diary, self.decisions)
        self.tracker = FakeTracker(self.diary)
        self.store = CheckpointStore(self.folder, "journey")

    def journey(self, *configs: TrialConfig) -> Iterator[None]:
        return run_pack(
            configs,
            data=self.data,
            limits=self.limits,
            ledger=self.ledger,
            tracker=self.tracker,
            store=self.store,
        )

    def run(self, *configs: TrialConfig) -> int:
        """Epochs that were trained until the end."""
        return len(list(self.journey(*configs)))

    def run_until_killed(self, fatal: Event, *configs: TrialConfig) -> None:
        self.diary.fatal = fatal
        with pytest.raises(KilledError):
            self.run(*configs)

    def curve(self, trial: int) -> list[tuple[object, ...]]:
        """What the tracker shows of a trial, but for the time that it took."""
        shown = self.tracker.curves[trial]
        assert list(shown) == list(range(1, len(shown) + 1))
        return [without_time(report) for report in shown.values()]


def without_time(report: EpochReport) -> tuple[object, ...]:
    # As text, in which a NaN equals a NaN.
    return tuple(repr(value) for value in astuple(replace(report, seconds=0.0)))


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
    best = torch.load(stage.store.path(0, "best"), weights_only=True)
    last = torch.load(stage.store.path(0, "last"), weights_only=True)
    assert result.best is not None
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
    before = stage.store.path(1, "last").stat().st_mtime_ns
    assert len(list(journey)) == EPOCHS - 2
    assert stage.store.path(1, "last").stat().st_mtime_ns == before
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
    before = stage.store.path(0, "last").stat().st_mtime_ns
    assert stage.run(trial) == 0
    assert stage.store.path(0, "last").stat().st_mtime_ns == before
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
    torn = stage.store.path(0, "last")
    torn.write_bytes(torn.read_bytes()[:-100])
    assert stage.run(config()) == EPOCHS - 2
    assert stage.curve(0) == undisturbed.curve(0)
    assert same_weights(stage, undisturbed, 0)


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
    assert stage.store.path(0, "best").exists()
    stage.run(diverging(0))
    assert not stage.store.path(0, "best").exists()


def test_finished_trial_is_appraised_at_its_best_epoch(stage: Stage) -> None:
    stage.run(config(0), diverging(1))
    finished, lost = stage.ledger.results
    if finished.trial:
        finished, lost = lost, finished
    assert lost.appraisal == {}
    assert finished.appraisal == stage.tracker.results[-1].appraisal
    best = stage.store.best(0)
    assert best is not None
    assert finished.best is not None
    assert best["epoch"] == finished.best.epoch
    vae = restored_vae(config(0).member(), stage.data.shape, best)
    assert finished.appraisal == Appraiser(stage.data).appraise(vae).known()
