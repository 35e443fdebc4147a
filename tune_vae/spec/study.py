"""The study file: everything a search needs to know, typed and frozen.

A study is read in three steps: YAML to plain values with places (`source`), plain sections by
pydantic, and what may be searched by `_Knobs` below. All problems of a file are reported at
once.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tune_vae.data import Dataset
from tune_vae.errors import Problem
from tune_vae.science.health import Limits
from tune_vae.science.history import OBJECTIVES
from tune_vae.spec import components
from tune_vae.spec.components import ComponentError
from tune_vae.spec.source import Source, YamlPath, nearest, read, shown
from tune_vae.spec.space import Call, Choice, Fixed, Node, Range, Suggest

__all__ = ["GRAPH_KNOBS", "Budget", "RayOptions", "Storage", "StudySpec", "Training"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Training(_Section):
    """`train:` How each trial is trained.

    Arguments:
        epochs: Passes over the training images.
        pack: Trials that one worker trains as one program; 1 for one by one.
        seed: Seed of the whole study: weights, data order, noise and what is suggested.
    """

    epochs: int = Field(default=40, ge=1, le=1_000_000)
    pack: int = Field(default=1, ge=1, le=1024)
    seed: int = Field(default=0, ge=0, lt=2**63)


class Budget(_Section):
    """`budget:` How much may be spent.

    Arguments:
        trials: Configurations to try, over all machines and restarts.
        hours: Stop asking for new trials after this much searching; none by default.
        gpus_per_trial: Share of a GPU for each pack; by default 0.25 where there is a GPU, else 0.
        cpus_per_trial: CPU cores for each pack.
        concurrency: Most packs at once; by default what the machine or the cluster has room for.
        retries: How often in a row a trial may be interrupted without finishing an epoch before
            it counts as failed.
    """

    trials: int = Field(default=30, ge=1, le=1_000_000)
    hours: float | None = Field(default=None, gt=0)
    gpus_per_trial: float | None = Field(default=None, ge=0, le=64)
    cpus_per_trial: float = Field(default=1.0, gt=0, le=1024)
    concurrency: int | None = Field(default=None, ge=1, le=100_000)
    retries: int = Field(default=3, ge=0, le=1000)


class Storage(_Section):
    """`storage:` Where the study lives. Relative paths start at the current folder.

    Arguments:
        ledger: SQLAlchemy URL of Optuna's storage.
        tracking: URI of the MLflow tracking store or server.
        artifacts: Folder of MLflow's pictures and checkpoints, when the store is a database.
        checkpoints: Folder of the checkpoints.
    """

    ledger: str = "sqlite:///mlruns/studies.db"
    tracking: str = "sqlite:///mlruns/mlflow.db"
    artifacts: str = "mlruns/artifacts"
    checkpoints: str = "mlruns/checkpoints"


class RayOptions(_Section):
    """`ray:` Which cluster to use.

    Arguments:
        address: Address of a running cluster, or `auto`; by default RAY_ADDRESS, else a cluster
            of this machine alone that ends with the search.
    """

    address: str | None = None


@dataclass(frozen=True)
class _Number:
    """What numbers a knob takes."""

    whole: bool
    low: float
    low_allowed: bool
    high: float = math.inf

    def problem(self, value: Any, path: YamlPath) -> Problem | None:
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


_NUMBERS = {
    "latent_dim": _Number(whole=True, low=1, low_allowed=True, high=65536),
    "beta_norm": _Number(whole=False, low=0, low_allowed=True, high=1e12),
    "lr": _Number(whole=False, low=0, low_allowed=False, high=1e12),
    "weight_decay": _Number(whole=False, low=0, low_allowed=True, high=1e6),
    "grad_clip": _Number(whole=False, low=0, low_allowed=False),
    "batch_size": _Number(whole=True, low=1, low_allowed=True, high=2**20),
}
_COMPONENTS = ("network", "schedule", "likelihood", "sigma")
_TOP = {"network", "latent_dim"}
_TRAIN = {"batch_size"}
_SEARCH = ("beta_norm", "schedule", "likelihood", "sigma", "lr", "weight_decay", "grad_clip")
_DEFAULTS: dict[str, Node] = {
    "schedule": Call("constant"),
    "sigma": Call("optimal"),
    "lr": Fixed(1e-3),
    "weight_decay": Fixed(0.0),
    "grad_clip": Fixed(math.inf),
    "batch_size": Fixed(128),
}
# Drawn in this order; sigma after likelihood, on which it depends.
_ORDER = (
    "network",
    "latent_dim",
    "batch_size",
    "likelihood",
    "sigma",
    "beta_norm",
    "schedule",
    "lr",
    "weight_decay",
    "grad_clip",
)
GRAPH_KNOBS = ("network", "latent_dim", "batch_size", "likelihood", "sigma")
"""Knobs that change the graph: the trials of one pack have them in common."""

_LEAVES = {
    "uniform": Range(0, 1),
    "log_uniform": Range(0, 1, log=True),
    "int": Range(0, 1, whole=True),
    "log_int": Range(0, 1, log=True, whole=True),
}
_KEYS = (
    "study",
    "data",
    "network",
    "latent_dim",
    "objective",
    "search",
    "train",
    "health",
    "budget",
    "sampler",
    "pruner",
    "storage",
    "ray",
)
_SECTIONS: dict[str, tuple[str, ...]] = {
    "search": _SEARCH,
    "train": (*Training.model_fields, *_TRAIN),
    "health": tuple(f.name for f in fields(Limits)),
    "budget": tuple(Budget.model_fields),
    "storage": tuple(Storage.model_fields),
    "ray": tuple(RayOptions.model_fields),
}
_REQUIRED = {
    "study": "study: my-study",
    "data": "data: digits",
    "network": "network: mlp",
    "latent_dim": "latent_dim: 16",
    "search": "search: {beta_norm: {log_uniform: [1.0e-3, 10]}, likelihood: gaussian}",
}
_SEARCH_REQUIRED = {
    "beta_norm": "beta_norm: {log_uniform: [1.0e-3, 10]}",
    "likelihood": "likelihood: {choice: [gaussian, continuous_bernoulli]}",
}


@dataclass(frozen=True)
class StudySpec:
    """A study as its file states it.

    Arguments:
        name: Of the study, its MLflow experiment and its folder of checkpoints.
        data: Reference of the data set.
        objective: One or two names from `OBJECTIVES`, each to be minimised.
        knobs: What each trial is made of, by name: fixed, or open to the search.
        train, health, budget, storage, ray: The sections of the file.
        sampler, pruner: Optuna classes: `{name: arguments}`.
        source: The file, for saying where in it something stands.

    Example:
        >>> spec = StudySpec.parse('''
        ... study: tiny
        ... data: digits
        ... network: mlp
        ... latent_dim: 8
        ... search: {beta_norm: {log_uniform: [0.01, 1]}, likelihood: gaussian}
        ... ''')
        >>> spec.knobs["beta_norm"].describe()
        '0.01 … 1 (log)'
    """

    name: str
    data: dict[str, Any]
    objective: tuple[str, ...]
    knobs: Mapping[str, Node]
    train: Training
    health: Limits
    budget: Budget
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    storage: Storage
    ray: RayOptions
    source: Source = field(compare=False, repr=False)

    @property
    def file(self) -> str:
        """Path of the study file as given."""
        return self.source.file

    @property
    def text(self) -> str:
        """Contents of the study file."""
        return self.source.text

    def refuse(self, problems: list[Problem]) -> None:
        """Raise if there are problems that only the data or a library could reveal.

        Raises:
            StudyFileError: With their places in the file.
        """
        replace(self.source, problems=problems).fail()

    @classmethod
    def load(cls, file: str | Path) -> "StudySpec":
        """Read and validate a study file.

        Raises:
            StudyFileError: With everything that is wrong with it.
        """
        return _Parser(read(Path(file))).study()

    @classmethod
    def parse(cls, text: str) -> "StudySpec":
        """The same for a text, for tests and notebooks."""
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "study.yaml"
            file.write_text(text, encoding="utf-8")
            return cls.load(file)

    def dataset(self) -> Dataset:
        """The data set, not yet loaded."""
        built: Dataset = components.build("dataset", self.data)
        return built

    def draw(self, suggest: Suggest) -> dict[str, Any]:
        """One value for every knob, open ones chosen by `suggest`.

        The sigma mode is asked only of likelihoods that have a scale, and is None for others.
        """
        drawn: dict[str, Any] = {}
        for name in _ORDER:
            if name == "sigma" and not has_scale(drawn["likelihood"]):
                drawn[name] = None
            else:
                drawn[name] = self.knobs[name].draw(name, suggest)
        return drawn

    def with_values(self, values: Mapping[str, Any]) -> dict[str, Node]:
        """The knobs with some of them replaced, each value as it would stand in the file.

        Raises:
            StudyFileError: An unknown knob or a value that is not allowed.
        """
        parser = _Parser(replace(self.source, problems=[]))
        return dict(self.knobs) | parser.given(values)

    def space_digest(self) -> str:
        """Fingerprint of what makes trials comparable: all but budget, storage and resources."""
        content = {
            "data": self.data,
            "objective": self.objective,
            "knobs": {name: repr(self.knobs[name]) for name in _ORDER},
            "train": {"epochs": self.train.epochs, "seed": self.train.seed},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def has_scale(likelihood: object) -> bool:
    """Whether a likelihood reference names one with a scale."""
    return bool(components.find("likelihood", components.split(likelihood)[0]).has_scale)  # type: ignore[attr-defined]


class _Parser:
    """One pass over the plain values of a file, collecting problems as it goes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._problems = source.problems

    def study(self) -> StudySpec:
        data = self._source.data
        if not isinstance(data, dict):
            self._problems.append(
                Problem(
                    f"a study is a mapping of keys to values, got {shown(data)}",
                    tip="begin with `study: my-study`; studies/digits.yaml shows the rest",
                )
            )
            self._source.fail()
        self._known(data, (), _KEYS)
        self._required(data, (), _REQUIRED)
        sections = {
            "train": self._section(Training, "train"),
            "budget": self._section(Budget, "budget"),
            "storage": self._section(Storage, "storage"),
            "ray": self._section(RayOptions, "ray"),
            "health": self._section(Limits, "health"),
        }
        name, objective = self._name(), self._objective()
        reference = self._fixed_component("dataset", "data")
        knobs = self._knobs()
        sampler, pruner = self._plugin("sampler"), self._plugin("pruner")
        self._source.fail()
        return StudySpec(
            name=name,
            data=reference,
            objective=objective,
            knobs=knobs,
            sampler=sampler or {"TPESampler": {}},
            pruner=pruner or _default_pruner(sections["train"].epochs),
            source=self._source,
            **sections,
        )

    def given(self, values: Mapping[str, Any]) -> dict[str, Node]:
        """Knobs from plain values."""
        self._known(values, (), _ORDER)
        knobs = {
            name: self._node(value, (name,), name)
            for name, value in values.items()
            if name in _ORDER
        }
        self._source.fail()
        return knobs

    def _known(self, data: Mapping[str, Any], path: YamlPath, known: Sequence[str]) -> None:
        for key in data:
            if key not in known:
                place = f" in `{'.'.join(map(str, path))}`" if path else ""
                self._problems.append(
                    Problem(f"unknown key `{key}`{place}", (*path, key), _tip(key, known), True)
                )

    def _required(
        self, data: Mapping[str, Any], path: YamlPath, required: Mapping[str, str]
    ) -> None:
        for key, example in required.items():
            if data.get(key) is None:
                name = ".".join(map(str, (*path, key)))
                # A key that is absent from the top level has no place to show.
                here, what = ((*path, key), "empty") if key in data else (path, "missing")
                self._problems.append(
                    Problem(f"`{name}` is {what}", here, f"write `{example}`", on_key=True)
                )

    def _mapping(self, key: str) -> dict[str, Any]:
        value = self._source.data.get(key)
        return value if isinstance(value, dict) else {}

    def _section(self, kind: type, key: str) -> Any:
        given = self._source.data.get(key)
        if given is not None and not isinstance(given, dict):
            self._no_mapping(key, given)
        known, section = _SECTIONS[key], self._mapping(key)
        self._known(section, (key,), known)
        try:
            own = {k: v for k, v in section.items() if k in known and (key, k) not in _KNOB_PATHS}
            return components.typed(kind, own)
        except ValidationError as error:
            self._problems += components.problems_of(error, (key,), list(known))
            return kind()

    def _name(self) -> str:
        name = self._source.data.get("study", "missing")
        text = str(name) if isinstance(name, str | int) and not isinstance(name, bool) else ""
        safe = text.replace("-", "").replace("_", "").replace(".", "")
        if not (safe.isascii() and safe.isalnum() and text[0].isalnum() and len(text) <= 64):
            self._problems.append(
                Problem(
                    f"`study` must be a name of letters, digits, `-`, `_` and `.`, at most 64, "
                    f"beginning with a letter or digit, got `{name}`",
                    ("study",),
                )
            )
        return text

    def _objective(self) -> tuple[str, ...]:
        given = self._source.data.get("objective", "bits_per_dim")
        several = given if isinstance(given, list) else [given]
        if not 1 <= len(several) <= 2 or len({str(one) for one in several}) != len(several):
            self._problems.append(
                Problem(
                    f"`objective` must be one name or a pair of different ones, got `{given}`",
                    ("objective",),
                    f"known: {', '.join(OBJECTIVES)}",
                )
            )
        for index, name in enumerate(several):
            if name not in OBJECTIVES:
                path: YamlPath = (
                    ("objective", index) if isinstance(given, list) else ("objective",)
                )
                self._problems.append(
                    Problem(
                        f"unknown objective `{name}`", path, nearest(str(name), list(OBJECTIVES))
                    )
                )
        return tuple(str(name) for name in several)

    def _fixed_component(self, family: str, key: str) -> dict[str, Any]:
        ref = self._source.data.get(key)
        if ref is None:
            return {}
        try:
            name, arguments = components.split(ref)
            components.build(family, ref)
        except ComponentError as error:
            self._adopt(error, (key,))
            return {}
        return {name: arguments}

    def _plugin(self, key: str) -> dict[str, Any]:
        ref = self._source.data.get(key)
        if ref is None:
            return {}
        try:
            name, arguments = components.split(ref)
        except ComponentError as error:
            self._adopt(error, (key,))
            return {}
        return {name: arguments}

    def _adopt(self, error: ComponentError, path: YamlPath) -> None:
        for problem in error.problems:
            placed = Problem(
                problem.message, (*path, *problem.path), problem.tip, on_key=problem.on_key
            )
            if placed not in self._problems:
                self._problems.append(placed)

    def _knobs(self) -> dict[str, Node]:
        data, search, train = self._source.data, self._mapping("search"), self._mapping("train")
        self._known(search, ("search",), list(_SEARCH))
        if "search" in data:
            for key in ("beta_norm", "likelihood"):
                if key not in search:
                    self._problems.append(
                        Problem(f"`search.{key}` is missing", ("search",), f"add `{key}: …`")
                    )
        knobs: dict[str, Node] = {}
        for name in _ORDER:
            place, path = (
                (data, (name,))
                if name in _TOP
                else (train, ("train", name))
                if name in _TRAIN
                else (search, ("search", name))
            )
            if place.get(name) is not None:
                knobs[name] = self._node(place[name], path, name)
            elif name in _DEFAULTS:
                knobs[name] = _DEFAULTS[name]
        return knobs

    def _node(self, raw: Any, path: YamlPath, knob: str) -> Node:
        before = len(self._problems)
        node = self._parse(raw, path, knob)
        if len(self._problems) > before:
            return Fixed(None)
        if knob in _NUMBERS:
            found = [_NUMBERS[knob].problem(value, path) for value in node.examples()]
            self._problems += list(dict.fromkeys(problem for problem in found if problem))
        return node

    def _parse(self, raw: Any, path: YamlPath, knob: str) -> Node:
        """A node of a knob: a leaf of the search, a component, or a value."""
        if isinstance(raw, dict) and len(raw) == 1:
            ((key, inner),) = raw.items()
            if key == "choice":
                return self._choice(inner, (*path, key), knob)
            if key in _LEAVES:
                if knob in _COMPONENTS:
                    name = ".".join(map(str, path))
                    self._problems.append(
                        Problem(f"`{name}` takes names, not a range of numbers", path)
                    )
                    return Fixed(None)
                return self._range(inner, (*path, key), _LEAVES[key])
        if knob in _COMPONENTS:
            return self._call(raw, path, knob)
        return Fixed(tuple(raw) if isinstance(raw, list) else raw)

    def _choice(self, inner: Any, path: YamlPath, knob: str) -> Node:
        if not isinstance(inner, list) or not inner:
            self._problems.append(
                Problem(f"`choice` must be a list of at least one option, got `{inner}`", path)
            )
            return Fixed(None)
        options = tuple(self._parse(raw, (*path, i), knob) for i, raw in enumerate(inner))
        choice = Choice(options)
        doubled = {label for label in choice.labels if choice.labels.count(label) > 1}
        for label in sorted(doubled - {"None"}):
            self._problems.append(
                Problem(f"`{label}` stands twice in this choice", path, "name each option once")
            )
        return choice

    def _range(self, bounds: Any, path: YamlPath, kind: Range) -> Node:
        leaf = path[-1]
        numbers = isinstance(bounds, list) and all(
            isinstance(b, int | float) and not isinstance(b, bool) and math.isfinite(b)
            for b in bounds
        )
        if not numbers or len(bounds) != 2:
            self._problems.append(
                Problem(f"`{leaf}` must be two numbers [low, high], got `{bounds}`", path)
            )
            return Fixed(None)
        low, high = bounds
        if kind.whole and not (low == int(low) and high == int(high)):
            self._problems.append(Problem(f"`{leaf}` takes whole numbers, got {bounds}", path))
        elif not low < high:
            tip = "swap them" if low > high else "give the value itself to fix it"
            self._problems.append(
                Problem(f"`{leaf}`: low {low:g} is not below high {high:g}", path, tip)
            )
        elif kind.log and low <= 0:
            self._problems.append(
                Problem(
                    f"`{leaf}`: low {low:g} must be above 0",
                    path,
                    f"use a small positive bound, or `{'int' if kind.whole else 'uniform'}`",
                )
            )
        return Range(low, high, log=kind.log, whole=kind.whole)

    def _call(self, raw: Any, path: YamlPath, family: str) -> Node:
        try:
            name, arguments = components.split(raw)
        except ComponentError as error:
            self._adopt(error, path)
            return Fixed(None)
        before = len(self._problems)
        call = Call(
            name,
            tuple(
                (key, self._parse(value, (*path, name, key), "argument"))
                for key, value in arguments.items()
            ),
        )
        if len(self._problems) == before:
            for example in call.examples():
                try:
                    components.build(family, example)
                except ComponentError as error:
                    self._adopt(error, path)
        return call


def _default_pruner(epochs: int) -> dict[str, Any]:
    return {"MedianPruner": {"n_startup_trials": 5, "n_warmup_steps": math.ceil(epochs / 4)}}
