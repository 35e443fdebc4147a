"""The verdicts keep their promises on the stored histories, and above all on those held out."""

import pytest

from tests.benchmarks.verdicts.histories import Run, load
from tests.benchmarks.verdicts.replay import Replayed, Score, replay
from tune_vae.science.health import Limits


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    return load()


@pytest.fixture(scope="module")
def replayed(runs: list[Run]) -> list[Replayed]:
    return [replay(run) for run in runs]


def test_histories_cover_what_they_should(runs: list[Run]) -> None:
    assert len(runs) >= 120
    assert len({run.name for run in runs}) == len(runs)
    assert len({run.schedule for run in runs}) == 6
    labels = [run.label for run in runs]
    assert min(labels.count("collapsed"), labels.count("healthy")) >= 40
    assert labels.count("diverged") >= 20
    assert sum(run.held_out for run in runs) == pytest.approx(len(runs) / 3, rel=0.2)
    assert all(len(run.history) == run.history.epochs for run in runs)


@pytest.mark.parametrize("part", ["tuned on", "held out", "all"])
def test_verdicts_keep_their_promises(replayed: list[Replayed], part: str) -> None:
    score = Score.of(one for one in replayed if part in ("all", _part(one)))
    found, collapsed = score.collapsed_found
    assert found >= 0.98 * collapsed
    found, diverged = score.diverged_found
    assert found == diverged
    stopped, healthy = score.healthy_stopped
    assert stopped <= 0.01 * healthy
    saved, epochs = score.epochs_saved
    assert saved >= 0.7 * epochs


def _part(one: Replayed) -> str:
    return "held out" if one.run.held_out else "tuned on"


def test_hasty_verdicts_break_them(runs: list[Run]) -> None:
    """A sixth of the steps stops trials that end healthy, so the promises can be broken."""
    score = Score.of(replay(run, Limits(steps=40)) for run in runs)
    stopped, healthy = score.healthy_stopped
    assert stopped > 0.01 * healthy


def test_patient_verdicts_break_them_too(runs: list[Run]) -> None:
    """Four times the steps save less than 70 % of the epochs."""
    score = Score.of(replay(run, Limits(steps=1000)) for run in runs)
    saved, epochs = score.epochs_saved
    assert saved < 0.7 * epochs
