"""How a study ended or stands in full: the winner, the finalists, tables, how to go on."""

import math
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tune_vae.science.health import Kind
from tune_vae.service.certainty import certainty
from tune_vae.service.regions import regions
from tune_vae.service.remedy import remedy
from tune_vae.terminal.standing import counts, show_foretold
from tune_vae.terminal.words import (
    SYMBOLS,
    brief,
    number,
    pair,
    plain_table,
    reference,
    rolled_back,
    short_name,
    show_facts,
    word,
)

if TYPE_CHECKING:
    from tune_vae.service.results import StudyResults
    from tune_vae.service.rows import TrialRow
    from tune_vae.spec.study import StudySpec

__all__ = ["report_text", "show_results", "show_written"]


def show_results(out: Console, results: "StudyResults", spec: "StudySpec") -> None:
    """How a study ended or stands: the winner, the counts, where to look and how to go on."""
    out.print()
    winner = results.winner
    if winner and winner.best:
        best, config = winner.best, winner.config
        by_bits = results.objective == ("bits_per_dim",)
        value, beside = f"{winner.values[0]:.4f}", ""
        if results.settled:
            first = results.finalists[0]
            value, beside = str(first.estimates[0]), f", the mean {first.basis}"
        out.print(
            f"[b green]{'Winner' if results.proven else 'Best'}: trial {winner.trial}[/] with "
            f"[b]{value}[/] {'validation bits per dim' if by_bits else results.objective[0]}"
            f"{beside}"
        )
        show_facts(
            out,
            {
                "beta_norm": f"{config.beta_norm:.4g}  (beta {config.beta:.4g})",
                "schedule": reference(config.schedule),
                "likelihood": reference(config.likelihood),
                "sigma mode": reference(config.sigma) if config.sigma else "none: no scale",
                "lr": f"{config.lr:.3g}{rolled_back(best)}",
                "rate": f"{best.rate_nats:.2f} nats, {best.active_units}/{config.latent_dim} "
                "active units",
                **({} if by_bits else {"bits/dim": number(best.bits_per_dim)}),
                "calibrated": f"{best.bits_per_dim_calibrated:.4f} bits per dim",
                "epoch": f"{best.epoch} of {config.epochs}",
                **_appraisal_facts(winner, results),
            },
        )
    elif results.front:
        out.print(f"[b green]Pareto front[/] ({', '.join(results.objective)}):")
        out.print(_trial_table(results.front, results))
        show_facts(out, _front_facts(results))
    else:
        out.print("[b]No trial finished healthy.[/] " + escape(remedy(results, spec)))
    if results.finalists:
        out.print("\n[b]Finalists, with other seeds[/]")
        out.print(_finalist_table(results))
    if results.front:
        out.print(certainty(results))
    out.print()
    out.print(counts(results), f"[dim]of {results.planned} trials[/]")
    show_foretold(out, results)
    _next_steps(out, results, spec)


def _finalist_table(results: "StudyResults") -> Table:
    table = plain_table()
    means = [f"{short_name(name)} ± s.e." for name in results.objective]
    for name in ("trial", *means, "seeds", "searched", "beta_norm"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("decoder", "lost"):
        table.add_column(name)
    for one in results.finalists:
        ended = sum(repeat.ended for repeat in one.repeats)
        table.add_row(
            str(one.row.trial),
            *(map(str, one.estimates) if one.estimates else ["no mean"] * len(means)),
            f"{ended} of {len(one.repeats)}",
            ", ".join(f"{value:.4f}" for value in one.row.values),
            f"{one.row.config.beta_norm:.4g}",
            one.row.config.decoder,
            one.lost,
        )
    return table


def _front_facts(results: "StudyResults") -> dict[str, str]:
    """Where the front bends, what each budget of rate buys, how far the search has come."""
    facts = {}
    first, second = results.objective
    knee = results.knee
    if knee:
        facts["knee"] = (
            f"trial {knee.trial} ({pair(knee.values)}; {brief(knee.config)}): from here less of "
            "one costs most of the other (both scaled to the front, farthest from its chord)"
        )
    rate = first == "rate_nats"
    for budget, row in results.rate_picks:
        other, value = (second, row.values[1]) if rate else (first, row.values[0])
        facts[f"≤ {budget:g} nats"] = f"trial {row.trial}: {other} {value:.4g}"
    if len(results.front) > 1:
        total = len(results.ended)
        steps = sorted({max(1, round(total * share)) for share in (0.25, 0.5, 0.75, 1)})
        shares = ((count, results.course[count - 1]) for count in steps)
        course = ", ".join(
            f"{share:.0%} after {count}" for count, share in shares if share is not None
        )
        facts["hypervolume"] = (
            f"{course} trials: share of the box from the best values ({pair(results.ideal)}) to "
            f"the worst ({pair(results.reference)}) that the front dominates"
        )
    return facts


def _appraisal_facts(row: "TrialRow", results: "StudyResults") -> dict[str, str]:
    """What the winner is worth for other ends than the one it won."""
    scores = row.appraisal
    if not scores:
        return {}
    facts = {}
    if "importance_weighted_bits" in scores:
        facts["bound"] = f"{scores['importance_weighted_bits']:.4f} bits per dim, tightened"
    facts["latents"] = (
        f"know {scores['mutual_information_nats']:.2f} ± "
        f"{scores['mutual_information_error_nats']:.2f} nats of their example or more"
    )
    if "probe_accuracy" in scores:
        facts["latents"] += f"; a linear probe tells {scores['probe_accuracy']:.1%} of the classes"
    facts["samples"] = (
        f"distance {scores['sample_distance']:.3g} from real ones, "
        f"cover {scores['sample_coverage']:.0%} of them"
    )
    nearest = results.nearest_samples
    if nearest and nearest.trial != row.trial:
        facts["samples"] += (
            f". If samples are what you want, look at trial {nearest.trial} "
            f"({nearest.config.decoder}, beta_norm {nearest.config.beta_norm:.3g}): distance "
            f"{nearest.appraisal['sample_distance']:.3g}"
        )
    return facts


def _next_steps(out: Console, results: "StudyResults", spec: "StudySpec") -> None:
    steps = {"look": f"tune-vae ui {spec.operand}", "report": f"tune-vae report {spec.operand}"}
    if results.stalled:
        steps["ended"] = (
            f"no notable improvement in the last {results.idle} trials (budget.patience "
            f"{results.patience}); raise it in {spec.file} and run the same command to go on"
        )
    elif len(results.ended) < results.planned:
        steps["resume"] = f"tune-vae search {spec.operand}   (goes on with what is missing)"
    else:
        steps["more"] = f"raise budget.trials in {spec.file} and run the same command again"
    if results.front and not results.proven:
        steps["be sure"] = _surer(results, spec)
    if results.winner:
        steps["again"] = f"tune-vae train {spec.operand} --trial {results.winner.trial}"
        steps["load"] = f'tune_vae.load_vae("{_checkpoint(spec, results.winner.trial)}")'
        steps["export"] = (
            f"tune-vae export {spec.operand}   (a folder that works with torch alone)"
        )
    show_facts(out, steps)


def _surer(results: "StudyResults", spec: "StudySpec") -> str:
    """The command that tells more about the best trials than is known."""
    if not results.repeats:
        return f"tune-vae confirm {spec.operand}   (trains the best trials with other seeds)"
    finalists, seeds = results.finalists, max(len(one.repeats) + 1 for one in results.finalists)
    if all(one.ended for one in finalists):
        return f"tune-vae confirm {spec.operand} --top {len(finalists)} --seeds {2 * seeds}"
    return (
        f"tune-vae confirm {spec.operand} --top {len(finalists)} --seeds {seeds}   "
        "(goes on with what is missing)"
    )


def _checkpoint(spec: "StudySpec", trial: int) -> str:
    return f"{spec.storage.checkpoints}/{spec.name}/{trial:05d}/best.pt"


def report_text(out: Console, results: "StudyResults", spec: "StudySpec") -> None:
    """The report as text: conclusion, best trials, every verdict, where to look."""
    out.print(
        f"[b]study {results.study}[/]  {len(results.ended)} of {results.planned} trials ended  "
        f"[dim]minimise {', '.join(results.objective)}[/]"
    )
    show_results(out, results, spec)
    if results.best(1):
        out.print("\n[b]Best trials[/]")
        out.print(_trial_table(results.best(8), results))
    decoders = _best_of_each_decoder(results)
    if len(decoders) > 1:
        out.print("\n[b]Best of each decoder[/]")
        out.print(_trial_table(decoders, results))
    stopped = [row for row in results.ended if not row.finished]
    if stopped:
        out.print("\n[b]Why the others ended[/]")
        for region in regions(results.rows):
            out.print(f"      {escape(region.sentence)}")
        for row in sorted(stopped, key=lambda row: (row.kind, row.trial)):
            symbol, style = SYMBOLS[Kind(row.kind)]
            out.print(
                f"{row.trial:>5} [{style}]{symbol} {word(Kind(row.kind)):<9}[/]  "
                f"{escape(row.reason)}  [dim]{brief(row.config)}[/]"
            )
    out.print(
        "\n[dim]bits_per_dim: rate + distortion at beta = 1 on validation images, as probability "
        "of the quantised data, the same for every likelihood. samples: Fréchet distance of "
        "prior samples from held-out examples in their whitened principal space, another end than "
        f"bits. Curves: tune-vae ui {escape(spec.operand)}[/]"
    )


def show_written(out: Console, page: str, trouble: str) -> None:
    """Where the report's page is, and whether MLflow has it."""
    copy = f"not in MLflow ({trouble})" if trouble else "also in MLflow, at the run of the study"
    show_facts(out, {"page": page, "copy": copy})


def _best_of_each_decoder(results: "StudyResults") -> "list[TrialRow]":
    best: dict[str, TrialRow] = {}
    for row in results.best(len(results.rows)):
        best.setdefault(row.config.decoder, row)
    return list(best.values())


def _trial_table(rows: "list[TrialRow]", results: "StudyResults") -> Table:
    table = plain_table()
    samples = "sample_distance" not in results.objective
    columns = ("trial", *map(short_name, results.objective), "rate", "units")
    for name in (*columns, *(["samples"] if samples else []), "beta_norm"):
        table.add_column(name, justify="right")
    for name in ("decoder", "schedule", "lr"):
        table.add_column(name)
    for row in rows:
        best = row.best
        table.add_row(
            str(row.trial),
            *(f"{value:.4f}" for value in row.values),
            f"{best.rate_nats:.1f}" if best else "",
            f"{best.active_units}/{row.config.latent_dim}" if best else "",
            *([f"{row.appraisal.get('sample_distance', math.nan):.3g}"] if samples else []),
            f"{row.config.beta_norm:.4g}",
            row.config.decoder,
            row.config.schedule_name,
            f"{row.config.lr:.2g}",
        )
    return table
