"""The study file: everything a search needs to know, typed and frozen.

A study is read in three steps: YAML to plain values with places (`source`), sections of plain
values by pydantic, and what may be searched by `knobs`. All problems of a file are reported at
once.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tune_vae.errors import Problem, masked
from tune_vae.science.health import Limits
from tune_vae.science.history import OBJECTIVES
from tune_vae.spec import components
from tune_vae.spec.components import ComponentError
from tune_vae.spec.knobs import KNOBS, KnobReader, adopt
from tune_vae.spec.source import Source, YamlPath, nearest, read, shown
from tune_vae.spec.space import Auto, Node, Range, Suggest

if TYPE_CHECKING:
    from tune_vae.data import Dataset

__all__ = [
    "AUTO",
    "GRAPH_KNOBS",
    "PLAIN_PRECISION",
    "SERVER",
    "VARIABLES",
    "Budget",
    "RayOptions",
    "Storage",
    "StudyOutline",
    "StudySpec",
    "Training",
    "is_url",
]


AUTO = 0
"""`pack: auto`, until it is known how many trials that is."""
PLAIN_PRECISION: Literal["float32"] = "float32"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Training(_Section):
    """`train:` How each trial is trained.

    Arguments:
        epochs: Passes over the training images.
        pack: Trials that one worker trains as one program; 1 for one by one, `auto` for as many
            as a short timing finds worth it. 0 stands for `auto`.
        seed: Seed of the whole study: weights, data order, noise and what is suggested.
        rollbacks: How often a trial whose loss is lost goes back to the epoch before, at half
            its learning rate, before it ends.
        precision: Of the networks' products, `float32` or `bfloat16`; see `science.precision`.
    """

    epochs: int = Field(default=40, ge=1, le=1_000_000)
    pack: int = Field(default=1, ge=0, le=1024)
    seed: int = Field(default=0, ge=0, lt=2**63)
    rollbacks: int = Field(default=1, ge=0, le=100)
    precision: Literal["float32", "bfloat16"] = PLAIN_PRECISION

    @field_validator("pack", mode="before")
    @classmethod
    def _auto(cls, given: object) -> object:
        if given == 0:
            raise ValueError("a pack has at least one trial, or as many as `auto` finds worth it")
        return AUTO if given == "auto" else given


class Budget(_Section):
    """`budget:` How much may be spent.

    Arguments:
        trials: Configurations to try, over all machines and restarts.
        hours: Stop asking for new trials after this much searching; none by default.
        patience: Stop asking for new trials when so many have ended without a notable
            improvement; see `StudyResults.idle`. None by default.
        gpus_per_trial: Share of a GPU for each pack; by default 0.25 where there is a GPU, else 0.
        cpus_per_trial: CPU cores for each pack.
        concurrency: Most packs at once; by default what the machine or the cluster has room for.
        retries: How often in a row a trial may be interrupted without finishing an epoch before
            it counts as failed.
        seeds: With how many seeds each finalist is trained in all, its trial included; 1 for no
            repeats. Repeats come after the trials and are not counted among them.
        finalists: How many trials are repeated; see `service.finalists`.
    """

    trials: int = Field(default=30, ge=1, le=1_000_000)
    hours: float | None = Field(default=None, gt=0)
    patience: int | None = Field(default=None, ge=1, le=1_000_000)
    gpus_per_trial: float | None = Field(default=None, ge=0, le=64)
    cpus_per_trial: float = Field(default=1.0, gt=0, le=1024)
    concurrency: int | None = Field(default=None, ge=1, le=100_000)
    retries: int = Field(default=3, ge=0, le=1000)
    seeds: int = Field(default=1, ge=1, le=1000)
    finalists: int = Field(default=3, ge=1, le=1000)


class Storage(_Section):
    """`storage:` Where the study lives. Relative paths start at the current folder.

    An environment variable named in `VARIABLES` takes precedence over the file, and the file over
    the default. So a password stands in the environment of a machine and in no file.

    Arguments:
        ledger: SQLAlchemy URL of Optuna's storage.
        tracking: URI of the MLflow tracking store or server.
        artifacts: Folder or URL of MLflow's pictures and checkpoints, when the store is a
            database.
        checkpoints: Folder or fsspec URL of the checkpoints.
    """

    ledger: str = "sqlite:///mlruns/studies.db"
    tracking: str = "sqlite:///mlruns/mlflow.db"
    artifacts: str = "mlruns/artifacts"
    checkpoints: str = "mlruns/checkpoints"

    def __repr_args__(self) -> Iterator[tuple[str, str]]:
        # What is printed, also by a traceback with its variables, shows no password.
        return ((key, masked(value)) for key, value in self)

    def overridden(self, environment: Mapping[str, str]) -> "Storage":
        """The places with those that environment variables name instead.

        Example:
            >>> Storage().overridden({"TUNE_VAE_CHECKPOINTS": "s3://bucket/vae"}).checkpoints
            's3://bucket/vae'
        """
        given = {key: environment.get(name, "").strip() for key, name in VARIABLES.items()}
        return self.model_copy(update={key: value for key, value in given.items() if value})

    def at(self, folder: Path) -> "Storage":
        """The same places, named so that a process in any other folder finds them.

        Example:
            >>> Storage().at(Path("/home/me")).ledger
            'sqlite:////home/me/mlruns/studies.db'
        """
        sqlite = "sqlite:///"

        def place(given: str) -> str:
            if given.startswith(sqlite):
                return f"{sqlite}{folder / given[len(sqlite) :]}"
            return given if is_url(given) else str(folder / given)

        return Storage(**{key: place(value) for key, value in self})


VARIABLES = {name: f"TUNE_VAE_{name.upper()}" for name in Storage.model_fields}
"""Environment variables by key of `storage`."""
SERVER = "TUNE_VAE_SERVER"
"""The one that names a server of all stores."""


def is_url(place: str) -> bool:
    """Whether a place is named by an URL and not by a path.

    Example:
        >>> is_url("s3://bucket/vae"), is_url("mlruns/checkpoints")
        (True, False)
    """
    return "://" in place


class RayOptions(_Section):
    """`ray:` Which cluster to use.

    Arguments:
        address: Address of a running cluster, or `auto`; by default RAY_ADDRESS, else a cluster
            of this machine alone that ends with the search.
    """

    address: str | None = None


GRAPH_KNOBS = ("network", "latent_dim", "batch_size", "likelihood", "sigma", "prior")
"""Knobs that change the graph: the trials of one pack have them in common."""

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
    "known_good",
    "conditional",
    "storage",
    "ray",
)
_SECTIONS: dict[str, tuple[str, ...]] = {
    "search": tuple(name for name, knob in KNOBS.items() if knob.home == "search"),
    "train": (*Training.model_fields, *(n for n, knob in KNOBS.items() if knob.home == "train")),
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


@dataclass(frozen=True, kw_only=True)
class StudyOutline:
    """A study but for its space: enough to find it, and to tell how it stands.

    The names in a space stand for classes that import PyTorch, for which a person who only wants
    to know how far a search has come would wait longer than for all else.

    Arguments:
        name: Of the study, its MLflow experiment and its folder of checkpoints.
        objective: One or two names from `OBJECTIVES`, each to be minimised.
        train, budget, storage, ray: Sections of the file.
        source: The file, for saying where in it something stands.
        server: Of a `tune-vae serve`, where its stores are; empty if they are named otherwise.
    """

    name: str
    objective: tuple[str, ...]
    train: Training
    budget: Budget
    storage: Storage
    ray: RayOptions
    source: Source = field(compare=False, repr=False)
    server: str = field(default="", compare=False)

    @property
    def operand(self) -> str:
        """What a command is given to find this study: its file, and the server if there is one."""
        return f"{self.file} --server {self.server}" if self.server else self.file

    @property
    def file(self) -> str:
        """Path of the study file as given."""
        return self.source.file

    @classmethod
    def load(cls, file: str | Path) -> "StudyOutline":
        """Read a study file; what its space holds is not looked at.

        Raises:
            StudyFileError: With everything that is wrong with the rest of it.
        """
        return replace(_Parser(read(Path(file))).outline(), server=os.environ.get(SERVER, ""))


@dataclass(frozen=True, kw_only=True)
class StudySpec(StudyOutline):
    """A study as its file states it.

    Arguments:
        data: Reference of the data set.
        knobs: What each trial is made of, by name: fixed, or open to the search.
        health: Section of the file.
        sampler, pruner: Optuna classes, or `ParetoPruner`: `{name: arguments}`.
        known_good: Whether what is known to be good is tried first; see `spec.known_good`.
        conditional: Whether encoder and decoder are told the label of each example.
        bounds: What `beta_norm: auto` came to; None if the file does not say so, or before.
        folder: Where the file lies, and beside it the modules that its import paths name; empty
            for a study that is no file.

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

    data: dict[str, Any]
    knobs: Mapping[str, Node]
    health: Limits
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    known_good: bool = True
    conditional: bool = False
    bounds: tuple[float, float] | None = None
    folder: str = field(default="", compare=False)

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
        source, folder = read(Path(file)), Path(file).absolute().parent
        components.imports_from(folder)
        server = os.environ.get(SERVER, "")
        return replace(_Parser(source).study(), folder=str(folder), server=server)

    @classmethod
    def parse(cls, text: str) -> "StudySpec":
        """The same for a text, for tests and notebooks."""
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "study.yaml"
            file.write_text(text, encoding="utf-8")
            return _Parser(read(file)).study()

    def enable_imports(self) -> None:
        """What `load` did for import paths, in another process that received the study."""
        if self.folder:
            components.imports_from(Path(self.folder))

    def dataset(self) -> "Dataset":
        """The data set, not yet loaded."""
        built: Dataset = components.build("dataset", self.data)
        return built

    def draw(self, suggest: Suggest) -> dict[str, Any]:
        """One value for every knob, open ones chosen by `suggest`.

        The sigma mode is asked only of likelihoods that have a scale, and is None for others.
        """
        drawn: dict[str, Any] = {}
        for name in KNOBS:
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
        return dict(self.knobs) | _Parser(Source("the values given", "")).given(values)

    @property
    def undecided(self) -> bool:
        """Whether the bounds of beta_norm are still to follow from the data."""
        return isinstance(self.knobs["beta_norm"], Auto)

    def with_bounds(self, low: float, high: float) -> "StudySpec":
        """The study with what its `beta_norm: auto` came to."""
        knobs = dict(self.knobs) | {"beta_norm": Range(low, high, log=True)}
        return replace(self, knobs=knobs, bounds=(low, high))

    def with_pack(self, size: int) -> "StudySpec":
        """The study with what its `pack: auto` comes to."""
        return replace(self, train=self.train.model_copy(update={"pack": size}))

    def with_seeds(self, seeds: int, *, finalists: int) -> "StudySpec":
        """The study with other repeats; see `Budget`."""
        changes = {"seeds": seeds, "finalists": finalists}
        budget = Budget.model_validate(self.budget.model_dump() | changes)
        return replace(self, budget=budget)

    def space_digest(self) -> str:
        """Fingerprint of what makes trials comparable: all but budget, storage and resources."""
        content: dict[str, Any] = {
            "data": self.data,
            "objective": self.objective,
            # One that is as it would be unsaid is left out, so that a knob which a later
            # version adds does not make a study another.
            "knobs": {
                name: repr(self.knobs[name])
                for name, knob in KNOBS.items()
                if self.knobs[name] != knob.default
            },
            "train": {
                "epochs": self.train.epochs,
                "seed": self.train.seed,
                **self._unusual_precision(),
            },
        }
        if self.conditional:
            content["conditional"] = True
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def space_content(self) -> dict[str, str]:
        """The same for a person: by place in the file, what stands there."""
        knobs = {
            f"{knob.home}.{name}".lstrip("."): self.knobs[name].describe()
            for name, knob in KNOBS.items()
            if self.knobs[name] != knob.default
        }
        return {
            "data": shown(self.data).strip("`"),
            "objective": ", ".join(self.objective),
            **knobs,
            "train.epochs": str(self.train.epochs),
            "train.seed": str(self.train.seed),
            **{f"train.{key}": value for key, value in self._unusual_precision().items()},
        }

    def _unusual_precision(self) -> dict[str, str]:
        """Like a knob, left out where it is as it would be unsaid."""
        precision = self.train.precision
        return {} if precision == PLAIN_PRECISION else {"precision": precision}

    def renamed(self, name: str) -> str:
        """The text of the file with another name of the study.

        Raises:
            StudyFileError: It cannot be the name of a study.
        """
        line, column, width = self.source.values["study",]
        lines = self.text.splitlines(keepends=True)
        before, after = lines[line - 1][: column - 1], lines[line - 1][column - 1 + width :]
        # In quotes, because a name such as 1e3 is a number in YAML.
        lines[line - 1] = f"{before}{json.dumps(name)}{after}"
        text = "".join(lines)
        StudySpec.parse(text)
        return text


def has_scale(likelihood: object) -> bool:
    """Whether a likelihood reference names one with a scale."""
    return bool(components.find("likelihood", components.split(likelihood)[0]).has_scale)  # type: ignore[attr-defined]


class _Parser:
    """One pass over the plain values of a file, collecting problems as it goes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._problems = source.problems
        self._reader = KnobReader(source.problems)

    def outline(self) -> StudyOutline:
        shared = self._shared()
        self._source.fail()
        return StudyOutline(**shared)

    def _shared(self) -> dict[str, Any]:
        """What an outline has; all keys of the file are looked at."""
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
        for key, known in _SECTIONS.items():
            given = data.get(key)
            if isinstance(given, dict):
                self._known(given, (key,), known)
            elif given is not None:
                self._problems.append(
                    Problem(f"`{key}` must hold keys and values, got {shown(given)}", (key,))
                )
        self._required(data, (), _REQUIRED)
        storage = self._section(Storage, "storage")
        self._refuse_passwords(storage)
        return {
            "name": self._name(),
            "objective": self._objective(),
            "train": self._section(Training, "train"),
            "budget": self._section(Budget, "budget"),
            "storage": storage.overridden(os.environ),
            "ray": self._section(RayOptions, "ray"),
            "source": self._source,
        }

    def study(self) -> StudySpec:
        shared = self._shared()
        sections = {
            "health": self._section(Limits, "health"),
        }
        reference, knobs = self._data(), self._knobs()
        sampler, pruner = self._reference("sampler"), self._reference("pruner")
        known_good = self._flag(
            "known_good",
            "true tries constants of the literature first, false nothing of the kind",
            default=True,
        )
        conditional = self._flag(
            "conditional",
            "true tells encoder and decoder the label of each example, which the data must have",
            default=False,
        )
        self._source.fail()
        return StudySpec(
            data=reference,
            knobs=knobs,
            sampler=sampler or {"TPESampler": {}},
            pruner=pruner or _default_pruner(shared["train"].epochs, shared["objective"]),
            known_good=known_good,
            conditional=conditional,
            **sections,
            **shared,
        )

    def given(self, values: Mapping[str, Any]) -> dict[str, Node]:
        """Knobs from plain values."""
        self._known(values, (), tuple(KNOBS))
        knobs = {
            name: self._reader.read(name, value, (name,))
            for name, value in values.items()
            if name in KNOBS
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
        known, section = _SECTIONS[key], self._mapping(key)
        try:
            plain = {k: v for k, v in section.items() if k in known and k not in KNOBS}
            return components.typed(kind, plain)
        except ValidationError as error:
            self._problems += components.problems_of(error, (key,), list(known))
            return kind()

    def _refuse_passwords(self, storage: Storage) -> None:
        """A study file is copied into the ledger and into MLflow, and lies in a repository."""
        for key, value in storage:
            if masked(value) != value:
                self._problems.append(
                    Problem(
                        f"`storage.{key}` holds a password, which has no place in a study file",
                        ("storage", key),
                        f"remove `{key}` here and set {VARIABLES[key]} in the environment to it",
                        on_key=True,
                    )
                )

    def _name(self) -> str:
        name = self._source.data.get("study")
        if name is None:
            return ""
        text = str(name) if isinstance(name, str | int) and not isinstance(name, bool) else ""
        safe = text.replace("-", "").replace("_", "").replace(".", "")
        if not (safe.isascii() and safe.isalnum() and text[0].isalnum() and len(text) <= 64):
            self._problems.append(
                Problem(
                    f"`study` must be a name of letters, digits, `-`, `_` and `.`, at most 64, "
                    f"beginning with a letter or digit, got {shown(name)}",
                    ("study",),
                )
            )
        return text

    def _objective(self) -> tuple[str, ...]:
        given = self._source.data.get("objective")
        if given is None:
            return ("bits_per_dim",)
        several = given if isinstance(given, list) else [given]
        if not 1 <= len(several) <= 2 or several[:1] == several[1:]:
            self._problems.append(
                Problem(
                    f"`objective` must be one name or two different ones, got {shown(given)}",
                    ("objective",),
                    nearest("", list(OBJECTIVES)),
                )
            )
        for index, name in enumerate(several):
            if name not in list(OBJECTIVES):
                path = ("objective", index) if isinstance(given, list) else ("objective",)
                self._problems.append(
                    Problem(
                        f"unknown objective {shown(name)}",
                        path,
                        nearest(str(name), list(OBJECTIVES)),
                    )
                )
        return tuple(several)

    def _flag(self, key: str, tip: str, *, default: bool) -> bool:
        given = self._source.data.get(key)
        if not isinstance(given, bool | None):
            self._problems.append(
                Problem(f"`{key}` must be true or false, got {shown(given)}", (key,), tip)
            )
        return default if given is None else given is True

    def _data(self) -> dict[str, Any]:
        given = self._source.data.get("data")
        if isinstance(given, dict) and "choice" in given:
            self._problems.append(
                Problem("`data` is the same for all trials of a study", ("data",), "name one")
            )
            return {}
        ref = self._reference("data")
        if ref:
            try:
                components.build("dataset", ref)
            except ComponentError as error:
                adopt(self._problems, error, ("data",))
        return ref

    def _reference(self, key: str) -> dict[str, Any]:
        ref = self._source.data.get(key)
        if ref is None:
            return {}
        try:
            name, arguments = components.split(ref)
        except ComponentError as error:
            adopt(self._problems, error, (key,))
            return {}
        return {name: arguments}

    def _knobs(self) -> dict[str, Node]:
        data = self._source.data
        if isinstance(data.get("search"), dict):
            self._required(data["search"], ("search",), _SEARCH_REQUIRED)
        knobs: dict[str, Node] = {}
        for name, knob in KNOBS.items():
            place = self._mapping(knob.home) if knob.home else data
            path = (knob.home, name) if knob.home else (name,)
            if place.get(name) is not None:
                knobs[name] = self._reader.read(name, place[name], path)
            elif knob.default:
                knobs[name] = knob.default
        return knobs


def _tip(key: str, known: Sequence[str]) -> str:
    """Where an unknown key belongs, or what it may have been meant for."""
    home = next((section for section, keys in _SECTIONS.items() if key in keys), "")
    if home:
        return f"it belongs in `{home}`"
    return "it belongs at the top level" if key in _KEYS else nearest(key, known)


def _default_pruner(epochs: int, objective: tuple[str, ...]) -> dict[str, Any]:
    """Halving from an eighth of the epochs on; of two objectives, from a sixteenth.

    Replayed over stored trainings (`tests/benchmarks/searches/pruners.py`) it reaches better
    values sooner than a median pruner, and hardly ever stops a trial that would have won.
    """
    if len(objective) > 1:
        return {"ParetoPruner": {"min_resource": math.ceil(epochs / 16)}}
    rungs = {"min_resource": math.ceil(epochs / 8), "reduction_factor": 2}
    return {"SuccessiveHalvingPruner": rungs}
