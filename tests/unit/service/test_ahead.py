"""When a pack is drawn before a worker wants it, and that none is lost or given twice."""

import threading
from collections.abc import Iterator

import pytest

from tune_vae.errors import StudyError
from tune_vae.service import ahead
from tune_vae.service.ahead import Ahead, Drawn


class Source:
    """Draws packs that are told apart by their attempts, each in as many seconds as it is told."""

    def __init__(self, *, seconds: float = 0.0, last: int = 1000) -> None:
        self.clock, self.seconds, self.drawn, self.last = 0.0, seconds, 0, last
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def __call__(self) -> Drawn | None:
        assert self.gate.wait(10)
        if self.error:
            raise self.error
        if self.drawn == self.last:
            return None
        self.clock += self.seconds
        self.drawn += 1
        return Drawn([object()], {self.drawn: 0})  # type: ignore[list-item]


@pytest.fixture(autouse=True)
def _threads_end() -> Iterator[None]:
    yield
    settle()


def settle() -> None:
    for thread in threading.enumerate():
        if thread.name == "ahead":
            thread.join(10)


def number(drawn: Drawn | None) -> int | None:
    return next(iter(drawn.attempts)) if drawn else None


def searched(
    source: Source, monkeypatch: pytest.MonkeyPatch, *, workers: int, span: float, rounds: int
) -> tuple[list[int | None], int]:
    """What workers got in turn, each after so many seconds; and how often nobody waited."""
    monkeypatch.setattr(ahead.time, "monotonic", lambda: source.clock)
    of, got, at_once = Ahead(source), [], 0
    for _ in range(rounds):
        for worker in range(workers):
            drawn = of.take(f"worker {worker}")
            at_once += drawn is not None
            got.append(number(drawn or of.now()))
            of.prepare()
            settle()
        source.clock += span
    return got, at_once


def busy(source: Source, monkeypatch: pytest.MonkeyPatch) -> Ahead:
    """Of two workers, one of which has come for its second pack; drawing ahead pays."""
    monkeypatch.setattr(ahead.time, "monotonic", lambda: source.clock)
    of = Ahead(source)
    for worker in ("a", "b", "a"):
        of.take(worker)
        of.now()
    return of


@pytest.mark.parametrize(
    ("workers", "seconds", "span", "at_once"),
    [
        # Each but those before the length of a pack is known.
        (2, 0.1, 2.0, 5),
        (3, 0.1, 9.0, 8),
        # A hundredth of their time is not worth a result less.
        (2, 0.1, 11.0, 0),
        # What a lone worker gets shall not hang on how fast it was.
        (1, 1.0, 2.0, 0),
    ],
)
def test_packs_are_drawn_ahead_of_several_workers_that_would_wait_too_long(
    workers: int, seconds: float, span: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = searched(Source(seconds=seconds), monkeypatch, workers=workers, span=span, rounds=4)
    assert found == (list(range(1, 4 * workers + 1)), at_once)


def test_who_asks_while_it_is_drawn_gets_that_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Source(seconds=0.1)
    of = busy(source, monkeypatch)
    source.gate.clear()
    before = source.drawn
    of.prepare()
    assert of.take("a") is None
    while not of._drawing.locked():
        pass
    threading.Timer(0.05, source.gate.set).start()
    assert number(of.now()) == before + 1
    assert source.drawn == before + 1


def test_nothing_is_kept_when_there_is_nothing_and_then_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    got, at_once = searched(
        Source(seconds=0.1, last=5), monkeypatch, workers=2, span=1.0, rounds=4
    )
    assert got == [1, 2, 3, 4, 5, None, None, None]
    assert at_once == 2


def test_fault_of_a_draw_is_told_to_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(seconds=0.1)
    of = busy(source, monkeypatch)
    source.error = StudyError("all broke")
    of.prepare()
    settle()
    assert of.take("b") is None
    with pytest.raises(StudyError, match="all broke"):
        of.now()


def test_nothing_is_drawn_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(seconds=0.1)
    of = busy(source, monkeypatch)
    of.close()
    done: list[bool] = []
    of.prepare(lambda: done.append(True))
    settle()
    assert (source.drawn, done) == (3, [True])
