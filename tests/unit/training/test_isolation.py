"""Whether members of a pack reach each other is found out before they train."""

import warnings
from collections.abc import Iterator

import pytest
import torch

from tests.factories import member
from tests.leaky_nets import Leaky
from tune_vae.data import Splits
from tune_vae.errors import Remark
from tune_vae.training import isolation
from tune_vae.training.isolation import LeakError, ensure_isolated, leaks
from tune_vae.training.trainer import PRECISIONS, Trainer, build_vae

SHAPE = (1, 8, 8)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    isolation._sound.clear()
    yield
    isolation._sound.clear()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_sound_pack_is_found_sound(precision: str) -> None:
    vae = build_vae(member(0, precision=precision), SHAPE)
    assert not leaks(vae, size=3, batch=8)


def test_gradient_that_reaches_another_member_is_a_leak() -> None:
    vae = build_vae(member(0, network=Leaky()), SHAPE)
    assert leaks(vae, size=3, batch=8)
    with pytest.raises(LeakError, match=r"in a pack of 3, a NaN .* \(cpu, torch.float32, torch "):
        ensure_isolated("leaky", vae, size=3, batch=8)


def test_precision_that_leaks_is_left_for_float32_and_that_is_said() -> None:
    one = member(0, network=Leaky(only_bfloat16=True), precision="bfloat16")
    for _ in range(2):
        vae = build_vae(one, SHAPE)
        with pytest.warns(Remark, match=r"train in torch.float32: .* pack of 3.*torch.bfloat16"):
            ensure_isolated("leaky", vae, size=3, batch=8)
        assert vae.precision is None
    alone = build_vae(one, SHAPE)
    ensure_isolated("leaky", alone, size=1, batch=8)
    assert alone.precision is torch.bfloat16


def test_precision_that_leaks_in_float32_too_is_refused() -> None:
    vae = build_vae(member(0, network=Leaky(), precision="bfloat16"), SHAPE)
    with pytest.raises(LeakError, match=r"torch\.float32"):
        ensure_isolated("leaky", vae, size=3, batch=8)


def test_each_size_that_a_pack_shrinks_to_is_tried_out(
    few_digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        isolation, "leaks", lambda vae, *, size, batch: size == 2 and vae.precision is not None
    )
    members = [member(k, epochs=3, precision="bfloat16") for k in range(3)]
    trainer = Trainer(members, few_digits)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        next(epochs := iter(trainer))
    trainer.retire(1)
    with pytest.warns(Remark, match="in a pack of 2"):
        next(epochs)


def test_single_trial_needs_no_trial_run() -> None:
    ensure_isolated("leaky", build_vae(member(0, network=Leaky()), SHAPE), size=1, batch=8)


def test_combination_is_tried_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[int, int]] = []

    def note(vae: object, *, size: int, batch: int) -> bool:
        tried.append((size, batch))
        return False

    monkeypatch.setattr(isolation, "leaks", note)
    vae = build_vae(member(0), SHAPE)
    for size, batch in [(2, 8), (2, 8), (4, 8), (2, 16), (4, 8)]:
        ensure_isolated("sound", vae, size=size, batch=batch)
    assert tried == [(2, 8), (4, 8), (2, 16)]


def test_trainer_refuses_a_pack_that_leaks_and_trains_its_members_alone(
    few_digits: Splits,
) -> None:
    members = [member(k, network=Leaky(), epochs=1) for k in range(2)]
    with pytest.raises(LeakError):
        Trainer(members, few_digits)
    for one in members:
        ((report,),) = Trainer([one], few_digits)
        assert report.finite
