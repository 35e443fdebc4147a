"""What a person sees: live view, plain lines, tables and errors."""

import io
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.live import Live

from tests.factories import report
from tests.trials import trial_config
from tests.unit.snapshots import (
    REASONS,
    ROWS,
    config,
    ended,
    repeat,
    results,
    row,
    running,
    snapshot,
    spec,
)
from tune_vae import api, terminal
from tune_vae.data import Splits
from tune_vae.errors import DataError, Problem, StorageError, StudyFileError
from tune_vae.science.collapse_point import CollapsePoints
from tune_vae.science.health import Kind, Verdict
from tune_vae.science.spectrum import Spectrum
from tune_vae.service.desk import Snapshot
from tune_vae.service.export import Exported
from tune_vae.service.results import StudyResults
from tune_vae.service.scouted import Scouted
from tune_vae.service.stores import StoreReport
from tune_vae.service.study_forecast import StudyForecast
from tune_vae.spec.space import Range
from tune_vae.spec.study import Storage
from tune_vae.terminal.gpus import Gpus
from tune_vae.training.scout import Sighting

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOURS = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;[0-9;]+)m")
BAR_PARTS = r"[━╸╺ ]+"
BAR = "━"
ONE_SEED = "One seed was run of each trial: differences between the best may be chance."

REPEATS = (
    repeat(ROWS[0], 1, 3.44),
    repeat(ROWS[0], 2, 3.46),
    repeat(ROWS[3], 1, 3.84),
    repeat(ROWS[3], 2, 3.86),
)
CONFIRMED = results(*ROWS, planned=6, repeats=REPEATS, seeds=3, top=2)
"""The best of the search, number 3, is worse with other seeds than number 0."""


def console(width: int = 100, *, terminal: bool = False, height: int = 50) -> Console:
    """A console as the commands use it, which writes into memory."""
    return Console(
        file=io.StringIO(),
        width=width,
        height=height,
        force_terminal=terminal,
        highlight=False,
        soft_wrap=True,
        emoji=False,
    )


def said(out: Console) -> str:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def lines(out: Console) -> list[str]:
    """What was written, each line as it stood before the terminal erased it."""
    return [line for line in ESCAPES.sub("", said(out)).splitlines() if line]


def live(
    *shots: Snapshot, width: int = 100, height: int = 50, gpus: Gpus | None = None, **parts: str
) -> Console:
    out = console(width, terminal=True, height=height)
    with Live(console=out, auto_refresh=False, transient=True) as block:
        view = terminal.LiveView(out, block, spec(**parts), gpus)
        for shot in shots:
            view.show(shot)
    return out


def plain(*shots: Snapshot) -> list[str]:
    out = console()
    view = terminal.PlainView(out, spec())
    for shot in shots:
        view.show(shot)
    return lines(out)


class TestPlainView:
    def test_every_event_is_one_line_without_control_sequences(self) -> None:
        shown = plain(snapshot(*ROWS))
        assert len(shown) == 3 + len(ROWS)
        assert not any("\x1b" in line for line in shown)

    def test_start_of_a_trial_is_told_once(self) -> None:
        shown = plain(snapshot(), snapshot(), snapshot(running=(running(8), running(9))))
        assert [line[:14] for line in shown] == [f"start trial {n}:" for n in (8, 6, 7, 9)]

    def test_ended_trials_are_counted_from_the_beginning_of_the_study(self) -> None:
        first = snapshot(*ROWS[:4])
        second = Snapshot(results=results(*ROWS), ended=(ended(ROWS[4]), ended(ROWS[5])))
        numbers = [line[:8] for line in plain(first, second) if line.startswith("[")]
        assert numbers == [f"[ {n}/30] " for n in range(1, 7)]

    def test_verdict_tells_number_kind_reason_and_configuration(self) -> None:
        (line,) = plain(snapshot(ROWS[1], running=()))
        assert line == (
            f"[ 1/30]     1 ✗ collapsed  {REASONS[Kind.COLLAPSED]}  "
            "beta_norm 0.125 · gaussian·optimal · linear · lr 0.001"
        )

    def test_reason_is_shown_as_it_is_even_if_it_looks_like_markup(self) -> None:
        (line,) = plain(snapshot(ROWS[5], running=()))
        assert REASONS[Kind.FAILED] in line

    def test_repeats_are_counted_apart_and_named_after_their_finalist(self) -> None:
        begun = replace(CONFIRMED, repeats=REPEATS[:1])
        first = Snapshot(results=begun, ended=(ended(ROWS[5]), ended(REPEATS[0])))
        second = Snapshot(
            results=CONFIRMED,
            running=(replace(running(0), config=REPEATS[1].config),),
            ended=tuple(map(ended, REPEATS[1:])),
        )
        shown = plain(first, second)
        assert [line[:28].rstrip() for line in shown] == [
            "[6/6]     5 ! failed     Run",
            "[repeat 1/4]   0/2 ✓ healthy",
            "start trial 0/3: beta_norm 0",
            "[repeat 2/4]   0/3 ✓ healthy",
            "[repeat 3/4]   3/2 ✓ healthy",
            "[repeat 4/4]   3/3 ✓ healthy",
        ]

    def test_best_so_far_is_marked(self) -> None:
        shown = plain(snapshot(*ROWS, running=()))
        assert ["best so far" in line for line in shown] == [row.trial == 3 for row in ROWS]

    def test_trouble_is_told_when_it_begins_and_when_it_changes(self) -> None:
        troubles = ("", "no answer", "no answer", "", "no answer", "disk full")
        shown = plain(*(snapshot(running=(), trouble=trouble) for trouble in troubles))
        assert shown == ["waiting: no answer", "waiting: no answer", "waiting: disk full"]

    def test_remarks_are_told(self) -> None:
        remarks = ((), ("no [graph]",), (), ("leaks",))
        shown = plain(*(snapshot(running=(), remarks=told) for told in remarks))
        assert shown == ["note: no [graph]", "note: leaks"]


@pytest.mark.parametrize("width", [80, 100, 140])
class TestLiveViewAtEveryWidth:
    def test_no_line_is_wider_than_the_console(self, width: int) -> None:
        wide = replace(
            snapshot(*ROWS, trouble="the tracking server does not answer " * 9),
            running=(*snapshot().running, running(12, likelihood={"my_nets:" + "X" * 90: {}})),
        )
        out = live(snapshot(), wide, replace(wide, ended=()), width=width)
        widths = [cell_len(line) for line in lines(out)]
        assert max(widths) <= width
        assert max(widths) > width // 2

    def test_every_verdict_stays_as_one_line_above_the_block(self, width: int) -> None:
        shown = lines(live(snapshot(*ROWS), replace(snapshot(*ROWS), ended=()), width=width))
        for one in ROWS:
            word = Kind(one.kind).value
            (line,) = (text for text in shown if re.match(rf" *{one.trial} \S {word} ", text))
            assert line.startswith(f"{one.trial:>5} ")
            assert line.endswith("…") is not (" lr 0.001" in line)

    def test_the_best_is_marked_where_no_width_cuts_it(self, width: int) -> None:
        (line,) = (
            text for text in lines(live(snapshot(*ROWS), width=width)) if "so far ·" in text
        )
        assert line.split()[:6] == ["3", "✓", "healthy", "best", "so", "far"]

    def test_block_tells_progress_counts_and_the_best(self, width: int) -> None:
        shown = "\n".join(lines(live(snapshot(*ROWS), width=width)))
        assert "6/30 trials" in shown
        assert "3 running" in shown
        assert "✓ healthy 2  ✗ collapsed 1  ∅ diverged 1  ✂ hopeless 1  ! failed 1" in shown
        assert "best 3.25 bits/dim  trial 3" in shown
        assert "Ctrl-C stops after this epoch and keeps everything" in shown

    def test_remark_stays_above_the_block(self, width: int) -> None:
        once = snapshot(remarks=("packs train in float32",))
        shown = lines(live(snapshot(), once, snapshot(), width=width))
        assert shown.count("note: packs train in float32") == 1

    def test_trouble_is_never_cut(self, width: int) -> None:
        trouble = "the tracking server at http://tracking.example.org:5000 does not answer: " * 2
        shown = live(snapshot(trouble=trouble + "timed out"), width=width)
        assert "".join(f"waiting: {trouble}timed out".split()) in "".join(
            "".join(lines(shown)).split()
        )


class TestLiveView:
    def test_wider_consoles_show_more_columns(self) -> None:
        headers = {
            width: next(line for line in lines(live(snapshot(), width=width)) if "epoch" in line)
            for width in (80, 96, 116)
        }
        common = "trial epoch bits/dim rate health beta_norm decoder"
        assert " ".join(headers[80].split()) == common
        assert " ".join(headers[96].split()) == f"{common} schedule"
        assert " ".join(headers[116].split()) == f"{common} schedule rate so far units"

    def test_running_trials_stand_in_the_order_of_their_numbers(self) -> None:
        cells = [line.split() for line in lines(live(snapshot(), width=140))]
        found = [words for words in cells if words and words[0] in {"6", "7", "8"}]
        assert found[:3] == [
            ["6", "0/20", "starting", "0.438", "gaussian·optimal", "linear"],
            "7 7/20 3.2 8 … warming up 0.5 continuous_bernoulli linear ▁▂▄▁▇██ 4/4".split(),
            "8 7/20 3.2 8 ✓ healthy 0.562 gaussian·optimal linear ▁▂▄▁▇██ 4/4".split(),
        ]

    def test_running_trial_that_was_rolled_back_is_marked(self) -> None:
        back = replace(running(8), report=report(7, rollbacks=1))
        shown = lines(live(snapshot(running=(running(7), back)), width=140))
        words = {line.split()[0]: line.split()[4:7] for line in shown if "7/20" in line}
        assert words == {"7": ["✓", "healthy", "0.5"], "8": ["✓", "healthy", "↺"]}

    def test_column_follows_the_objective(self) -> None:
        out = live(snapshot(), objective="mse")
        assert any(line.split()[2:3] == ["mse"] for line in lines(out))
        assert any("0.04" in line.split() for line in lines(out))

    def test_value_that_is_not_finite_is_not_available(self) -> None:
        latest = report(3, trial=1, bits_per_dim=float("nan"), rate_nats=float("inf"))
        lost = replace(running(1), report=latest, verdict=Verdict(Kind.DIVERGED, "gone"))
        (line, *_) = (
            text for text in lines(live(snapshot(running=(lost,)))) if "∅ diverged" in text
        )
        assert line.split()[:4] == ["1", "3/20", "n/a", "n/a"]

    def test_more_running_trials_than_fit_are_counted(self) -> None:
        many = snapshot(running=tuple(running(trial) for trial in range(64)))
        shown = lines(live(many, height=24))
        assert "… and 53 more" in shown
        assert sum("gaussian·optimal" in line for line in shown) == 2 * 11
        assert shown[-1].startswith("Ctrl-C")

    def test_study_of_two_objectives_counts_its_front(self) -> None:
        rows = (row(0, Kind.HEALTHY, 1.0, 5.0), row(1, Kind.HEALTHY, 5.0, 1.0))
        two = StudyResults("tiny", ("rate_nats", "mse"), 30, rows)
        shown = lines(live(snapshot(results=two), objective="[rate_nats, mse]"))
        assert "Pareto front of 2 trials" in shown

    def test_repeats_are_part_of_the_progress(self) -> None:
        begun = replace(CONFIRMED, repeats=REPEATS[:1])
        shown = lines(live(Snapshot(results=begun)))
        assert any(line.startswith("6/6 trials · 1/4 repeats") for line in shown)
        assert not any("repeats" in line for line in lines(live(snapshot(*ROWS))))

    def test_empty_study_says_that_no_trial_has_ended(self) -> None:
        shown = lines(live(Snapshot(results=results())))
        assert "no trial has ended yet" in shown
        assert not any("ETA" in line for line in shown)

    def test_remaining_time_is_told_once_an_epoch_was_timed(self) -> None:
        untimed = replace(row(8), state="running")
        timed = replace(untimed, started=time.time() - 60.0, epoch=10)
        for one, told in ((untimed, False), (timed, True)):
            found = results(*ROWS, one)
            (*_, line) = [x for x in lines(live(Snapshot(results=found))) if "/30" in x]
            assert ("ETA" in line) is told

    def test_gpus_of_the_machine_have_a_line(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text("#!/bin/sh\necho '0, 82, 9421, 142336'; echo '1, [N/A], 0, 24576'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
        gpus = Gpus()
        try:
            end = time.monotonic() + 30
            while not gpus.line:
                assert time.monotonic() < end
                time.sleep(0.01)
        finally:
            gpus.close()
        shown = lines(live(snapshot(), gpus=gpus))
        assert "gpu0 82% · 9.2/139.0 GiB   gpu1 · 0.0/24.0 GiB" in shown
        assert not any("gpu" in line for line in lines(live(snapshot())))
        program.write_text("#!/bin/sh\nexit 9\n")
        assert gpus._ask() == ""

    def test_colour_only_helps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLORTERM", "truecolor")
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.delenv("NO_COLOR", raising=False)
        coloured = live(snapshot(*ROWS))
        monkeypatch.setenv("NO_COLOR", "1")
        bare = live(snapshot(*ROWS))
        assert COLOURS.search(said(coloured))
        assert not COLOURS.search(said(bare))
        words = [[re.sub(BAR_PARTS, "", line) for line in lines(out)] for out in (coloured, bare)]
        assert words[0] == words[1]


class TestView:
    def test_header_states_study_watch_and_storage(self) -> None:
        out = console()
        with terminal.view(out, spec(sampler="RandomSampler", pruner="NopPruner")):
            pass
        title, watch, study = lines(out)
        assert "study tiny  30 trials × 20 epochs · minimise bits_per_dim" in title
        assert title.endswith("RandomSampler, NopPruner")
        assert watch.startswith("  watch  tune-vae ui ")
        assert study == "  study  sqlite:///mlruns/studies.db"

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("postgresql://ann:secret@db:5432/x", "postgresql://ann:***@db:5432/x"),
            ("postgresql://ann:p@ss@db/x", "postgresql://ann:***@db/x"),
            ("sqlite:///[old].db", "sqlite:///[old].db"),
        ],
    )
    def test_password_of_the_storage_is_never_shown(self, url: str, shown: str) -> None:
        out = console()
        # As the environment names it; a study file may not.
        study = replace(spec(), storage=Storage(ledger=url))
        with terminal.view(out, study):
            pass
        assert f"study  {shown}" in said(out)
        assert "secret" not in said(out)

    @pytest.mark.parametrize("is_terminal", [True, False])
    def test_pipe_gets_plain_lines_and_a_terminal_the_block(self, is_terminal: bool) -> None:
        out = console(terminal=is_terminal)
        with terminal.view(out, spec()) as show:
            show(snapshot(*ROWS))
        assert (BAR in said(out)) is is_terminal
        assert ("\x1b" in said(out)) is is_terminal
        assert any("✗ collapsed" in line for line in lines(out))


def shown_results(found: StudyResults, **parts: str) -> list[str]:
    out = console()
    terminal.show_results(out, found, spec(**parts))
    return lines(out)


class TestResults:
    def test_next_steps_find_the_study_at_its_server(self) -> None:
        out = console()
        terminal.show_results(out, results(*ROWS), replace(spec(), server="head:5000"))
        commands = [line for line in lines(out) if "tune-vae " in line]
        assert len(commands) >= 4
        assert all(" --server head:5000" in command for command in commands)

    def test_winner_is_told_with_all_that_makes_it(self) -> None:
        shown = shown_results(results(*ROWS))
        assert "Best: trial 3 with 3.2500 validation bits per dim" in shown
        facts = {line.split()[0]: " ".join(line.split()[1:]) for line in shown if line[:1] == " "}
        assert facts["beta_norm"] == "0.25 (beta 4)"
        assert facts["schedule"] == "linear (warmup 0.25)"
        assert facts["likelihood"] == "bernoulli"
        assert facts["sigma"] == "mode none: no scale"
        assert facts["rate"] == "8.00 nats, 4/4 active units"
        assert facts["epoch"] == "19 of 20"
        assert facts["again"].endswith("--trial 3")
        assert facts["load"] == 'tune_vae.load_vae("mlruns/checkpoints/tiny/00003/best.pt")'
        assert facts["export"].startswith("tune-vae export ")

    def test_winner_that_was_rolled_back_is_told_with_the_rate_that_it_ended_with(self) -> None:
        best = report(19, lr=0.0005, rollbacks=1)
        rolled = shown_results(results(row(0, Kind.HEALTHY, 3.2, best=best)))
        assert "  lr          0.001  rolled back 1×, lr 0.0005" in rolled
        assert "  lr          0.001" in shown_results(results(row(0, Kind.HEALTHY, 3.2)))

    def test_study_that_is_not_done_can_be_resumed_and_one_that_is_can_be_prolonged(self) -> None:
        assert any("  resume " in line for line in shown_results(results(*ROWS, planned=7)))
        done = shown_results(results(*ROWS, planned=6))
        assert not any("  resume " in line for line in done)
        assert any("raise budget.trials" in line for line in done)

    def test_winner_by_another_objective_is_told_in_its_words(self) -> None:
        best = report(19, mse=0.04, bits_per_dim=float("nan"))
        rows = [row(0, Kind.HEALTHY, 0.04, best=best), row(1, Kind.HEALTHY, 0.05)]
        shown = shown_results(StudyResults("tiny", ("mse",), 2, rows), objective="mse")
        assert "Best: trial 0 with 0.0400 mse" in shown
        assert "  bits/dim    n/a" in shown
        assert not any("nan" in line for line in shown)

    def test_two_objectives_are_told_as_a_front(self) -> None:
        rows = [
            row(0, Kind.HEALTHY, 1.0, 5.0),
            row(1, Kind.HEALTHY, 5.0, 1.0),
            row(2, Kind.HEALTHY, 6.0, 6.0),
        ]
        found = StudyResults("tiny", ("rate_nats", "mse"), 3, rows)
        shown = shown_results(found, objective="[rate_nats, mse]")
        assert "Pareto front (rate_nats, mse):" in shown
        table = [
            line.split() for line in shown[shown.index("Pareto front (rate_nats, mse):") + 1 :]
        ]
        assert table[0][:3] == ["trial", "rate_nats", "mse"]
        assert [words[:3] for words in table[1:3]] == [
            ["0", "1.0000", "5.0000"],
            ["1", "5.0000", "1.0000"],
        ]
        assert not any("knee" in line for line in shown)
        facts = " ".join(" ".join(shown).split())
        assert "≤ 1 nats trial 0: mse 5 ≤ 5 nats trial 1: mse 1" in facts
        assert (
            "hypervolume 20% after 1, 36% after 2, 36% after 3 trials: share of the box from the "
            "best values (1, 1) to the worst (6, 6) that the front dominates"
        ) in facts

    def test_front_that_bends_is_told_where(self) -> None:
        rows = [row(n, Kind.HEALTHY, *pair) for n, pair in enumerate([(1.0, 9), (2, 2), (9, 1)])]
        found = StudyResults("tiny", ("mse", "sample_distance"), 3, rows)
        shown = shown_results(found, objective="[mse, sample_distance]")
        (knee,) = (line for line in shown if line.startswith("  knee"))
        assert "trial 1 (2, 2; beta_norm 0.125" in knee
        assert not any("≤" in line for line in shown)

    def test_trial_whose_lead_is_outside_the_error_is_called_the_winner(self) -> None:
        shown = shown_results(CONFIRMED)
        assert shown[0] == (
            "Winner: trial 0 with 3.4500 ± 0.01 validation bits per dim, the mean over 2 other "
            "seeds"
        )
        at = shown.index("Finalists, with other seeds")
        table = [line.split() for line in shown[at + 1 : at + 4]]
        assert table[0][:6] == ["trial", "bits/dim", "±", "s.e.", "seeds", "searched"]
        assert table[1][:8] == ["0", "3.4500", "±", "0.01", "2", "of", "2", "3.5000"]
        assert table[2][:8] == ["3", "3.8500", "±", "0.01", "2", "of", "2", "3.2500"]
        assert shown[at + 4].startswith("Trial 0 is better than trial 3: difference 0.4 ± 0.0")
        assert not any("be sure" in line for line in shown)
        assert any(line.endswith("--trial 0") for line in shown)

    def test_lead_within_the_error_wins_nothing_and_says_how_to_be_sure(self) -> None:
        near = (*REPEATS[:2], repeat(ROWS[3], 1, 3.42), repeat(ROWS[3], 2, 3.49))
        shown = shown_results(replace(CONFIRMED, repeats=near))
        assert shown[0].startswith("Best: trial 0 with 3.4500 ± 0.01")
        assert any(line.startswith("Trial 0 cannot be told apart from trial 3") for line in shown)
        (step,) = (line for line in shown if line.startswith("  be sure"))
        assert step.endswith("--top 2 --seeds 6")

    def test_lost_seed_is_told_and_not_averaged(self) -> None:
        lost = (*REPEATS[:3], repeat(ROWS[3], 2, kind=Kind.COLLAPSED))
        shown = shown_results(replace(CONFIRMED, repeats=lost))
        (line,) = (text for text in shown if text.startswith("    3   "))
        assert line.split()[1:6] == ["no", "mean", "2", "of", "2"]
        assert "1 of 3 seeds" in line
        assert any("Seeds were lost: trial 3: 1 of 3 seeds collapsed." in text for text in shown)

    def test_one_seed_says_so_and_how_to_run_more(self) -> None:
        shown = shown_results(results(*ROWS))
        assert ONE_SEED in shown
        (step,) = (line for line in shown if line.startswith("  be sure"))
        assert "tune-vae confirm" in step
        assert not any("Finalists" in line for line in shown)
        assert ONE_SEED not in shown_results(results(row(0, Kind.COLLAPSED)))

    def test_study_that_stalled_says_so_and_how_to_go_on(self) -> None:
        shown = shown_results(results(*ROWS, planned=30, patience=1))
        (ended,) = (line for line in shown if line.startswith("  ended"))
        assert "no notable improvement in the last 1 trials (budget.patience 1)" in ended
        assert not any(line.startswith("  resume") for line in shown)

    @pytest.mark.parametrize(
        ("kind", "remedy"),
        [
            (Kind.COLLAPSED, "2 of 3 trials collapsed, down to the lowest beta_norm that was"),
            (Kind.DIVERGED, "2 of 3 trials diverged, down to the lowest lr that was tried"),
            (Kind.HOPELESS, "2 of 3 trials were stopped by the pruner: give the study more"),
            (Kind.FAILED, "2 of 3 trials broke: `tune-vae report` says with which error."),
        ],
    )
    def test_study_without_a_healthy_trial_says_what_to_change(
        self, kind: Kind, remedy: str
    ) -> None:
        other = next(k for k in (Kind.COLLAPSED, Kind.DIVERGED) if k is not kind)
        shown = shown_results(results(row(0, kind), row(1, kind), row(2, other)))
        assert any(line.startswith(f"No trial finished healthy. {remedy}") for line in shown)

    def test_study_of_which_nothing_has_ended_says_so(self) -> None:
        assert "No trial finished healthy. None has ended yet." in shown_results(results())

    def test_report_holds_conclusion_best_trials_and_every_reason(self) -> None:
        out = console()
        study = spec()
        terminal.report_text(out, results(*ROWS), study)
        shown = lines(out)
        assert shown[0].startswith("study tiny  6 of 30 trials ended")
        assert shown[-1].endswith(f"Curves: tune-vae ui {study.file}")
        order = [
            next(i for i, line in enumerate(shown) if line.startswith(start))
            for start in (
                "Best:",
                "One seed was run",
                "Best trials",
                "Best of each decoder",
                "Why the others",
                "bits_",
            )
        ]
        assert order == sorted(order)
        for one in ROWS:
            assert any(one.reason in line for line in shown) is not one.finished

    def test_region_where_verdicts_fell_stands_before_the_reasons(self) -> None:
        out = console()
        terminal.report_text(out, results(*COLLAPSED_ABOVE), spec())
        shown = lines(out)
        first = shown.index("Why the others ended") + 1
        assert shown[first].strip() == REGION
        assert shown[first + 1].split()[1:3] == ["✗", "collapsed"]

    def test_report_says_where_its_page_is_and_whether_mlflow_has_it(self) -> None:
        out = console()
        terminal.show_written(out, "mlruns/reports/[tiny]/index.html", "")
        terminal.show_written(out, "a/index.html", "no answer")
        shown = facts_of([line.rstrip() for line in lines(out)])
        assert shown == {"page": "a/index.html", "copy": "not in MLflow (no answer)"}
        assert "mlruns/reports/[tiny]/index.html" in "".join(lines(out))

    def test_report_of_one_decoder_has_no_table_of_decoders(self) -> None:
        out = console()
        terminal.report_text(out, results(ROWS[0]), spec())
        assert not any(line.startswith(("Best of each", "Why the others")) for line in lines(out))

    def test_best_of_each_decoder_is_its_best(self) -> None:
        rows = [row(n, Kind.HEALTHY, value) for n, value in enumerate((3.0, 2.0, 4.0))]
        other = config(3, likelihood={"bernoulli": {}}, sigma=None)
        rows.append(row(3, Kind.HEALTHY, 9.0, config=other))
        out = console()
        terminal.report_text(out, results(*rows), spec())
        shown = lines(out)
        first = shown.index("Best of each decoder") + 2
        assert [line.split()[0] for line in shown[first:-1]] == ["1", "3"]

    def test_status_tells_who_runs_what_and_what_waits(self) -> None:
        here = row(
            7, state="running", epoch=5, owner="host-a [gpu 0]", attempts=2, kind=Kind.HEALTHY
        )
        found = results(*ROWS, replace(here, kind=""), replace(here, state="waiting"))
        out = console()
        terminal.show_status(out, found, spec())
        title, counts, line, best, resume = lines(out)
        assert title == "study tiny  6/30 ended · 1 running · 1 waiting to be taken up again"
        assert "✗ collapsed 1" in counts
        assert line.startswith("    7 epoch 5/20 on host-a [gpu 0] · attempt 2  beta_norm")
        assert best.startswith("best 3.25 bits/dim")
        assert resume.startswith("go on with it: tune-vae search ")

    def test_status_tells_the_device_and_how_old_the_lease_is(self) -> None:
        there = row(7, state="running", epoch=5, owner="host-a", kind=Kind.HEALTHY)
        there = replace(there, kind="", place="host-b, NVIDIA H200", silent_seconds=12.4)
        out = console()
        terminal.show_status(out, results(there), spec())
        assert lines(out)[2].startswith("    7 epoch 5/20 on host-b, NVIDIA H200 · lease 12 s old")

    def test_points_that_were_not_trained_are_told_below_the_counts(self) -> None:
        told = (
            "17 drawn points were not trained: beta_norm beyond the collapse point of these data"
        )
        for show in (terminal.show_status, terminal.show_results):
            for count, expected in ((17, [told]), (0, [])):
                out = console()
                show(out, results(*ROWS, foretold=count), spec())
                assert [line for line in lines(out) if "not trained" in line] == expected

    def test_status_tells_of_repeats_that_ended_run_and_wait(self) -> None:
        here = replace(REPEATS[1], state="running", epoch=5, owner="host-a", kind="")
        waits = replace(REPEATS[2], state="waiting", kind="", finished=False, values=())
        found = replace(CONFIRMED, repeats=(REPEATS[0], here, waits))
        out = console()
        terminal.show_status(out, found, spec())
        shown = lines(out)
        assert shown[0] == "study tiny  6/6 ended · 1 running · 0 waiting to be taken up again"
        assert shown[1] == "1/3 repeats of finalists ended"
        assert any(line.startswith("  0/3 epoch 5/20 on host-a") for line in shown)
        assert shown[-1] == "1 of 3 repeats of the finalists have ended: too early to tell."

    def test_status_of_a_finished_study_offers_no_resumption(self) -> None:
        out = console()
        terminal.show_status(out, results(*ROWS, planned=6), spec())
        assert "go on" not in said(out)


def checked(
    digits: Splits,
    *,
    seen: int = 0,
    stores: tuple[StoreReport, ...] = (),
    dead_beyond: Mapping[str, tuple[float, float]] = MappingProxyType({}),
    forecast: StudyForecast | None = None,
    **parts: str,
) -> list[str]:
    out = console()
    terminal.show_check(
        out,
        api.CheckReport(
            spec=spec(**parts),
            data=digits,
            parameters=(1000, 2000),
            memory_bytes=(2**20, 3 * 2**20),
            step_seconds=0.01,
            seen=seen,
            stores=stores,
            dead_beyond=dead_beyond,
            forecast=forecast,
        ),
    )
    return [line.rstrip() for line in lines(out)]


def facts_of(shown: list[str]) -> dict[str, str]:
    return {line[2:13].strip(): line[14:] for line in shown if line.startswith("  ")}


def test_line_of_a_file_is_shown_without_the_password_in_it() -> None:
    text = "storage:\n  ledger: postgresql://me:hunter2@host/db\n"
    problem = Problem(
        "`storage.ledger` holds a password", tip="remove it", line=2, column=3, width=6
    )
    out = console()
    terminal.show_error(out, StudyFileError([problem], file="study.yaml", text=text))
    assert "hunter2" not in said(out)
    assert "  ledger: postgresql://me:***@host/db" in said(out)
    assert "     |   ^^^^^^" in said(out)


class TestCheck:
    def test_open_knobs_are_listed_with_beta_in_plain_units(self, digits: Splits) -> None:
        shown = checked(digits)
        assert shown[0].endswith("is valid. Nothing was started or left behind.")
        (line,) = (text for text in shown if text.startswith("beta_norm"))
        assert "0.001 … 10 (log)" in line
        assert "beta = beta_norm·N/M = 0.016 … 160 (N 64, M 4)" in line

    def test_every_open_knob_has_a_note_where_one_helps(self, digits: Splits) -> None:
        search = (
            "{beta_norm: 1, schedule: {choice: [constant, linear]}, sigma: {choice: [shared, "
            "optimal]}, likelihood: {choice: [gaussian, continuous_bernoulli]}, "
            "lr: {uniform: [0.1, 1]}}"
        )
        notes = {line.split()[0]: line for line in checked(digits, search=search) if line}
        assert "how the KL weight grows over 20 epochs" in notes["schedule"]
        assert "asked only of likelihoods that have a scale" in notes["sigma"]
        assert "ranked by bits_per_dim" in notes["likelihood"]
        assert notes["lr"].split() == ["lr", "0.1", "…", "1", "(even)"]

    def test_lists_stand_as_in_the_file(self, digits: Splits) -> None:
        network = "{mlp: {hidden: {choice: [[16], [16, 8]]}}}"
        assert any(
            "mlp(hidden=[16], [16, 8])" in line for line in checked(digits, network=network)
        )

    def test_examples_left_out_are_counted(self, digits: Splits) -> None:
        whole = " ".join(" ".join(checked(digits)).split())
        assert "left out" not in whole
        few = " ".join(" ".join(checked(replace(digits, skipped=1234))).split())
        mean = digits.train.double().mean() / 16
        assert f"mean {mean:.3g}; 1,234 left out as broken" in few

    def test_facts_follow_from_study_and_data(self, digits: Splits) -> None:
        facts = facts_of(checked(digits, train="{epochs: 20, batch_size: 64}", seen=10))
        assert facts["data"].startswith(
            "1,297 train, 250 validation, 250 test images of 1×8×8, levels 0 … 16"
        )
        assert facts["model"] == "1,000 … 2,000 parameters"
        assert facts["trial size"].startswith("about 1 … 3 MiB")
        assert facts["would run"] == (
            "20 trials × at most 20 epochs of 20 steps in float32; 10 exist already"
        )
        # 20 trials of 20 epochs of 20 steps of 10 ms.
        assert facts["estimate"].startswith("1m20s of one core")
        again = facts_of(checked(digits, seen=10, budget="{trials: 30, seeds: 3, finalists: 5}"))
        assert again["would run"].endswith("; 10 exist already; then 10 repeats of finalists")
        assert "latent_dim 4" in facts["fixed"]
        assert "grad_clip" not in facts["fixed"]

    @pytest.mark.parametrize(
        ("rollbacks", "told"),
        [
            (0, "not finite: within 20 steps · by"),
            (1, "not finite: within 20 steps, after 1× back to the epoch before at half the lr ·"),
        ],
    )
    def test_end_of_a_lost_trial_follows_from_the_study(
        self, digits: Splits, rollbacks: int, told: str
    ) -> None:
        assert told in facts_of(checked(digits, train=f"{{rollbacks: {rollbacks}}}"))["stops"]

    def test_each_store_has_a_line_and_another_machine_a_sentence(self, digits: Splits) -> None:
        ledger = StoreReport("ledger", "postgresql://me:***@db/x", True, True, "up")
        pages = StoreReport("MLflow", "http://host:5000", False, False, "does not answer")
        disk = StoreReport("checkpoints", "mlruns/checkpoints", True, False, "a folder")
        facts = facts_of(checked(digits, stores=(ledger, pages, disk)))
        assert facts["ledger"] == "postgresql://me:***@db/x: up"
        assert facts["MLflow"] == "http://host:5000: DOES NOT WORK: does not answer"
        assert "it does not reach its MLflow and checkpoints." in facts["elsewhere"]
        facts = facts_of(checked(digits, stores=(ledger,)))
        assert facts["elsewhere"].startswith("another machine could go on with this study")

    def test_points_that_will_not_be_trained_are_told_by_decoder(self, digits: Splits) -> None:
        limits = {"gaussian·optimal": (0.8906, 0.8906), "bernoulli": (0.25, 1.0)}
        facts = facts_of(checked(digits, dead_beyond=limits))
        assert facts["not trained"] == (
            "beta_norm above 0.891 of gaussian·optimal, 0.25 … 1 of bernoulli: the "
            "collapse point of these data"
        )
        assert "not trained" not in facts_of(checked(digits))

    def test_first_trials_are_told_before_there_are_any(self, digits: Splits) -> None:
        assert facts_of(checked(digits))["first"] == (
            "optimal sigma at beta 1 (`known_good: false` leaves them out)"
        )
        assert "first" not in facts_of(checked(digits, known_good="false"))
        assert "first" not in facts_of(checked(digits, seen=1))

    def test_study_with_more_trials_than_planned_would_run_none(self, digits: Splits) -> None:
        facts = facts_of(checked(digits, seen=40))
        assert facts["would run"].startswith("0 trials")
        assert facts["estimate"].startswith("0s")


class TestTraining:
    @pytest.mark.parametrize("is_terminal", [True, False])
    def test_epochs_are_followed(self, is_terminal: bool) -> None:
        out = console(terminal=is_terminal)
        with terminal.training(out, config(4)) as on_epoch:
            for epoch in (1, 2):
                on_epoch(report(epoch), Verdict(Kind.HEALTHY, "fine"))
        shown = lines(out)
        assert shown[0].startswith("trial 4: beta_norm 0.312 · gaussian·optimal")
        assert any(
            line.split() == "epoch 2/20 3.2 bits/dim rate 8 nats ✓ healthy".split()
            for line in shown
        )

    def test_rollback_is_told_in_the_line_of_the_epoch(self) -> None:
        out = console()
        with terminal.training(out, config(4)) as on_epoch:
            on_epoch(report(2, lr=0.005, rollbacks=1), Verdict(Kind.HEALTHY, "fine"))
        assert lines(out)[-1].endswith("✓ healthy  rolled back 1×, lr 0.005")


COLLAPSED_ABOVE = [
    row(n, Kind.COLLAPSED if n > 5 else Kind.HEALTHY, *([] if n > 5 else [3.0 + n]))
    for n in range(12)
]
"""Numbers 6 to 11 have beta_norm 0.4375 to 0.75, the others up to 0.375."""
REGION = "All 6 collapsed trials had beta_norm above 0.4 (none of 6 others did)"


class TestNote:
    def note(self, found: StudyResults) -> str:
        return terminal.note(Snapshot(results=found))

    def test_winner_comes_first_and_fits_one_line(self) -> None:
        assert self.note(results(*ROWS)) == (
            "**Best 3.25 bits/dim** (trial 3: bernoulli, beta_norm 0.25, linear) · 2 healthy, "
            "1 collapsed, 1 diverged, 1 hopeless, 1 failed\n\n" + ONE_SEED
        )

    def test_means_of_finalists_are_told(self) -> None:
        shown = self.note(CONFIRMED)
        first, _, rest = shown.partition("\n\n")
        assert first.startswith("**Winner 3.5 bits/dim** (trial 0: gaussian")
        assert rest.startswith("Trial 0 is better than trial 3")
        assert rest.endswith(
            "- trial 0: 3.4500 ± 0.01 over 2 other seeds\n"
            "- trial 3: 3.8500 ± 0.01 over 2 other seeds"
        )

    def test_regions_stand_below(self) -> None:
        *_, blank, region = self.note(results(*COLLAPSED_ABOVE)).splitlines()
        assert (blank, region) == ("", f"- {REGION}")

    def test_front_and_lack_of_a_winner_are_told(self) -> None:
        rows = [row(0, Kind.HEALTHY, 1.0, 5.0), row(1, Kind.HEALTHY, 5.0, 1.0)]
        front = StudyResults("tiny", ("rate_nats", "mse"), 30, rows)
        assert self.note(front) == f"**2 trials on the front** · 2 healthy\n\n{ONE_SEED}"
        assert self.note(results(row(0, Kind.COLLAPSED))) == "**No winner** · 1 collapsed"
        assert self.note(results()) == "**No winner**"


def error_lines(*problems: Problem, text: str) -> list[str]:
    out = console(200)
    terminal.show_error(out, StudyFileError(list(problems), file="s.yaml", text=text))
    return lines(out)


def carets_of(shown: list[str]) -> tuple[str, int, int]:
    """The line that is shown, and the cells in which its carets begin and end."""
    index = next(i for i, line in enumerate(shown) if re.match(r" +\| +\^", line))
    below = shown[index]
    begin = below.index("^")
    return shown[index - 1], begin, begin + below.count("^")


def under_carets(shown: list[str]) -> str:
    """The characters above the carets, counted in cells of a terminal."""
    above, begin, end = carets_of(shown)
    found, at = "", 0
    for character in above:
        if begin <= at < end:
            found += character
        at += cell_len(character)
    return found


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            ("lr: fast", "fast"),
            ("\t\tlr:\t\tfast", "fast"),
            ("a: " + "x, " * 1000 + "FAULT, " + "y, " * 1000, "FAULT"),
            ("FAULT, " + "y, " * 1000, "FAULT"),
            ("x" * 99 + "FAULT", "FAULT"),
            ("名前: 値段, lr: 速い", "速い"),
            ("名" * 200 + "FAULT", "FAULT"),
            ("[b]: [/] [red]FAULT[/]", "FAULT"),
            ("a\\[b]: FAULT", "FAULT"),
            (":smile: FAULT :100:", "FAULT"),
        ],
        ids=lambda value: value[:12],
    )
    def test_carets_stand_under_the_fault(self, text: str, fault: str) -> None:
        at = text.index(fault)
        problem = Problem("wrong", line=1, column=at + 1, width=len(fault))
        assert under_carets(error_lines(problem, text=text)) == fault

    def test_tip_stands_beside_its_carets_if_it_fits_and_else_below(self) -> None:
        fault = Problem("wrong", line=1, column=5, width=4)
        beside = error_lines(replace(fault, tip="swap them"), text="lr: fast")
        assert beside[3] == "     |     ^^^^ swap them"
        names = [f"likelihood_{number}" for number in range(30)]
        below = error_lines(replace(fault, tip=f"known: {', '.join(names)}"), text="lr: fast")
        assert below[3] == "     |     ^^^^"
        assert max(map(len, below)) <= 100
        tip = " ".join(line.removeprefix("     | ") for line in below[4:-1])
        assert tip == f"known: {', '.join(names)}"

    def test_long_line_is_cut_around_the_fault(self) -> None:
        text = "x" * 5000 + "FAULT" + "y" * 5000
        shown = error_lines(Problem("wrong", line=1, column=5001, width=5), text=text)
        assert max(map(len, shown)) <= 120
        assert under_carets(shown) == "FAULT"

    def test_carets_end_where_the_shown_part_ends(self) -> None:
        shown = error_lines(Problem("wrong", line=1, column=3, width=5000), text="a " + "x" * 5000)
        above, begin, end = carets_of(shown)
        assert end == len(above)
        assert above[begin] == "x"

    def test_fault_behind_the_end_of_its_line_has_one_caret(self) -> None:
        _, begin, end = carets_of(error_lines(Problem("wrong", line=1, column=4), text="lr:\n"))
        assert end - begin == 1

    def test_place_is_named_as_file_line_and_column(self) -> None:
        text = "\n" * 99 + "lr: fast"
        shown = error_lines(Problem("wrong", line=100, column=5, width=4), text=text)
        assert shown[1] == "  --> s.yaml:100:5"
        assert shown[2] == " 100 | lr: fast"

    def test_console_of_the_commands_leaves_the_text_as_it_is(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        text = "s.yaml:100:5 :smile: " + "x" * 500
        terminal.console().print(text)
        terminal.console(stderr=True).print(text)
        assert capsys.readouterr() == (f"{text}\n", f"{text}\n")

    def test_what_moves_the_cursor_is_not_written(self) -> None:
        problem = Problem("got \x1b[2J\a\nmore", line=1, column=1)
        shown = error_lines(problem, text="\x1b[31mred\a: \x7f")
        assert all(c.isprintable() for line in shown for c in line)
        assert shown[0] == "error: got ·[2J··more"

    def test_problem_without_a_place_is_told_with_its_tip(self) -> None:
        shown = error_lines(Problem("`data` is missing", tip="write it"), text="study: x\n")
        assert shown == [
            "error: `data` is missing",
            "  tip: write it",
            "1 problem in s.yaml; nothing was started.",
        ]

    def test_file_that_could_not_be_read_has_no_count(self) -> None:
        assert error_lines(Problem("no such study file: s.yaml"), text="") == [
            "error: no such study file: s.yaml"
        ]

    @pytest.mark.parametrize("kind", [DataError, StorageError])
    def test_other_errors_are_told_in_their_own_words(
        self, kind: Callable[[str], DataError | StorageError]
    ) -> None:
        out = console()
        terminal.show_error(out, kind("cannot open [x] at postgresql://db/[/]"))
        assert lines(out) == ["error: cannot open [x] at postgresql://db/[/]"]


def test_end_of_a_training_says_how_to_load_it() -> None:
    out = console()
    trained = api.Trained(
        vae=None,  # type: ignore[arg-type]
        config=config(4),
        history=None,  # type: ignore[arg-type]
        verdict=Verdict(Kind.COLLAPSED, REASONS[Kind.COLLAPSED]),
    )
    terminal.show_trained(out, trained, "vae [4].pt")
    verdict, saved, load = lines(out)
    assert verdict == f"✗ collapsed  {REASONS[Kind.COLLAPSED]}"
    assert saved == "  saved       vae [4].pt"
    assert load == '  load        tune_vae.load_vae("vae [4].pt")'


@pytest.mark.parametrize("obstacle", ["", "it [branches]"])
def test_end_of_an_export_says_what_it_can_do(obstacle: str) -> None:
    out = console()
    terminal.show_exported(out, Exported(Path("my [4] vae"), 4, obstacle))
    first, *facts = lines(out)
    assert first == "trial 4 in my [4] vae"
    assert "  read        my [4] vae/README.md" in facts
    assert '  load        tune_vae.load_vae("my [4] vae")' in facts
    runs = "  run         python 'my [4] vae/model.py'   (needs torch alone)"
    assert (runs in facts) is not bool(obstacle)
    assert any(line.endswith(": it [branches]") for line in facts) is bool(obstacle)


class TestForecast:
    def found(self) -> StudyForecast:
        configs = [
            trial_config(sigma={name: {}}, latent_dim=size)
            for size in (2, 4)
            for name in ("fixed", "optimal")
        ]
        points = CollapsePoints(2.0, 0.125, bernoulli=4.0, continuous_bernoulli=8.0)
        spectrum = Spectrum((2.0, 1.0, 0.5, 0.5), total=8.0, values=64, rows=1000)
        space = Range(1e-3, 1e3, log=True)
        return StudyForecast.of("tiny", space, configs, points, spectrum, 0.0)

    def test_decoders_curves_words_and_chart_are_shown(self) -> None:
        out = console(120)
        terminal.show_forecast(out, self.found(), Path("reports/forecast.png"))
        shown = [line.rstrip() for line in lines(out)]
        assert shown[0].startswith("study tiny, from 1,000 training examples of 64 values")
        assert any(re.match(r"gaussian·fixed 1 +4 +0.125 +65%$", line) for line in shown)
        assert any(re.match(r"gaussian·optimal +4 +1 +50%$", line) for line in shown)
        (start,) = (n for n, line in enumerate(shown) if line.startswith("4 latents"))
        assert shown[start + 1].split() == (
            "sigma 1 fitted sigma rate error/value used bits/dim sigma".split()
        )
        # At the collapse: both beta_norm, no nats, the variance of the data per value.
        end = shown[start + 8].split()
        assert end[:5] == ["0.125", "1", "0.00", "0.125", "0"]
        assert sum("└" in line for line in shown) == 2
        assert any(line.startswith("· At beta 1 (beta_norm 0.0625) 4 latents") for line in shown)
        assert shown[-1] == "  chart       reports/forecast.png"

    def test_check_warns_of_a_range_that_is_mostly_dead(self, digits: Splits) -> None:
        facts = facts_of(checked(digits, forecast=self.found()))
        assert facts["warning"].startswith("beta_norm is 0.001 … 1000 (log), of which ")
        less = replace(self.found(), space=Range(1e-3, 1.0, log=True))
        assert "warning" not in facts_of(checked(digits, forecast=less))


class TestScout:
    def test_curve_and_what_it_proposes_are_shown(self) -> None:
        out = console(120)
        curve = tuple(
            Sighting(0.16 * 10**i, rate, 20.0, 0.04, math.nan, bits)
            for i, (rate, bits) in enumerate([(20, 2.6), (8, 2.4), (1, 2.5), (0.01, 2.6)])
        )
        config = trial_config(likelihood={"laplace": {}})
        lively, lost, dead = (
            Scouted(config, "digest", part, 7.0) for part in (curve, (), curve[3:])
        )
        terminal.show_scouts(out, [lively, lost, dead], Path("forecast.png"))
        shown = [line.rstrip() for line in lines(out)]
        assert "laplace·optimal, 4 latents: one training for all beta, 7 s" in shown
        assert any(re.match(r" +0.1 +8.00 +0.04 +\S+ +2.4", line) for line in shown)
        told = " ".join(shown)
        assert "Fewest calibrated bits per dim at beta_norm 0.1, with 8.0 nats" in told
        assert "carry nothing from beta_norm 3.2 on" in told
        assert "`beta_norm: {log_uniform: [1.0e-02, 1.6e+00]}`" in told
        assert "Its loss was lost" in told
        assert "nothing is proposed" in told
        assert shown[-1] == "  chart       forecast.png"
