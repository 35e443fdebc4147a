"""Components by name: YAML `cosine` means class `Cosine` in the file `schedules/cosine.py`.

Wherever a name stands, an import path may stand: `my_nets:WideResNet`.
"""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tune_vae.data import Dataset
from tune_vae.errors import Problem
from tune_vae.science.likelihoods import Likelihood
from tune_vae.science.networks import Network
from tune_vae.science.schedules import Schedule
from tune_vae.science.sigmas import Sigma
from tune_vae.spec.source import nearest

__all__ = ["FAMILIES", "ComponentError", "build", "find", "names", "problems_of", "split"]

Ref = str | dict[str, Any]
"""`name`, or `{name: {arguments}}`."""

FAMILIES: dict[str, tuple[str, type]] = {
    "dataset": ("tune_vae.data.datasets", Dataset),
    "network": ("tune_vae.science.networks", Network),
    "likelihood": ("tune_vae.science.likelihoods", Likelihood),
    "sigma": ("tune_vae.science.sigmas", Sigma),
    "schedule": ("tune_vae.science.schedules", Schedule),
}
"""Package and contract of each family."""


class ComponentError(ValueError):
    """A reference that names no component or gives it wrong arguments.

    Arguments:
        problems: With paths relative to the reference.
    """

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(problem.message for problem in problems))


def names(family: str) -> list[str]:
    """What exists in a family, sorted."""
    package = importlib.import_module(FAMILIES[family][0])
    (folder,) = package.__path__
    return sorted(file.stem for file in Path(folder).glob("*.py") if file.stem != "__init__")


def split(ref: object) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a reference.

    Raises:
        ComponentError: It is neither a name nor a mapping of one name to arguments.
    """
    if isinstance(ref, str):
        return ref, {}
    if isinstance(ref, dict) and len(ref) == 1:
        ((name, arguments),) = ref.items()
        if arguments is None:
            return name, {}
        if isinstance(arguments, dict):
            return name, arguments
        raise ComponentError(
            [Problem(f"the arguments of `{name}` must be a mapping, got `{arguments}`", (name,))]
        )
    raise ComponentError(
        [Problem(f"expected a name, or one name with its arguments, got `{ref}`")]
    )


def find(family: str, name: str) -> type:
    """The class that a name or an import path stands for.

    Raises:
        ComponentError: There is none.
    """
    package, contract = FAMILIES[family]
    if ":" in name:
        return _imported(family, name, contract)
    if name not in names(family):
        raise ComponentError(
            [Problem(f"unknown {family} `{name}`", (name,), nearest(name, names(family)), True)]
        )
    module = importlib.import_module(f"{package}.{name}")
    found: type = getattr(module, "".join(word.capitalize() for word in name.split("_")))
    return found


def _imported(family: str, path: str, contract: type) -> type:
    module_name, _, class_name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ComponentError(
            [Problem(f"cannot import `{path}`: {error}", (path,), on_key=True)]
        ) from None
    if not (isinstance(found, type) and issubclass(found, contract)):
        raise ComponentError(
            [
                Problem(
                    f"`{path}` is not a {family}: it must be a subclass of "
                    f"{contract.__module__}.{contract.__name__}",
                    (path,),
                    on_key=True,
                )
            ]
        )
    return found


def build(family: str, ref: object) -> Any:
    """The component that a reference describes.

    Raises:
        ComponentError: An unknown name, an unknown argument or a value that is not allowed.
    """
    name, arguments = split(ref)
    found = find(family, name)
    try:
        return TypeAdapter(found).validate_python(arguments)
    except ValidationError as error:
        known = [f.name for f in dataclasses.fields(found)]
        raise ComponentError(problems_of(error, (name,), known)) from None


def problems_of(
    error: ValidationError, path: tuple[str | int, ...], known: list[str]
) -> list[Problem]:
    """Pydantic's findings in our words, with the nearest of the `known` keys."""
    return [_problem(entry, path, known) for entry in error.errors()]


_WANTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "dataclass_type": "a mapping",
}


def _problem(entry: Any, path: tuple[str | int, ...], known: list[str]) -> Problem:
    where = (*path, *entry["loc"])
    name = ".".join(str(part) for part in where)
    kind, given = entry["type"], entry["input"]
    if kind in {"extra_forbidden", "unexpected_keyword_argument"}:
        key = str(where[-1])
        parent = ".".join(str(part) for part in where[:-1])
        place = f" in `{parent}`" if parent else ""
        return Problem(f"unknown key `{key}`{place}", where, nearest(key, known), on_key=True)
    if kind in {"missing", "missing_argument"}:
        return Problem(f"`{name}` is missing", where[:-1], f"add `{where[-1]}: …`")
    if kind in _WANTED:
        return Problem(f"`{name}` must be {_WANTED[kind]}, got `{given}`", where)
    message = entry["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if kind == "value_error":
        return Problem(f"`{name}`: {message}" if name else message, where)
    return Problem(f"`{name}` {message}, got `{given}`", where)
