"""What the person sees of a search while it runs: how old it may be."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from tune_vae.service import cluster
from tune_vae.service.cluster import DARK_SECONDS, REFRESH_SECONDS, Window


@dataclass(frozen=True)
class Seen:
    """As much of a snapshot as a window needs."""

    ended: tuple[int, ...]
    remarks: tuple[int, ...] = ()


class Desk:
    """Answers each look after so many seconds, the next of which is the last one's again.

    Arguments:
        seconds: Of the looks.
        ends: When trials end.
    """

    def __init__(self, *seconds: float, ends: Sequence[float] = ()) -> None:
        self.now = 0.0
        self._seconds: Iterator[float] = iter(seconds)
        self._last = 0.0
        self._ends = ends
        self.snapshot = SimpleNamespace(remote=self._asked)

    def _asked(self, since: int, told: int) -> tuple[float, int, int]:
        self._last = next(self._seconds, self._last)
        return self.now + self._last, since, told

    def wait(
        self, asked: list[tuple[float, int, int]], timeout: float
    ) -> tuple[list[Any], list[Any]]:
        done = [one for one in asked if one[0] <= self.now]
        return done, [one for one in asked if one not in done]

    def get(self, asked: tuple[float, int, int]) -> Seen:
        answered, since, told = asked
        self.now = max(self.now, answered)
        over = [trial for trial, end in enumerate(self._ends) if end <= answered]
        # Of each second trial something is remarked when it ends.
        return Seen(tuple(over[since:]), tuple(over[1::2][told:]))


def shown(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, *, until: float
) -> tuple[Window, list[tuple[float, Seen]]]:
    """A window that had ten turns a second, and what was shown when."""
    looks: list[tuple[float, Seen]] = []
    monkeypatch.setattr(cluster, "ray", desk)
    monkeypatch.setattr(cluster.time, "monotonic", lambda: desk.now)
    window = Window(desk, lambda snapshot: looks.append((desk.now, snapshot)))
    turns(window, desk, until)
    return window, looks


def turns(window: Window, desk: Desk, until: float) -> None:
    while desk.now < until:
        window.refresh()
        desk.now += 0.1


def shown_at(desk: Desk, monkeypatch: pytest.MonkeyPatch, *, until: float) -> list[float]:
    _, looks = shown(desk, monkeypatch, until=until)
    return [when for when, _ in looks]


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


@pytest.mark.parametrize("until", [9.9, 10.0, 10.1, 10.2, 10.3, 10.4, 10.5])
def test_each_end_is_shown_once_though_it_is_looked_at_while_the_search_closes(
    until: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(0.25, ends=[1.0, 2.0, 9.8, 10.0])
    window, looks = shown(desk, monkeypatch, until=until)
    desk.now = 10.5
    final = window.finish()
    assert final.ended == final.remarks == ()
    turns(window, desk, 15)
    assert looks[-1][0] > 13
    assert [trial for _, look in looks for trial in look.ended] == [0, 1, 2, 3]
    assert [trial for _, look in looks for trial in look.remarks] == [1, 3]
