"""A search over pictures in files, from the shell."""

import json
from pathlib import Path

import pytest

from tests.searching import Workplace
from tests.unit.data.datasets.samples import SAMPLES

STUDY = Path(__file__).parents[2] / "studies" / "celeba.yaml"


@pytest.mark.slow
def test_study_of_faces_decodes_them_once_and_ends(tmp_path: Path) -> None:
    """The study itself, with 24 faces, less of everything."""
    place = Workplace(tmp_path).write(
        STUDY.read_text(),
        data={"celeba": {"size": 64, "crop": 148, "attribute": "Smiling", "skip_broken": True}},
        train={"epochs": 2, "batch_size": 4},
        budget={"trials": 4, "concurrency": 2},
    )
    SAMPLES["celeba"](tmp_path / "data")
    (tmp_path / "data" / "celeba" / "img_align_celeba" / "000002.jpg").write_bytes(b"")
    ended = place.run("search", "study.yaml")
    assert ended.code in (0, 3), ended.output
    assert [row.ended for row in place.rows()] == [True] * 4
    assert ended.output.count("celeba: preparing 24 examples once") == 1
    assert "celeba: 1 of them left out as broken" in ended.output
    (ready,) = (tmp_path / "home" / "cache" / "tune_vae").glob("celeba-*/ready.json")
    assert list(json.loads(ready.read_text())["broken"]) == ["1"]
    assert "23" not in ended.output.partition("preparing")[0]
    checked = place.run("check", "study.yaml")
    assert "11 train, 5 validation, 7 test images of 3×64×64" in checked.output
    assert "1 left out as broken" in checked.output.replace("\n", " ")
