"""MLflow's pages of a small study as a person sees them, in a real Chromium.

`uv run pytest -m browser` takes some three minutes, most of which MLflow's pages use. With
`TUNE_VAE_SCREENSHOTS=FOLDER` it keeps a picture of each page there.
"""

import os
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import window
from tests.browser.window import drawn, see
from tests.stores import MLFLOW_WARNINGS, empty_ledger, empty_mlflow, empty_stores
from tests.trials import DIGEST, LEVELS, SHAPE, study
from tune_vae import api
from tune_vae.data import Splits
from tune_vae.service import views
from tune_vae.service.desk import DataFacts, Desk
from tune_vae.service.journey import run_pack
from tune_vae.spec.study import StudySpec
from tune_vae.terminal.note import note
from tune_vae.training.checkpoint import CheckpointStore

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from playwright.sync_api import BrowserContext, Page

__all__ = ["empty_ledger", "empty_mlflow", "empty_stores"]

pytestmark = [pytest.mark.browser, MLFLOW_WARNINGS]

TRIALS, EPOCHS = 4, 8
TRAINING = "workflowType=machine_learning"


@dataclass(frozen=True)
class Shown:
    """A study that has ended, and the server that shows it.

    Arguments:
        link: What `tune-vae ui` printed.
        experiment: Its id.
        runs: Ids of the trials' runs, by number.
        finished: A trial that ran all its epochs.
        study_run: Id of the study's own run.
    """

    link: str
    experiment: str
    runs: dict[int, str]
    finished: int
    study_run: str
    client: "MlflowClient"

    @property
    def server(self) -> str:
        return self.link.partition("/#")[0]


def searched(folder: Path, data: Splits) -> StudySpec:
    """Four trials that ended, one of them collapsed for sure, with a report."""
    made = study(
        folder,
        search={"beta_norm": {"choice": [0.003, 0.01, 0.03, 3000.0]}, "lr": 3e-3},
        sampler="BruteForceSampler",
        pruner="NopPruner",
        health={"foretold": 0, "steps": 8},
        train={"epochs": EPOCHS},
        budget={"trials": TRIALS},
    )
    (folder / "study.yaml").write_text(made.text)
    spec = StudySpec.load(folder / "study.yaml")
    store = CheckpointStore(spec.storage.checkpoints, spec.name)
    desk = Desk(spec, DataFacts(SHAPE, LEVELS, DIGEST))
    while pack := desk.ask():
        for _ in run_pack(
            pack, data=data, limits=spec.health, ledger=desk, tracker=desk, store=store
        ):
            pass
    assert desk.close(note(desk.snapshot(0)))
    _, trouble = api.report(spec)
    assert not trouble
    return spec


@pytest.fixture(scope="module")
def shown(empty_stores: Path, few_digits: Splits) -> Iterator[Shown]:
    spec = searched(empty_stores, few_digits)
    from mlflow import MlflowClient

    client = MlflowClient(spec.storage.tracking)
    experiment = client.get_experiment_by_name(spec.name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (study_run,) = [run for run in runs if run.data.tags["tune_vae.kind"] == "study"]
    of = {int(run.data.tags["tune_vae.trial"]): run for run in runs if run is not study_run}
    with window.served(Path(spec.file)) as link:
        yield Shown(
            link=link,
            experiment=experiment.experiment_id,
            runs={trial: run.info.run_id for trial, run in of.items()},
            finished=max(t for t, run in of.items() if run.data.tags["state"] == "complete"),
            study_run=study_run.info.run_id,
            client=client,
        )


@pytest.fixture(scope="module")
def browser() -> Iterator["BrowserContext"]:
    pytest.importorskip("playwright", reason="needs the package playwright")
    if window.browser_program() is None:
        pytest.skip(f"needs a browser on the path, one of {', '.join(window.NAMES)}")
    with window.browser(1700, 1100) as opened:
        yield opened


@pytest.fixture
def page(browser: "BrowserContext", request: pytest.FixtureRequest) -> Iterator["Page"]:
    page = browser.new_page()
    yield page
    folder = os.environ.get("TUNE_VAE_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{request.node.name}.png")
    page.close()


def test_ui_prints_the_link_of_the_leaderboard(shown: Shown) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", shown.server)
    assert shown.link == f"{shown.server}/{views.view_link(shown.experiment)}"


def test_leaderboard_ranks_the_trials_and_says_what_is_best(page: "Page", shown: Shown) -> None:
    page.goto(f"{shown.server}/{views.view_link(shown.experiment)}")
    see(page, "1 Leaderboard", "score/bits_per_dim", "beta_norm", "healthy", f"{TRIALS} matching")
    see(page, "Best", "Curves", "Decoders", "Report")


def test_curves_and_drawings_of_all_trials_stand_together(page: "Page", shown: Shown) -> None:
    page.goto(f"{shown.server}/{views.view_link(shown.experiment, views.CURVES)}")
    see(page, "1 Is it learning?", "val/bits_per_dim", "health/active_units")
    page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for()
    page.get_by_text("3 What it draws").scroll_into_view_if_needed()
    drawn(page, "reconstructions", EPOCHS)
    drawn(page, "samples", EPOCHS)


def test_reasons_stand_beside_the_trials(page: "Page", shown: Shown) -> None:
    page.goto(f"{shown.server}/{views.view_link(shown.experiment, views.WHY)}")
    see(page, "3 Why trials ended", "verdict", "never_formed")


def test_trials_are_grouped_by_decoder(page: "Page", shown: Shown) -> None:
    page.goto(f"{shown.server}/{views.view_link(shown.experiment, views.DECODERS)}")
    see(page, "4 Best of each decoder", "gauss-opt")


def test_view_of_repeats_is_there_when_there_are_none(page: "Page", shown: Shown) -> None:
    page.goto(f"{shown.server}/{views.view_link(shown.experiment, views.SEEDS)}")
    see(page, "5 Finalists with other seeds")


def run_page(shown: Shown, run: str, tab: str = "") -> str:
    place = f"experiments/{shown.experiment}/runs/{run}{tab}"
    return f"{shown.server}/#/{place}?{TRAINING}"


def test_page_of_a_trial_has_its_verdict_and_how_to_train_it_again(
    page: "Page", shown: Shown
) -> None:
    page.goto(run_page(shown, shown.runs[shown.finished]))
    see(page, "tune-vae train", "digits", "beta_norm", f"{shown.finished:03d}-")


def test_page_of_a_trial_shows_its_drawings_by_step(page: "Page", shown: Shown) -> None:
    page.goto(run_page(shown, shown.runs[shown.finished], "/model-metrics"))
    see(page, "drawn/reconstructions", "drawn/traversals")
    for key in ("reconstructions", "samples", "traversals"):
        drawn(page, key, 0)
    # The one of the first card; an arrow goes on to the next step with an image.
    slider = page.get_by_role("slider").first
    slider.scroll_into_view_if_needed()
    slider.focus()
    for step in (1, 2, 4, EPOCHS):
        slider.press("ArrowRight")
        drawn(page, "reconstructions", step)


def test_models_page_lists_the_best_checkpoints_with_their_scores(
    page: "Page", shown: Shown
) -> None:
    page.goto(f"{shown.server}/#/experiments/{shown.experiment}/models?{TRAINING}")
    see(page, f"{shown.finished:03d}-best", "Ready", "val/bits_per_dim", f"digits (#{DIGEST})")


def test_report_is_shown_inside_mlflow(page: "Page", shown: Shown) -> None:
    page.goto(run_page(shown, shown.study_run, "/artifacts/report/index.html"))
    frame = page.frame_locator("iframe").first
    frame.get_by_text("Why each trial ended").first.wait_for()
    frame.locator("img").first.wait_for()


def test_pictures_of_the_report_are_served(shown: Shown) -> None:
    files = shown.client.list_artifacts(shown.study_run, "report")
    pictures = [file.path for file in files if file.path.endswith(".png")]
    assert pictures
    address = f"{shown.server}/get-artifact?path={pictures[0]}&run_uuid={shown.study_run}"
    with urllib.request.urlopen(address) as answer:
        assert answer.read(8) == b"\x89PNG\r\n\x1a\n"
