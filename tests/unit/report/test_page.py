"""The page: whole, self-contained, and of every kind of study."""

import base64
import functools
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from tests.factories import history, report
from tests.trials import trial_config
from tests.unit.report import studies
from tests.unit.snapshots import spec
from tune_vae.data import Splits
from tune_vae.errors import StorageError
from tune_vae.report.conclusions import findings
from tune_vae.report.evidence import gather
from tune_vae.report.page import Written, write
from tune_vae.science.health import Kind, judge
from tune_vae.service.journey import history_of
from tune_vae.service.results import StudyResults
from tune_vae.service.rows import TrialRow
from tune_vae.spec.study import StudySpec
from tune_vae.training.checkpoint import CheckpointStore
from tune_vae.training.trainer import Trainer


class Page(HTMLParser):
    """A page as its reader has it: tags that match, words, pictures."""

    void = ("meta", "img", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.words: list[str] = []
        self.headings: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in self.void:
            self.open.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["h2"]:
            self.headings.append(data)
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(written: Written) -> Page:
    return Page(written.page.read_text(encoding="utf-8"))


STUDIES = {
    "clear winner": studies.clear_winner,
    "tie": studies.tie,
    "all collapsed": studies.all_collapsed,
    "front": studies.front,
    "begun": studies.begun,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Written]:
    """The reports of the studies, each written once."""
    folder = tmp_path_factory.mktemp("reports")
    return functools.cache(lambda name: write(STUDIES[name](), None, folder / "new" / name))


@pytest.mark.parametrize("name", STUDIES)
def test_page_says_every_conclusion_and_needs_nothing_else(
    name: str, written: Callable[[str], Written]
) -> None:
    made, found = STUDIES[name](), written(name)
    html, page = found.page.read_text(encoding="utf-8"), page_of(found)
    for finding in findings(made):
        assert " ".join(str(finding).split()) in page.text
        assert finding.claim in found.summary
    assert not page.tags & {"script", "link", "iframe", "a"}
    assert not re.search(r"https?://|@import|url\(", html)
    assert len(html) < 3_000_000
    assert sorted(entry.name for entry in found.page.parent.iterdir()) == sorted(
        ["index.html", *(file.name for file in found.pictures)]
    )


def test_every_picture_is_embedded_as_it_lies_beside_the_page_and_told_in_words(
    written: Callable[[str], Written],
) -> None:
    files = [file.read_bytes() for file in written("clear winner").pictures]
    images = page_of(written("clear winner")).images
    assert len(images) == len(files) >= 4
    for image in images:
        kind, _, data = (image["src"] or "").partition(",")
        assert kind == "data:image/png;base64"
        png = base64.b64decode(data)
        assert png in files
        width, height = struct.unpack(">II", png[16:24])
        assert width > 500
        assert height > 300
        assert len(image["alt"] or "") > 30


def test_study_of_one_objective_has_its_tables_and_one_of_two_its_front(
    written: Callable[[str], Written],
) -> None:
    one, two = page_of(written("clear winner")), page_of(written("front"))
    assert {"Best trials", "Best of each decoder"} <= set(one.headings)
    assert "tune-vae train " in one.text
    assert "--trial 3" in one.text
    assert "The front" in two.headings
    assert not {"Best trials", "Best of each decoder"} & set(two.headings)


def test_study_that_all_collapsed_shows_how_and_no_best(
    written: Callable[[str], Written],
) -> None:
    found = written("all collapsed")
    assert {file.stem for file in found.pictures} == {"curves", "every_trial", "sigmas"}
    page = page_of(found)
    assert "Best trials" not in page.headings
    assert "Why each trial ended" in page.headings
    assert "What it does not know" not in page.text


def test_why_a_trial_ended_is_told_with_the_course_of_its_verdicts(
    written: Callable[[str], Written],
) -> None:
    made, page = studies.clear_winner(), page_of(written("clear winner"))
    for row in made.results.ended:
        assert row.reason in page.text
    (hopeless,) = (row for row in made.results.ended if row.kind == "hopeless")
    limits, history = made.spec.health, made.histories[hopeless.trial]
    assert {judge(history.until(n), limits).kind for n in range(1, 11)} == {Kind.HEALTHY}
    assert "epochs: healthy 1–10 → hopeless" in page.text


def test_words_of_an_error_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    words = "RuntimeError: <script>alert('x')</script> & $\\alpha$ {{ study }}"
    broken = replace(studies.dead(0, Kind.FAILED), reason=words)
    page = page_of(write(replace(studies.evidence([broken]), histories={}), None, tmp_path))
    assert "script" not in page.tags
    assert words in page.text


def test_report_that_is_there_is_replaced_by_equal_pictures_for_an_equal_study(
    written: Callable[[str], Written], tmp_path: Path
) -> None:
    write(studies.begun(), None, tmp_path)
    again = write(studies.all_collapsed(), None, tmp_path)
    assert "No trial finished healthy" in page_of(again).text
    assert not list(tmp_path.glob(".*"))
    before = written("all collapsed").pictures
    assert [file.read_bytes() for file in again.pictures] == [f.read_bytes() for f in before]


def test_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write the report into"):
        write(studies.begun(), None, tmp_path / "file")


def test_numbers_that_are_not_finite_are_drawn_around(tmp_path: Path) -> None:
    nan = float("nan")
    rows = []
    for row in studies.tie().results.rows:
        best = replace(row.best, bits_per_dim=nan) if row.best else None
        rows.append(replace(row, best=best))
    lost = studies.dead(5, Kind.DIVERGED)
    assert lost.last is not None
    last = replace(lost.last, rate_nats=nan, mse=nan, sigma=nan, bits_per_dim_calibrated=nan)
    made = studies.evidence([*rows, replace(lost, last=last)])
    histories = made.histories | {5: history([report(1), replace(last, epoch=2)])}
    made = replace(made, histories=histories)
    assert not made.proper
    page = page_of(write(made, None, tmp_path))
    assert "calibrated Gaussian, which every likelihood has" in page.text


def trained(data: Splits, folder: Path, **changes: object) -> tuple[StudySpec, list[TrialRow]]:
    """Two trials of two epochs each, the second collapsed, with their checkpoints."""
    made = replace(
        spec(train="{epochs: 2}", storage=f"{{checkpoints: {folder}/checkpoints}}"), name="small"
    )
    store, rows = CheckpointStore(folder / "checkpoints", made.name), []
    for trial, beta_norm in enumerate((0.01, 1e3)):
        config = trial_config(
            trial,
            epochs=2,
            beta_norm=beta_norm,
            shape=data.shape,
            levels=data.levels,
            study=made.name,
            **changes,
        )
        trainer = Trainer([config.member()], data)
        reports = [one for (one,) in trainer]
        state = trainer.state(trial) | {"reports": [one.to_dict() for one in reports]}
        store.save_last(trial, state)
        if not trial:
            store.save_best(trial, state)
        last = history_of(config, state).last
        kind = Kind.COLLAPSED if trial else Kind.HEALTHY
        values = () if trial else (last.bits_per_dim,)
        rows.append(
            TrialRow(config, "ended", not trial, kind.value, "so", values, last, last, last.epoch)
        )
    return made, rows


def results(rows: list[TrialRow]) -> StudyResults:
    return StudyResults("small", ("bits_per_dim",), 2, rows)


def test_real_models_are_drawn_the_best_beside_a_collapsed_one(
    few_digits: Splits, tmp_path: Path
) -> None:
    made, rows = trained(few_digits, tmp_path)
    evidence = gather(made, results(rows))
    assert [len(history) for history in evidence.histories.values()] == [2, 2]
    written = write(evidence, few_digits, tmp_path / "report")
    names = {file.stem for file in written.pictures}
    assert {"trial_000", "trial_001", "latent_rates", "latent_scatter", "sigmas"} <= names
    page = page_of(written)
    assert "Trial 0, the best." in page.text
    assert "Trial 1, collapsed." in page.text


def test_counts_have_no_images_but_all_else(tmp_path: Path) -> None:
    counts = torch.poisson(torch.full((192, 1, 1, 12), 5.0)).int()
    data = Splits(counts[:128], counts[128:160], counts[160:], levels=None)
    made, rows = trained(data, tmp_path, likelihood={"poisson": {}}, sigma=None)
    names = {
        file.stem
        for file in write(gather(made, results(rows)), data, tmp_path / "report").pictures
    }
    assert not any(name.startswith("trial_") for name in names)
    assert {"rate_distortion", "curves", "latent_rates", "latent_scatter"} <= names


def test_checkpoints_of_another_study_of_that_name_or_torn_ones_are_left_out(
    few_digits: Splits, tmp_path: Path
) -> None:
    made, rows = trained(few_digits, tmp_path)
    other = replace(rows[0], config=rows[0].config.model_copy(update={"lr": 0.5}))
    store = CheckpointStore(tmp_path / "checkpoints", made.name)
    torn = Path(store.files(1, "last")[0])
    torn.write_bytes(torn.read_bytes()[:1000])
    evidence = gather(made, results([other, rows[1]]))
    assert evidence.histories == {}
    assert evidence.model(other) is None
    written = write(evidence, few_digits, tmp_path / "report")
    assert {file.stem for file in written.pictures} == {"rate_distortion", "latent_rates"}
