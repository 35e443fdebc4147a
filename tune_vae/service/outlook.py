"""How long a study will go on, by the times of its own trials."""

from statistics import fmean

from tune_vae.service.results import StudyResults

__all__ = ["seconds_left"]


def seconds_left(results: StudyResults, now: float) -> float | None:
    """Until all trials and repeats have ended, if they go on as those before them did.

    An epoch takes as long as the mean one so far, a trial gets as far as those that ended (one
    that is farther already runs to its end), and as many run at a time as now.

    Arguments:
        results: The study.
        now: Seconds since 1970.

    Returns:
        None while nothing runs or no epoch was timed.
    """
    rows = [*results.rows, *results.repeats]
    running = [row for row in rows if row.state == "running"]
    # Of one that was taken up again, nobody knows how long it lay.
    spent = [
        (row.epoch, (row.ended_at or now) - row.started)
        for row in rows
        if row.started and row.epoch and row.attempts == 1 and row.state != "waiting"
    ]
    if not (running and spent):
        return None
    pace = sum(seconds for _, seconds in spent) / sum(epochs for epochs, _ in spent)
    ended = results.ended
    epochs = running[0].config.epochs
    usual = fmean(row.epoch for row in ended) if ended else epochs
    current = [(usual if row.epoch < usual else epochs) - row.epoch for row in running]
    trials = sum(row.config.repeat_of is None for row in running)
    later = max(0, results.planned - len(ended) - trials) * usual
    later += max(0, len(results.pending) - (len(running) - trials)) * epochs
    return pace * max((later + sum(current)) / len(running), *current)
