"""Batches are the same wherever the images lie, and on a CPU nothing is copied."""

from pathlib import Path

import pytest
import torch

from tests.factories import member
from tune_vae.data import Splits
from tune_vae.data.datasets.synthetic import Synthetic
from tune_vae.data.prepared import prepared
from tune_vae.data.preparing import Recipe
from tune_vae.training import feeding, trainer
from tune_vae.training.feeding import batches, placed, streamed
from tune_vae.training.trainer import Trainer


def order(members: int, steps: int, batch: int, images: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(images, generator=generator) for _ in range(members)]
    return torch.stack(orders)[:, : steps * batch].view(members, steps, batch)


@pytest.fixture(scope="module")
def data() -> Splits:
    return Synthetic(size=16, examples=300, validation=50, test=50).load()


@pytest.fixture
def mapped(data: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Splits:
    """The same from a prepared file."""
    monkeypatch.setenv("TUNE_VAE_CACHE", str(tmp_path))
    whole = torch.cat([data.train, data.validation, data.test]).numpy()
    recipe = Recipe("test", "key", (1, 16, 16), len(whole), lambda position: whole[position])
    return prepared(recipe).splits([200, 50, 50], levels=256, labels=None)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("steps", [1, 2, 3, 12])
def test_streamed_batches_are_those_of_the_device(
    members: int, steps: int, data: Splits, device: torch.device
) -> None:
    order_KTB = order(members, steps, 16, 200)
    near = batches(data.train.to(device), order_KTB, device)
    far = streamed(data.train, order_KTB, device)
    expected = [data.train[order_KTB[:, step]] for step in range(steps)]
    for one, other, truth in zip(near, far, expected, strict=True):
        assert one.device.type == other.device.type == device.type
        assert torch.equal(one.cpu(), truth)
        assert torch.equal(other.cpu(), truth)


def test_batches_can_be_left_early(data: Splits, device: torch.device) -> None:
    first = next(streamed(data.train, order(1, 12, 16, 200), device))
    assert first.shape == (1, 16, 1, 16, 16)


def test_cpu_trains_on_the_mapped_file_itself(mapped: Splits) -> None:
    training = Trainer([member()], mapped)
    assert training._train.data_ptr() == mapped.train.data_ptr()
    assert training._validation.data_ptr() == mapped.validation.data_ptr()
    assert placed(mapped.train, torch.device("cpu")).data_ptr() == mapped.train.data_ptr()


def test_training_is_the_same_from_memory_from_a_file_and_streamed(
    data: Splits, mapped: Splits, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def curve(images: Splits) -> list[float]:
        members = [member(trial, epochs=2) for trial in range(2)]
        training = Trainer(members, images, device=device)
        return [report.neg_elbo for reports in training for report in reports]

    resident = curve(data)
    assert len(set(resident)) == 4
    assert curve(mapped) == resident
    # Nothing fits; on a CPU, where nothing has to, the stream is asked for by hand.
    monkeypatch.setattr(feeding, "SHARE", 0.0)
    if device.type == "cpu":
        monkeypatch.setattr(trainer, "batches", streamed)
    assert curve(mapped) == resident


def test_gpu_takes_what_fits_and_leaves_the_rest(
    data: Splits, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device.type != "cuda":
        pytest.skip("asks a GPU for its memory")
    assert placed(data.train, device).device.type == "cuda"
    monkeypatch.setattr(feeding, "SHARE", 0.0)
    assert placed(data.train, device) is data.train
