"""The command line: a few lines each over `api`."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tune_vae.errors import StorageError, TuneVaeError, masked

__all__ = ["app", "main"]

EXIT_CODES = """Exit codes:
0 done
1 a fault of tune-vae itself
2 wrong study file or usage
3 the search ended without a healthy trial
4 storage, MLflow or Ray unreachable
130 interrupted; run the same command to go on"""

app = typer.Typer(
    help="Find out how to weigh the KL term, and which decoder distribution and variance a VAE "
    "should use.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Study = Annotated[
    Path, typer.Argument(metavar="STUDY", help="A study file, such as studies/digits.yaml.")
]

AsJson = Annotated[
    bool, typer.Option("--json", help="Lines of JSON instead of words, for programs.")
]


def _join(server: str) -> str:
    if server:
        from tune_vae.service.serve import join

        join(server)
    return server


Server = Annotated[
    str,
    typer.Option(
        "--server",
        envvar="TUNE_VAE_SERVER",
        metavar="HOST[:PORT]",
        callback=_join,
        help="Of a `tune-vae serve`, where the study then lives; its token in TUNE_VAE_TOKEN.",
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"tune-vae {version('tune-vae')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: tune-vae check studies/digits.yaml")
def check(study: Study, server: Server = "") -> None:
    """Validate a study, try out its stores and show what it would do; nothing is left behind."""
    from tune_vae import api, terminal
    from tune_vae.spec.study import StudySpec

    report = api.check(StudySpec.load(study))
    terminal.show_check(terminal.console(), report)
    if not all(store.works for store in report.stores):
        raise typer.Exit(StorageError.exit_code)


@app.command(epilog="Example: tune-vae forecast studies/digits.yaml")
def forecast(
    study: Study,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Folder of the chart; by default mlruns/reports/<study>."),
    ] = None,
) -> None:
    """Where latents will die and what they will carry, from the data alone; nothing is trained."""
    from tune_vae import api, terminal
    from tune_vae.spec.study import StudySpec

    spec = StudySpec.load(study)
    found, chart = api.forecast(spec, to)
    terminal.show_forecast(terminal.console(), found, chart)


@app.command(epilog="Example: tune-vae scout studies/digits.yaml --likelihood gaussian")
def scout(
    study: Study,
    likelihood: Annotated[
        str,
        typer.Option("--likelihood", help="Of which; by default those without a forecast."),
    ] = "",
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Folder of the chart; by default mlruns/reports/<study>."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="Where to run: cpu, cuda.")] = "cpu",
) -> None:
    """Rate and distortion along all beta, from one training of each decoder."""
    from tune_vae import api, terminal
    from tune_vae.spec.study import StudySpec

    found, chart = api.scout(StudySpec.load(study), likelihood, to, device=device)
    terminal.show_scouts(terminal.console(), found, chart)


@app.command(epilog="Example: tune-vae search studies/digits.yaml" + "\n\n" + EXIT_CODES)
def search(
    study: Study,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show Ray's own messages.")] = False,
    fork: Annotated[
        str | None,
        typer.Option(
            "--fork",
            metavar="NEW-NAME",
            help="Begin another study with this file, written to NEW-NAME.yaml beside it.",
        ),
    ] = None,
    as_json: AsJson = False,
    server: Server = "",
) -> None:
    """Search, or go on with a search: run it again after Ctrl-C, a crash or a reboot."""
    from tune_vae import terminal
    from tune_vae.service import node
    from tune_vae.spec.study import StudyOutline, StudySpec

    with node.begun(StudyOutline.load(study), verbose=verbose), _errors_told():
        spec = StudySpec.load(study)
        if fork is not None:
            from tune_vae import api

            spec = StudySpec.load(api.fork(spec, fork))
        out = terminal.console()
        with terminal.view(out, spec, as_json=as_json) as show:
            from tune_vae import api

            found = api.search(spec, show=show, note=terminal.note, verbose=verbose)
    (terminal.write_results if as_json else terminal.show_results)(out, found, spec)
    if not found.front:
        raise typer.Exit(3)


@app.command(
    epilog="Example: tune-vae confirm studies/digits.yaml --top 3 --seeds 5" + "\n\n" + EXIT_CODES
)
def confirm(
    study: Study,
    top: Annotated[int, typer.Option("--top", min=1, help="How many trials to repeat.")] = 3,
    seeds: Annotated[
        int, typer.Option("--seeds", min=2, help="Seeds of each in all, its own included.")
    ] = 3,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show Ray's own messages.")] = False,
    as_json: AsJson = False,
    server: Server = "",
) -> None:
    """Train the best trials again with other seeds, and say which differ by more than chance."""
    from tune_vae import api, terminal
    from tune_vae.spec.study import StudySpec

    spec = StudySpec.load(study).with_seeds(seeds, finalists=top)
    out = terminal.console()
    found = api.results(spec)
    if found.pending:
        with terminal.view(out, spec, "confirm", as_json=as_json) as show:
            found = api.confirm(spec, show=show, note=terminal.note, verbose=verbose)
    (terminal.write_results if as_json else terminal.show_results)(out, found, spec)
    if not found.front:
        raise typer.Exit(3)


@app.command(epilog="Example: tune-vae status studies/digits.yaml")
def status(study: Study, as_json: AsJson = False, server: Server = "") -> None:
    """How far a study is, also while it is searched elsewhere."""
    from tune_vae import api, terminal
    from tune_vae.spec.study import StudyOutline

    spec = StudyOutline.load(study)
    show = terminal.write_status if as_json else terminal.show_status
    show(terminal.console(), api.results(spec, reports=False), spec)


@app.command(epilog="Example: tune-vae report studies/digits.yaml")
def report(
    study: Study,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Folder of the page; by default mlruns/reports/<study>."),
    ] = None,
    as_json: AsJson = False,
    server: Server = "",
) -> None:
    """The best trials and why the others ended, here and as one page with pictures."""
    from tune_vae import api, terminal
    from tune_vae.spec.study import StudySpec

    spec = StudySpec.load(study)
    out = terminal.console()
    found = api.results(spec)
    if not as_json:
        terminal.report_text(out, found, spec)
    written, trouble = api.report(spec, to, found)
    if as_json:
        terminal.write_report(out, found, spec, page=str(written.page), trouble=trouble)
    else:
        terminal.show_written(out, str(written.page), trouble)


class Reduction(StrEnum):
    """As in `science.curve`, which `--help` should not wait for."""

    SUM = "sum"
    MEAN = "mean"
    MIXED = "mixed"


@app.command(epilog="Example: tune-vae diagnose train.log --values 784 --latents 20")
def diagnose(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A log, a CSV, - for a log on the standard input, or the id or the address of a "
            "run in MLflow.",
        ),
    ],
    tracking: Annotated[
        str, typer.Option("--tracking", help="MLflow's store of that run; else mlruns/mlflow.db.")
    ] = "",
    values: Annotated[
        int | None, typer.Option("--values", min=1, help="N, data values of an example.")
    ] = None,
    latents: Annotated[int | None, typer.Option("--latents", min=1, help="M.")] = None,
    reduction: Annotated[
        Reduction | None,
        typer.Option(
            "--reduction",
            help="Terms summed over dimensions, their means, or a mean distortion beside a summed "
            "rate; else inferred.",
        ),
    ] = None,
    likelihood: Annotated[
        str, typer.Option("--likelihood", help="Of the decoder, such as bernoulli or gaussian.")
    ] = "",
    levels: Annotated[
        int | None, typer.Option("--levels", min=2, help="Of a data value: 2 if binary.")
    ] = None,
    lr: Annotated[float | None, typer.Option("--lr", min=0, help="Learning rate.")] = None,
    as_json: AsJson = False,
) -> None:
    """What is wrong with any training, by its curve, and what to try."""
    from tune_vae import api, terminal
    from tune_vae.science import curve

    found, told = api.diagnose(
        source,
        tracking=tracking,
        values=values,
        latents=latents,
        reduction=curve.Reduction(reduction) if reduction else None,
        likelihood=likelihood,
        levels=levels,
        lr=lr,
    )
    show = terminal.write_diagnosis if as_json else terminal.show_diagnosis
    show(terminal.console(), found, told)


@app.command(epilog="Example: tune-vae train studies/digits.yaml --trial 12 --to vae.pt")
def train(
    study: Study,
    trial: Annotated[int, typer.Option("--trial", min=0, help="Number of the trial.")],
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Where to save the model; by default among the checkpoints."),
    ] = None,
    server: Server = "",
) -> None:
    """Train one trial of a study again, alone and from the beginning."""
    from tune_vae import api, terminal
    from tune_vae.spec.study import StudySpec
    from tune_vae.training.checkpoint import CheckpointStore

    spec = StudySpec.load(study)
    config = api.trial_of(spec, trial).config
    out = terminal.console()
    store = CheckpointStore(spec.storage.checkpoints, spec.name)
    saved = to or store.path(trial, "again.pt")
    with terminal.training(out, config) as on_epoch:
        trained = api.train(config, on_epoch=on_epoch, save_to=saved, limits=spec.health)
    terminal.show_trained(out, trained, str(saved))


@app.command(epilog="Example: tune-vae fid studies/digits.yaml --trial 12 --images 250")
def fid(
    study: Study,
    trial: Annotated[int, typer.Option("--trial", min=0, help="Number of the trial.")],
    images: Annotated[
        int, typer.Option("--images", min=2, help="Most images of each kind.")
    ] = 5000,
    device: Annotated[str, typer.Option("--device", help="Where to run: cpu, cuda.")] = "cpu",
    server: Server = "",
) -> None:
    """FID and KID of a trial's samples, if Inception's weights are on this machine."""
    from tune_vae import api, terminal
    from tune_vae.spec.study import StudySpec
    from tune_vae.training.checkpoint import CheckpointStore

    spec = StudySpec.load(study)
    api.trial_of(spec, trial)
    best = CheckpointStore(spec.storage.checkpoints, spec.name).path(trial, "best.pt")
    found = api.inception_scores(best, images=images, device=device)
    out = terminal.console()
    out.print(
        f"trial {trial}: FID [b]{found.fid:.2f}[/], KID {found.kid:.4f} ± {found.kid_spread:.4f}"
    )


@app.command(epilog="Example: tune-vae export studies/digits.yaml --to digits-vae")
def export(
    study: Study,
    trial: Annotated[
        int | None, typer.Option("--trial", min=0, help="Number of the trial; else the winner.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="New folder; else exports/STUDY-TRIAL beside the checkpoints."),
    ] = None,
    server: Server = "",
) -> None:
    """Write a trial's best model to a folder that works with torch alone."""
    from tune_vae import api, terminal
    from tune_vae.spec.study import StudySpec

    spec = StudySpec.load(study)
    out = terminal.console()
    out.print("[dim]The model is traced, and the trace compared with it: some ten seconds.[/]")
    terminal.show_exported(out, api.export(spec, trial, to=to))


@app.command(epilog="Example: tune-vae ui studies/digits.yaml --port 5000")
def ui(
    study: Study,
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 5000,
    host: Annotated[str, typer.Option("--host", help="Address to serve on.")] = "127.0.0.1",
    server: Server = "",
) -> None:
    """Show the study in MLflow's pages until Ctrl-C."""
    from tune_vae import terminal
    from tune_vae.service import tracking
    from tune_vae.spec.study import StudySpec

    spec = StudySpec.load(study)
    out = terminal.console()
    remote = tracking.is_server(spec.storage)
    server = masked(spec.storage.tracking) if remote else f"http://{host}:{port}"
    link = tracking.experiment_link(spec, server)
    if remote:
        out.print(link)
        return
    out.print("[dim]MLflow starts, which takes it some twenty seconds. Ctrl-C ends it.[/]")
    tracking.serve(spec.storage, host=host, port=port, on_ready=lambda: out.print(link))


@app.command(epilog="Example: tune-vae serve --host 0.0.0.0")
def serve(
    data: Annotated[
        Path, typer.Option("--data", help="Folder of all that is kept; made if it is not there.")
    ] = Path("tune-vae-server"),
    host: Annotated[
        str, typer.Option("--host", help="Address to serve on; 0.0.0.0 for other machines.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=1, max=65534, help="The database has the next one.")
    ] = 5000,
    database: Annotated[
        str,
        typer.Option(
            "--database",
            envvar="TUNE_VAE_LEDGER",
            metavar="URL",
            help="A PostgreSQL that runs, instead of one of our own.",
        ),
    ] = "",
    checkpoints: Annotated[
        str,
        typer.Option(
            "--checkpoints",
            envvar="TUNE_VAE_CHECKPOINTS",
            metavar="URL",
            help="Where all machines reach them, such as s3://bucket/vae; else they are served.",
        ),
    ] = "",
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Let anybody who reaches --host do anything.")
    ] = False,
) -> None:
    """Serve ledger, MLflow and checkpoints to several machines, until Ctrl-C."""
    from tune_vae import terminal
    from tune_vae.service import serve as service

    out = terminal.console()
    out.print("[dim]PostgreSQL and MLflow start, some twenty seconds. Ctrl-C ends them.[/]")
    service.serve(
        data,
        host=host,
        port=port,
        database=database,
        checkpoints=checkpoints,
        guarded=not no_token,
        on_ready=lambda served: terminal.show_served(out, served),
    )


@contextmanager
def _errors_told() -> Iterator[None]:
    """Show an error of ours at once, and not after all that was begun has ended."""
    try:
        yield
    except TuneVaeError as error:
        from tune_vae import terminal

        terminal.show_error(terminal.console(stderr=True), error)
        sys.exit(error.exit_code)


def main() -> None:
    """Entry point: our own errors become one screen and an exit code, never a traceback."""
    # Threads that spin while they wait for one another take twelve times as long where another
    # process has one of the cores, as beside a search. Read when PyTorch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with _errors_told():
            app()
    except Exception:  # noqa: BLE001
        # A fault of ours, whose messages and lines may quote an URL.
        sys.stderr.write(masked(traceback.format_exc()))
        sys.exit(TuneVaeError.exit_code)
