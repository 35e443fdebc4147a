"""Which knobs there are, and how a file leaves them open."""

import math

import pytest

from tune_vae.errors import Problem
from tune_vae.spec.components import FAMILIES
from tune_vae.spec.knobs import KNOBS, KnobReader, Number
from tune_vae.spec.space import Call, Choice, Fixed, Node, Range

NUMBERS = {name: knob.takes for name, knob in KNOBS.items() if knob.takes}


def read(name: str, raw: object) -> tuple[Node, list[Problem]]:
    problems: list[Problem] = []
    return KnobReader(problems).read(name, raw, ("search", name)), problems


def problem_of(name: str, raw: object) -> Problem:
    _, (problem,) = read(name, raw)
    return problem


def test_every_knob_takes_numbers_or_the_components_of_its_name() -> None:
    assert {name for name, knob in KNOBS.items() if not knob.takes} < FAMILIES.keys()


@pytest.mark.parametrize("name", [name for name, knob in KNOBS.items() if knob.default])
def test_every_default_would_be_allowed_in_the_file(name: str) -> None:
    default = KNOBS[name].default
    assert isinstance(default, Fixed | Call)
    raw = default.value if isinstance(default, Fixed) else default.name
    assert read(name, raw) == (default, [])


@pytest.mark.parametrize(("name", "number"), NUMBERS.items(), ids=NUMBERS)
def test_bounds_of_a_number_are_where_they_are_stated(name: str, number: Number) -> None:
    def refused(value: float) -> bool:
        return bool(read(name, value)[1])

    assert refused(number.low) is not number.low_allowed
    assert refused(number.low - 1)
    assert refused(math.nan)
    assert refused(math.nextafter(number.high, math.inf)) is math.isfinite(number.high)
    assert refused(number.high) is (math.isinf(number.high) and number.whole)
    assert refused(1.5) is number.whole
    no_numbers: list[object] = [True, "1", None, [1], {}]
    for no_number in no_numbers:
        assert refused(number.low + 1) is False
        problem = problem_of(name, no_number)
        assert f"`search.{name}` must be a{' whole' * number.whole} number" in problem.message


def test_range_beyond_what_the_knob_takes_is_named_once() -> None:
    assert problem_of("beta_norm", {"uniform": [-2, -1]}).message == (
        "`search.beta_norm` must be at least 0, got -2"
    )
    assert "at most 65536" in problem_of("latent_dim", {"int": [1, 10**6]}).message


@pytest.mark.parametrize(
    ("raw", "node"),
    [
        ({"uniform": [0, 1]}, Range(0.0, 1.0)),
        ({"log_uniform": [1e-4, 1]}, Range(1e-4, 1.0, log=True)),
        ({"choice": [1, 0.5]}, Choice((Fixed(1), Fixed(0.5)))),
        ({"choice": [1, {"uniform": [2, 3]}]}, Choice((Fixed(1), Range(2.0, 3.0)))),
        (0.5, Fixed(0.5)),
    ],
)
def test_number_is_read_as_its_node(raw: object, node: Node) -> None:
    assert read("weight_decay", raw) == (node, [])


def test_whole_bounds_stay_whole_however_they_are_written() -> None:
    node, problems = read("latent_dim", {"int": [2.0, 8]})
    assert not problems
    assert list(map(type, node.examples())) == [int, int]


def test_component_is_read_with_what_is_open_in_it() -> None:
    raw = {"choice": ["constant", {"cyclical": {"cycles": {"int": [1, 4]}, "ramp": 1}}]}
    cyclical = Call("cyclical", (("cycles", Range(1, 4, whole=True)), ("ramp", Fixed(1))))
    assert read("schedule", raw) == (Choice((Call("constant"), cyclical)), [])


def test_list_of_an_argument_becomes_a_value_that_cannot_change() -> None:
    node, _ = read("network", {"mlp": {"hidden": [64, 32]}})
    assert node == Call("mlp", (("hidden", Fixed((64, 32))),))
    assert hash(node) == hash(node)


@pytest.mark.parametrize(
    ("bounds", "says"),
    [
        ([1], "two numbers"),
        ([1, 2, 3], "two numbers"),
        ("1, 2", "two numbers"),
        ([1, "2"], "two numbers"),
        ([False, True], "two numbers"),
        ([1, math.inf], "two numbers"),
        ({"low": 1, "high": 2}, "two numbers"),
        (None, "two numbers"),
        ([2, 1], "low 2 is not below high 1"),
        ([1, 1], "low 1 is not below high 1"),
    ],
)
@pytest.mark.parametrize("leaf", ["uniform", "log_uniform", "int", "log_int"])
def test_bounds_are_two_numbers_in_their_order(leaf: str, bounds: object, says: str) -> None:
    name = "latent_dim" if "int" in leaf else "lr"
    problem = problem_of(name, {leaf: bounds})
    assert says in problem.message
    assert problem.path == ("search", name, leaf)


@pytest.mark.parametrize("low", [0, -1])
def test_logarithm_needs_a_bound_above_zero(low: int) -> None:
    assert "or `int`" in problem_of("latent_dim", {"log_int": [low, 4]}).tip
    assert "or `uniform`" in problem_of("beta_norm", {"log_uniform": [low, 4]}).tip


def test_range_of_halves_is_no_range_of_whole_numbers() -> None:
    assert "whole numbers, got `[1.5, 4]`" in problem_of("latent_dim", {"int": [1.5, 4]}).message


@pytest.mark.parametrize(("leaf", "instead"), [("uniform", "int"), ("log_uniform", "log_int")])
def test_whole_knob_takes_no_range_of_real_numbers(leaf: str, instead: str) -> None:
    for name in ("latent_dim", "batch_size"):
        assert problem_of(name, {leaf: [2, 8]}).tip == f"use `{instead}`"
        assert not read(name, {instead: [2, 8]})[1]


def test_whole_argument_takes_no_range_of_real_numbers() -> None:
    problem = problem_of("schedule", {"cyclical": {"cycles": {"uniform": [1, 8]}}})
    assert "`cyclical.cycles` must be a whole number" in problem.message


@pytest.mark.parametrize(
    ("name", "raw", "key", "tip"),
    [
        ("lr", {"loguniform": [1, 2]}, "loguniform", "did you mean `log_uniform`?"),
        ("lr", {"Uniform": [1, 2]}, "Uniform", "did you mean `uniform`?"),
        (
            "lr",
            {"between": [1, 2]},
            "between",
            "known: choice, int, log_int, log_uniform, uniform",
        ),
        ("lr", {"value": 3}, "value", "known: choice, int, log_int, log_uniform, uniform"),
        ("schedule", {"choices": ["constant"]}, "choices", "did you mean `choice`?"),
    ],
)
def test_misspelt_kind_of_search_is_told_from_a_value(
    name: str, raw: object, key: str, tip: str
) -> None:
    problem = problem_of(name, raw)
    assert problem.message == f"unknown kind of search `{key}`"
    assert (problem.tip, problem.path, problem.on_key) == (tip, ("search", name, key), True)


def test_misspelt_kind_of_search_is_found_in_an_argument() -> None:
    problem = problem_of("schedule", {"linear": {"warmup": {"unifrom": [0.1, 0.2]}}})
    assert problem.tip == "did you mean `uniform`?"
    assert problem.path == ("search", "schedule", "linear", "warmup", "unifrom")


@pytest.mark.parametrize(
    ("name", "raw", "option"),
    [
        ("lr", [0.1, 0.2, 0.1], "0.1"),
        ("latent_dim", [4, 4.0], "4"),
        ("likelihood", ["gaussian", {"gaussian": {}}], "gaussian"),
        (
            "network",
            [{"mlp": {"hidden": [8]}}, "mlp", {"mlp": {"hidden": [8]}}],
            "mlp(hidden=[8])",
        ),
    ],
)
def test_option_that_stands_twice_is_pointed_at(name: str, raw: list[object], option: str) -> None:
    problem = problem_of(name, {"choice": raw})
    assert problem.message == f"`{option}` stands twice in this choice"
    assert problem.path == ("search", name, "choice", len(raw) - 1)


def test_every_option_and_every_bound_of_an_argument_is_tried() -> None:
    _, problems = read(
        "schedule",
        {"choice": [{"linear": {"warmup": {"uniform": [0, 0.5]}}}, {"cyclical": {"cycles": 0}}]},
    )
    assert [problem.path[3] for problem in problems] == [0, 1]


def test_problem_of_one_option_does_not_hide_that_of_another() -> None:
    _, problems = read("likelihood", {"choice": ["gausian", "bernouli", "gaussian"]})
    assert [problem.tip for problem in problems] == [
        "did you mean `gaussian`?",
        "did you mean `bernoulli`?",
    ]
