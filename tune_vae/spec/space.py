"""What a study leaves open: fixed values, ranges and choices, nested as the file nests them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Auto", "Call", "Choice", "Fixed", "Node", "Range", "Suggest"]


class Suggest(Protocol):
    """Who chooses. One call per open value, each with a name of its own."""

    def choice(self, name: str, labels: Sequence[str]) -> str: ...

    def real(self, name: str, low: float, high: float, *, log: bool) -> float: ...

    def integer(self, name: str, low: int, high: int, *, log: bool) -> int: ...


@dataclass(frozen=True)
class Fixed:
    """One value."""

    value: Any

    def draw(self, name: str, suggest: Suggest) -> Any:
        return self.value

    def examples(self) -> Iterator[Any]:
        """Values that together reach every bound and every option below this node."""
        yield self.value

    @property
    def open(self) -> bool:
        """Whether there is anything to choose."""
        return False

    def describe(self) -> str:
        """One line for a person."""
        return _short(self.value)


@dataclass(frozen=True)
class Auto:
    """A range whose bounds the data will tell; see `StudySpec.with_bounds`."""

    def draw(self, name: str, suggest: Suggest) -> Any:
        return suggest.real(name, 0.0, math.inf, log=False)

    def examples(self) -> Iterator[Any]:
        # Any value that is allowed: of bounds nothing is known yet.
        yield 1.0

    @property
    def open(self) -> bool:
        return True

    def describe(self) -> str:
        return "auto"


@dataclass(frozen=True)
class Range:
    """All numbers between two bounds, both included.

    Arguments:
        low, high: Bounds, low below high.
        log: Whether equal ratios are equally likely, instead of equal differences.
        whole: Whether only whole numbers are meant.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def draw(self, name: str, suggest: Suggest) -> Any:
        if self.whole:
            return suggest.integer(name, int(self.low), int(self.high), log=self.log)
        return suggest.real(name, self.low, self.high, log=self.log)

    def examples(self) -> Iterator[Any]:
        yield self.low
        yield self.high

    @property
    def open(self) -> bool:
        return True

    def describe(self) -> str:
        kind = "whole, " if self.whole else ""
        return f"{_short(self.low)} … {_short(self.high)} ({kind}{'log' if self.log else 'even'})"


@dataclass(frozen=True)
class Call:
    """A component with arguments, some of which may be open.

    Arguments:
        name: Name or import path of the component.
        arguments: By name.
    """

    name: str
    arguments: tuple[tuple[str, "Node"], ...] = ()

    def draw(self, name: str, suggest: Suggest) -> dict[str, Any]:
        prefix = f"{name}.{self.name}"
        return {
            self.name: {key: node.draw(f"{prefix}.{key}", suggest) for key, node in self.arguments}
        }

    def examples(self) -> Iterator[Any]:
        columns = {key: list(node.examples()) for key, node in self.arguments}
        length = max((len(column) for column in columns.values()), default=1)
        for row in range(length):
            yield {self.name: {key: column[row % len(column)] for key, column in columns.items()}}

    @property
    def open(self) -> bool:
        return any(node.open for _, node in self.arguments)

    def describe(self) -> str:
        inner = ", ".join(f"{key}={node.describe()}" for key, node in self.arguments)
        return f"{self.name}({inner})" if inner else self.name


@dataclass(frozen=True)
class Choice:
    """One of several.

    Arguments:
        options: At least one, no two with the same label.
    """

    options: tuple["Node", ...]

    @property
    def labels(self) -> list[str]:
        """Short names of the options, by which a sampler knows them.

        A component goes by its name alone as long as that is enough.
        """
        bare = [
            option.name if isinstance(option, Call) else option.describe()
            for option in self.options
        ]
        return [
            short if bare.count(short) == 1 else option.describe()
            for short, option in zip(bare, self.options, strict=True)
        ]

    def draw(self, name: str, suggest: Suggest) -> Any:
        labels = self.labels
        index = labels.index(suggest.choice(name, labels)) if len(labels) > 1 else 0
        option = self.options[index]
        # What is open below an option needs a name of its own: a range or a choice shares this
        # one's name, and two options of one component share the names of their arguments.
        alike = sum(_same_call(option, other) for other in self.options) > 1
        own = alike or not isinstance(option, Call)
        return option.draw(f"{name}.{index}" if own else name, suggest)

    def examples(self) -> Iterator[Any]:
        for option in self.options:
            yield from option.examples()

    @property
    def open(self) -> bool:
        return len(self.options) > 1 or self.options[0].open

    def describe(self) -> str:
        return ", ".join(option.describe() for option in self.options)


Node = Fixed | Auto | Range | Call | Choice


def _same_call(one: Node, other: Node) -> bool:
    return isinstance(one, Call) and isinstance(other, Call) and one.name == other.name


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_short, value))}]"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}" if float(f"{value:g}") == value else str(value)
    return str(value)
