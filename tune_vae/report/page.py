"""The page itself: what is shown in which order, written to a folder."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tune_vae.data import Splits, scale
from tune_vae.errors import StorageError
from tune_vae.report import courses, knobs, portraits, tradeoffs
from tune_vae.report.conclusions import (
    Finding,
    best_of_each_decoder,
    doubts,
    findings,
    tied,
)
from tune_vae.report.drawing import Picture
from tune_vae.report.evidence import GROUPS, Evidence, noun
from tune_vae.report.foresight import foresight
from tune_vae.science.health import Kind
from tune_vae.science.history import OBJECTIVES
from tune_vae.service.palette import COLOURS, SIGNS
from tune_vae.service.phases import judged, phases
from tune_vae.service.rows import TrialRow
from tune_vae.training.gallery import gallery, principal_plane
from tune_vae.whole_files import write_whole

__all__ = ["Written", "write"]

HELD_OUT = 500
"""Most held-out examples that models are shown."""
BEST = 8
"""Rows of the table of the best."""
MOST_PORTRAITS = 3
"""Trials that are shown beside a collapsed one."""


@dataclass(frozen=True)
class Written:
    """A report on disk.

    Arguments:
        page: The HTML page, which needs no other file.
        pictures: Its pictures, as files of their own.
        summary: The conclusions in Markdown.
    """

    page: Path
    pictures: tuple[Path, ...]
    summary: str


def write(evidence: Evidence, data: Splits | None, folder: Path) -> Written:
    """Write the report of a study into a folder; a report that is there is replaced.

    Arguments:
        evidence: The study.
        data: Its examples; without them nothing is shown that needs them.
        folder: Where to; it is made if need be.

    Raises:
        StorageError: The folder cannot be written.
    """
    held_out = scale(data.validation[:HELD_OUT], data.levels) if data else None
    drawings, objectives = _model_pictures(evidence, data), evidence.results.objective
    pictures = {
        picture.name: picture
        for picture in (
            tradeoffs.rate_distortion(evidence),
            tradeoffs.objectives(evidence),
            evidence.forecast
            and foresight(evidence.forecast, evidence.scouts, evidence.results.rows),
            courses.curves(evidence),
            courses.every_trial(evidence),
            *drawings,
            *(knobs.what_mattered(evidence, place) for place in range(len(objectives))),
            courses.sigmas(evidence),
            *_latents(evidence, data, held_out),
        )
        if picture
    }
    told = findings(evidence)
    html = (
        _environment()
        .get_template("page.html")
        .render(_context(evidence, data, told, pictures, [drawing.name for drawing in drawings]))
    )
    try:
        files = write_pictures(list(pictures.values()), folder)
        page = write_whole(folder / "index.html", html.encode())
    except OSError as error:
        raise StorageError(f"cannot write the report into {folder}: {error}") from error
    return Written(page, files, _summary(evidence, told))


def write_pictures(pictures: Sequence[Picture], folder: Path) -> tuple[Path, ...]:
    """Write some pictures into a folder, which is made if need be.

    Raises:
        OSError: It cannot be written.
    """
    return tuple(write_whole(folder / f"{picture.name}.png", picture.png) for picture in pictures)


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("tune_vae.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _model_pictures(evidence: Evidence, data: Splits | None) -> list[Picture]:
    """What the best trials draw, beside a collapsed one."""
    if data is None or data.levels is None:
        return []
    held_out = scale(data.validation[:HELD_OUT], data.levels)
    told = data.told.validation[:HELD_OUT] if data.told else None
    models = ((title, row, evidence.model(row)) for title, row in _portrayed(evidence))
    return [
        portraits.portrait(title, row, gallery(vae, held_out, told))
        for title, row, vae in models
        if vae
    ]


def _portrayed(evidence: Evidence) -> Iterator[tuple[str, TrialRow]]:
    """Whose pictures are shown, and as what; no trial twice."""
    results, subject, shown = evidence.results, evidence.subject, set[int]()
    candidates: list[tuple[str, TrialRow | None]]
    if len(results.objective) == 1:
        name = "one of the best" if len(tied(evidence)) > 1 else "the best"
        candidates = [(name, subject), ("the nearest samples", results.nearest_samples)]
        candidates.append(("the second", next(iter(evidence.finished[1:]), None)))
    else:
        candidates = [("the knee of the front" if results.knee else "on the front", subject)]
        # The front is sorted by its first objective, so that its ends are best in one each.
        for end, objective in zip((0, -1), results.objective, strict=True):
            row = results.front[end] if results.front else None
            candidates.append((f"the lowest {noun(objective)}", row))
    for name, row in candidates:
        if row and row.trial not in shown and len(shown) < MOST_PORTRAITS:
            shown.add(row.trial)
            yield name, row
    dead = evidence.group((Kind.COLLAPSED, Kind.NEVER_FORMED))
    yield from ((row.kind.replace("_", " "), row) for row in dead[:1])


def _latents(evidence: Evidence, data: Splits | None, held_out: Any) -> Iterator[Picture | None]:
    row = evidence.subject
    if row is None:
        return
    yield portraits.latent_rates(row, evidence.spec.health.latent_nats)
    vae = evidence.model(row) if data is not None else None
    if vae is not None and data is not None:
        labels, told = (
            None if known is None else known.validation[: len(held_out)]
            for known in (data.labels, data.told)
        )
        plane, shares = principal_plane(vae, held_out, told)
        yield portraits.latent_scatter(row, plane, shares, labels)


def _context(
    evidence: Evidence,
    data: Splits | None,
    told: Sequence[Finding],
    pictures: dict[str, Picture],
    drawings: Sequence[str],
) -> dict[str, Any]:
    spec, results = evidence.spec, evidence.results
    one = len(results.objective) == 1
    decoders = [_table_row(evidence, row) for row in best_of_each_decoder(evidence)]
    return {
        "study": results.study,
        "file": spec.file,
        "objective": [noun(name) for name in results.objective],
        "ranked_by_rate": "rate_nats" in results.objective,
        "facts": list(_facts(evidence, data)),
        "findings": told,
        "doubts": doubts(evidence) if evidence.finished else [],
        "tiles": list(_tiles(evidence)),
        "bar": list(_bar(evidence)),
        "picture": {name: _embedded(picture) for name, picture in pictures.items()},
        "drawings": drawings,
        "best": [_table_row(evidence, row) for row in evidence.finished[:BEST]] if one else [],
        "decoders": decoders if one else [],
        "front": [] if one else [_table_row(evidence, row) for row in results.front],
        "ended": [_why(evidence, row) for row in _by_end(evidence)],
        "definitions": OBJECTIVES,
        "written": f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
        "version": version("tune-vae"),
    }


def _embedded(picture: Picture) -> dict[str, str]:
    source = f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"
    return {"src": source, "alt": picture.alt, "caption": picture.caption}


def _facts(evidence: Evidence, data: Splits | None) -> Iterator[str]:
    spec, results = evidence.spec, evidence.results
    yield f"{next(iter(spec.data))}"
    if data is not None:
        size = "×".join(map(str, data.shape))
        yield f"{len(data.train):,} examples of {size} to train, {len(data.validation):,} held out"
    yield f"{len(results.ended)} of {results.planned} trials ended"
    yield f"{spec.train.epochs} epochs each"


def _tiles(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """A number and what it is."""
    subject, results = evidence.subject, evidence.results
    if subject and subject.best:
        of = "the best" if results.winner else "the knee" if results.knee else "the front's first"
        for value, name in zip(subject.values, results.objective, strict=True):
            yield f"{value:.4g}", f"{noun(name)}: {of}, trial {subject.trial}"
        if "rate_nats" not in results.objective:
            yield f"{subject.best.rate_nats:.3g} nats", "its rate: what its latents say"
        latents = subject.config.latent_dim
        yield f"{subject.best.active_units} / {latents}", "its active latents"
    yield f"{len(evidence.finished)} / {len(results.ended)}", "trials ran to the end"
    planned = sum(row.config.epochs for row in results.ended)
    if planned:
        spared = 1 - sum(row.epoch for row in results.ended) / planned
        yield f"{spared:.0%}", "of all epochs spared by stopping early"


def _bar(evidence: Evidence) -> Iterator[dict[str, Any]]:
    for kind, count in evidence.results.counts.items():
        yield {
            "name": kind.value.replace("_", " "),
            "sign": SIGNS[kind],
            "colour": COLOURS[kind],
            "count": count,
        }


def _table_row(evidence: Evidence, row: TrialRow) -> dict[str, Any]:
    best = evidence.finished[0]
    config, report = row.config, row.best
    distance = row.appraisal.get("sample_distance")
    return {
        "trial": row.trial,
        "sign": SIGNS[Kind(row.kind)],
        "colour": COLOURS[Kind(row.kind)],
        "verdict": row.kind.replace("_", " "),
        "values": [f"{value:.4g}" for value in row.values],
        "behind": f"+{row.values[0] - best.values[0]:.3g}" if row.trial != best.trial else "",
        "rate": f"{report.rate_nats:.3g}" if report else "",
        "active": f"{report.active_units}/{config.latent_dim}" if report else "",
        "samples": f"{distance:.3g}" if distance is not None else "",
        "beta_norm": f"{config.beta_norm:.3g}",
        "decoder": config.decoder,
        "schedule": config.schedule_name,
        "lr": f"{config.lr:.2g}",
    }


def _by_end(evidence: Evidence) -> list[TrialRow]:
    order = [kind for kinds in GROUPS for kind in kinds]
    return sorted(evidence.results.ended, key=lambda row: (order.index(Kind(row.kind)), row.trial))


def _why(evidence: Evidence, row: TrialRow) -> dict[str, Any]:
    history = evidence.histories.get(row.trial)
    course = phases(judged(history, evidence.spec.health)) if history else []
    told = [f"{phase.word} {phase.epochs}" for phase in course]
    kind = Kind(row.kind)
    # The pruner's and the machine's verdicts are none of the curve's.
    if kind in (Kind.HOPELESS, Kind.FAILED):
        told.append(kind.value)
    return {
        "trial": row.trial,
        "sign": SIGNS[kind],
        "colour": COLOURS[kind],
        "verdict": kind.value.replace("_", " "),
        "reason": row.reason,
        "course": " → ".join(told if len(told) <= 6 else [*told[:3], "…", *told[-2:]]),
        "settings": f"beta_norm {row.config.beta_norm:.3g}, {row.config.decoder}, "
        f"{row.config.schedule_name}, lr {row.config.lr:.2g}",
    }


def _summary(evidence: Evidence, told: Sequence[Finding]) -> str:
    return "\n".join(f"- **{one.claim}** {one.support}".strip() for one in told) + "".join(
        f"\n- {doubt}" for doubt in (doubts(evidence) if evidence.finished else [])
    )
