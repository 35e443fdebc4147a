"""FID and KID by the real library, with weights drawn at random in place of trained ones.

All but the refusals that need no library are skipped where torch-fidelity is not installed.
"""

import builtins
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tune_vae.errors import TuneVaeError
from tune_vae.science.samples import frechet_distance
from tune_vae.service.inception import InceptionDistances, inception_distances

COUNT = 12


def images(channels: int = 3, seed: int = 0, count: int = COUNT) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 256, (count, channels, 8, 8), generator=generator)
    return noise.to(torch.uint8)


def network(weights: Path | None = None) -> Any:
    """The library's own network; with random weights unless some are given."""
    inception = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    return inception.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights)
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    inception = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    file = tmp_path_factory.mktemp("weights") / "random.pth"

    class Untrained(inception.FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict: Any) -> None:
            """Keep what the layers were built with."""

    torch.save({}, file)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained = Untrained("untrained", ["2048"], feature_extractor_weights_path=str(file))
    # As He et al. (2015) scale them; torch's own would fade to 1e-8 through so many layers.
    state = {
        name: value * 6**0.5 if value.ndim == 4 else value
        for name, value in untrained.state_dict().items()
    }
    torch.save(state, file)
    return file


@pytest.fixture(scope="module")
def features(weights: Path) -> tuple[Tensor, Tensor]:
    """Of some grey images, and of as many others in colour."""
    with torch.no_grad():
        grey, colour = images(1).repeat(1, 3, 1, 1), images(3, 1)
        inception = network(weights)
        return inception(grey)[0].double(), inception(colour)[0].double()


@pytest.fixture(scope="module")
def found(weights: Path, device: torch.device) -> InceptionDistances:
    """Of the same images; the library takes half a minute to decompose 2048 x 2048 values."""
    return inception_distances(images(1), images(3, 1), weights=weights, device=device)


@pytest.mark.slow
def test_fid_is_the_frechet_distance_of_the_networks_features(
    features: tuple[Tensor, Tensor], found: InceptionDistances
) -> None:
    assert found.fid > 0.01
    assert found.fid == pytest.approx(frechet_distance(*features).item(), rel=1e-3)


@pytest.mark.slow
def test_kid_is_the_unbiased_discrepancy_of_the_networks_features(
    features: tuple[Tensor, Tensor], found: InceptionDistances
) -> None:
    """With all images in each subset, the subsets are one."""

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / 2048 + 1) ** 3

    a, b = features
    others = ~torch.eye(COUNT, dtype=torch.bool)
    expected = kernel(a, a)[others].mean() + kernel(b, b)[others].mean() - 2 * kernel(a, b).mean()
    assert found.kid == pytest.approx(expected.item(), rel=1e-3)
    assert found.kid > 1e-5
    assert found.kid_spread < 1e-3 * found.kid


@pytest.mark.parametrize("missing", ["default", "given"])
def test_absent_weights_are_named_and_not_downloaded(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch_fidelity")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_: pytest.fail("downloads"))
    name = "weights-inception-2015-12-05-6726825d.pth"
    given = None if missing == "default" else tmp_path / "mine.pth"
    expected = given or tmp_path / "checkpoints" / name
    with pytest.raises(TuneVaeError) as caught:
        inception_distances(images(), images(), weights=given)
    for part in (f"expected at {expected}.", name, "96 MB", "6726825d"):
        assert part in str(caught.value)
    assert not any(tmp_path.iterdir())


def test_the_stated_size_is_that_of_the_networks_weights(weights: Path) -> None:
    assert round(weights.stat().st_size / 1e6) == 96


def test_another_file_under_the_librarys_name_is_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    file.parent.mkdir()
    file.symlink_to(weights)
    with pytest.raises(TuneVaeError, match=r"its SHA-256 begins with .{8}, not 6726825d"):
        inception_distances(images(), images())


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harmed"),)


@pytest.mark.parametrize("content", ["code", "text", "nothing"])
def test_a_file_that_holds_no_weights_is_refused_and_runs_nothing(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch_fidelity")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "weights.pth"
    if content == "code":
        torch.save({"weight": Harm()}, file)
    else:
        file.write_text("no weights" if content == "text" else "")
    with pytest.raises(TuneVaeError, match="holds no weights of a network, or more than that"):
        inception_distances(images(), images(), weights=file)
    assert not Path("harmed").exists()
    if content == "code":
        with pytest.raises(pickle.UnpicklingError):
            torch.load(file, weights_only=True)


def test_without_the_library_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("torch_fidelity"):
            raise ImportError(name)
        return real_import(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TuneVaeError, match=r"pip install 'tune-vae\[fid\]'"):
        inception_distances(images(), images())


@pytest.mark.parametrize(
    "wrong", [images().float(), images()[0], images(2), images()[:, :, 0]], ids=lambda t: t.shape
)
def test_what_is_not_an_image_of_levels_is_refused(wrong: Tensor) -> None:
    with pytest.raises(ValueError, match="images must be uint8, from 0 to 255"):
        inception_distances(wrong, wrong)


@pytest.mark.parametrize(("real", "generated"), [(12, 11), (1, 1)])
def test_unequal_or_tiny_sets_are_refused(real: int, generated: int) -> None:
    with pytest.raises(ValueError, match=f"got {real} real and {generated} generated"):
        inception_distances(images(count=real), images(count=generated))
