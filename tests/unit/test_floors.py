"""Imports go down only, and each big library is imported in one place.

The exception is Optuna: beside the ledger, what names its samplers and pruners, and a pruner of
our own, which is a class for any Optuna user.

| floor    | libraries                               | may import              |
|----------|-----------------------------------------|-------------------------|
| cli      | typer                                   | everything              |
| terminal | rich                                    | all but cli             |
| api      | torch                                   | report and below        |
| report   | torch, matplotlib, jinja2               | service and below       |
| service  | torch; Ray, Optuna, MLflow in one place | spec and below          |
| testing  | torch, pydantic                         | spec and below          |
| spec     | pydantic, yaml                          | training and below      |
| training | torch                                   | data, science           |
| data     | torch, numpy; readers of file formats   | nothing but errors      |
| science  | torch                                   | nothing but errors      |
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tune_vae"
FILES = sorted(PACKAGE.rglob("*.py"))

SCIENCE = ("tune_vae.science", "tune_vae.errors")
DATA = ("tune_vae.data", "tune_vae.errors", "tune_vae.machine")
TRAINING = ("tune_vae.training", "tune_vae.whole_files", *SCIENCE, *DATA)
SPEC = ("tune_vae.spec", *TRAINING)
SERVICE = ("tune_vae.service", *SPEC)
REPORT = ("tune_vae.report", *SERVICE)
API = ("tune_vae.api", *REPORT)
TERMINAL = ("tune_vae.terminal", *API)


@dataclass(frozen=True)
class Floor:
    """What a file or a folder may import: libraries, and modules of this package.

    Arguments:
        libraries: At any place.
        inside: Only inside a function, because they are slow or not always needed.
        ours: Modules of this package, with all below them.
    """

    ours: tuple[str, ...] = ()
    libraries: frozenset[str] = frozenset()
    inside: frozenset[str] = frozenset()


READERS = frozenset({"anndata", "PIL", "scipy", "sklearn", "torchvision"})
"""Of file formats; most data need none of them."""

FLOORS = {
    "errors.py": Floor(),
    "lazily.py": Floor(),
    "machine.py": Floor(),
    "whole_files.py": Floor(),
    "science/": Floor(SCIENCE, frozenset({"torch"})),
    "science/units.py": Floor(),
    "data/": Floor(DATA, frozenset({"torch", "numpy"}), READERS),
    "training/": Floor(TRAINING, frozenset({"torch"})),
    # torch brings fsspec with it.
    "training/checkpoint.py": Floor(TRAINING, frozenset({"torch", "fsspec"})),
    "training/served.py": Floor(TRAINING, frozenset({"fsspec"})),
    "spec/": Floor(SPEC, frozenset({"pydantic", "yaml"})),
    "testing.py": Floor(SPEC, frozenset({"pydantic", "torch"})),
    "service/": Floor(SERVICE, frozenset({"torch"})),
    "service/journey.py": Floor(SERVICE),
    "service/results.py": Floor(SERVICE),
    "service/cluster.py": Floor(SERVICE, frozenset({"ray"})),
    "service/crew.py": Floor(SERVICE, frozenset({"ray", "torch"})),
    "service/node.py": Floor(SERVICE, frozenset({"ray"})),
    "service/tracking/": Floor(SERVICE, frozenset({"mlflow"})),
    "service/tracking/spool.py": Floor(SERVICE),
    "service/ledger/": Floor(SERVICE, frozenset({"optuna"})),
    "service/ledger/looking.py": Floor(SERVICE, frozenset({"sqlalchemy"})),
    "service/ledger/patience.py": Floor(SERVICE, frozenset({"optuna", "sqlalchemy"})),
    "service/ledger/recovery.py": Floor(SERVICE, frozenset({"optuna", "sqlalchemy"})),
    "service/gate.py": Floor(SERVICE, inside=frozenset({"starlette", "uvicorn"})),
    "service/databases.py": Floor(SERVICE, frozenset({"sqlalchemy"})),
    "service/reading.py": Floor(SERVICE, frozenset({"sqlalchemy"})),
    "service/bounded_sampler.py": Floor(SERVICE, frozenset({"optuna"})),
    "service/front.py": Floor(SERVICE),
    "service/pareto_pruner.py": Floor(SERVICE, frozenset({"optuna"})),
    "service/plugins.py": Floor(SERVICE, frozenset({"optuna"})),
    "service/export.py": Floor(SERVICE, frozenset({"safetensors", "torch"})),
    "service/inception.py": Floor(SERVICE, frozenset({"torch"}), frozenset({"torch_fidelity"})),
    "service/palette.py": Floor(SERVICE),
    "service/phases.py": Floor(SERVICE),
    "service/regions.py": Floor(SERVICE),
    "service/study_forecast.py": Floor(SERVICE),
    "report/": Floor(REPORT, frozenset({"torch"})),
    "report/conclusions.py": Floor(REPORT),
    "report/influence.py": Floor(REPORT),
    "report/drawing.py": Floor(REPORT, frozenset({"matplotlib"})),
    "report/courses.py": Floor(REPORT, frozenset({"matplotlib"})),
    "report/foresight.py": Floor(REPORT, frozenset({"matplotlib"})),
    "report/text_chart.py": Floor(REPORT),
    "report/knobs.py": Floor(REPORT, frozenset({"matplotlib"})),
    "report/tradeoffs.py": Floor(REPORT, frozenset({"matplotlib"})),
    "report/portraits.py": Floor(REPORT, frozenset({"matplotlib", "torch"})),
    "report/page.py": Floor(REPORT, frozenset({"jinja2"})),
    "api/": Floor(API, frozenset({"torch"})),
    "api/__init__.py": Floor((*API, "tune_vae.lazily")),
    "api/standing.py": Floor(API),
    "terminal/": Floor(TERMINAL, frozenset({"rich"})),
    "cli.py": Floor(("tune_vae.cli", *TERMINAL), frozenset({"typer"})),
    "__init__.py": Floor((*API, "tune_vae.lazily")),
}
"""By path within the package; the longest that fits counts."""


@dataclass(frozen=True)
class Import:
    """One module that a file imports."""

    line: int
    module: str
    inside: bool


def floor_of(path: str) -> Floor | None:
    fits = [
        place for place in FLOORS if path == place or (place[-1] == "/" and path.startswith(place))
    ]
    return FLOORS[max(fits, key=len)] if fits else None


def imports(path: str, text: str) -> Iterator[Import]:
    """All imports of a file, those inside functions and for type checkers included."""
    package = ["tune_vae", *Path(path).parent.parts]

    def found(node: ast.AST, inside: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(child.lineno, alias.name, inside)
            elif isinstance(child, ast.ImportFrom):
                above = package[: len(package) - child.level + 1] if child.level else []
                base = ".".join([*above, *filter(None, [child.module])])
                for alias in child.names:
                    whole = f"{base}.{alias.name}"
                    yield Import(child.lineno, whole if is_module(whole) else base, inside)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from found(child, inside or function)

    yield from found(ast.parse(text), False)


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or place.is_dir()


def offences(path: str, text: str) -> list[str]:
    """Imports that a file at `path` within the package may not have, as `file:line: why`."""
    floor = floor_of(path)
    if floor is None:
        return [f"tune_vae/{path}:1: belongs to no floor; name it in FLOORS"]
    return [
        f"tune_vae/{path}:{one.line}: imports {one.module}"
        for one in imports(path, text)
        if not allowed(one, floor)
    ]


def allowed(one: Import, floor: Floor) -> bool:
    top = one.module.split(".")[0]
    if top == "tune_vae":
        return any(f"{one.module}.".startswith(f"{ours}.") for ours in floor.ours)
    if top in sys.stdlib_module_names:
        return True
    return top in floor.libraries or (one.inside and top in floor.inside)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_down_only(file: Path) -> None:
    found = offences(file.relative_to(PACKAGE).as_posix(), file.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "text", "offence"),
    [
        ("science/elbo.py", "import math\nimport yaml\n", "2: imports yaml"),
        ("science/elbo.py", "from tune_vae.data import Splits", "1: imports tune_vae.data"),
        ("science/elbo.py", "def f():\n    import numpy", "2: imports numpy"),
        ("science/sigmas/x.py", "from ...training import pack", "1: imports tune_vae.training"),
        ("data/datasets/x.py", "import sklearn.datasets", "1: imports sklearn.datasets"),
        ("data/datasets/x.py", "from tune_vae.science import elbo", "1: imports tune_vae.sci"),
        ("training/pack.py", "import pydantic", "1: imports pydantic"),
        ("training/pack.py", "from tune_vae import spec", "1: imports tune_vae.spec"),
        ("spec/study.py", "import optuna", "1: imports optuna"),
        ("spec/study.py", "from tune_vae.service import desk", "1: imports tune_vae.service.desk"),
        ("service/desk.py", "import ray", "1: imports ray"),
        ("service/cluster.py", "import mlflow", "1: imports mlflow"),
        ("service/tracking/tracker.py", "import optuna", "1: imports optuna"),
        ("service/tracking/client.py", "import sqlalchemy.exc", "1: imports sqlalchemy.exc"),
        ("service/tracking/spool.py", "import mlflow", "1: imports mlflow"),
        ("service/journey.py", "import torch", "1: imports torch"),
        ("service/ledger/packs.py", "from tune_vae.api import check", "1: imports tune_vae.api"),
        ("service/results.py", "from tune_vae.report import page", "1: imports tune_vae.report"),
        ("report/page.py", "from tune_vae.api import check", "1: imports tune_vae.api"),
        ("report/page.py", "import mlflow", "1: imports mlflow"),
        ("training/gallery.py", "import matplotlib", "1: imports matplotlib"),
        ("api/training.py", "from tune_vae.terminal import view", "1: imports tune_vae.terminal"),
        ("api/__init__.py", "from rich.text import Text", "1: imports rich.text"),
        ("terminal/live.py", "import typer", "1: imports typer"),
        ("errors.py", "import torch", "1: imports torch"),
        ("errors.py", "from tune_vae import cli", "1: imports tune_vae.cli"),
        ("attic/old.py", "", "1: belongs to no floor"),
    ],
)
def test_import_that_goes_up_is_named_with_its_line(path: str, text: str, offence: str) -> None:
    (found,) = offences(path, text)
    assert found.startswith(f"tune_vae/{path}:{offence}")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("science/elbo.py", "import math, torch.nn\nfrom tune_vae.errors import Problem"),
        ("data/datasets/x.py", "def load():\n    from sklearn.datasets import load_digits"),
        ("training/pack.py", "from tune_vae.science.likelihoods.gaussian import Gaussian"),
        ("spec/study.py", "import yaml\nfrom tune_vae.training.trainer import Member"),
        ("service/crew.py", "from ray import tune"),
        ("cli.py", "import typer\nfrom tune_vae import api, terminal"),
    ],
)
def test_import_that_goes_down_is_allowed(path: str, text: str) -> None:
    assert offences(path, text) == []


def test_science_data_and_training_load_nothing_of_the_floors_above() -> None:
    program = """
import importlib, pkgutil, sys
for floor in ("science", "data", "training"):
    package = importlib.import_module(f"tune_vae.{floor}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
above = {"ray", "optuna", "mlflow", "pydantic", "yaml", "sqlalchemy", "rich", "typer"}
print(sorted(above & sys.modules.keys()), len([m for m in sys.modules if m[:8] == "tune_vae"]))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    libraries, _, modules = run.stdout.strip().rpartition(" ")
    assert libraries == "[]"
    assert int(modules) > 20
