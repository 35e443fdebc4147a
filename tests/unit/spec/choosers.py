"""Who chooses, in tests: at random, or always the same end of the space."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random


@dataclass
class RandomChooser:
    """Draws from a seed and notes under which name and over what it was asked."""

    seed: int = 0
    asked: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    def _note(self, name: str, space: object) -> None:
        # A sampler refuses to be asked one name with two meanings.
        assert self.asked.setdefault(name, space) == space, name

    def choice(self, name: str, labels: Sequence[str]) -> str:
        self._note(name, list(labels))
        return self._random.choice(labels)

    def real(self, name: str, low: float, high: float, *, log: bool) -> float:
        self._note(name, (low, high, log))
        if not log:
            return self._random.uniform(low, high)
        drawn = math.exp(self._random.uniform(math.log(low), math.log(high)))
        return min(max(drawn, low), high)

    def integer(self, name: str, low: int, high: int, *, log: bool) -> int:
        self._note(name, (low, high, log))
        return self._random.randint(low, high)


@dataclass
class PlannedChooser:
    """Chooses the labels it was told, by name, and the low end of every range."""

    plan: dict[str, str]
    asked: list[str] = field(default_factory=list)

    def choice(self, name: str, labels: Sequence[str]) -> str:
        self.asked.append(name)
        return self.plan[name]

    def real(self, name: str, low: float, high: float, *, log: bool) -> float:
        self.asked.append(name)
        return low

    def integer(self, name: str, low: int, high: int, *, log: bool) -> int:
        self.asked.append(name)
        return low
