"""A pack's journey from configurations to results. Knows no library at all.

What a search does with each epoch is written here once, top to bottom. Who stores it is behind
two protocols, so that the whole journey also runs on ten-line fakes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol

from tune_vae.data import Splits
from tune_vae.science.health import Limits, Verdict, judge
from tune_vae.science.history import EpochReport, History, Rollback
from tune_vae.spec.trial import TrialConfig
from tune_vae.training.checkpoint import Checkpoint, CheckpointStore
from tune_vae.training.gallery import is_drawn
from tune_vae.training.trainer import Trainer, rollbacks_of

__all__ = [
    "Decision",
    "Fault",
    "Ledger",
    "Tracker",
    "TrialResult",
    "checkpoint_of",
    "conclusion",
    "describes",
    "history_of",
    "may_roll_back",
    "roll_back",
    "run_pack",
]


@dataclass(frozen=True)
class Decision:
    """What is to be done with a trial after an epoch.

    Arguments:
        stop: Whether to end it.
        verdict: What ended it; None when it is no longer ours to judge, because another
            machine took it over.
    """

    stop: bool = False
    verdict: Verdict | None = None


class Fault(Enum):
    """Why the worker of a pack broke."""

    PROGRAM = "the program: its trials end as failed"
    PLACE = "a store that does not answer, or an end on purpose: they are taken up as they were"
    PROCESS = "its process died: they are taken up again, in packs of half the size"
    MEMORY = "want of memory: the same, and no larger pack of their kind is begun"


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended.

    Arguments:
        trial: Its number.
        verdict: What was true of it at the end.
        finished: Whether it ran all its epochs.
        values: Comparable values of the study's objectives, all of one epoch; empty if none. With
            one objective that epoch is its best, with two it is the latest.
        best: The report of that epoch.
        last: Its last report.
        appraisal: Scores of its best epoch's model, by name, if it finished; see `Appraisal`.
        rollbacks: Losses that it survived.
    """

    trial: int
    verdict: Verdict
    finished: bool
    values: tuple[float, ...]
    best: EpochReport | None
    last: EpochReport
    appraisal: Mapping[str, float] = field(default_factory=dict)
    rollbacks: Sequence[Rollback] = ()


class Ledger(Protocol):
    """Who knows the truth about trials. All calls may be repeated without harm."""

    def holds(self, trial: int) -> bool:
        """Whether a trial is still ours, asked before anything of an epoch is written.

        It no longer is when its machine or its worker slept for longer than a lease lasts.
        """

    def report(self, report: EpochReport, verdict: Verdict) -> Decision:
        """Note an epoch; say whether the trial goes on."""

    def commit(self, result: TrialResult) -> None:
        """Note the end of a trial. The last thing that is written of it."""


class Tracker(Protocol):
    """Who shows trials to people. Never waits, never fails a trial."""

    def log(self, report: EpochReport, verdict: Verdict) -> None:
        """Show an epoch and the verdict after it; one that was shown before is left out."""

    def roll_back(self, trial: int, rollbacks: Sequence[Rollback]) -> None:
        """Show all rollbacks of a trial so far. May be repeated without harm."""

    def conclude(self, result: TrialResult) -> None:
        """Show how a trial ended, with its checkpoints."""


def run_pack(
    configs: Sequence[TrialConfig],
    *,
    data: Splits,
    limits: Limits,
    ledger: Ledger,
    tracker: Tracker,
    store: CheckpointStore,
    device: str = "cpu",
    refill: Callable[[int], Sequence[TrialConfig]] = lambda places: (),
) -> Iterator[None]:
    """Train trials of one pack key to their ends; yields after each epoch.

    A trial with a checkpoint goes on after its last epoch. What was written before a kill is
    written again where it is missing: the checkpoint holds all reports, and both ledger and
    tracker leave out what they know.

    A trial whose loss is lost is rolled back as often as its configuration says: the epoch is
    run again from the checkpoint before it, at half the learning rate. The ledger never hears of
    the lost one, and the checkpoint is written first, so that a kill does not make it twice.

    What a model draws is written before the checkpoint of its epoch: whoever goes on from one
    finds all drawings up to it.

    Arguments:
        configs: The trials.
        data, device: What they are trained on, and where.
        limits: Of health.
        ledger, tracker, store: Who is told, and where checkpoints lie.
        refill: Given a number of free places, the trials that shall take them; fewer, or none, if
            there are none of this pack key.
    """
    resume = {config.trial: state for config in configs if (state := _own(config, store))}
    trainer = Trainer(
        [config.member() for config in configs],
        data,
        device=device,
        resume=resume,
        objective=configs[0].objective,
    )
    histories: dict[int, History] = {}
    by_trial: dict[int, TrialConfig] = {}

    def draw(config: TrialConfig, epoch: int) -> None:
        if epoch not in store.drawn(config.trial):
            drawings = trainer.draw(config.trial)
            if drawings:
                store.save_drawings(config.trial, epoch, drawings)

    def settle(config: TrialConfig, news: Sequence[EpochReport]) -> None:
        """Tell of the latest epochs, and let go of a trial that ends with them."""
        history = histories[config.trial]
        verdicts = [judge(history.until(report.epoch), limits) for report in news]
        decision = ledger.report(history.last, verdicts[-1])
        ends = decision.stop or history.finished
        if ends:
            trainer.retire(config.trial)
        if decision.stop and decision.verdict is None:
            # It goes on elsewhere; a word from here would contradict what is written there.
            return
        if ends and not history.last.lost:
            draw(config, history.last.epoch)
        for report, verdict in zip(news, verdicts, strict=True):
            tracker.log(report, verdict)
        if ends:
            result = conclusion(config, history, decision.verdict or verdicts[-1])
            best = None
            if result.finished and result.best:
                best = store.best(config.trial, result.best.epoch)
            if best:
                result = replace(result, appraisal=trainer.appraise(config.trial, best).known())
            tracker.conclude(result)
            ledger.commit(result)

    def begin(config: TrialConfig, state: Checkpoint | None) -> None:
        """Make good what a kill left undone of a trial that is taken up again."""
        history = history_of(config, state)
        histories[config.trial], by_trial[config.trial] = history, config
        if state is None:
            draw(config, 0)
        if history.rollbacks:
            tracker.roll_back(config.trial, history.rollbacks)
        if state and history.reports:
            if history.best is history.last:
                # A kill may have come between the two files of an epoch.
                store.save_best(config.trial, state)
            settle(config, history.reports)

    for config in configs:
        begin(config, resume.get(config.trial))
    for reports in trainer:
        for report in reports:
            config = by_trial[report.trial]
            if not ledger.holds(config.trial):
                trainer.retire(config.trial)
                continue
            if may_roll_back(config, report):
                state = roll_back(trainer, config, report, store.last_sound(config.trial))
                store.save_last(config.trial, state)
                histories[config.trial] = history_of(config, state)
                tracker.roll_back(config.trial, histories[config.trial].rollbacks)
                continue
            history = histories[config.trial].add(report)
            if is_drawn(report.epoch) and not report.lost:
                draw(config, report.epoch)
            state = checkpoint_of(trainer, history, config.trial)
            store.save_last(config.trial, state)
            # It may have slept in between.
            if history.best is report and ledger.holds(config.trial):
                store.save_best(config.trial, state)
            settle(config, [report])
        if trainer.vacancies:
            for config in refill(trainer.vacancies):
                state = _own(config, store)
                trainer.admit(config.member(), state)
                begin(config, state)
        yield


def may_roll_back(config: TrialConfig, report: EpochReport) -> bool:
    """Whether an epoch is one to go back from."""
    return report.lost and report.rollbacks < config.rollbacks


def roll_back(
    trainer: Trainer, config: TrialConfig, lost: EpochReport, checkpoint: Checkpoint | None
) -> Checkpoint:
    """Take a trial back to a checkpoint, or to its beginning if that is None.

    Returns:
        Its checkpoint there, which knows of the rollback.
    """
    trainer.roll_back(lost, checkpoint)
    return checkpoint_of(trainer, history_of(config, checkpoint), config.trial)


def checkpoint_of(trainer: Trainer, history: History, trial: int) -> Checkpoint:
    """All that is needed to go on with a trial."""
    return trainer.state(trial) | {"reports": [report.to_dict() for report in history]}


def _own(config: TrialConfig, store: CheckpointStore) -> Checkpoint | None:
    """The checkpoint a trial goes on from.

    A folder may hold a trial of the same number from a study of the same name whose ledger was
    deleted; going on from that one would mix two trainings.
    """
    checkpoint = store.last(config.trial)
    if checkpoint and describes(checkpoint["config"], config):
        return checkpoint
    store.discard(config.trial)
    return None


def describes(text: str, config: TrialConfig) -> bool:
    """Whether a checkpoint's text is of this very trial, also if an earlier version wrote it."""
    try:
        return TrialConfig.model_validate_json(text) == config
    except ValueError:
        return False


def history_of(config: TrialConfig, checkpoint: Checkpoint | None) -> History:
    """The history of a trial as its checkpoint holds it, empty without one."""
    history = History(
        epochs=config.epochs,
        values=config.values,
        levels=config.levels,
        objective=config.objective[0] if len(config.objective) == 1 else None,
        rollbacks=rollbacks_of(checkpoint),
    )
    reports = checkpoint["reports"] if checkpoint else []
    return history.extend(EpochReport.from_dict(report) for report in reports)


def conclusion(config: TrialConfig, history: History, verdict: Verdict) -> TrialResult:
    """The result of a trial that ends here."""
    best = history.best
    return TrialResult(
        trial=config.trial,
        verdict=verdict,
        finished=history.finished and not verdict.kind.fatal,
        values=tuple(best.value(name) for name in config.objective) if best else (),
        best=best,
        last=history.last,
        rollbacks=history.rollbacks,
    )
