"""What a person sees in the terminal: the live view, plain lines, tables and errors.

Colour only helps; every fact also stands in words. The most important comes first in a line,
because narrow terminals cut the end.
"""

import itertools
import math
import os
import shlex
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tune_vae.errors import Problem, StudyFileError, TuneVaeError, masked
from tune_vae.report.text_chart import text_chart
from tune_vae.science.health import Kind
from tune_vae.service.certainty import certainty
from tune_vae.service.foretold import passed_over
from tune_vae.service.palette import SIGNS
from tune_vae.service.regions import regions
from tune_vae.service.remedy import remedy
from tune_vae.spec.knobs import KNOBS
from tune_vae.spec.known_good import known_good
from tune_vae.spec.study import VARIABLES
from tune_vae.training.lookout import LOOK_STEPS

if TYPE_CHECKING:
    from pathlib import Path

    from tune_vae.api import CheckReport, Trained
    from tune_vae.data import Splits
    from tune_vae.science.health import Verdict
    from tune_vae.science.history import EpochReport
    from tune_vae.service.desk import Ended, Running, Snapshot
    from tune_vae.service.export import Exported
    from tune_vae.service.results import StudyResults
    from tune_vae.service.rows import TrialRow
    from tune_vae.service.study_forecast import StudyForecast
    from tune_vae.spec.study import StudySpec
    from tune_vae.spec.trial import TrialConfig

__all__ = [
    "LiveView",
    "PlainView",
    "console",
    "note",
    "report_text",
    "show_check",
    "show_error",
    "show_exported",
    "show_forecast",
    "show_results",
    "show_status",
    "show_trained",
    "show_written",
    "training",
    "view",
]

STYLES = {
    Kind.HEALTHY: "green",
    Kind.WARMING_UP: "dim",
    Kind.PARTIALLY_COLLAPSED: "yellow",
    Kind.RECOVERING: "cyan",
    Kind.OVERFITTING: "yellow",
    Kind.COLLAPSED: "dark_orange",
    Kind.NEVER_FORMED: "dark_orange",
    Kind.STALLED: "dark_orange",
    Kind.EXPLODING: "magenta",
    Kind.DIVERGED: "magenta",
    Kind.HOPELESS: "bright_black",
    Kind.FAILED: "red",
}
SYMBOLS = {kind: (SIGNS[kind], style) for kind, style in STYLES.items()}
BARS = "▁▂▃▄▅▆▇█"
MOST_PROBLEMS = 20
TIP_COLUMNS = 90
MUCH_DEAD = 1 / 3
"""From which share of a range on `check` warns that it is forecast dead."""
CURVE_STEP = 2
"""Of the points of a forecast's curve, one in so many is printed."""
LINES_AROUND = 12
"""Lines of the live block beside its running trials; more than fit would hide the best."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # `tune-vae search … | head` must not end the study: say no more and go on.
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


def console(*, stderr: bool = False) -> Console:
    """A console that honours NO_COLOR, leaves numbers uncoloured and outlives its reader."""
    # Without emoji, or line 100 of a file would be shown as 💯.
    return _Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False)


class PlainView:
    """One line per event, for logs and pipes."""

    def __init__(self, out: Console, spec: "StudySpec") -> None:
        self._out, self._spec = out, spec
        self._started: set[int] = set()
        self._trouble = ""

    def show(self, snapshot: "Snapshot") -> None:
        for running in snapshot.running:
            if running.config.trial not in self._started:
                self._started.add(running.config.trial)
                self._out.print(
                    f"[dim]start[/] trial {running.config.label}: {_brief(running.config)}"
                )
        counts = _counts_of(snapshot)
        for ended in snapshot.ended:
            count = next(counts[ended.config.repeat_of is not None])
            self._out.print(f"{count} {_verdict_line(ended, self._spec)}")
        if snapshot.trouble != self._trouble:
            self._trouble = snapshot.trouble
            if self._trouble:
                self._out.print(f"[yellow]waiting[/]: {escape(self._trouble)}")


def _counts_of(snapshot: "Snapshot") -> "tuple[Iterator[str], Iterator[str]]":
    """What stands before each of the trials that ended, and before each of the repeats."""
    results = snapshot.results
    repeats = sum(one.config.repeat_of is not None for one in snapshot.ended)
    trials, planned = len(snapshot.ended) - repeats, len(results.wanted)
    ended = planned - len(results.pending)
    width = len(str(results.planned))
    return (
        (
            f"\\[{number:>{width}}/{results.planned}]"
            for number in itertools.count(len(results.ended) - trials + 1)
        ),
        (f"\\[repeat {number}/{planned}]" for number in itertools.count(ended - repeats + 1)),
    )


class LiveView:
    """A permanent line per verdict above a block that follows what runs."""

    def __init__(self, out: Console, live: Live, spec: "StudySpec") -> None:
        self._out, self._live, self._spec = out, live, spec
        self._began = time.monotonic()
        self._done_before: int | None = None

    def show(self, snapshot: "Snapshot") -> None:
        for ended in snapshot.ended:
            self._live.console.print(
                _verdict_line(ended, self._spec),
                soft_wrap=False,
                overflow="ellipsis",
                no_wrap=True,
            )
        self._live.update(self._block(snapshot), refresh=True)

    def _block(self, snapshot: "Snapshot") -> RenderableType:
        parts: list[RenderableType] = [Text(), self._progress(snapshot), _counts(snapshot.results)]
        if snapshot.running:
            parts += [Text(), self._running(snapshot.running)]
        best = _best_line(snapshot.results)
        if best:
            parts += [Text(), _whole(Text.from_markup(best))]
        if snapshot.trouble:
            parts.append(_whole(Text(f"waiting: {snapshot.trouble}", style="yellow")))
        parts.append(Text("Ctrl-C stops after this epoch and keeps everything", style="dim"))
        return Group(*parts)

    def _progress(self, snapshot: "Snapshot") -> RenderableType:
        results = snapshot.results
        trials, repeats = len(results.ended), len(results.wanted)
        repeated = repeats - len(results.pending)
        done, planned = trials + repeated, results.planned + repeats
        if self._done_before is None:
            self._done_before = done
        spent = time.monotonic() - self._began
        since = done - self._done_before
        eta = f" · ETA [b]{_duration(spent / since * (planned - done))}[/]" if since >= 2 else ""
        row = Table.grid(padding=(0, 1))
        row.add_row(
            Text.from_markup(
                f"[b]{trials}/{results.planned}[/] trials"
                + (f" · [b]{repeated}/{repeats}[/] repeats" if repeats else "")
            ),
            ProgressBar(total=planned, completed=done, width=min(40, self._out.width // 3)),
            Text.from_markup(f"{len(snapshot.running)} running · {_duration(spent)}{eta}"),
        )
        return row

    def _running(self, running: "tuple[Running, ...]") -> RenderableType:
        width = self._out.width
        table = _plain_table()
        table.add_column("trial", justify="right", no_wrap=True)
        for name in ("epoch", _short_name(self._spec.objective[0]), "rate"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("health", no_wrap=True)
        table.add_column("beta_norm", justify="right", no_wrap=True)
        table.add_column("decoder", no_wrap=True, overflow="ellipsis")
        if width >= 96:
            table.add_column("schedule", no_wrap=True)
        if width >= 116:
            table.add_column("rate so far", no_wrap=True)
            table.add_column("units", justify="right", no_wrap=True)
        room = max(3, self._out.height - LINES_AROUND)
        for one in sorted(running, key=lambda r: r.config.trial)[:room]:
            table.add_row(*self._cells(one, width))
        if len(running) <= room:
            return table
        return Group(table, Text(f"… and {len(running) - room} more", style="dim"))

    def _cells(self, one: "Running", width: int) -> list[str]:
        config, report = one.config, one.report
        wide = [config.schedule_name] if width >= 96 else []
        if report is None or one.verdict is None:
            cells = [config.label, f"0/{config.epochs}", "", "", "[dim]starting[/]"]
            more = ["", ""] if width >= 116 else []
        else:
            symbol, style = SYMBOLS[one.verdict.kind]
            again = " ↺" if report.rollbacks else ""
            cells = [
                config.label,
                f"{report.epoch}/{config.epochs}",
                _number(report.value(self._spec.objective[0])),
                _number(report.rate_nats),
                f"[{style}]{symbol} {_word(one.verdict.kind)}[/]{again}",
            ]
            units = f"{report.active_units}/{config.latent_dim}"
            more = [f"[cyan]{_spark(one.rates)}[/]", units] if width >= 116 else []
        return [*cells, f"{config.beta_norm:.3g}", config.decoder, *wide, *more]


@contextmanager
def view(
    out: Console, spec: "StudySpec", command: str = "search"
) -> "Iterator[Callable[[Snapshot], None]]":
    """The view that suits where the output goes."""
    _header(out, spec, command)
    if not out.is_terminal:
        yield PlainView(out, spec).show
        return
    start = Text("starting Ray, MLflow and the workers …", style="dim")
    with Live(start, console=out, auto_refresh=False, transient=True) as live:
        yield LiveView(out, live, spec).show


def _header(out: Console, spec: "StudySpec", command: str) -> None:
    sampler, pruner = next(iter(spec.sampler)), next(iter(spec.pruner))
    budget = spec.budget
    seeds = f"{budget.finalists} finalists × {budget.seeds} seeds · " * (budget.seeds > 1)
    out.print(
        f"[b]tune-vae {command}[/]  study [b cyan]{spec.name}[/]  "
        f"[dim]{budget.trials} trials × {spec.train.epochs} epochs · {seeds}"
        f"minimise {', '.join(spec.objective)} · {sampler}, {pruner}[/]"
    )
    out.print(f"  [dim]watch[/]  tune-vae ui {escape(spec.file)}")
    out.print(f"  [dim]study[/]  {escape(masked(spec.storage.ledger))}")


def _verdict_line(ended: "Ended", spec: "StudySpec") -> str:
    kind = ended.verdict.kind
    symbol, style = SYMBOLS[kind]
    best = "[b green]best so far[/] · " if ended.is_best else ""
    config = ended.config
    return (
        f"{config.label:>5} [{style}]{symbol} {_word(kind):<9}[/]  {best}"
        f"{escape(ended.verdict.reason)}  [dim]{_brief(config)}[/]"
    )


def _brief(config: "TrialConfig") -> str:
    return (
        f"beta_norm {config.beta_norm:.3g} · {config.decoder} · {config.schedule_name} · "
        f"lr {config.lr:.2g}"
    )


def _whole(text: Text) -> Text:
    """Text that is wrapped and not cut, also on a console that leaves wrapping to the terminal."""
    text.no_wrap, text.overflow = False, "fold"
    return text


def _counts(results: "StudyResults") -> Text:
    parts = []
    for kind, count in results.counts.items():
        symbol, style = SYMBOLS[kind]
        parts.append(f"[{style}]{symbol} {_word(kind)} {count}[/]")
    return Text.from_markup("  ".join(parts) or "[dim]no trial has ended yet[/]")


def _show_foretold(out: Console, results: "StudyResults") -> None:
    told = passed_over(results.foretold)
    if told:
        out.print(f"[dim]{told}[/]")


def _best_line(results: "StudyResults") -> str:
    if not results.front:
        return ""
    if results.winner is None:
        return f"[b green]Pareto front[/] of {len(results.front)} trials"
    row = results.winner
    return (
        f"[b green]best[/] [b]{row.values[0]:.4g}[/] {_short_name(results.objective[0])}  "
        f"[dim]trial {row.trial} · {_brief(row.config)}[/]"
    )


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
        _facts(
            out,
            {
                "beta_norm": f"{config.beta_norm:.4g}  (beta {config.beta:.4g})",
                "schedule": _reference(config.schedule),
                "likelihood": _reference(config.likelihood),
                "sigma mode": _reference(config.sigma) if config.sigma else "none: no scale",
                "lr": f"{config.lr:.3g}{_rolled_back(best)}",
                "rate": f"{best.rate_nats:.2f} nats, {best.active_units}/{config.latent_dim} "
                "active units",
                **({} if by_bits else {"bits/dim": _number(best.bits_per_dim)}),
                "calibrated": f"{best.bits_per_dim_calibrated:.4f} bits per dim",
                "epoch": f"{best.epoch} of {config.epochs}",
                **_appraisal_facts(winner, results),
            },
        )
    elif results.front:
        out.print(f"[b green]Pareto front[/] ({', '.join(results.objective)}):")
        out.print(_trial_table(results.front, results))
        _facts(out, _front_facts(results))
    else:
        out.print("[b]No trial finished healthy.[/] " + escape(remedy(results, spec)))
    if results.finalists:
        out.print("\n[b]Finalists, with other seeds[/]")
        out.print(_finalist_table(results))
    if results.front:
        out.print(certainty(results))
    out.print()
    out.print(_counts(results), f"[dim]of {results.planned} trials[/]")
    _show_foretold(out, results)
    _next_steps(out, results, spec)


def _finalist_table(results: "StudyResults") -> Table:
    table = _plain_table()
    means = [f"{_short_name(name)} ± s.e." for name in results.objective]
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
            f"trial {knee.trial} ({_pair(knee.values)}; {_brief(knee.config)}): from here less of "
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
            f"{course} trials: share of the box from the best values ({_pair(results.ideal)}) to "
            f"the worst ({_pair(results.reference)}) that the front dominates"
        )
    return facts


def _pair(values: "tuple[float, ...]") -> str:
    return ", ".join(f"{value:.4g}" for value in values)


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
    steps = {"look": f"tune-vae ui {spec.file}", "report": f"tune-vae report {spec.file}"}
    if results.stalled:
        steps["ended"] = (
            f"no notable improvement in the last {results.idle} trials (budget.patience "
            f"{results.patience}); raise it in {spec.file} and run the same command to go on"
        )
    elif len(results.ended) < results.planned:
        steps["resume"] = f"tune-vae search {spec.file}   (goes on with what is missing)"
    else:
        steps["more"] = f"raise budget.trials in {spec.file} and run the same command again"
    if results.front and not results.proven:
        steps["be sure"] = _surer(results, spec)
    if results.winner:
        steps["again"] = f"tune-vae train {spec.file} --trial {results.winner.trial}"
        steps["load"] = f'tune_vae.load_vae("{_checkpoint(spec, results.winner.trial)}")'
        steps["export"] = f"tune-vae export {spec.file}   (a folder that works with torch alone)"
    _facts(out, steps)


def _surer(results: "StudyResults", spec: "StudySpec") -> str:
    """The command that tells more about the best trials than is known."""
    if not results.repeats:
        return f"tune-vae confirm {spec.file}   (trains the best trials with other seeds)"
    finalists, seeds = results.finalists, max(len(one.repeats) + 1 for one in results.finalists)
    if all(one.ended for one in finalists):
        return f"tune-vae confirm {spec.file} --top {len(finalists)} --seeds {2 * seeds}"
    return (
        f"tune-vae confirm {spec.file} --top {len(finalists)} --seeds {seeds}   "
        "(goes on with what is missing)"
    )


def _checkpoint(spec: "StudySpec", trial: int) -> str:
    return f"{spec.storage.checkpoints}/{spec.name}/{trial:05d}/best.pt"


def _facts(out: Console, facts: dict[str, str]) -> None:
    for name, value in facts.items():
        out.print(f"  [dim]{name:<11}[/] {escape(value)}")


def _reference(ref: dict[str, object]) -> str:
    ((name, arguments),) = ref.items()
    inner = (
        ", ".join(f"{key} {_number(value)}" for key, value in arguments.items())
        if isinstance(arguments, dict)
        else ""
    )
    return f"{name} ({inner})" if inner else name


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
                f"{row.trial:>5} [{style}]{symbol} {_word(Kind(row.kind)):<9}[/]  "
                f"{escape(row.reason)}  [dim]{_brief(row.config)}[/]"
            )
    out.print(
        "\n[dim]bits_per_dim: rate + distortion at beta = 1 on validation images, as probability "
        "of the quantised data, the same for every likelihood. samples: Fréchet distance of "
        "prior samples from held-out examples in their whitened principal space, another end than "
        "bits. Curves: tune-vae ui {escape(spec.file)}[/]"
    )


def show_written(out: Console, page: str, trouble: str) -> None:
    """Where the report's page is, and whether MLflow has it."""
    copy = f"not in MLflow ({trouble})" if trouble else "also in MLflow, at the run of the study"
    _facts(out, {"page": page, "copy": copy})


def _best_of_each_decoder(results: "StudyResults") -> "list[TrialRow]":
    best: dict[str, TrialRow] = {}
    for row in results.best(len(results.rows)):
        best.setdefault(row.config.decoder, row)
    return list(best.values())


def _plain_table() -> Table:
    return Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))


def _trial_table(rows: "list[TrialRow]", results: "StudyResults") -> Table:
    table = _plain_table()
    samples = "sample_distance" not in results.objective
    columns = ("trial", *map(_short_name, results.objective), "rate", "units")
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


def show_status(out: Console, results: "StudyResults", spec: "StudySpec") -> None:
    """A study as it stands, also while it is searched elsewhere."""
    running = [row for row in (*results.rows, *results.repeats) if row.state == "running"]
    waiting = [row for row in results.rows if row.state == "waiting"]
    out.print(
        f"study [b cyan]{results.study}[/]  {len(results.ended)}/{results.planned} ended · "
        f"{len(running)} running · {len(waiting)} waiting to be taken up again"
    )
    if results.repeats:
        done = sum(row.ended for row in results.repeats)
        out.print(f"{done}/{len(results.repeats)} repeats of finalists ended")
    out.print(_counts(results))
    _show_foretold(out, results)
    for row in running:
        attempt = f" · attempt {row.attempts}" if row.attempts > 1 else ""
        out.print(
            f"{row.config.label:>5} epoch {row.epoch}/{row.config.epochs} on {escape(row.owner)}"
            f"{attempt}  [dim]{_brief(row.config)}[/]"
        )
    best = _best_line(results)
    if best:
        out.print(best)
    if results.repeats:
        out.print(certainty(results))
    if len(results.ended) < results.planned and not results.stalled:
        out.print(f"[dim]go on with it: tune-vae search {escape(spec.file)}[/]")


_ALWAYS_TOLD = ("sigma", "schedule", "lr", "batch_size")


def _data_fact(data: "Splits") -> str:
    channels, height, width = data.shape
    top = data.levels - 1 if data.levels else 1
    kind = f"levels 0 … {top} scaled to [0, 1]" if data.levels else "counts"
    # By numpy, because torch would make a copy of eight times the size.
    mean = float(data.train.numpy().mean()) / top
    skipped = f"; {data.skipped:,} left out as broken" if data.skipped else ""
    return (
        f"{len(data.train):,} train, {len(data.validation):,} validation, {len(data.test):,} test "
        f"{'images' if data.levels else 'rows'} of {channels}×{height}×{width}, {kind}; values "
        f"seen {int(data.train.min())} … {int(data.train.max())}, mean {mean:.3g}{skipped}"
    )


def show_check(out: Console, report: "CheckReport") -> None:
    """What a study would do, and where it lives."""
    spec, data = report.spec, report.data
    out.print(f"[b]{escape(spec.file)}[/] is valid. Nothing was started or left behind.\n")
    table = Table(box=None, pad_edge=False, header_style="b", padding=(0, 2, 0, 0))
    for name in ("parameter", "searched over", "note"):
        table.add_column(name)
    for name, node in spec.knobs.items():
        if node.open:
            table.add_row(name, escape(node.describe()), _knob_note(name, report))
    out.print(table)
    fixed = {
        name: node.describe()
        for name, node in spec.knobs.items()
        # What a study leaves as it is tells nothing of it.
        if not node.open and (node != KNOBS[name].default or name in _ALWAYS_TOLD)
    }
    low, high = report.parameters
    least, most = report.memory_bytes
    left = max(0, spec.budget.trials - report.seen)
    repeats = spec.budget.finalists * (spec.budget.seeds - 1)
    estimate = report.epoch_seconds * spec.train.epochs * (left + repeats)
    out.print()
    _facts(
        out,
        {
            "fixed": ", ".join(f"{name} {value}" for name, value in fixed.items()),
            "data": _data_fact(data),
            "model": f"{_span(low, high)} parameters",
            "trial size": f"about {_span(_mib(least), _mib(most))} MiB with batch and optimiser; "
            f"checkpoints {_mib(12 * high)} MiB each",
            "would run": f"{left} trials × at most "
            f"{spec.train.epochs} epochs of {report.steps_per_epoch} steps"
            + (f"; {report.seen} exist already" if report.seen else "")
            + (f"; then {repeats} repeats of finalists" if repeats else ""),
            "estimate": f"{_duration(estimate)} of one core if nothing is stopped early "
            f"({report.step_seconds * 1000:.1f} ms per step, measured here)",
            "stops": f"collapse: rate < {spec.health.rate_nats:g} nats for {spec.health.steps} "
            f"steps at full KL weight · not finite: {_losses(spec)} · by value: "
            f"{next(iter(spec.pruner))}",
            **_foretold_fact(report),
            **_dead_range(report),
            **_first_trials(report),
            "objective": f"minimise {', '.join(spec.objective)}",
            **_store_facts(report),
        },
    )


def show_forecast(out: Console, forecast: "StudyForecast", chart: "Path | None") -> None:
    """What the data's spectrum says of a study."""
    spectrum = forecast.spectrum
    out.print(
        f"study [b cyan]{forecast.study}[/], from {spectrum.rows:,} training examples of "
        f"{spectrum.values:,} values; nothing was trained\n"
    )
    out.print(_decoder_table(forecast))
    for latents, one in forecast.curves.items():
        out.print(f"\n[b]{latents} latents[/]: a linear model, whatever the scale")
        out.print(_curve_table(forecast, latents))
        curve = one.curve()
        out.print("\n[dim]squared error per value against rate in nats[/]")
        rates = [outlook.rate_nats for outlook in curve]
        errors = [outlook.squared_error / spectrum.values for outlook in curve]
        for line in text_chart(rates, errors):
            out.print(line)
    out.print()
    for sentence in forecast.sentences():
        out.print(f"· {escape(sentence)}")
    if chart:
        _facts(out, {"chart": str(chart)})


def _decoder_table(forecast: "StudyForecast") -> Table:
    table = Table(box=None, pad_edge=False, header_style="b", padding=(0, 2, 0, 0))
    for name in ("decoder", "latents", "dead above beta_norm", "of the range"):
        table.add_column(name, justify="left" if name == "decoder" else "right")
    for one in forecast.decoders:
        known = one.collapse is not None
        table.add_row(
            one.decoder,
            str(one.config.latent_dim),
            f"{one.collapse:.3g}" if known else "not known",
            f"{forecast.dead_of(one):.0%}" if known else "",
        )
    return table


def _curve_table(forecast: "StudyForecast", latents: int) -> Table:
    """Along the curve: where each decoder is there, and what it does."""
    mine = [one for one in forecast.decoders if one.linear and one.config.latent_dim == latents]
    table = Table(box=None, pad_edge=False, header_style="b", padding=(0, 2, 0, 0))
    scales = {one.sigma: one for one in mine}
    names = [f"sigma {scale:g}" if scale else "fitted sigma" for scale in scales]
    for name in (*names, "rate", "error/value", "used", "bits/dim", "sigma"):
        table.add_column(name, justify="right")
    for outlook in mine[0].curve()[::CURVE_STEP]:
        table.add_row(
            *(f"{one.norm_at(outlook):.3g}" for one in scales.values()),
            f"{outlook.rate_nats:.2f}",
            f"{outlook.squared_error / forecast.spectrum.values:.3g}",
            str(outlook.used),
            _number(outlook.bits_per_dim),
            f"{outlook.sigma:.3g}",
        )
    return table


def _losses(spec: "StudySpec") -> str:
    """When a trial whose loss is not finite ends."""
    times = spec.train.rollbacks
    back = f", after {times}× back to the epoch before at half the lr" if times else ""
    return f"within {2 * LOOK_STEPS} steps{back}"


def _store_facts(report: "CheckReport") -> dict[str, str]:
    """Each store in a line, and whether a search that dies here could go on elsewhere."""
    facts = {
        store.name: f"{store.place}: {'' if store.works else 'DOES NOT WORK: '}{store.words}"
        for store in report.stores
    }
    out_of_reach = [store.name for store in report.stores if not store.shared]
    if out_of_reach:
        names = " and ".join(filter(None, [", ".join(out_of_reach[:-1]), out_of_reach[-1]]))
        facts["elsewhere"] = (
            f"another machine could not go on with this study: it does not reach its {names}. "
            "Name places on a server or in a bucket, in the file or by "
            + ", ".join(VARIABLES[key] for key in ("ledger", "tracking", "checkpoints"))
        )
    else:
        facts["elsewhere"] = "another machine could go on with this study by the same command"
    return facts


def _foretold_fact(report: "CheckReport") -> dict[str, str]:
    """From where on points are dead by the spectrum of the data, and not trained."""
    limits = ", ".join(
        f"{_brief_span(low, high)} of {decoder}"
        for decoder, (low, high) in report.dead_beyond.items()
    )
    factor = f"{report.spec.health.foretold:g} times the collapse point of these data"
    return {"not trained": f"beta_norm above {limits}: {factor}"} if limits else {}


def _dead_range(report: "CheckReport") -> dict[str, str]:
    """A warning where much of the range of beta_norm is wasted."""
    forecast = report.forecast
    if forecast is None or forecast.dead <= MUCH_DEAD:
        return {}
    return {"warning": f"{forecast.verdict()} See: tune-vae forecast {report.spec.file}"}


def _brief_span(low: float, high: float) -> str:
    brief_low, brief_high = f"{low:.3g}", f"{high:.3g}"
    return brief_low if brief_low == brief_high else f"{brief_low} … {brief_high}"


def _first_trials(report: "CheckReport") -> dict[str, str]:
    """The constants of the literature that a study which has no trials yet begins with."""
    names = [name for name, _ in known_good(report.spec, values=report.data.values)]
    names = [] if report.seen else names[: report.spec.budget.trials]
    return {"first": f"{'; '.join(names)} (`known_good: false` leaves them out)"} if names else {}


def _knob_note(name: str, report: "CheckReport") -> str:
    if name == "beta_norm":
        latents = next(iter(report.spec.knobs["latent_dim"].examples()))
        values = [float(v) for v in report.spec.knobs[name].examples()]
        factor = report.data.values / latents
        return (
            f"beta = beta_norm·N/M = {min(values) * factor:.3g} … {max(values) * factor:.3g} "
            f"(N {report.data.values}, M {latents})"
        )
    if name == "schedule":
        return f"how the KL weight grows over {report.spec.train.epochs} epochs"
    if name == "sigma":
        return "asked only of likelihoods that have a scale"
    if name == "likelihood":
        return f"ranked by {', '.join(report.spec.objective)}"
    return ""


@contextmanager
def training(
    out: Console, config: "TrialConfig"
) -> "Iterator[Callable[[EpochReport, Verdict], None]]":
    """A line that follows the epochs of a single training; plain lines without a terminal."""
    out.print(f"trial {config.label}: [dim]{_brief(config)}[/]")

    def line(report: "EpochReport", verdict: "Verdict") -> str:
        symbol, style = SYMBOLS[verdict.kind]
        return (
            f"epoch {report.epoch:>4}/{config.epochs}  {_number(report.bits_per_dim)} bits/dim  "
            f"rate {_number(report.rate_nats)} nats  [{style}]{symbol} {_word(verdict.kind)}[/]"
            f"{_rolled_back(report)}"
        )

    if not out.is_terminal:
        yield lambda report, verdict: out.print(line(report, verdict))
        return
    with Live(Text("loading the data …", style="dim"), console=out, auto_refresh=False) as live:
        yield lambda report, verdict: live.update(
            Text.from_markup(line(report, verdict)), refresh=True
        )


def _rolled_back(report: "EpochReport") -> str:
    """That an epoch is not what the configuration asked for."""
    return f"  rolled back {report.rollbacks}×, lr {report.lr:.3g}" if report.rollbacks else ""


def show_trained(out: Console, trained: "Trained", saved: str) -> None:
    """How a single training ended."""
    symbol, style = SYMBOLS[trained.verdict.kind]
    out.print(
        f"[{style}]{symbol} {_word(trained.verdict.kind)}[/]  {escape(trained.verdict.reason)}"
    )
    _facts(out, {"saved": saved, "load": f'tune_vae.load_vae("{saved}")'})


def show_exported(out: Console, exported: "Exported") -> None:
    """Where an export lies, and what it can do."""
    folder = exported.folder
    out.print(f"trial {exported.trial} in [b]{escape(str(folder))}[/]")
    facts = {"read": f"{folder}/README.md", "load": f'tune_vae.load_vae("{folder}")'}
    if exported.obstacle:
        facts["lacks"] = (
            "model.py, because the model cannot be written in torch's own operators: "
            f"{exported.obstacle}"
        )
    else:
        facts = {
            "run": f"python {shlex.quote(f'{folder}/model.py')}   (needs torch alone)"
        } | facts
    _facts(out, facts)


def note(snapshot: "Snapshot") -> str:
    """What MLflow's page says of a study; its first line is all that shows at first."""
    results = snapshot.results
    counts = ", ".join(f"{count} {_word(kind)}" for kind, count in results.counts.items())
    if results.winner:
        row = results.winner
        first = (
            f"**{'Winner' if results.proven else 'Best'} {row.values[0]:.4g} "
            f"{_short_name(results.objective[0])}** "
            f"(trial {row.trial}: {row.config.decoder}, "
            f"beta_norm {row.config.beta_norm:.3g}, {row.config.schedule_name})"
        )
    else:
        first = (
            f"**{len(results.front)} trials on the front**" if results.front else "**No winner**"
        )
    told = f"{first} · {counts}" if counts else first
    means = [f"- trial {one.row.trial}: {one}" for one in results.finalists]
    where = [f"- {found.sentence}" for found in regions(results.rows)]
    return "\n\n".join(filter(None, [told, certainty(results), "\n".join([*means, *where])]))


def show_error(out: Console, error: TuneVaeError) -> None:
    """An error in the words of its message, with the place in the study file when it has one."""
    if not isinstance(error, StudyFileError):
        out.print(f"[b red]error[/]: {escape(str(error))}")
        return
    lines = error.text.splitlines()
    for problem in error.problems[:MOST_PROBLEMS]:
        _show_problem(out, problem, error.file, lines)
    count = len(error.problems)
    if count > MOST_PROBLEMS:
        out.print(f"… and {count - MOST_PROBLEMS:,} more.")
    if error.text:
        plural = "problem" if count == 1 else "problems"
        out.print(f"[b]{count:,} {plural} in {escape(error.file)}[/]; nothing was started.")


def _show_problem(out: Console, problem: Problem, file: str, lines: list[str]) -> None:
    out.print(f"[b red]error[/]: {escape(_printable(masked(problem.message)))}")
    if not 0 < problem.line <= len(lines):
        if problem.tip:
            out.print(f"  [cyan]tip[/]: {escape(problem.tip)}")
        return
    out.print(f"  [blue]-->[/] {escape(file)}:{problem.line}:{problem.column}")
    # A line may be very long; show the part around the fault.
    line, at = masked(lines[problem.line - 1]), problem.column - 1
    begin = max(0, at - 60) if len(line) > 100 else 0
    shown = _printable(line[begin : begin + 100])
    fault = shown[at - begin : at - begin + problem.width]
    margin = " " * cell_len(shown[: at - begin])
    carets = "^" * max(1, cell_len(fault))
    out.print(f"[blue]{problem.line:>4} |[/] {escape(shown)}")
    fits = len(margin + carets + problem.tip) < TIP_COLUMNS
    beside = f" [cyan]{escape(problem.tip)}[/]" if problem.tip and fits else ""
    out.print(f"     [blue]|[/] {margin}[red]{carets}[/]{beside}")
    for part in [] if fits else textwrap.wrap(problem.tip, TIP_COLUMNS):
        out.print(f"     [blue]|[/] [cyan]{escape(part)}[/]")


def _printable(text: str) -> str:
    """Text of one line that moves no cursor, with as many characters."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "·" for c in text)


def _word(kind: Kind) -> str:
    return kind.value.replace("_", " ")


def _short_name(objective: str) -> str:
    return {"bits_per_dim": "bits/dim", "bits_per_dim_calibrated": "cal. bits/dim"}.get(
        objective, objective
    )


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "n/a"
    return str(value)


def _span(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} … {high:,}"


def _mib(count: int) -> int:
    return max(1, round(count / 2**20))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


def _spark(rates: tuple[float, ...]) -> str:
    """The last dozen rates as bars, from 0 to their largest."""
    finite = [rate if math.isfinite(rate) else 0.0 for rate in rates[-12:]]
    top = max(finite, default=0.0) or 1.0
    return "".join(BARS[min(7, int(8 * max(rate, 0.0) / top))] for rate in finite)
