"""A search over pictures in files, from the shell."""

import json
from pathlib import Path

import pytest

from tests.searching import Workplace
from tests.unit.data.datasets.samples import SAMPLES

FACES = """
study: faces
data: {celeba: {size: 16, attribute: Smiling, skip_broken: true}}
network: {conv: {channels: [8]}}
latent_dim: 4
search:
  beta_norm: {log_uniform: [0.001, 0.01]}
  likelihood: gaussian
  sigma: {choice: [shared, optimal]}
known_good: false
train: {epochs: 3, batch_size: 4}
budget: {trials: 4, concurrency: 2}
"""


@pytest.mark.slow
def test_search_over_faces_decodes_them_once_and_ends(tmp_path: Path) -> None:
    place = Workplace(tmp_path).write(FACES)
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
    assert "11 train, 5 validation, 7 test images of 3×16×16" in checked.output
    assert "1 left out as broken" in checked.output.replace("\n", " ")
