"""Which trial of a real study is exported, and which is not."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.factories import report
from tests.trials import study
from tests.unit.service.fakes import Diary, FakeTracker
from tune_vae import api, cli
from tune_vae.data.datasets.digits import Digits
from tune_vae.errors import (
    CheckpointError,
    DataError,
    ExportError,
    StudyError,
    TrialNotFoundError,
)
from tune_vae.science.health import Kind, Limits, Verdict
from tune_vae.service.journey import TrialResult, run_pack
from tune_vae.service.ledger.optuna_ledger import OptunaLedger
from tune_vae.spec.study import StudySpec
from tune_vae.training.checkpoint import CheckpointStore


def ledger_of(spec: StudySpec) -> OptunaLedger:
    data = Digits().load()
    return OptunaLedger(spec, shape=data.shape, levels=data.levels, digest=data.digest())


def searched(folder: Path, trials: int = 2, **changes: Any) -> StudySpec:
    """A study whose trials have all been trained."""
    spec = study(folder, train={"epochs": 2}, budget={"trials": trials}, **changes)
    ledger, data = ledger_of(spec), Digits().load()
    store = CheckpointStore(Path(spec.storage.checkpoints), spec.name)
    while pack := ledger.ask_pack(1):
        steps = run_pack(
            pack,
            data=data,
            limits=Limits(),
            ledger=ledger,
            tracker=FakeTracker(Diary()),
            store=store,
        )
        for _ in steps:
            pass
    for row in ledger.look()[0]:
        store.publish(row.trial, row.best.epoch if row.best else None)
    return spec


def test_status_is_told_without_torch(folder: Path) -> None:
    """Which takes longer to import than all else that a status needs."""
    spec = searched(folder)
    (folder / "study.yaml").write_text(spec.text)
    program = """
import sys
sys.modules["torch"] = None
from tune_vae.cli import main
main()
"""
    run = subprocess.run(
        [sys.executable, "-c", program, "status", "study.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    assert "2/2 ended" in run.stdout
    assert "best" in run.stdout


def test_winner_is_exported_unless_a_trial_is_named(folder: Path) -> None:
    spec = searched(folder)
    winner = api.results(spec).winner
    assert winner is not None
    done = api.export(spec)
    assert (done.trial, done.obstacle) == (winner.trial, "")
    assert done.folder == folder / "exports" / f"small-{winner.trial:05d}"
    other = 1 - winner.trial
    assert api.export(spec, other, to=folder / "other") == replace(
        done, trial=other, folder=folder / "other"
    )
    for number, place in ((winner.trial, done.folder), (other, folder / "other")):
        best = folder / "checkpoints" / "small" / f"{number:05d}" / "best.pt"
        assert api.load_vae(place).generate(3).equal(api.load_vae(best).generate(3))
    with pytest.raises(ExportError, match="exists already and is left as it is"):
        api.export(spec)
    with pytest.raises(TrialNotFoundError, match="has no trial 7; it has 0 to 1"):
        api.export(spec, 7)


def test_command_says_where_the_model_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = searched(folder, trials=1)
    (folder / "study.yaml").write_text(spec.text)
    monkeypatch.chdir(folder)
    arguments = ["export", "study.yaml", "--trial", "0", "--to", "home"]
    for code, says in ((0, "run python home/model.py"), (2, "error: home exists already")):
        monkeypatch.setattr("sys.argv", ["tune-vae", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        assert ended.value.code == code
        assert says in " ".join((err if code else out).split())
        assert "arning" not in out + err
    card = (folder / "home" / "README.md").read_text(encoding="utf-8")
    assert "\ntune-vae train study.yaml --trial 0\n" in card


def test_without_a_winner_the_front_is_named(folder: Path) -> None:
    spec = searched(folder, objective=["rate_nats", "mse"], pruner="NopPruner")
    front = ", ".join(str(row.trial) for row in api.results(spec).front)
    says = (
        f"has 2 objectives and no single winner; name a trial of its front with --trial: {front}$"
    )
    with pytest.raises(ExportError, match=says):
        api.export(spec)
    assert not (folder / "exports").exists()


def test_study_that_never_began_is_told_how_to_begin(folder: Path) -> None:
    with pytest.raises(StudyError, match="study `small` has not begun"):
        api.export(study(folder))


def test_trial_without_a_best_checkpoint_is_refused_with_its_verdict(folder: Path) -> None:
    spec = study(folder)
    ledger = ledger_of(spec)
    with pytest.raises(ExportError, match="no trial of study `small` has finished; name one with"):
        api.export(spec)
    pack = ledger.ask_pack(1)
    assert pack is not None
    (config,) = pack
    with pytest.raises(ExportError, match="trial 0 is running; it can be exported once it has"):
        api.export(spec, 0)
    last, verdict = report(trial=config.trial), Verdict(Kind.NEVER_FORMED, "latents never used")
    ledger.commit(TrialResult(config.trial, verdict, False, (), None, last))
    says = (
        r"trial 0 has no best checkpoint at .*best\.pt that can be read; "
        "it ended as never formed: latents never"
    )
    with pytest.raises(ExportError, match=says):
        api.export(spec, 0)
    assert not (folder / "exports").exists()


def test_checkpoint_of_another_training_is_refused(folder: Path) -> None:
    spec = searched(folder)
    store = CheckpointStore(folder / "checkpoints", "small")
    Path(store.path(1, "best.pt")).replace(store.path(0, "best.pt"))
    with pytest.raises(CheckpointError, match="is of another training than trial 0 of the study"):
        api.export(spec, 0)
    assert not (folder / "exports").exists()


def test_other_data_than_the_study_began_with_are_refused(folder: Path) -> None:
    spec = searched(folder, trials=1)
    with pytest.raises(DataError, match="the data are not those that study `small` was searched"):
        api.export(replace(spec, data={"digits": {"split_seed": 1}}), 0)
    assert not (folder / "exports").exists()
