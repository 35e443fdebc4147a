"""What a trial is made of: which knobs there are, what each takes, how a file leaves it open."""

import math
from dataclasses import dataclass
from typing import Any

from tune_vae.errors import Problem
from tune_vae.spec import components
from tune_vae.spec.components import ComponentError
from tune_vae.spec.source import YamlPath, nearest, shown
from tune_vae.spec.space import Auto, Call, Choice, Fixed, Node, Range

__all__ = ["KNOBS", "Knob", "KnobReader", "Number", "adopt"]


@dataclass(frozen=True)
class Number:
    """What numbers a knob takes.

    Arguments:
        low: Smallest value, or the bound above which all lie if not `low_allowed`.
        high: Largest value.
        whole: Whether only whole numbers are meant.
    """

    low: float
    high: float = math.inf
    low_allowed: bool = True
    whole: bool = False

    def problem(self, value: Any, path: YamlPath) -> Problem | None:
        """What is wrong with a value."""
        name = ".".join(str(part) for part in path)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or math.isnan(value) or (self.whole and value % 1):
            kind = "a whole number" if self.whole else "a number"
            return Problem(f"`{name}` must be {kind}, got {shown(value)}", path)
        if value < self.low or (value == self.low and not self.low_allowed):
            word = "at least" if self.low_allowed else "above"
            return Problem(f"`{name}` must be {word} {self.low:g}, got {value:g}", path)
        if value > self.high:
            return Problem(f"`{name}` must be at most {self.high:g}, got {value:g}", path)
        return None


@dataclass(frozen=True)
class Knob:
    """One thing to turn.

    Arguments:
        home: Section of the file where it stands; empty for the top level.
        takes: Its numbers; None for the components of the family of its name.
        default: What it is when the file does not say; None when the file must.
        auto: Whether `auto` may stand for bounds that follow from the data.
    """

    home: str
    takes: Number | None = None
    default: Node | None = None
    auto: bool = False


KNOBS = {
    "network": Knob(""),
    "latent_dim": Knob("", Number(1, 65536, whole=True)),
    "batch_size": Knob("train", Number(1, 2**20, whole=True), Fixed(128)),
    "likelihood": Knob("search"),
    "sigma": Knob("search", default=Call("optimal")),
    "prior": Knob("search", default=Call("standard")),
    "beta_norm": Knob("search", Number(0, 1e12), auto=True),
    "schedule": Knob("search", default=Call("constant")),
    "lr": Knob("search", Number(0, 1e12, low_allowed=False), Fixed(1e-3)),
    "weight_decay": Knob("search", Number(0, 1e6), Fixed(0.0)),
    "grad_clip": Knob("search", Number(0, low_allowed=False), Fixed(math.inf)),
    "free_bits": Knob("search", Number(0, 1e6), Fixed(0.0)),
    "free_bits_total": Knob("search", Number(0, 1e9), Fixed(0.0)),
    "kl_target": Knob("search", Number(0, 1e9), Fixed(0.0)),
    "init_scale": Knob("search", Number(0, 100, low_allowed=False), Fixed(1.0)),
}
"""In the order in which they are drawn; sigma after likelihood, on which it depends."""

_RANGES = {
    "uniform": Range(0, 1),
    "log_uniform": Range(0, 1, log=True),
    "int": Range(0, 1, whole=True),
    "log_int": Range(0, 1, log=True, whole=True),
}
_LEAVES = ("choice", *_RANGES)


class KnobReader:
    """From plain values of a file to nodes of the space.

    Arguments:
        problems: Where to add what is wrong, with paths from the root of the file.
    """

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems

    def read(self, name: str, raw: Any, path: YamlPath) -> Node:
        """The node of a knob; if it has problems, one without meaning."""
        knob, before = KNOBS[name], len(self._problems)
        if knob.auto and raw == "auto":
            return Auto()
        node = self._node(raw, path, name, knob)
        if len(self._problems) > before:
            return Fixed(None)
        if knob.takes:
            found = (knob.takes.problem(value, path) for value in node.examples())
            self._problems += [problem for problem in found if problem][:1]
        return node

    def _refuse(
        self, message: str, path: YamlPath, tip: str = "", *, on_key: bool = False
    ) -> Node:
        self._problems.append(Problem(message, path, tip, on_key))
        return Fixed(None)

    def _node(self, raw: Any, path: YamlPath, name: str, knob: Knob | None) -> Node:
        """A leaf of the search, a component, or a value; `knob` is None for an argument."""
        if isinstance(raw, dict) and len(raw) == 1:
            ((key, inner),) = raw.items()
            if key == "choice":
                return self._choice(inner, (*path, key), name, knob)
            if key in _RANGES:
                return self._range(inner, (*path, key), name, knob)
            if self._is_leaf_misspelt(key, inner, knob):
                return self._refuse(
                    f"unknown kind of search `{key}`",
                    (*path, key),
                    nearest(key, _LEAVES),
                    on_key=True,
                )
        if knob and not knob.takes:
            return self._call(raw, path, name)
        return Fixed(tuple(raw) if isinstance(raw, list) else raw)

    def _is_leaf_misspelt(self, key: str, inner: Any, knob: Knob | None) -> bool:
        # Only of a number is it certain; elsewhere a list after such a name gives it away.
        return (knob is not None and knob.takes is not None) or (
            isinstance(inner, list) and nearest(key, _LEAVES).startswith("did you mean")
        )

    def _choice(self, inner: Any, path: YamlPath, name: str, knob: Knob | None) -> Node:
        if not isinstance(inner, list) or not inner:
            return self._refuse(
                f"`choice` must be a list of at least one option, got {shown(inner)}", path
            )
        before = len(self._problems)
        choice = Choice(
            tuple(self._node(raw, (*path, index), name, knob) for index, raw in enumerate(inner))
        )
        if len(self._problems) == before:
            for index, label in enumerate(choice.labels):
                if label in choice.labels[:index]:
                    self._refuse(
                        f"`{label}` stands twice in this choice",
                        (*path, index),
                        "name each option once",
                    )
        return choice

    def _range(self, bounds: Any, path: YamlPath, name: str, knob: Knob | None) -> Node:
        leaf = str(path[-1])
        kind = _RANGES[leaf]
        if knob and not knob.takes:
            return self._refuse(
                f"`{leaf}` is a range of numbers, but a {name} has a name",
                path[:-1],
                f"use `choice` for several: {', '.join(components.names(name))}",
            )
        if knob and knob.takes and knob.takes.whole and not kind.whole:
            whole = "log_int" if kind.log else "int"
            return self._refuse(
                f"`{name}` takes whole numbers, which `{leaf}` does not draw",
                path,
                f"use `{whole}`",
                on_key=True,
            )
        numbers = isinstance(bounds, list) and all(
            isinstance(b, int | float) and not isinstance(b, bool) and math.isfinite(b)
            for b in bounds
        )
        if not numbers or len(bounds) != 2:
            return self._refuse(
                f"`{leaf}` must be two numbers [low, high], got {shown(bounds)}", path
            )
        low, high = map(float, bounds)
        if kind.whole and not (low.is_integer() and high.is_integer()):
            return self._refuse(f"`{leaf}` takes whole numbers, got {shown(bounds)}", path)
        if not low < high:
            tip = "swap them" if low > high else "give the value itself to fix it"
            return self._refuse(f"`{leaf}`: low {low:g} is not below high {high:g}", path, tip)
        if kind.log and low <= 0:
            return self._refuse(
                f"`{leaf}`: low {low:g} must be above 0",
                path,
                f"use a small positive bound, or `{'int' if kind.whole else 'uniform'}`",
            )
        if kind.whole:
            return Range(int(low), int(high), log=kind.log, whole=True)
        return Range(low, high, log=kind.log)

    def _call(self, raw: Any, path: YamlPath, family: str) -> Node:
        before = len(self._problems)
        try:
            name, arguments = components.split(raw)
        except ComponentError as error:
            adopt(self._problems, error, path)
            return Fixed(None)
        call = Call(
            name,
            tuple(
                (key, self._node(value, (*path, name, key), key, None))
                for key, value in arguments.items()
            ),
        )
        if len(self._problems) == before:
            for example in call.examples():
                try:
                    components.build(family, example)
                except ComponentError as error:
                    adopt(self._problems, error, path)
        return call


def adopt(problems: list[Problem], error: ComponentError, path: YamlPath) -> None:
    """Add what is wrong with the component at `path`; the first fault of each place is enough."""
    for problem in error.problems:
        here = (*path, *problem.path)
        if not any(known.path == here for known in problems):
            problems.append(Problem(problem.message, here, problem.tip, problem.on_key))
