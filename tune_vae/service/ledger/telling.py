"""What a trial says of its epochs and its end, and whether it may go on."""

import math

import optuna
from optuna.trial import FrozenTrial, TrialState

from tune_vae.science.health import Kind, Verdict
from tune_vae.science.history import EpochReport
from tune_vae.service.journey import Decision, TrialResult
from tune_vae.service.ledger.open_study import OpenStudy
from tune_vae.service.pareto_pruner import ParetoPruner, report_vector, vectors_of
from tune_vae.service.rows import plain, texts

__all__ = ["note_end", "note_epoch"]


def note_epoch(
    opened: OpenStudy, trial: optuna.Trial, report: EpochReport, verdict: Verdict
) -> Decision:
    """Note an epoch; say whether the trial goes on."""
    trial.set_user_attr("epoch", report.epoch)
    if verdict.kind.fatal:
        return Decision(stop=True, verdict=verdict)
    if not report.comparable:
        return Decision()
    values = [report.value(name) for name in opened.spec.objective]
    known = opened.storage.get_trial(trial._trial_id)
    if len(values) > 1:
        if report.epoch not in vectors_of(known):
            report_vector(trial, values, report.epoch)
    elif math.isnan(values[0]):
        # Optuna's pruners would stop it at once; it may have a value later.
        return Decision()
    elif report.epoch not in known.intermediate_values:
        # The best so far, which is what a trial is told to be worth when it ends; compared by
        # the latest, one that overfits would be stopped though no other were as good.
        best = min([values[0], *known.intermediate_values.values()])
        trial.report(best, report.epoch)
        known.intermediate_values[report.epoch] = best
    # A mean over the repeats that no pruner stopped would be too good.
    if report.epoch >= opened.spec.train.epochs or trial.study is opened.repeats:
        return Decision()
    mine = known if len(values) == 1 else opened.storage.get_trial(trial._trial_id)
    if not opened.study.pruner.prune(opened.study, mine):
        return Decision()
    hopeless = _hopeless if len(values) == 1 else _outranked
    return Decision(stop=True, verdict=hopeless(opened, report, mine))


def _outranked(opened: OpenStudy, report: EpochReport, mine: FrozenTrial) -> Verdict:
    names = opened.spec.objective
    values = ", ".join(f"{name} {report.value(name):.4g}" for name in names)
    pruner = opened.study.pruner
    beside = ""
    if isinstance(pruner, ParetoPruner):
        better, others = pruner.beaten_by(opened.study, mine)
        beside = (
            f"; {better} of {others} other trials dominate it there"
            if better
            else f"; it lies close to others on the front of {others + 1} trials there"
        )
    return Verdict(Kind.HOPELESS, f"{values} in epoch {report.epoch}{beside}")


def _hopeless(opened: OpenStudy, report: EpochReport, mine: FrozenTrial) -> Verdict:
    best = min(mine.intermediate_values.values())
    # An interrupted attempt left its values to the row that went on with it, which may be mine.
    rows = [
        row
        for row in opened.rows()
        if row.number != mine.number
        and row.state is not TrialState.FAIL
        and row.intermediate_values
    ]
    when = "by then"
    others = [
        min(value for epoch, value in row.intermediate_values.items() if epoch <= report.epoch)
        for row in rows
        if _is_comparable(row, report.epoch)
    ]
    if not others:
        # Halving compares by rungs, to which others may have come in later epochs only.
        when = "with their first value"
        others = [row.intermediate_values[min(row.intermediate_values)] for row in rows]
    better = sum(value < best for value in others)
    beside = f"; better {when}: {better} of {len(others)} others" if others else ""
    name = opened.spec.objective[0]
    return Verdict(Kind.HOPELESS, f"{name} {best:.3f} at best by epoch {report.epoch}{beside}")


def _is_comparable(row: FrozenTrial, epoch: int) -> bool:
    """Whether a trial has come through this epoch, or has a value before it and still runs.

    Pruners compare with both. Of the epoch itself it may have none: while a schedule holds the KL
    term down, values of different trials cannot be compared.
    """
    told = row.intermediate_values
    return min(told) <= epoch and (row.state is TrialState.RUNNING or max(told) >= epoch)


def note_end(opened: OpenStudy, trial: optuna.Trial, result: TrialResult) -> None:
    """Note how a trial ended, and tell the sampler."""
    kind = result.verdict.kind
    trial.set_user_attr("verdict", kind.value)
    trial.set_user_attr("reason", result.verdict.reason)
    for name, report in (("best", result.best), ("last", result.last)):
        if report:
            trial.set_user_attr(name, plain(report))
    trial.set_user_attr("appraisal", texts(result.appraisal))
    if kind.infeasible:
        trial.set_constraint(kind.value, 1.0)
    whole = len(result.values) == len(opened.spec.objective)
    # Told of a NaN, Optuna makes the row a failure, which would look like an interruption.
    if result.finished and whole and not any(map(math.isnan, result.values)):
        opened.tell(trial, list(result.values))
    else:
        opened.tell(trial, state=TrialState.PRUNED)
