"""Components by file name or import path."""

import dataclasses
import sys
from pathlib import Path

import pytest

from tune_vae.errors import Problem
from tune_vae.science.schedules.linear import Linear
from tune_vae.spec import components
from tune_vae.spec.components import FAMILIES, ComponentError

EVERY = [(family, name) for family in FAMILIES for name in components.names(family)]
every_component = pytest.mark.parametrize(("family", "name"), EVERY)

MODULE = """
from dataclasses import dataclass, field

from torch import Tensor

from tune_vae.science.schedules import Schedule


@dataclass(frozen=True)
class Square(Schedule):
    power: float = 2.0

    def weight(self, progress_T: Tensor) -> Tensor:
        return progress_T**self.power


@dataclass(frozen=True)
class Unfinished(Schedule):
    power: float = 2.0


@dataclass
class Thawed(Schedule):
    def weight(self, progress_T: Tensor) -> Tensor:
        return progress_T


class Plain(Schedule):
    def weight(self, progress_T: Tensor) -> Tensor:
        return progress_T


@dataclass(frozen=True)
class Needy(Square):
    floor: float = field(kw_only=True)


def square() -> Square:
    return Square()
"""


@pytest.fixture
def my_schedules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_schedules.py").write_text(MODULE)
    (tmp_path / "half_written.py").write_text("class Square(\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_schedules", raising=False)
    return "my_schedules"


def problem_of(family: str, ref: object) -> Problem:
    with pytest.raises(ComponentError) as refused:
        components.build(family, ref)
    (problem,) = refused.value.problems
    return problem


def test_names_are_the_files_of_the_family() -> None:
    assert {"constant", "cyclical", "linear", "sigmoid"} <= set(components.names("schedule"))
    for family in FAMILIES:
        names = components.names(family)
        assert names == sorted(names) != []
        assert "__init__" not in names


@every_component
def test_every_component_loads_by_its_file_name(family: str, name: str) -> None:
    built = components.build(family, name)
    assert isinstance(built, components.contract(family))
    assert type(built).__module__ == f"{FAMILIES[family][0]}.{name}"
    assert built == components.build(family, {name: {}}) == components.build(family, {name: None})


@every_component
def test_every_component_refuses_an_unknown_argument(family: str, name: str) -> None:
    problem = problem_of(family, {name: {"bogus_argument": 1}})
    assert problem.message == f"unknown key `bogus_argument` in `{name}`"
    assert problem.path == (name, "bogus_argument")
    assert problem.on_key
    known = [f.name for f in dataclasses.fields(components.find(family, name))]
    what = f"known: {', '.join(sorted(known))}" if known else "it takes no arguments"
    assert problem.tip == what


@every_component
def test_every_component_takes_the_values_it_has(family: str, name: str) -> None:
    built = components.build(family, name)
    values = dataclasses.asdict(built)
    assert components.build(family, {name: values}) == built


def test_arguments_reach_the_component() -> None:
    assert components.build("schedule", {"linear": {"warmup": 0.5}}) == Linear(warmup=0.5)
    assert components.build("schedule", {"linear": {"warmup": 1}}) == Linear(warmup=1.0)
    assert components.build("network", {"mlp": {"hidden": [8, 4]}}).hidden == (8, 4)


@pytest.mark.parametrize(
    ("family", "ref", "message", "path"),
    [
        ("schedule", {"linear": {"warmup": True}}, "must be a number, got `true`", ("warmup",)),
        ("schedule", {"linear": {"warmup": "half"}}, "must be a number, got `half`", ("warmup",)),
        ("schedule", {"linear": {"warmup": None}}, "must be a number, got `null`", ("warmup",)),
        ("schedule", {"linear": {"warmup": float("nan")}}, "above 0 and at most 1", ("warmup",)),
        ("schedule", {"cyclical": {"cycles": 2.5}}, "must be a whole number", ("cycles",)),
        ("schedule", {"cyclical": {"cycles": 0}}, "at least 1, got 0", ("cycles",)),
        ("network", {"mlp": {"hidden": 64}}, "must be a list, got `64`", ("hidden",)),
        ("network", {"mlp": {"hidden": [64, "x"]}}, "mlp.hidden.1` must be", ("hidden", 1)),
        ("likelihood", {"gaussian": {"link": "log"}}, "'sigmoid' or 'identity'", ("link",)),
    ],
)
def test_wrong_value_is_placed_at_its_argument(
    family: str, ref: dict[str, object], message: str, path: tuple[str | int, ...]
) -> None:
    problem = problem_of(family, ref)
    assert message in problem.message
    assert problem.path == (*ref, *path)


def test_several_wrong_arguments_are_all_found() -> None:
    with pytest.raises(ComponentError, match="warmup") as refused:
        components.build("schedule", {"sigmoid": {"warmup": "x", "steepness": "y", "warm": 1}})
    assert [problem.path[-1] for problem in refused.value.problems] == [
        "warmup",
        "steepness",
        "warm",
    ]


@pytest.mark.parametrize("ref", [None, 3, [], ["linear"], {}, {"linear": {}, "constant": {}}])
def test_reference_is_a_name_or_one_name_with_arguments(ref: object) -> None:
    assert "expected a name, or one name with its arguments" in problem_of("schedule", ref).message


def test_unknown_name_is_answered_with_the_nearest_or_all() -> None:
    near = problem_of("schedule", "liner")
    assert (near.message, near.tip) == ("unknown schedule `liner`", "did you mean `linear`?")
    known = components.names("network")
    assert problem_of("network", "zzz").tip == f"known: {', '.join(known)}"


@pytest.mark.parametrize("name", ["__init__", "../linear", "Linear", "", "linear.py"])
def test_only_the_files_of_a_family_are_names(name: str) -> None:
    assert problem_of("schedule", name).message == f"unknown schedule `{name}`"


def test_import_path_stands_where_a_name_stands(my_schedules: str) -> None:
    built = components.build("schedule", {f"{my_schedules}:Square": {"power": 3}})
    assert dataclasses.asdict(built) == {"power": 3.0}
    assert problem_of("schedule", {f"{my_schedules}:Square": {"pow": 3}}).tip == (
        "did you mean `power`?"
    )


@pytest.mark.parametrize(
    ("path", "message", "tip"),
    [
        ("my_schedules:Cube", "cannot import `my_schedules:Cube`", "must be installed"),
        ("half_written:Square", "cannot import `half_written:Square`", "must be installed"),
        ("not_there:Square", "No module named 'not_there'", "must be installed"),
        ("my_schedules:Unfinished", "is not complete", "define `weight`"),
        ("my_schedules:Thawed", "is not a schedule", "a frozen dataclass"),
        ("my_schedules:Plain", "is not a schedule", "a frozen dataclass"),
        ("my_schedules:square", "is not a schedule", "tune_vae.science.schedules.Schedule"),
        ("tune_vae.science.networks.mlp:Mlp", "is not a schedule", "schedules.Schedule"),
        ("tune_vae.science.schedules:Schedule", "is not a schedule", "a frozen dataclass"),
        ("os:system", "`os:system` is not a schedule", "a frozen dataclass"),
        ("my_schedules:", "is no import path", "write `module:Class`"),
        (":Square", "is no import path", "write `module:Class`"),
        (".my_schedules:Square", "is no import path", "write `module:Class`"),
        ("my_schedules:Square:Cube", "is no import path", "write `module:Class`"),
    ],
)
def test_import_path_to_what_is_no_such_component_is_refused(
    my_schedules: str, path: str, message: str, tip: str
) -> None:
    problem = problem_of("schedule", path)
    assert message in problem.message
    assert tip in problem.tip
    assert problem.path == (path,)


def test_argument_without_a_default_must_be_given(my_schedules: str) -> None:
    name = f"{my_schedules}:Needy"
    problem = problem_of("schedule", name)
    assert problem.message == f"`{name}.floor` is missing"
    assert (problem.path, problem.tip, problem.on_key) == ((name,), "add `floor: …`", True)
    assert components.build("schedule", {name: {"floor": 0.5}}).floor == 0.5


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Two studies, each with a module of the same name beside it, and an empty third folder."""
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    monkeypatch.setattr(components, "_folder", None)
    monkeypatch.delitem(sys.modules, "beside", raising=False)
    monkeypatch.delitem(sys.modules, "in_package.inner", raising=False)
    monkeypatch.delitem(sys.modules, "in_package", raising=False)
    found = {name: tmp_path / name for name in ("one", "other", "empty")}
    for folder in found.values():
        folder.mkdir()
    for name in ("one", "other"):
        (found[name] / "beside.py").write_text(MODULE)
    (found["one"] / "in_package").mkdir()
    (found["one"] / "in_package" / "__init__.py").write_text("")
    (found["one"] / "in_package" / "inner.py").write_text(MODULE)
    monkeypatch.chdir(found["empty"])
    return found


def test_module_lies_beside_the_study_file(folders: dict[str, Path]) -> None:
    assert "No module named 'beside'" in problem_of("schedule", "beside:Square").message
    components.imports_from(folders["one"])
    assert components.build("schedule", "beside:Square").power == 2
    assert components.build("schedule", "in_package.inner:Square").power == 2
    assert sys.modules["beside"].__file__ == str(folders["one"] / "beside.py")


def test_folder_may_be_given_from_where_one_stands(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is found from everywhere afterwards."""
    monkeypatch.chdir(folders["one"].parent)
    components.imports_from(Path("one"))
    monkeypatch.chdir(folders["empty"])
    assert components.build("schedule", "beside:Square").power == 2


def test_module_beside_the_study_comes_before_one_where_one_stands(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders["other"])
    components.imports_from(folders["one"])
    components.build("schedule", "beside:Square")
    assert sys.modules["beside"].__file__ == str(folders["one"] / "beside.py")


def test_module_where_one_stands_is_found_as_well(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders["one"])
    components.imports_from(folders["empty"])
    assert components.build("schedule", "beside:Square").power == 2


def test_module_of_another_study_is_not_taken_for_ones_own(folders: dict[str, Path]) -> None:
    components.imports_from(folders["one"])
    components.build("schedule", "beside:Square")
    components.imports_from(folders["other"])
    problem = problem_of("schedule", "beside:Square")
    assert str(folders["one"] / "beside.py") in problem.message
    assert "another name" in problem.tip
    # A study without such a module means the one that is there.
    components.imports_from(folders["empty"])
    assert components.build("schedule", "beside:Square").power == 2


def test_module_that_raises_is_told_and_not_raised(folders: dict[str, Path]) -> None:
    (folders["one"] / "raising.py").write_text("1 / 0")
    components.imports_from(folders["one"])
    problem = problem_of("schedule", "raising:Square")
    assert "cannot import `raising:Square`: ZeroDivisionError: division by zero" in problem.message
