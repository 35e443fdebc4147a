"""What a study leaves open."""

from itertools import pairwise

import pytest

from tests.unit.spec.choosers import PlannedChooser, RandomChooser
from tune_vae.spec.space import Call, Choice, Fixed, Node, Range

LR = Range(1e-4, 1e-2, log=True)
SCHEDULES = Choice(
    (
        Call("constant"),
        Call("linear", (("warmup", Range(0.1, 0.5)),)),
        Call("cyclical", (("cycles", Range(1, 6, whole=True)), ("ramp", Fixed(0.5)))),
    )
)


def drawn(node: Node, name: str = "x", **plan: str) -> tuple[object, list[str]]:
    chooser = PlannedChooser({name.replace("_", "."): label for name, label in plan.items()})
    return node.draw(name, chooser), chooser.asked


def test_fixed_value_asks_nothing() -> None:
    assert drawn(Fixed(3)) == (3, [])
    assert not Fixed(3).open


def test_range_is_asked_under_the_name_of_its_knob() -> None:
    assert drawn(LR, "lr") == (1e-4, ["lr"])
    assert LR.open


def test_whole_range_draws_whole_numbers() -> None:
    for seed in range(20):
        value = Range(2, 5, whole=True).draw("latent_dim", RandomChooser(seed))
        assert type(value) is int
        assert 2 <= value <= 5


def test_argument_is_asked_under_its_full_name_and_only_when_its_option_is_chosen() -> None:
    assert drawn(SCHEDULES, "s", s="constant") == ({"constant": {}}, ["s"])
    assert drawn(SCHEDULES, "s", s="linear") == (
        {"linear": {"warmup": 0.1}},
        ["s", "s.linear.warmup"],
    )
    value, asked = drawn(SCHEDULES, "s", s="cyclical")
    assert value == {"cyclical": {"cycles": 1, "ramp": 0.5}}
    assert asked == ["s", "s.cyclical.cycles"]


def test_choice_of_one_asks_only_what_is_open_below_it() -> None:
    only = Choice((Call("linear", (("warmup", Range(0.1, 0.5)),)),))
    assert drawn(only, "s") == ({"linear": {"warmup": 0.1}}, ["s.linear.warmup"])
    assert only.open
    assert not Choice((Call("constant"),)).open


def test_two_options_of_one_component_are_asked_under_different_names() -> None:
    two = Choice(
        (
            Call("linear", (("warmup", Range(0.1, 0.2)),)),
            Call("linear", (("warmup", Range(0.5, 0.9)),)),
        )
    )
    asked = [drawn(two, "s", s=label)[1][-1] for label in two.labels]
    assert asked == ["s.0.linear.warmup", "s.1.linear.warmup"]


def test_range_and_choice_inside_a_choice_have_names_of_their_own() -> None:
    node = Choice((Fixed(0.1), LR, Choice((Fixed(1.0), Fixed(2.0)))))
    names: set[str] = set()
    for seed in range(30):
        chooser = RandomChooser(seed)
        value = node.draw("lr", chooser)
        assert value in (0.1, 1.0, 2.0) or 1e-4 <= value <= 1e-2
        names |= set(chooser.asked)
    assert names == {"lr", "lr.1", "lr.2"}


def test_component_goes_by_its_name_as_long_as_that_is_enough() -> None:
    assert SCHEDULES.labels == ["constant", "linear", "cyclical"]
    twice = Choice((Call("fixed", (("sigma", Fixed(0.1)),)), Call("fixed"), Call("optimal")))
    assert twice.labels == ["fixed(sigma=0.1)", "fixed", "optimal"]


def test_labels_of_close_numbers_differ() -> None:
    one, other = 0.1234567, 0.1234568
    assert Choice((Fixed(one), Fixed(other))).labels == ["0.1234567", "0.1234568"]


def test_label_of_a_list_is_the_users_own_notation() -> None:
    assert Choice((Fixed((64,)), Fixed((128, 64)))).labels == ["[64]", "[128, 64]"]


def test_chosen_label_gives_its_option() -> None:
    node = Choice((Fixed((64,)), Fixed((128, 64))))
    for option, label in zip(node.options, node.labels, strict=True):
        assert drawn(node, "hidden", hidden=label)[0] == option.draw("", RandomChooser())


def test_examples_reach_every_bound_and_every_option() -> None:
    assert list(LR.examples()) == [1e-4, 1e-2]
    assert list(SCHEDULES.examples()) == [
        {"constant": {}},
        {"linear": {"warmup": 0.1}},
        {"linear": {"warmup": 0.5}},
        {"cyclical": {"cycles": 1, "ramp": 0.5}},
        {"cyclical": {"cycles": 6, "ramp": 0.5}},
    ]


def test_examples_of_a_call_cycle_through_its_shorter_arguments() -> None:
    call = Call("c", (("a", Choice((Fixed(1), Fixed(2), Fixed(3)))), ("b", Range(0.0, 1.0))))
    rows = list(call.examples())
    assert {row["c"]["a"] for row in rows} == {1, 2, 3}
    assert {row["c"]["b"] for row in rows} == {0.0, 1.0}


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (Fixed(0.001), "0.001"),
        (Fixed("mlp"), "mlp"),
        (Fixed((64, 0.5)), "[64, 0.5]"),
        (Range(2, 16, whole=True), "2 … 16 (whole, even)"),
        (LR, "0.0001 … 0.01 (log)"),
        (
            SCHEDULES,
            "constant, linear(warmup=0.1 … 0.5 (even)), "
            "cyclical(cycles=1 … 6 (whole, even), ramp=0.5)",
        ),
    ],
)
def test_node_describes_itself_in_one_line(node: Node, text: str) -> None:
    assert node.describe() == text


def test_same_answers_give_the_same_values_and_names() -> None:
    runs = [RandomChooser(7), RandomChooser(7)]
    first, second = (SCHEDULES.draw("s", chooser) for chooser in runs)
    assert first == second
    assert all(one.asked == other.asked for one, other in pairwise(runs))
