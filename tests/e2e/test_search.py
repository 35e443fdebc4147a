"""`tune-vae search` from the shell, with real Ray, Optuna and MLflow."""

import math
import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from mlflow.artifacts import download_artifacts
from optuna.trial import TrialState

import tune_vae
from tests import leaky_nets
from tests.searching import Ended, Workplace, copy_database, kill, wait_until
from tests.stores import MLFLOW_WARNINGS
from tune_vae.service.ledger.optuna_ledger import OptunaLedger
from tune_vae.service.rows import TrialRow
from tune_vae.spec.study import StudySpec

pytestmark = MLFLOW_WARNINGS

# Every combination once: a learning rate of 1e12 diverges, whatever else is chosen, and a
# beta_norm of 1000 collapses unless it does. 40 steps make an epoch, 250 a collapse.
SMALL = """
study: small
data: digits
network: {mlp: {hidden: [32]}}
latent_dim: 4
search:
  beta_norm: {choice: [0.01, 0.03, 1000.0]}
  likelihood: gaussian
  sigma: optimal
  schedule: {choice: [constant]}
  lr: {choice: [0.003, 0.005, 0.01, 1.0e+12]}
sampler: BruteForceSampler
pruner: NopPruner
train: {epochs: 20, batch_size: 32}
budget: {trials: 12}
"""

# A sigma of 1e-25 has a variance that no float holds, so that its whole pack diverges. In
# bfloat16 the network leaks.
PACKS = """
study: packs
data: digits
network: {"leaky_nets:Leaky": {only_bfloat16: true}}
latent_dim: 4
search:
  beta_norm: {choice: [0.01, 1000.0]}
  likelihood: gaussian
  sigma: {choice: [optimal, {fixed: {sigma: 1.0e-25}}]}
  lr: {log_uniform: [0.002, 0.01]}
sampler: RandomSampler
pruner: NopPruner
train: {epochs: 20, batch_size: 32, pack: 4, seed: 2, precision: bfloat16}
budget: {trials: 8}
health: {foretold: 0}
"""

BROKEN = """
study: broken
data: digits
network: {"broken_nets:Late": {}}
latent_dim: 4
search: {beta_norm: {log_uniform: [0.01, 1]}, likelihood: gaussian}
train: {epochs: 24}
budget: {trials: 12}
"""

BROKEN_NETS = '''
from dataclasses import dataclass

from torch import nn

from tune_vae.data import Dataset
from tune_vae.science.networks import Network
from tune_vae.science.networks.mlp import Mlp


class Layer(nn.Module):
    def forward(self, x):
        if x.device.type != "meta":
            raise KeyError("the third layer is missing")
        return x


@dataclass(frozen=True)
class Late(Network):
    """Can be built, and fails at the first image."""

    def build(self, shape, latent_dim, params_per_value):
        encoder, decoder = Mlp().build(shape, latent_dim, params_per_value)
        return nn.Sequential(Layer(), encoder), decoder


@dataclass(frozen=True)
class Early(Network):
    """Cannot even be built."""

    def build(self, shape, latent_dim, params_per_value):
        return nn.Linear(shape["height"], 8), None


@dataclass(frozen=True)
class Lost(Dataset):
    """Images that are not there."""

    def load(self):
        return open("/nowhere/images.npy")
'''


@pytest.fixture(scope="module")
def searches(
    tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path
) -> Iterator[dict[str, tuple[Workplace, Ended]]]:
    """Searches that ran side by side to their ends."""
    texts = {"small": SMALL, "packs": PACKS, "broken": BROKEN, "changed": SMALL}
    places = {
        name: Workplace(tmp_path_factory.mktemp(name)).write(text) for name, text in texts.items()
    }
    (places["broken"].folder / "broken_nets.py").write_text(BROKEN_NETS)
    shutil.copy(leaky_nets.__file__, places["packs"].folder)
    begin_with_another_space(places["changed"])
    # The first makes its databases itself.
    for name in ("packs", "broken"):
        copy_database(empty_mlflow, places[name])
    started = {name: place.search() for name, place in places.items()}
    try:
        yield {name: (place, place.wait(started[name])) for name, place in places.items()}
    finally:
        for process in started.values():
            kill(process)


def begin_with_another_space(place: Workplace) -> None:
    values = yaml.safe_load(SMALL)
    values["search"]["lr"] = 0.003
    spec = replace(StudySpec.parse(yaml.safe_dump(values)), storage=place.spec.storage)
    images = spec.dataset().load()
    OptunaLedger(spec, shape=images.shape, levels=images.levels, digest=images.digest())


@pytest.fixture(scope="module")
def small(searches: dict[str, tuple[Workplace, Ended]]) -> Workplace:
    return searches["small"][0]


@pytest.fixture(scope="module")
def ended(searches: dict[str, tuple[Workplace, Ended]]) -> Ended:
    return searches["small"][1]


def expected_kind(row: TrialRow) -> str:
    config = row.config
    if config.lr > 1 or config.sigma == {"fixed": {"sigma": 1e-25}}:
        return "diverged"
    return "never_formed" if config.beta_norm > 100 else "healthy"


def test_search_ends_with_a_best_trial_and_exit_code_0(ended: Ended) -> None:
    assert ended.code == 0, ended.output
    assert "Traceback" not in ended.output
    assert "Warning" not in ended.output


def test_every_trial_ends_as_its_configuration_must(small: Workplace) -> None:
    rows = small.rows()
    assert {(row.config.beta_norm, row.config.lr) for row in rows} == {
        (beta_norm, lr) for beta_norm in (0.01, 0.03, 1000.0) for lr in (0.003, 0.005, 0.01, 1e12)
    }
    assert [(row.config.beta_norm, row.config.lr, row.kind) for row in rows] == [
        (row.config.beta_norm, row.config.lr, expected_kind(row)) for row in rows
    ]
    kinds = [row.kind for row in rows]
    assert (kinds.count("never_formed"), kinds.count("diverged")) == (3, 3)
    assert all(row.ended and row.attempts == 1 for row in rows)


def test_collapsed_and_diverged_trials_are_stopped_before_a_third_of_their_epochs(
    small: Workplace,
) -> None:
    stopped = [row for row in small.rows() if row.kind in ("never_formed", "diverged")]
    assert len(stopped) == 6
    assert [row.epoch for row in stopped if not row.epoch < row.config.epochs / 3] == []


def test_health_rules_stop_no_healthy_trial(small: Workplace) -> None:
    healthy = [row for row in small.rows() if expected_kind(row) == "healthy"]
    assert len(healthy) == 6
    assert all(row.finished and row.epoch == row.config.epochs for row in healthy)


def test_reason_of_a_stop_names_what_was_seen_and_what_to_change(small: Workplace) -> None:
    for row in small.rows():
        if row.kind == "never_formed":
            assert "latents never used" in row.reason
            assert "try at most" in row.reason
        if row.kind == "diverged":
            assert "not finite" in row.reason
            assert "lower learning rate" in row.reason
            assert "Rolled back already: lost at step" in row.reason


def test_optuna_is_told_how_trials_ended_and_has_none_that_runs(small: Workplace) -> None:
    states = {
        "healthy": TrialState.COMPLETE,
        "never_formed": TrialState.PRUNED,
        "diverged": TrialState.PRUNED,
    }
    told = {row.number: row for row in small.optuna_rows()}
    assert len(told) == 12
    for row in small.rows():
        assert told[row.trial].state is states[row.kind]
        assert bool(told[row.trial].constraints) is (row.kind != "healthy")


def test_mlflow_has_a_run_for_each_trial_and_one_for_the_study(small: Workplace) -> None:
    small.assert_shown_exactly_once()
    (study,) = small.runs("study")
    assert study.info.status == "FINISHED"
    assert small.client.list_artifacts(study.info.run_id)[0].path == "study.yaml"
    experiment = small.client.get_experiment_by_name("small")
    assert experiment is not None
    assert experiment.tags["mlflow.note.content"].startswith("**Best ")


def test_lost_trials_are_rolled_back_once_and_their_pages_say_so(small: Workplace) -> None:
    for row, run in zip(small.rows(), small.runs(), strict=True):
        assert row.last is not None
        lost = row.kind == "diverged"
        assert row.last.rollbacks == lost
        assert row.last.lr == row.config.lr / (2 if lost else 1)
        assert run.data.tags.get("rollbacks") == ("1" if lost else None)
        assert ("lost at step 2 in epoch 1" in run.data.tags["mlflow.note.content"]) == lost


def test_best_trial_is_printed_with_all_that_makes_it(small: Workplace, ended: Ended) -> None:
    rows = small.rows()
    winner = min((row for row in rows if row.finished), key=lambda row: row.values)
    told = ended.output.partition("Best: ")[2]
    assert told.startswith(f"trial {winner.trial} with {winner.values[0]:.4f}")
    assert "bits per dim" in told.splitlines()[0]
    facts = dict(
        line.strip().split(maxsplit=1) for line in told.splitlines() if line.startswith("  ")
    )
    assert facts["beta_norm"].startswith(f"{winner.config.beta_norm:.4g} ")
    assert facts["schedule"] == "constant"
    assert facts["likelihood"] == "gaussian"
    assert "sigma mode  optimal" in told


def test_counts_and_next_steps_are_printed(ended: Ended) -> None:
    end = ended.output.partition("Best: ")[2]
    assert "healthy 6" in end
    assert "never formed 3" in end
    assert "diverged 3" in end
    assert "of 12 trials" in end
    assert "tune-vae ui study.yaml" in end
    assert "tune-vae report study.yaml" in end
    assert "raise budget.trials" in end


def test_every_verdict_is_a_line_of_the_log(small: Workplace, ended: Ended) -> None:
    for row in small.rows():
        (line,) = re.findall(rf"^\[ ?\d+/12\] +{row.trial} .*$", ended.output, re.MULTILINE)
        assert row.kind.replace("_", " ") in line
        assert row.reason in line


def test_best_checkpoint_in_mlflow_opens_and_scores_as_recorded(
    small: Workplace, tmp_path: Path
) -> None:
    winner = min((row for row in small.rows() if row.finished), key=lambda row: row.values)
    (run,) = [run for run in small.runs() if run.data.tags["tune_vae.trial"] == str(winner.trial)]
    models = small.client.search_logged_models(
        [run.info.experiment_id], f"source_run_id = '{run.info.run_id}'"
    )
    (best,) = [model for model in models if model.name.endswith("-best")]
    file = download_artifacts(
        artifact_uri=f"{best.artifact_location}/best.pt", dst_path=str(tmp_path)
    )
    assert tune_vae.load_vae(file).generate(2).shape == (2, 1, 8, 8)
    scores = tune_vae.validate(file)
    assert winner.best is not None
    assert scores["bits_per_dim"] == pytest.approx(winner.values[0], rel=1e-4)
    assert run.data.metrics["score/bits_per_dim"] == pytest.approx(winner.values[0], rel=1e-4)
    for name in ("rate_nats", "distortion_nats", "mse", "bits_per_dim_calibrated"):
        assert scores[name] == pytest.approx(winner.best.value(name), rel=1e-4)


def test_no_process_is_left_and_nothing_is_written_elsewhere(small: Workplace) -> None:
    small.assert_nothing_is_left_running()
    assert {entry.name for entry in small.folder.iterdir()} == {
        "home",
        "mlruns",
        "output.txt",
        "study.yaml",
    }


def test_packs_end_as_their_configurations_must(
    searches: dict[str, tuple[Workplace, Ended]],
) -> None:
    place, ended = searches["packs"]
    assert ended.code == 0, ended.output
    rows = place.rows()
    assert len(rows) == 8
    assert [(row.trial, row.kind) for row in rows] == [
        (row.trial, expected_kind(row)) for row in rows
    ]
    # The sigma of later ones depends on who is first: a second worker draws one, and in places
    # that have become free in the pack of the first, trials follow that have its own.
    assert {row.kind for row in rows} >= {"healthy", "never_formed"}
    assert len({str(row.config.sigma) for row in rows[:4]}) == 1
    assert len({row.config.lr for row in rows}) == 8
    place.assert_shown_exactly_once()
    place.assert_nothing_is_left_running()


def test_precision_that_would_leak_is_left_and_the_terminal_says_so(
    searches: dict[str, tuple[Workplace, Ended]],
) -> None:
    place, ended = searches["packs"]
    (line,) = {one for one in ended.output.splitlines() if "in a pack of 4" in one}
    assert line.startswith(
        "note: packs train in torch.float32: in a pack of 4, a NaN in one trial"
    )
    assert "bfloat16" in line
    assert {row.config.precision for row in place.rows()} == {"bfloat16"}


def test_network_that_fails_is_told_in_a_sentence(
    searches: dict[str, tuple[Workplace, Ended]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, ended = searches["broken"]
    monkeypatch.syspath_prepend(place.folder)
    assert ended.code == 2, ended.output
    assert "Traceback" not in ended.output
    last = ended.output.splitlines()[-1]
    assert last.startswith("error: the last ")
    assert "trials all broke" in last
    assert "KeyError: 'the third layer is missing' (broken_nets.py:14)" in last
    rows = place.rows()
    assert 5 <= len(rows) < 12
    assert all(row.kind == "failed" for row in rows)
    assert {run.info.status for run in place.runs()} == {"FAILED"}
    place.assert_nothing_is_left_running()


def test_study_whose_space_was_changed_is_refused_in_a_sentence(
    searches: dict[str, tuple[Workplace, Ended]],
) -> None:
    place, ended = searches["changed"]
    assert ended.code == 2, ended.output
    assert "Traceback" not in ended.output
    last = ended.output.splitlines()[-1]
    assert last.startswith("error: study `small` was begun with something else")
    assert "search.lr: 0.003 → " in last
    assert "tune-vae search study.yaml --fork NEW-NAME" in last
    assert place.rows() == []
    place.assert_nothing_is_left_running()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "broken_nets:Lost"}, "/nowhere/images.npy"),
        ({"network": "broken_nets:Early"}, "no model for images of 1×8×8"),
    ],
)
def test_code_of_the_user_that_fails_at_once_is_told_before_anything_begins(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    place = Workplace(tmp_path).write(BROKEN, **changes)
    (place.folder / "broken_nets.py").write_text(BROKEN_NETS)
    ended = place.run("search", "study.yaml")
    assert ended.code == 2, ended.output
    assert "Traceback" not in ended.output
    assert "error: " in ended.output
    assert message in ended.output
    assert not (place.folder / "mlruns").exists()


def test_interrupted_search_saves_and_goes_on(tmp_path: Path, empty_mlflow: Path) -> None:
    place = Workplace(tmp_path).write(
        SMALL,
        search={"beta_norm": 0.01, "lr": {"log_uniform": [0.001, 0.01]}},
        sampler="RandomSampler",
        budget={"trials": 3},
        # So long that one cannot end between the signal and its arrival.
        train={"epochs": 60},
    )
    copy_database(empty_mlflow, place)
    process = place.search()
    wait_until(
        lambda: (
            place.count("state = 'COMPLETE'") >= 1
            and any(5 <= epochs <= 20 for epochs in place.epochs().values())
        ),
        what="one trial ended and another under way",
        process=process,
    )
    # As the terminal does: to the whole group.
    os.killpg(process.pid, signal.SIGINT)
    ended = place.wait(process)
    assert ended.code == 130, ended.output
    assert "Traceback" not in ended.output
    assert "tune-vae search study.yaml" in ended.output
    place.assert_nothing_is_left_running()
    before = {row.trial: row for row in place.rows()}
    finished = {trial for trial, row in before.items() if row.ended}
    under_way = {trial for trial, row in before.items() if row.state == "waiting"}
    assert finished
    assert under_way
    assert max(before[trial].epoch for trial in under_way) > 0

    again = place.run("search", "study.yaml")
    assert again.code == 0, again.output
    rows = place.rows()
    assert [row.trial for row in rows if row.ended] == [row.trial for row in rows]
    assert len(rows) == 3
    for row in rows:
        if row.trial in finished:
            assert repr(row) == repr(before[row.trial])
        assert row.attempts == (2 if row.trial in under_way else 1)
        assert math.isfinite(row.values[0])
    place.assert_shown_exactly_once()
    place.assert_nothing_is_left_running()
