"""What the person sees of a search while it runs: how old it may be."""

from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from tune_vae.service import cluster
from tune_vae.service.cluster import DARK_SECONDS, REFRESH_SECONDS, Window


class Desk:
    """Answers each look after so many seconds, the next of which is the last one's again."""

    def __init__(self, *seconds: float) -> None:
        self.now = 0.0
        self._seconds: Iterator[float] = iter(seconds)
        self._last = 0.0
        self.snapshot = SimpleNamespace(remote=self._asked)

    def _asked(self, since: int) -> float:
        self._last = next(self._seconds, self._last)
        return self.now + self._last

    def wait(self, asked: list[float], timeout: float) -> tuple[list[float], list[float]]:
        done = [answered for answered in asked if answered <= self.now]
        return done, [answered for answered in asked if answered not in done]

    def get(self, answered: float) -> Any:
        return SimpleNamespace(ended=(), at=answered)


def shown_at(desk: Desk, monkeypatch: pytest.MonkeyPatch, *, until: float) -> list[float]:
    """When something was shown, with ten turns a second."""
    shown: list[float] = []
    monkeypatch.setattr(cluster, "ray", desk)
    monkeypatch.setattr(cluster.time, "monotonic", lambda: desk.now)
    window = Window(desk, lambda snapshot: shown.append(desk.now))
    while desk.now < until:
        window.refresh()
        desk.now += 0.1
    return shown


def gaps(shown: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(shown)]


def test_desk_that_starts_slowly_is_looked_at_at_once_when_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, *later = shown_at(Desk(8.0, 0.01), monkeypatch, until=20)
    assert first == pytest.approx(8.0, abs=0.2)
    assert max(gaps([first, *later])) < REFRESH_SECONDS + 0.5


def test_look_that_takes_long_is_seldom_taken_but_never_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quarter = gaps(shown_at(Desk(0.25), monkeypatch, until=20)[1:])
    assert min(quarter) > 5 * 0.25
    long = gaps(shown_at(Desk(3.0), monkeypatch, until=60)[1:])
    assert max(long) < 3.0 + DARK_SECONDS + 0.5
