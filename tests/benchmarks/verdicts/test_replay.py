"""The verdicts keep their promises on the stored histories, and above all on those held out."""

import math

import pytest

from tests.benchmarks.verdicts.foretold import ratios
from tests.benchmarks.verdicts.histories import Run, load
from tests.benchmarks.verdicts.replay import Replayed, Score, replay, split
from tune_vae.data.datasets.digits import Digits
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
    assert min(labels.count("collapsed"), labels.count("healthy")) >= 50
    assert labels.count("diverged") >= 20
    assert sum(run.held_out for run in runs) == pytest.approx(len(runs) / 3, rel=0.2)
    assert all(len(run.history) == run.history.epochs for run in runs)


@pytest.mark.parametrize("part", ["wide, tuned on", "wide, **held out**", "all"])
def test_verdicts_keep_their_promises(replayed: list[Replayed], part: str) -> None:
    score = Score.of(dict(split(replayed))[part])
    found, collapsed = score.collapsed_found
    assert found >= 0.98 * collapsed
    found, diverged = score.diverged_found
    assert found == diverged
    stopped, healthy = score.healthy_stopped
    assert stopped <= 0.01 * healthy
    saved, epochs = score.epochs_saved
    assert saved >= 0.7 * epochs


@pytest.mark.parametrize("part", ["edge, tuned on", "edge, **held out**"])
def test_no_late_bloomer_is_stopped_near_the_collapse_point(
    replayed: list[Replayed], part: str
) -> None:
    """One of these healthy trials is silent for 880 of its 1200 steps, another for 540."""
    stopped, healthy = Score.of(dict(split(replayed))[part]).healthy_stopped
    assert healthy >= 5
    assert stopped == 0


def test_hasty_verdicts_break_them(runs: list[Run]) -> None:
    """So the promises can be broken: fewer steps, and no waiting for a scale to settle."""
    hasty = Limits(steps=100, settled_log_sigma=math.inf)
    stopped, healthy = Score.of(replay(run, hasty) for run in runs).healthy_stopped
    assert stopped > 0.01 * healthy


def test_patient_verdicts_break_them_too(runs: list[Run]) -> None:
    """Four times the steps save less than 70 % of the epochs."""
    score = Score.of(replay(run, Limits(steps=1000)) for run in runs)
    saved, epochs = score.epochs_saved
    assert saved < 0.7 * epochs


def test_what_is_foretold_dead_was_and_with_a_margin(runs: list[Run]) -> None:
    found = ratios(runs, {"digits": Digits().load()})
    assert len({one.decoder for one in found}) == 4
    beyond = [one.label for one in found if one.ratio > Limits().foretold]
    assert beyond.count("collapsed") >= 25
    assert not {"healthy", "marginal"} & set(beyond)
    living = [one.ratio for one in found if one.label in ("healthy", "marginal")]
    # Were the point twice as large, it would be sound as well, and foretell little.
    assert 0.7 < max(living) < Limits().foretold / 1.5
