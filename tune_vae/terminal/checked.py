"""What a study would do, and where it lives."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tune_vae.service.foretold import the_limit
from tune_vae.spec.knobs import KNOBS
from tune_vae.spec.known_good import known_good
from tune_vae.spec.study import VARIABLES
from tune_vae.terminal.words import duration, mib, show_facts, span

if TYPE_CHECKING:
    from tune_vae.api import CheckReport
    from tune_vae.data import Splits
    from tune_vae.spec.study import StudySpec

__all__ = ["show_check"]

MUCH_DEAD = 1 / 3
"""From which share of the range of beta_norm on a warning says that it is forecast dead."""

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
    show_facts(
        out,
        {
            "fixed": ", ".join(f"{name} {value}" for name, value in fixed.items()),
            "data": _data_fact(data),
            "model": f"{span(low, high)} parameters",
            "trial size": f"about {span(mib(least), mib(most))} MiB with batch and optimiser; "
            f"checkpoints {mib(12 * high)} MiB each",
            "would run": f"{left} trials × at most "
            f"{spec.train.epochs} epochs of {report.steps_per_epoch} steps "
            f"in {spec.train.precision}"
            + (f"; {report.seen} exist already" if report.seen else "")
            + (f"; then {repeats} repeats of finalists" if repeats else ""),
            "estimate": f"{duration(estimate)} of one core if nothing is stopped early "
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


def _losses(spec: "StudySpec") -> str:
    """When a trial whose loss is not finite ends."""
    from tune_vae.training.lookout import LOOK_STEPS

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
    limit = the_limit(report.spec.health.foretold)
    return {"not trained": f"beta_norm above {limits}: {limit}"} if limits else {}


def _dead_range(report: "CheckReport") -> dict[str, str]:
    """A warning where much of the range of beta_norm is wasted."""
    forecast = report.forecast
    if forecast is None or forecast.dead <= MUCH_DEAD:
        return {}
    return {"warning": f"{forecast.verdict()} See: tune-vae forecast {report.spec.operand}"}


def _brief_span(low: float, high: float) -> str:
    brief_low, brief_high = f"{low:.3g}", f"{high:.3g}"
    return brief_low if brief_low == brief_high else f"{brief_low} … {brief_high}"


def _first_trials(report: "CheckReport") -> dict[str, str]:
    """What is known to be good, with which a study that has no trials yet begins."""
    first = known_good(report.spec, values=report.data.values, seen=report.scouts)
    names = [name for name, _ in first]
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
