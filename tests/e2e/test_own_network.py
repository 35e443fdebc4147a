"""The README's network of one's own, exactly as it stands there."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.searching import Workplace, copy_database
from tests.stores import MLFLOW_WARNINGS
from tune_vae.api import check
from tune_vae.science.health import Kind
from tune_vae.service.ledger.looking import read_rows
from tune_vae.spec import components
from tune_vae.spec.study import StudySpec

pytestmark = MLFLOW_WARNINGS

README = Path(__file__).parents[2] / "README.md"
LOAD = """
import sys
from tune_vae import StudySpec, load_vae
StudySpec.load(sys.argv[1])
vae = load_vae(sys.argv[2])
print(type(vae.encoder[2]).__name__, tuple(vae.generate(3).shape))
"""


def files_of(text: str) -> dict[str, str]:
    """Blocks that are headed by the name of a file."""
    return dict(re.findall(r"^```\w+ (\S+\.\w+)\n(.*?)^```$", text, re.M | re.S))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Workplace:
    """The files lie in a folder of their own, and commands run beside it."""
    place = Workplace(tmp_path_factory.mktemp("anywhere"))
    (place.folder / "mine").mkdir()
    for name, body in files_of(README.read_text(encoding="utf-8")).items():
        (place.folder / "mine" / name).write_text(body)
    copy_database(empty_mlflow, place)
    return place


def test_files_of_the_readme_are_complete(place: Workplace) -> None:
    names = {file.name for file in (place.folder / "mine").iterdir()}
    assert names == {"my_nets.py", "own.yaml", "test_my_nets.py"}


def test_test_of_the_readme_passes(place: Workplace) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "mine/test_my_nets.py"],
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert told.returncode == 0, told.stdout
    assert "1 passed" in told.stdout


def test_study_of_the_readme_is_sound(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(components, "_folder", None)
    before = set(place.folder.iterdir())
    report = check(StudySpec.load(place.folder / "mine" / "own.yaml"))
    monkeypatch.delitem(sys.modules, "my_nets")
    assert report.parameters[0] < report.parameters[1]
    assert set(place.folder.iterdir()) == before


@pytest.mark.slow
def test_search_of_the_readme_finds_the_network_from_another_folder(place: Workplace) -> None:
    """In this process, in the desk, and in the workers that train its packs."""
    ended = place.run("search", "mine/own.yaml")
    assert ended.code == 0, ended.output
    assert "my_nets" not in {file.stem for file in place.folder.iterdir()}
    spec = StudySpec.load(place.folder / "mine" / "own.yaml")
    rows = read_rows(replace(spec, storage=spec.storage.at(place.folder)))
    assert rows is not None
    assert len(rows) == 9
    assert {row.kind for row in rows} <= {kind.value for kind in Kind} - {Kind.FAILED.value}
    assert {next(iter(row.config.network)) for row in rows} == {"my_nets:Silu"}
    for first in (1, 5):
        # After a constant of the literature, which runs alone: what a pack has in common.
        pack = rows[first : first + 4]
        assert len({str((row.config.network, row.config.likelihood)) for row in pack}) == 1
        assert len({row.config.beta for row in pack}) == 4
    (healthy, *_) = (row.trial for row in rows if row.kind == Kind.HEALTHY.value)
    best = place.folder / "mlruns" / "checkpoints" / "own-network" / f"{healthy:05d}" / "best.pt"
    told = subprocess.run(
        [sys.executable, "-c", LOAD, place.folder / "mine" / "own.yaml", best],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert told.stdout == "SiLU (3, 1, 8, 8)\n"
