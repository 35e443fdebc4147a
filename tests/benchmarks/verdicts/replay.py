"""Replay the verdicts over the stored histories, and say what they are worth.

python -m tests.benchmarks.verdicts.replay
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from tests.benchmarks.verdicts.histories import Label, Run, load
from tune_vae.science.health import Kind, Limits, Verdict, judge

COLLAPSES = (Kind.COLLAPSED, Kind.NEVER_FORMED)
LOSSES = (Kind.DIVERGED, Kind.EXPLODING)


@dataclass(frozen=True)
class Replayed:
    """What the engine would have done with a run.

    Arguments:
        run: The run.
        epoch: The epoch it would have been stopped after; None if it would have run to its end.
        verdict: That epoch's verdict, or the last one.
    """

    run: Run
    epoch: int | None
    verdict: Verdict

    @property
    def saved(self) -> int:
        """Epochs that were not trained."""
        return self.run.history.epochs - (self.epoch or self.run.history.epochs)

    @property
    def false_stop(self) -> bool:
        return self.run.label == "healthy" and self.verdict.kind.fatal


@dataclass(frozen=True)
class Score:
    """Figures of a set of runs; each a pair of how many and of how many.

    A lost run is found if it is ended by what training did to it. It is also named if the
    verdict is of the kind of its label; one that explodes first and collapses then is not.
    """

    collapsed_found: tuple[int, int]
    collapsed_named: tuple[int, int]
    diverged_found: tuple[int, int]
    diverged_named: tuple[int, int]
    healthy_stopped: tuple[int, int]
    marginal_stopped: tuple[int, int]
    untrained_stopped: tuple[int, int]
    epochs_saved: tuple[int, int]
    epochs_saved_collapsed: tuple[int, int]

    @classmethod
    def of(cls, replayed: Iterable[Replayed]) -> "Score":
        by_label: dict[str, list[Replayed]] = {label: [] for label in get_args(Label)}
        for one in replayed:
            by_label[one.run.label].append(one)

        def count(label: str, kinds: Sequence[Kind]) -> tuple[int, int]:
            found = by_label[label]
            return sum(one.verdict.kind in kinds for one in found), len(found)

        def saved(*labels: Label) -> tuple[int, int]:
            found = [one for label in labels for one in by_label[label]]
            return sum(one.saved for one in found), sum(one.run.history.epochs for one in found)

        fatal = [kind for kind in Kind if kind.fatal]
        blamed = [kind for kind in Kind if kind.infeasible]
        return cls(
            collapsed_found=count("collapsed", blamed),
            collapsed_named=count("collapsed", COLLAPSES),
            diverged_found=count("diverged", blamed),
            diverged_named=count("diverged", LOSSES),
            healthy_stopped=count("healthy", fatal),
            marginal_stopped=count("marginal", fatal),
            untrained_stopped=count("untrained", fatal),
            epochs_saved=saved("collapsed", "diverged"),
            epochs_saved_collapsed=saved("collapsed"),
        )


def replay(run: Run, limits: Limits = Limits()) -> Replayed:  # noqa: B008
    """The verdicts after each epoch, up to the first that ends the run."""
    shown = replace(run.history, reports=[])
    for report in run.history:
        verdict = judge(shown.add(report), limits)
        if verdict.kind.fatal:
            return Replayed(run, report.epoch, verdict)
    return Replayed(run, None, verdict)


def split(replayed: Sequence[Replayed]) -> Iterator[tuple[str, list[Replayed]]]:
    """The parts that are told apart: wide draws and those at the edge, tuned on and held out."""
    for draws, edge in (("wide", False), ("edge", True)):
        for part, held_out in (("tuned on", False), ("**held out**", True)):
            yield (
                f"{draws}, {part}",
                [o for o in replayed if (o.run.edge, o.run.held_out) == (edge, held_out)],
            )
    yield "all", list(replayed)


def table(replayed: Sequence[Replayed]) -> Iterator[str]:
    """Lines of Markdown: of all runs, of both parts, and by schedule."""
    parts = dict(split(replayed))
    for name in sorted({one.run.schedule for one in replayed}):
        parts[name] = [one for one in replayed if one.run.schedule == name]
    yield (
        "| runs | collapsed found | named | diverged found | named | healthy stopped "
        "| marginal stopped | untrained stopped | epochs saved | of the collapsed |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name, part in parts.items():
        score = Score.of(part)
        cells = [
            f"{name} ({len(part)})",
            *(
                f"{some}/{of}"
                for some, of in (
                    score.collapsed_found,
                    score.collapsed_named,
                    score.diverged_found,
                    score.diverged_named,
                    score.healthy_stopped,
                    score.marginal_stopped,
                    score.untrained_stopped,
                )
            ),
            *(
                f"{some / max(of, 1):.0%}"
                for some, of in (score.epochs_saved, score.epochs_saved_collapsed)
            ),
        ]
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    replayed = [replay(run) for run in load()]
    print("\n".join(table(replayed)))


if __name__ == "__main__":
    main()
