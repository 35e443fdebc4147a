"""What the repeats of the finalists allow to say about the best trials, in words and numbers."""

from tune_vae.service.finalists import LEVEL, Difference, Finalist
from tune_vae.service.results import StudyResults

__all__ = ["certainty"]


def certainty(results: StudyResults) -> str:
    """Whether the best trial is so by more than chance; empty if no trial finished."""
    if not results.front:
        return ""
    finalists = results.finalists
    if not finalists:
        return "One seed was run of each trial: differences between the best may be chance."
    repeats = [row for one in finalists for row in one.repeats]
    ended = sum(row.ended for row in repeats)
    lost = [f"trial {one.row.trial}: {one.lost}" for one in finalists if one.lost]
    if ended < len(repeats):
        told = f"{ended} of {len(repeats)} repeats of the finalists have ended: too early to tell."
    elif len(results.objective) > 1:
        told = _of_front(results.objective, finalists)
    else:
        told = _of_winner(results)
    return " ".join([told, *([f"Seeds were lost: {'; '.join(lost)}."] if lost else [])])


def _of_winner(results: StudyResults) -> str:
    if not results.settled:
        best = results.front[0].trial
        if any(one.row.trial == best for one in results.finalists):
            return "No finalist has a value for every seed."
        return (
            f"Trial {best} was found since the others were repeated: it is better in its one "
            "seed, which may be chance."
        )
    first, *others = results.finalists
    rivals = [other for other in others if other.estimates]
    best = first.row.trial
    if not others:
        return f"Trial {best} is the only finalist."
    if first.estimates[0].count == 1:
        return "One other seed of each gives no error: run three seeds or more."
    if not rivals:
        return f"Trial {best} alone has a value for every seed."
    gaps = [(other.row.trial, first.differences(other)[0]) for other in rivals]
    if results.proven:
        return f"Trial {best} is better {_listed('than', gaps)} ({_MEASURE})."
    close = [(trial, gap) for trial, gap in gaps if not gap.real]
    return f"Trial {best} cannot be told apart {_listed('from', close)} ({_MEASURE})."


_MEASURE = f"means over other seeds, {LEVEL:.0%} Welch intervals"


def _listed(word: str, gaps: list[tuple[int, Difference]]) -> str:
    return ", ".join(f"{word} trial {trial}: difference {gap}" for trial, gap in gaps)


def _of_front(objective: tuple[str, ...], finalists: list[Finalist]) -> str:
    known = [one for one in finalists if one.estimates]
    if len(known) < 2:
        return "Fewer than two finalists have a value for every seed."
    alike = [
        f"{one.row.trial} and {other.row.trial}"
        for place, one in enumerate(known)
        for other in known[place + 1 :]
        if not any(gap.real for gap in one.differences(other))
    ]
    names = " nor ".join(objective)
    if alike:
        return f"Neither in {names} can be told apart: trials {'; '.join(alike)} ({_MEASURE})."
    return f"All finalists differ in {' or '.join(objective)} by more than chance ({_MEASURE})."
