"""A worker without Ray: what it asks of the desk, in which order, and what it waits for."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.trials import LEVELS, SHAPE, study
from tests.unit.spec.choosers import RandomChooser
from tune_vae.science.health import Kind, Verdict
from tune_vae.service import crew
from tune_vae.service.journey import Decision
from tune_vae.spec.trial import TrialConfig

Given = tuple[list[TrialConfig], dict[int, int]] | None


class Desk:
    """Its methods answer what was laid ready, at once; `calls` are their names."""

    def __init__(self, **ready: list[Any]) -> None:
        self.ready, self.calls = ready, list[str]()

    def __getattr__(self, name: str) -> Any:
        def remote(*given: Any) -> Any:
            self.calls.append(name)
            waiting = self.ready.get(name)
            return waiting.pop(0) if waiting else None

        return SimpleNamespace(remote=remote)


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew.ray, "get", lambda answer: answer)
    monkeypatch.setattr(crew.ray, "wait", lambda refs, **_: ([], refs))
    monkeypatch.setattr(crew.ray, "get_gpu_ids", list)
    monkeypatch.setattr(crew, "_pass_on_remarks", lambda desk: None)
    monkeypatch.setattr(crew._Pulse, "_beat", lambda self: None)
    monkeypatch.setattr(crew._Worker, "trial_id", "one")


def pack(*trials: int, epochs: int = 1) -> Given:
    spec = study(train={"epochs": epochs})
    configs = [
        TrialConfig.of(
            spec, spec.draw(RandomChooser(trial)), trial=trial, shape=SHAPE, levels=LEVELS
        )
        for trial in trials
    ]
    return configs, dict.fromkeys(trials, 0)


def worker(desk: Desk, tmp_path: Path) -> Any:
    made = crew._Worker.__new__(crew._Worker)
    made.setup({}, study(tmp_path), desk)
    return made


def test_new_worker_trains_what_was_drawn_ahead_of_it(tmp_path: Path) -> None:
    stop = Decision(stop=True, verdict=Verdict(Kind.HOPELESS, "others are better"))
    desk = Desk(take=[pack(7)], report=[stop], holds=[True])
    one = worker(desk, tmp_path)
    assert one._take_pack()
    one._train()
    assert "fail" not in desk.calls
    one._train()
    assert one._pack == []
    assert desk.calls.count("commit") == 1
    assert "give" not in desk.calls


def test_pack_that_has_no_room_is_told_and_its_trials_are_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_pack(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")
        yield

    monkeypatch.setattr(crew, "run_pack", run_pack)
    desk = Desk(take=[pack(7, 8), pack(9)])
    one = worker(desk, tmp_path)
    assert one._take_pack()
    one._train()
    assert desk.calls == ["take", "remark", "fail"]
    assert one._take_pack()
    one._train()
    assert desk.calls[3:] == ["take", "fail"]


def test_worker_asks_for_a_draw_when_all_is_written_of_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(give=[pack(3), ([], {}), None])
    one = worker(desk, tmp_path)
    waited: list[list[str]] = []

    def get(answer: Any) -> Any:
        if answer == ["an end"]:
            waited.append([*desk.calls])
        return answer

    monkeypatch.setattr(crew.ray, "get", get)
    one._ends.append("an end")
    assert one._take_pack()
    assert one._pack[0].trial == 3
    assert waited == [["take"]]
    assert one._ends == []
    assert one._take_pack()
    assert one._pack == []
    assert not one._take_pack()


def test_worker_does_not_wait_for_an_end_when_a_pack_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(take=[pack(4)])
    one = worker(desk, tmp_path)
    one._ends.append("an end")
    assert one._take_pack()
    assert (desk.calls, one._ends) == (["take"], ["an end"])
