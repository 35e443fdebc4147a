"""The command line: help, version, exit codes, and a reader who leaves early."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.unit.spec.studies import text
from tune_vae import cli
from tune_vae.spec.study import StudySpec

STUDIES = Path(__file__).parents[2] / "studies"
COMMANDS = [
    *("check", "confirm", "diagnose", "export", "fid", "forecast", "search", "status", "report"),
    *("scout", "serve", "train", "ui"),
]
COMMAND = Path(sys.executable).with_name("tune-vae")

NETWORK = """
from dataclasses import dataclass

from torch import nn

from tune_vae.science.networks import Network


@dataclass(frozen=True)
class Narrow(Network):
    width: int

    def build(self, shape, latent_dim, params_per_value):
        values = shape[0] * shape[1] * shape[2]
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(values, 2 * latent_dim))
        return encoder, nn.Linear(latent_dim, values * params_per_value)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


class Run:
    """Runs a command in this process, as the installed script does."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> tuple[object, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["tune-vae", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = self._capsys.readouterr()
        return ended.value.code, plain(out), plain(err)


def plain(output: str) -> str:
    """Output without colours, frames and the line breaks of a narrow terminal."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", "", output).split())


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(monkeypatch, capsys)


def test_help_names_every_command_and_every_exit_code(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert all(command in out for command in COMMANDS)
    codes = out.partition("Exit codes:")[2]
    assert [int(word) for word in codes.split() if word.isdigit()] == [0, 1, 2, 3, 4, 130]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_shows_an_example(command: str, run: Run) -> None:
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    if command == "diagnose":
        assert "Example: tune-vae diagnose train.log" in out
    elif command == "serve":
        assert "Example: tune-vae serve --host 0.0.0.0" in out
    else:
        assert f"Example: tune-vae {command} studies/digits.yaml" in out
        assert "A study file, such as studies/digits.yaml." in out


def test_every_command_is_among_those_tested() -> None:
    assert sorted(one.callback.__name__ for one in cli.app.registered_commands) == sorted(COMMANDS)  # type: ignore[union-attr]


CONSTANT = np.full((40, 4, 4), 7, np.uint8), "all training examples are the same"


@pytest.mark.parametrize(
    ("command", "images", "says"),
    [
        # A search takes seconds, for Ray has begun by then.
        pytest.param("search", *CONSTANT, id="search"),
        pytest.param("forecast", *CONSTANT, id="constant"),
        pytest.param(
            "forecast",
            np.zeros((1, 4, 4), np.uint8),
            "of 1 examples leaves none to train on",
            id="a single one",
        ),
        pytest.param("forecast", np.full((40, 4, 4), np.nan, np.float32), "nan", id="nan"),
    ],
)
def test_data_with_nothing_to_tell_are_refused_in_words(
    command: str,
    images: np.ndarray,
    says: str,
    run: Run,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNE_VAE_CACHE", str(folder / "cache"))
    np.save(folder / "images.npy", images)
    search = "{beta_norm: auto, likelihood: gaussian}"
    file = folder / "study.yaml"
    file.write_text(text(data="{arrays: {path: images.npy}}", search=search))
    code, out, err = run(command, str(file))
    assert code == 2
    assert says in err
    assert "Traceback" not in out + err


def test_version_is_that_of_the_package(run: Run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert re.fullmatch(r"tune-vae \d+\.\d+\.\d+\S*", out)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("serch", "study.yaml"), "No such command 'serch'"),
        (("check",), "Missing argument 'STUDY'"),
        (("check", "a.yaml", "b.yaml"), "(b.yaml)"),
        (("check", "a.yaml", "--fast"), "No such option: --fast"),
        (("train", "a.yaml"), "Missing option '--trial'"),
        (("train", "a.yaml", "--trial", "-1"), "Invalid value for '--trial'"),
        (("confirm", "a.yaml", "--seeds", "1"), "Invalid value for '--seeds'"),
        (("confirm", "a.yaml", "--top", "0"), "Invalid value for '--top'"),
        (("ui", "a.yaml", "--port", "0"), "Invalid value for '--port'"),
        (("serve", "--port", "0"), "Invalid value for '--port'"),
        (("diagnose", "a.log", "--values", "0"), "Invalid value for '--values'"),
        (("diagnose", "a.log", "--reduction", "max"), "'sum', 'mean', 'mixed'"),
        (("diagnose", "a.log"), "cannot read a.log: No such file or directory"),
    ],
)
def test_wrong_usage_ends_with_code_2(arguments: tuple[str, ...], says: str, run: Run) -> None:
    code, out, err = run(*arguments)
    assert code == 2
    assert says in err
    assert out == ""


@pytest.mark.parametrize("command", ["search", "confirm", "report", "ui"])
def test_broken_study_is_refused_by_every_command(command: str, run: Run, folder: Path) -> None:
    (folder / "broken.yaml").write_text(text(latent_dim="0"))
    code, _, err = run(command, "broken.yaml")
    assert code == 2
    assert "`latent_dim` must be at least 1, got 0" in err
    assert sorted(entry.name for entry in folder.iterdir()) == ["broken.yaml"]


def test_status_looks_at_all_of_a_study_but_its_space(run: Run, folder: Path) -> None:
    (folder / "broken.yaml").write_text(text(budget="{trials: 0}", latent_dim="0"))
    code, _, err = run("status", "broken.yaml")
    assert code == 2
    assert "`budget.trials`" in err
    assert "latent_dim" not in err


def test_log_is_diagnosed_from_a_pipe(
    run: Run, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    log = "".join(
        f"epoch {n} loss={100 + 100 / n} kl=0.002 recon={100 + 100 / n}\n" for n in range(1, 9)
    )
    monkeypatch.setattr(sys, "stdin", io.StringIO(log))
    code, out, _ = run("diagnose", "-")
    assert not code
    assert out.startswith("the standard input 8 epochs, from 1 to 8 ✗ posterior collapse evidence")
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "arguments", [("confirm",), ("status",), ("report",), ("train", "--trial", "0")]
)
def test_study_that_was_never_begun_is_told_how_to_begin(
    arguments: tuple[str, ...], run: Run, folder: Path
) -> None:
    (folder / "tiny.yaml").write_text(text())
    code, _, err = run(arguments[0], "tiny.yaml", *arguments[1:])
    assert code == 2
    assert err == "error: study `tiny` has not begun: run `tune-vae search tiny.yaml` first"
    assert sorted(entry.name for entry in folder.iterdir()) == ["tiny.yaml"]


def test_check_shows_the_study_and_leaves_nothing(run: Run, folder: Path) -> None:
    code, out, err = run("check", str(STUDIES / "digits.yaml"))
    assert (code, err) == (0, "")
    assert "is valid. Nothing was started or left behind." in out
    for stated in (
        "beta_norm 0.001 … 10 (log)",
        "linear(warmup=0.05 … 0.4 (even))",
        "1,297 train, 250 validation, 250 test images of 1×8×8",
        "30 trials × at most 60 epochs of 20 steps",
        "minimise bits_per_dim",
        "ledger sqlite:///mlruns/studies.db: not there yet, can be made",
        "another machine could not go on with this study: it does not reach its ledger, MLflow "
        "and checkpoints",
        "TUNE_VAE_LEDGER",
    ):
        assert stated in out
    assert list(folder.iterdir()) == []


def test_check_tells_each_store_that_does_not_work_and_ends_with_code_4(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "studies.db").write_text("my thesis\n" * 1000)
    monkeypatch.setenv("TUNE_VAE_LEDGER", "sqlite:///studies.db")
    monkeypatch.setenv("TUNE_VAE_CHECKPOINTS", "gopher://me:hunter2@host/vae")
    code, out, _ = run("check", str(STUDIES / "digits.yaml"))
    assert code == 4
    assert "ledger sqlite:///studies.db: DOES NOT WORK: cannot open the ledger" in out
    assert "checkpoints gopher://me:***@host/vae: DOES NOT WORK" in out
    assert "hunter2" not in out
    assert "minimise bits_per_dim" in out
    assert [entry.name for entry in folder.iterdir()] == ["studies.db"]


def test_fault_of_ours_shows_where_it_was_but_no_password(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("cannot parse postgresql://me:hunter2@host/db")

    monkeypatch.setattr(StudySpec, "load", broken)
    code, _, err = run("check", "study.yaml")
    assert code == 1
    assert "Traceback" in err
    assert "RuntimeError: cannot parse postgresql://me:***@host/db" in err
    assert "hunter2" not in err


def test_fork_under_a_name_that_cannot_be_is_refused(run: Run, folder: Path) -> None:
    (folder / "tiny.yaml").write_text(text())
    code, _, err = run("search", "tiny.yaml", "--fork", "../escape")
    assert code == 2
    assert "`study` must be a name of letters" in err
    assert [entry.name for entry in folder.iterdir()] == ["tiny.yaml"]


def test_module_beside_the_command_may_be_named_in_a_study(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "my_networks", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (folder / "my_networks.py").write_text(NETWORK)
    (folder / "own.yaml").write_text(text(network='{"my_networks:Narrow": {width: 3}}'))
    code, out, err = run("check", "own.yaml")
    assert (code, err) == (0, "")
    assert "my_networks:Narrow(width=3)" in out
    (folder / "own.yaml").write_text(text(network="my_networks:Narrow"))
    code, _, err = run("check", "own.yaml")
    assert code == 2
    assert "`my_networks:Narrow.width` is missing" in err
    assert "add `width: …`" in err
    monkeypatch.delitem(sys.modules, "my_networks")


def test_module_beside_the_command_hides_no_library(run: Run, folder: Path) -> None:
    (folder / "yaml.py").write_text("raise RuntimeError('not me')\n")
    (folder / "mine").mkdir()
    (folder / "mine" / "broken.yaml").write_text(text(network="nothing"))
    code, _, err = run("check", "mine/broken.yaml")
    assert code == 2
    assert "unknown network `nothing`" in err
    assert sys.path[-2:] == [str(folder / "mine"), ""]


def test_reader_that_leaves_early_gets_no_traceback(folder: Path) -> None:
    broken = Path(__file__).parents[1] / "broken_studies" / "90_many_problems.yaml"
    told = subprocess.run(
        ["sh", "-c", '"$0" check "$1" 2>&1 | head -1', COMMAND, broken],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert told.stderr == ""
    assert told.stdout.startswith("error: `study` must be a name")
    assert len(told.stdout.splitlines()) == 1
    assert list(folder.iterdir()) == []


def test_console_outlives_its_reader() -> None:
    program = """
import sys
from tune_vae import terminal
out = terminal.console()
for number in range(1000):
    out.print("a line that nobody reads")
print("reached the end", file=sys.stderr)
"""
    started = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    started.stdout.close()
    _, err = started.communicate(timeout=120)
    assert err == "reached the end\n"
    assert started.returncode == 0


def test_threads_leave_the_core_while_they_wait(folder: Path) -> None:
    """Else a command takes many times as long beside a search; OpenMP tells what it goes by."""
    told = subprocess.run(
        [COMMAND, "check", Path(__file__).parents[2] / "studies" / "digits.yaml"],
        env={**os.environ, "OMP_DISPLAY_ENV": "TRUE"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    if "OMP_WAIT_POLICY" not in told.stderr:
        pytest.skip("this PyTorch has another way to its threads")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in told.stderr
