"""Components by name: YAML `cosine` means class `Cosine` in the file `schedules/cosine.py`.

Wherever a name stands, an import path may stand: `my_nets:WideResNet`. Its module is one that is
installed, or a file beside the study file or in the current folder.
"""

import dataclasses
import importlib
import inspect
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tune_vae.errors import Problem
from tune_vae.spec.source import YamlPath, nearest, shown

__all__ = [
    "FAMILIES",
    "ComponentError",
    "build",
    "completed",
    "contract",
    "find",
    "imports_from",
    "names",
    "problems_of",
    "split",
    "typed",
]

Ref = str | dict[str, Any]
"""`name`, or `{name: {arguments}}`."""

FAMILIES = {
    "dataset": ("tune_vae.data.datasets", "tune_vae.data:Dataset"),
    "network": ("tune_vae.science.networks", "tune_vae.science.networks:Network"),
    "likelihood": ("tune_vae.science.likelihoods", "tune_vae.science.likelihoods:Likelihood"),
    "sigma": ("tune_vae.science.sigmas", "tune_vae.science.sigmas:Sigma"),
    "prior": ("tune_vae.science.priors", "tune_vae.science.priors:Prior"),
    "schedule": ("tune_vae.science.schedules", "tune_vae.science.schedules:Schedule"),
}
"""Package and contract of each family; imported on demand, because they import torch."""


class ComponentError(ValueError):
    """A reference that names no component or gives it wrong arguments.

    Arguments:
        problems: With paths relative to the reference.
    """

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(problem.message for problem in problems))


_folder: Path | None = None
"""Of the study that was read last."""


def imports_from(folder: Path) -> None:
    """Let import paths name modules of a folder, before those of the current one.

    It holds for this process from here on, so each process that builds components of a study
    says so once. Both folders come last, lest a file there hide a library.

    Arguments:
        folder: Of the study file.
    """
    global _folder
    _folder = folder.absolute()
    for place in (str(_folder), ""):
        if place not in sys.path:
            sys.path.append(place)
    # What was written a moment ago may be missing in the list that Python keeps of a folder.
    importlib.invalidate_caches()


def names(family: str) -> list[str]:
    """What exists in a family, sorted."""
    package = importlib.import_module(FAMILIES[family][0])
    (folder,) = package.__path__
    return sorted(file.stem for file in Path(folder).glob("*.py") if file.stem != "__init__")


def contract(family: str) -> type:
    """The class below which all components of a family are."""
    module, _, name = FAMILIES[family][1].partition(":")
    found: type = getattr(importlib.import_module(module), name)
    return found


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
        message = f"the arguments of `{name}` must be a mapping, got {shown(arguments)}"
        raise ComponentError([Problem(message, (name,), f"write `{name}: {{argument: value}}`")])
    raise ComponentError(
        [Problem(f"expected a name, or one name with its arguments, got {shown(ref)}")]
    )


def find(family: str, name: str) -> type:
    """The class that a name or an import path stands for.

    Raises:
        ComponentError: There is none.
    """
    if ":" in name:
        return _imported(family, name)
    if name not in names(family):
        raise ComponentError(
            [Problem(f"unknown {family} `{name}`", (name,), nearest(name, names(family)), True)]
        )
    module = importlib.import_module(f"{FAMILIES[family][0]}.{name}")
    found: type = getattr(module, "".join(word.capitalize() for word in name.split("_")))
    return found


def _imported(family: str, path: str) -> type:
    def refuse(message: str, tip: str = "") -> ComponentError:
        return ComponentError([Problem(message, (path,), tip, on_key=True)])

    module, _, name = path.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise refuse(f"{shown(path)} is no import path", "write `module:Class`")
    try:
        imported = importlib.import_module(module)
        found = getattr(imported, name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise refuse(
            f"cannot import `{path}`: {error}",
            "the module must be installed, or lie beside the study file",
        ) from None
    except Exception as error:  # noqa: BLE001  a user's module may raise anything
        raise refuse(
            f"cannot import `{path}`: {type(error).__name__}: {error}", "mend the module"
        ) from None
    if _is_another(imported, module):
        raise refuse(
            f"`{module}` means {imported.__file__} here, not the file beside the study",
            "give the file beside the study another name",
        )
    made, wanted = getattr(found, "__dataclass_params__", None), contract(family)
    if not (isinstance(found, type) and issubclass(found, wanted) and made and made.frozen):
        raise refuse(
            f"`{path}` is not a {family}",
            f"it must be a frozen dataclass below {wanted.__module__}.{wanted.__name__}",
        )
    if inspect.isabstract(found):
        abstract: frozenset[str] = getattr(found, "__abstractmethods__")  # noqa: B009
        lacking = ", ".join(f"`{method}`" for method in sorted(abstract))
        raise refuse(f"`{path}` is not complete", f"define {lacking}")
    return found


def _is_another(imported: ModuleType, module: str) -> bool:
    """Whether the study's folder has such a module as well, and this is not it.

    So it is when another study in this process, or a library, has one of the same name.
    """
    if _folder is None or imported.__file__ is None:
        return False
    package = _folder.resolve() / module.partition(".")[0]
    alone = package.with_suffix(".py")
    file = Path(imported.__file__).resolve()
    there = alone.is_file() or (package / "__init__.py").is_file()
    return there and file != alone and package not in file.parents


def build(family: str, ref: object) -> Any:
    """The component that a reference describes.

    Raises:
        ComponentError: An unknown name, an unknown argument or a value that is not allowed.
    """
    name, arguments = split(ref)
    found = find(family, name)
    try:
        return typed(found, arguments)
    except ValidationError as error:
        known = [f.name for f in dataclasses.fields(found)]
        raise ComponentError(problems_of(error, (name,), known)) from None


def typed(kind: type, values: dict[str, Any]) -> Any:
    """An instance of a dataclass or model from plain values, each of the very type it asks for.

    Raises:
        ValidationError: From pydantic, with all that is wrong.
    """
    # Of the two strict modes, Python's refuses a list for a tuple and a mapping for a dataclass.
    return TypeAdapter(kind).validate_json(json.dumps(values), strict=True)


def completed(family: str, ref: Any, **facts: Any) -> dict[str, Any]:
    """A reference with facts of the data filled in, where it takes them and leaves them out.

    Arguments:
        family: Of the component.
        ref: A reference that `build` accepts.
        facts: By the name of the field they fill, such as `levels`.
    """
    name, arguments = split(ref)
    fields = {field.name for field in dataclasses.fields(find(family, name))}
    return {name: {key: value for key, value in facts.items() if key in fields} | arguments}


def problems_of(error: ValidationError, path: YamlPath, known: list[str]) -> list[Problem]:
    """Pydantic's findings in our words, with the nearest of the `known` keys."""
    return [_problem(entry, path, known) for entry in error.errors()]


_WANTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping",
    "model": "a mapping",
    "dataclass": "a mapping",
}


def _problem(entry: Any, path: YamlPath, known: list[str]) -> Problem:
    where = (*path, *entry["loc"])
    name = ".".join(str(part) for part in where)
    kind, given = entry["type"], entry["input"]
    if kind in {"extra_forbidden", "unexpected_keyword_argument"}:
        key = str(where[-1])
        parent = ".".join(str(part) for part in where[:-1])
        return Problem(
            f"unknown key `{key}` in `{parent}`", where, nearest(key, known), on_key=True
        )
    if kind in {"missing", "missing_argument"}:
        return Problem(f"`{name}` is missing", where[:-1], f"add `{where[-1]}: …`", on_key=True)
    message = entry["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if kind == "value_error":
        # By custom a component's message begins with the argument's name.
        first = message.partition(" ")[0]
        return Problem(f"`{name}`: {message}", (*where, first) if first in known else where)
    wanted = _WANTED.get(kind.removesuffix("_type"))
    if wanted:
        tip = {"text": "put it in quotes"}.get(wanted, "")
        if kind == "int_type" and isinstance(given, float) and given.is_integer():
            tip = "write it without a point; a range of whole numbers is `int`"
        return Problem(f"`{name}` must be {wanted}, got {shown(given)}", where, tip)
    return Problem(f"`{name}` {message}, got {shown(given)}", where)
