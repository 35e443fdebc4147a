"""A recorded step does what the step does. The recorder of these tests runs it again instead."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.factories import member
from tests.unit.training.states import same
from tests.unit.training.test_pack import KNOBS, batch, build
from tune_vae.data import Splits
from tune_vae.errors import Remark
from tune_vae.science.sigmas.optimal import Optimal
from tune_vae.training import lookout, trainer
from tune_vae.training.capture import captured
from tune_vae.training.pack import Pack, fresh_row
from tune_vae.training.trainer import Trainer

WARM_UP = 3


def record(whole: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """As a CUDA graph: a few steps, then one place for the result, whatever is replayed."""
    for _ in range(WARM_UP):
        whole()
    place = whole()

    def replay() -> Tensor:
        return place.copy_(whole())

    return replay


def members(count: int = 3) -> Pack:
    # The running scale of this mode is a buffer, which a step changes.
    vaes = [build(seed, sigma=Optimal()) for seed in range(count)]
    return Pack(vaes[0], [fresh_row(vae) for vae in vaes], [KNOBS] * count)


def rows(of: Pack) -> list[object]:
    return [of.row(k) for k in range(of.size)]


@pytest.mark.parametrize("count", [1, 3])
def test_recorded_steps_equal_steps(digits: Splits, count: int) -> None:
    plain, other = members(count), members(count)
    step = captured(other, batch(digits, count), record)
    assert same(rows(plain), rows(other)), "the recording left a trace"
    told = []
    for seed in range(4):
        given = batch(digits, count, seed)
        told.append((plain.step(*given), step(*given)))
    assert same(rows(plain), rows(other))
    # The results of earlier steps are not those of the last.
    for expected, found in told:
        assert torch.equal(expected, found)


def test_state_stays_where_the_recording_found_it(digits: Splits) -> None:
    one = members()
    step = captured(one, batch(digits, 3), record)
    places = [tensor.data_ptr() for tensor in one.tensors()]
    step(*batch(digits, 3, 1))
    assert [tensor.data_ptr() for tensor in one.tensors()] == places


def test_what_cannot_be_recorded_is_run_as_it_is_and_said(digits: Splits) -> None:
    plain, other = members(), members()

    def refuse(whole: Callable[[], Tensor]) -> Callable[[], Tensor]:
        whole()
        raise RuntimeError("operation not permitted when stream is capturing\nand so on")

    with pytest.warns(Remark, match="no CUDA graph of a step.*: operation not permitted"):
        step = captured(other, batch(digits, 3), refuse)
    given = batch(digits, 3)
    assert torch.equal(plain.step(*given), step(*given))
    assert same(rows(plain), rows(other))


def test_want_of_memory_is_no_reason_to_go_on(digits: Splits) -> None:
    def refuse(whole: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        captured(members(), batch(digits, 3), refuse)


def test_recorded_trainings_equal_trainings_also_when_members_retire(
    few_digits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def curves() -> list[object]:
        told: list[object] = []
        run = Trainer([member(k, seed=k, epochs=2 + k) for k in range(3)], few_digits)
        for reports in run:
            told.append([(r.trial, r.epoch, r.train_rate_nats, r.bits_per_dim) for r in reports])
            told.append([run.state(r.trial) for r in reports])
        return told

    plain = curves()
    recorded: list[int] = []

    def on_any_device(one: Pack, example: tuple[Tensor, ...]) -> Callable[..., Tensor]:
        recorded.append(one.size)
        return captured(one, example, record)

    monkeypatch.setattr(trainer, "captured", on_any_device)
    assert same(plain, curves())
    assert recorded == [3, 2, 1]


class Reads(TorchDispatchMode):
    """Notes where the host asks the device for a number, which on a GPU waits for all before."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select"):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("count", [1, 3])
def test_no_step_of_an_epoch_asks_the_device_for_a_number(
    few_digits: Splits, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Tensor] = []

    def send(flag: Tensor) -> Callable[[], bool]:
        sent.append(flag)
        return lambda: True

    # On a GPU this copies and does not wait, which `test_lookout` looks at.
    monkeypatch.setattr(lookout, "_sent_for", send)
    run = iter(Trainer([member(k, seed=k, batch_size=8) for k in range(count)], few_digits))
    next(run)
    with Reads() as reads:
        next(run)
    assert reads.found == []
    assert sent
    with Reads() as reads:
        float(torch.ones(()).sum())
    assert reads.found == ["_local_scalar_dense"]
