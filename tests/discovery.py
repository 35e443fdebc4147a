"""Finds the components of a family the way a study does: by their file names."""

import importlib
import pkgutil
from dataclasses import is_dataclass


def component_classes(family: str) -> list[type]:
    """The class `CamelCase(name)` of every file `name.py` of a family, e.g. `data.datasets`."""
    package = importlib.import_module(f"tune_vae.{family}")
    return [
        getattr(
            importlib.import_module(f"{package.__name__}.{module.name}"),
            "".join(word.capitalize() for word in module.name.split("_")),
        )
        for module in pkgutil.iter_modules(package.__path__)
    ]


def is_frozen(component: type) -> bool:
    return is_dataclass(component) and component.__dataclass_params__.frozen
