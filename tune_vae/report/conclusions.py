"""What a study says, in plain words: each sentence is computed from its rows and curves."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tune_vae.report.evidence import Evidence, noun
from tune_vae.report.influence import spearman
from tune_vae.science.health import Kind
from tune_vae.science.history import History
from tune_vae.service.certainty import certainty
from tune_vae.service.foretold import passed_over
from tune_vae.service.regions import regions
from tune_vae.service.remedy import remedy
from tune_vae.service.rows import TrialRow
from tune_vae.spec.space import Node, Range

__all__ = ["Finding", "best_of_each_decoder", "doubts", "findings", "tied", "wobble"]

QUARTER = 0.25
DIFFERENT = 2.0
"""Standard deviations of a difference within which two trials cannot be told apart."""
NARROW = 0.5
"""The best quarter says where to look if it spans at most this share of what was tried."""
EDGE = 0.05
"""Share of a range that counts as its edge."""
FEWEST_RANKED = 8
"""Finished trials without which no rank correlation is told."""


@dataclass(frozen=True)
class Finding:
    """A claim, and what stands behind it."""

    claim: str
    support: str = ""

    def __str__(self) -> str:
        return f"{self.claim} {self.support}".strip()


def findings(evidence: Evidence) -> list[Finding]:
    """The conclusions, the most important first."""
    ways: Sequence[Callable[[Evidence], Iterator[Finding]]] = (
        _unfinished,
        _nothing,
        _best,
        _front,
        _finalists,
        _decoders,
        _samples,
        _where_the_best_lie,
        _edges,
        _constants,
        _ends,
        _saved,
    )
    return list(itertools.chain.from_iterable(way(evidence) for way in ways))


def doubts(evidence: Evidence) -> list[str]:
    """What the conclusions do not know."""
    told = list(filter(None, [certainty(evidence.results)]))
    moved = wobble(evidence)
    if moved is not None:
        told.append(
            f"From one epoch to the next a trained trial's {_name(evidence)} moves by "
            f"±{moved:.2g}; differences below {_margin(evidence):.2g} are called a tie."
        )
    if evidence.results.objective[0] in ("bits_per_dim", "bits_per_dim_calibrated", "neg_elbo"):
        told.append("It scores how well examples are told, not how samples look.")
    if len(evidence.finished) < len(evidence.results.ended):
        told.append("Trials that were stopped early might have become better, had they gone on.")
    return told


def wobble(evidence: Evidence) -> float | None:
    """How much a value moves from epoch to epoch by chance, once a trial is trained.

    Of the last quarter of each finished trial's epochs, the differences of neighbours about
    their median, in the robust measure 1.4826 · median |d|; a difference has twice the variance
    of a value, hence √2. The median over the trials. None for two objectives, and without
    curves.
    """
    if len(evidence.results.objective) > 1:
        return None
    own = [evidence.histories.get(row.trial) for row in evidence.finished]
    found = [_wobble(history, evidence.results.objective[0]) for history in own if history]
    known = [one for one in found if one is not None]
    return statistics.median(known) if known else None


def _wobble(history: History, objective: str) -> float | None:
    late = [one for one in history if one.epoch > (1 - QUARTER) * history.epochs]
    values = [one.value(objective) for one in late if history.comparable(one)]
    steps = [b - a for a, b in itertools.pairwise(values) if math.isfinite(b - a)]
    if len(steps) < 3:
        return None
    middle = statistics.median(steps)
    return 1.4826 * statistics.median(abs(step - middle) for step in steps) / math.sqrt(2)


def tied(evidence: Evidence) -> list[TrialRow]:
    """The winner, and those that cannot be told from it; empty without a winner."""
    if evidence.results.winner is None:
        return []
    best, margin = evidence.results.winner.values[0], _margin(evidence)
    return [row for row in evidence.finished if row.values[0] - best <= margin]


def _margin(evidence: Evidence) -> float:
    return DIFFERENT * math.sqrt(2) * (wobble(evidence) or 0.0)


def _name(evidence: Evidence) -> str:
    return noun(evidence.results.objective[0])


def _setting(row: TrialRow) -> str:
    config = row.config
    return (
        f"{config.decoder}, beta_norm {config.beta_norm:.3g}, {config.schedule_name} schedule, "
        f"lr {config.lr:.2g}"
    )


def _numbers(rows: Sequence[TrialRow]) -> str:
    told = [str(row.trial) for row in rows]
    return " and ".join(filter(None, [", ".join(told[:-1]), told[-1]]))


def _unfinished(evidence: Evidence) -> Iterator[Finding]:
    results = evidence.results
    if len(results.ended) < results.planned and not results.stalled:
        going = sum(row.state == "running" for row in results.rows)
        yield Finding(
            f"This is how it stands: {len(results.ended)} of {results.planned} trials have ended.",
            f"Running: {going}.",
        )


def _nothing(evidence: Evidence) -> Iterator[Finding]:
    if evidence.results.ended and not evidence.finished:
        yield Finding("No trial finished healthy.", remedy(evidence.results, evidence.spec))


def _best(evidence: Evidence) -> Iterator[Finding]:
    winner, rows, alike = evidence.results.winner, evidence.finished, tied(evidence)
    if winner is None:
        return
    value = f"{_name(evidence)} {winner.values[0]:.4g}"
    if len(rows) == 1:
        yield Finding(f"Trial {winner.trial} is the only one that finished: {value}.", "")
    elif len(alike) > 1:
        span = f"{_name(evidence)} from {alike[0].values[0]:.4g} to {alike[-1].values[0]:.4g}"
        many = f"{len(alike)} trials cannot be told apart" if len(alike) > 6 else ""
        yield Finding(
            f"{many or f'Trials {_numbers(alike)} cannot be told apart'}: {span}.",
            f"The lowest is trial {winner.trial}: {_setting(winner)}.",
        )
    else:
        ahead = rows[1].values[0] - winner.values[0]
        yield Finding(
            f"Trial {winner.trial} is best: {value}, {ahead:.2g} ahead of trial {rows[1].trial}.",
            f"{_setting(winner)}{_epoch(winner)}.",
        )


def _epoch(row: TrialRow) -> str:
    if row.best is None:
        return ""
    after = ", overfitting after it" if row.kind == Kind.OVERFITTING.value else ""
    return f"; epoch {row.best.epoch} of {row.config.epochs}{after}"


def _front(evidence: Evidence) -> Iterator[Finding]:
    results = evidence.results
    if len(results.objective) < 2 or not results.front:
        return
    first, second = map(noun, results.objective)
    ends = results.front[0], results.front[-1]
    yield Finding(
        f"{len(results.front)} of {len(evidence.finished)} finished trials are on the front:",
        f"none beats another in both, from ({_pair(ends[0].values)}) of trial {ends[0].trial} to "
        f"({_pair(ends[1].values)}) of trial {ends[1].trial} ({first}; {second}).",
    )
    if results.knee:
        yield Finding(
            f"The front bends at trial {results.knee.trial}: {_pair(results.knee.values)}.",
            f"From there less of one costs most of the other. {_setting(results.knee)}.",
        )
    for budget, row in results.rate_picks:
        other = 1 - results.objective.index("rate_nats")
        yield Finding(
            f"With at most {budget:g} nats, take trial {row.trial}:",
            f"{noun(results.objective[other])} {row.values[other]:.4g}.",
        )


def _pair(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def best_of_each_decoder(evidence: Evidence) -> list[TrialRow]:
    """By the first objective, the best decoder first."""
    best: dict[str, TrialRow] = {}
    for row in evidence.finished:
        best.setdefault(row.config.decoder, row)
    return list(best.values())


def _finalists(evidence: Evidence) -> Iterator[Finding]:
    ended = [one for one in evidence.results.finalists if one.ended]
    if ended:
        means = "; ".join(f"trial {one.row.trial}: {one}" for one in ended)
        yield Finding("The finalists were trained again with other seeds.", f"{means}.")


def _decoders(evidence: Evidence) -> Iterator[Finding]:
    rows = best_of_each_decoder(evidence)
    if evidence.results.winner is None or len(rows) < 2:
        return
    best, margin = rows[0].values[0], _margin(evidence)
    alike = [row.config.decoder for row in rows if row.values[0] - best <= margin]
    others = [row for row in rows if row.values[0] - best > margin]
    behind = ", ".join(f"{row.config.decoder} +{row.values[0] - best:.2g}" for row in others)
    if len(alike) == 1:
        yield Finding(f"The decoder {alike[0]} is best.", f"The best of the others: {behind}.")
    else:
        yield Finding(
            f"The decoders {', '.join(alike)} do equally well at their best.",
            f"The best of the others: {behind}." if behind else "",
        )


def _samples(evidence: Evidence) -> Iterator[Finding]:
    results = evidence.results
    nearest, subject = results.nearest_samples, evidence.subject
    if "sample_distance" in results.objective or nearest is None or subject is None:
        return
    scored = [row for row in evidence.finished if "sample_distance" in row.appraisal]
    beside = ""
    if len(scored) >= FEWEST_RANKED and len(results.objective) == 1:
        ranked = spearman(
            [row.values[0] for row in scored], [row.appraisal["sample_distance"] for row in scored]
        )
        beside = (
            f"Rank correlation of {_name(evidence)} and that distance: {ranked:+.2f} over "
            f"{len(scored)} trials."
        )
    distance = nearest.appraisal["sample_distance"]
    own = subject.appraisal.get("sample_distance", math.inf)
    if f"{own:.3g}" == f"{distance:.3g}":
        yield Finding(
            f"The samples of trial {subject.trial} are the nearest to real ones, too "
            f"({distance:.3g}).",
            beside,
        )
    elif math.isfinite(own):
        yield Finding(
            f"If samples are what you want, look at trial {nearest.trial}.",
            f"Its samples lie {distance:.3g} from real ones, those of trial {subject.trial} "
            f"{own:.3g}. {beside}".strip(),
        )


def _searched(evidence: Evidence) -> Iterator[tuple[str, Range]]:
    for name, node in evidence.spec.knobs.items():
        if isinstance(node, Range):
            yield name, node


def _where_the_best_lie(evidence: Evidence) -> Iterator[Finding]:
    """Ranges of the best quarter, where they are narrower than what was tried."""
    rows = evidence.finished
    if evidence.results.winner is None or len(rows) < 2 * FEWEST_RANKED:
        return
    best, told = rows[: math.ceil(QUARTER * len(rows))], []
    for name, node in _searched(evidence):
        mine = [float(getattr(row.config, name)) for row in best]
        tried = [float(getattr(row.config, name)) for row in evidence.results.ended]
        width = _place(node, max(tried)) - _place(node, min(tried))
        if _place(node, max(mine)) - _place(node, min(mine)) <= NARROW * width:
            span = f"{name} from {min(mine):.2g} to {max(mine):.2g}"
            told.append((span, f"{name} from {min(tried):.2g} to {max(tried):.2g}"))
    if told:
        spans, all_tried = zip(*told, strict=True)
        yield Finding(
            f"The best {len(best)} have {' and '.join(spans)}.",
            f"Tried were {' and '.join(all_tried)}.",
        )


def _edges(evidence: Evidence) -> Iterator[Finding]:
    winner = evidence.results.winner
    for name, node in _searched(evidence) if winner else ():
        place = _place(node, float(getattr(winner.config, name)))  # type: ignore[union-attr]
        bound = node.low if place <= EDGE else node.high
        if place <= EDGE or place >= 1 - EDGE:
            yield Finding(
                f"The best {name} lies at the edge of its range ({bound:g}).",
                "What is beyond was not tried; move the bound, under a new name of the study.",
            )


def _place(node: Node, value: float) -> float:
    """Where a value lies in its range, from 0 to 1, as the sampler counts."""
    assert isinstance(node, Range)
    low, high = float(node.low), float(node.high)
    if node.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)


def _constants(evidence: Evidence) -> Iterator[Finding]:
    winner = evidence.results.winner
    rows = [row for row in evidence.finished if row.config.known_good]
    if winner is None or not rows:
        return
    if winner.config.known_good:
        yield Finding("The best was known before the search:", f"{winner.config.known_good}.")
    behind = "; ".join(
        f"{row.config.known_good} +{row.values[0] - winner.values[0]:.2g}"
        for row in rows
        if row.trial != winner.trial
    )
    if behind:
        yield Finding(
            "What was known before the search, and was tried first, is behind the best:",
            f"{behind}.",
        )


def _ends(evidence: Evidence) -> Iterator[Finding]:
    results = evidence.results
    if not results.ended:
        return
    done = sum(row.finished for row in results.ended)
    others = [
        f"{count} {kind.value.replace('_', ' ')}"
        for kind, count in results.counts.items()
        if kind.fatal
    ]
    yield Finding(
        f"{done} of {len(results.ended)} trials ran to the end.",
        f"The others: {', '.join(others)}." if others else "",
    )
    for region in regions(results.rows):
        yield Finding(f"{region.sentence}.")
    if results.foretold:
        yield Finding(f"{passed_over(results.foretold)}.")


def _saved(evidence: Evidence) -> Iterator[Finding]:
    planned = sum(row.config.epochs for row in evidence.results.ended)
    spared = planned - sum(row.epoch for row in evidence.results.ended)
    if spared > 0:
        yield Finding(
            f"Stopping early spared {spared:,} of {planned:,} epochs ({spared / planned:.0%})."
        )
