"""That a pack is still worth it, by a factor that only a gross loss can miss; and the tables."""

import math
import statistics
from dataclasses import replace

import pytest
import torch

from tests.benchmarks.speed import peer
from tests.benchmarks.speed.peer import Epoch, Search, table
from tests.benchmarks.speed.step import NETWORKS, Form, measure, peak_bytes

CPU = torch.device("cpu")
EXPECTED = 2.0
"""Of a pack of 8 against single trials, on the digits; on a busy machine it is less."""


def test_pack_of_eight_is_worth_it_on_the_digits(capsys: pytest.CaptureFixture[str]) -> None:
    single, pack = Form(1), Form(8)
    told = measure(NETWORKS["mlp, 8×8"], [single, pack], CPU, rounds=7)
    ratios = [a / b for a, b in zip(told[pack], told[single], strict=True)]
    with capsys.disabled():
        low, high = min(ratios), max(ratios)
        print(f"\npack of 8 against single trials: {statistics.median(ratios):.2f} times", end=" ")
        print(f"the images a second ({low:.2f} to {high:.2f})")
    assert statistics.median(ratios) > EXPECTED / 2


@pytest.mark.slow
def test_pack_takes_less_memory_than_its_members_alone() -> None:
    kind = NETWORKS["3 convolutions, 32×32"]
    single, pack = (peak_bytes(kind, Form(k), CPU) for k in (1, 8))
    assert 0 < pack < 8 * single


def search(arm: str, wall: float, *values: float) -> Search:
    """Epochs of a second each, two trials at a time, one value in each."""
    epochs = [
        Epoch(n % 2, n // 2 + 1, 4.0 + n // 2, 1.0 + n / 1e6, v) for n, v in enumerate(values)
    ]
    return Search(arm, 0, wall, 2 * wall, 2, epochs)


def test_time_that_a_pack_spends_is_counted_once() -> None:
    one = search("tune-vae", 10.0, 3.0, 2.5, math.nan, 2.0)
    assert one.outside == pytest.approx(1 - 4 / 20, abs=1e-5)
    together = replace(one, epochs=[replace(epoch, seconds=1.25) for epoch in one.epochs])
    assert together.outside == pytest.approx(1 - 1.25 / 20)
    assert (one.trials, one.finished, one.best) == (2, 2, 2.0)
    assert one.begins == pytest.approx(3.0, abs=1e-5)
    assert [one.reaches(value) for value in (2.6, 2.0, 1.0)] == [4.0, 5.0, math.inf]


def test_pause_is_from_the_end_of_a_trial_to_the_next_where_a_worker_was_free_last() -> None:
    spans = [(0.0, 4.0), (0.0, 6.0), (4.5, 7.0), (7.25, 9.0), (9.5, 10.0)]
    epochs = [Epoch(n, 1, end, end - begin, 2.0) for n, (begin, end) in enumerate(spans)]
    assert replace(search("Ray", 10.0), epochs=epochs).pauses == [0.5, 0.25, 0.5]


def test_ratios_are_of_what_ran_with_the_same_seed() -> None:
    ours, theirs = search("tune-vae", 10.0, 2.0, 3.0), search("Ray", 35.0, 3.0, 3.0, 2.5, 2.75)
    lines = list(table([ours, replace(theirs, seed=1), theirs]))
    assert [line for line in lines if line.startswith("| Ray |")][-1] == (
        "| Ray | tune-vae | 3.50 | 3.50 | 5, 4 | 1.25 |"
    )


def test_what_was_run_comes_back(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "RESULTS", tmp_path / "peer.jsonl")
    made = search("Ray", 35.25, 3.0, 2.5)
    peer.save(made)
    peer.save(replace(made, seed=1))
    first, second = peer.load()
    assert first.epochs[1].bits_per_dim == 2.5
    assert replace(second, seed=0, epochs=()) == replace(made, epochs=())
