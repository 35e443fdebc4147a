"""YAML as plain values with places."""

import math
from pathlib import Path
from typing import Any

import pytest

from tune_vae.errors import Problem, StudyFileError
from tune_vae.spec.source import Source, nearest, read, shown


@pytest.fixture
def source_of(tmp_path: Path) -> "SourceOf":
    return SourceOf(tmp_path / "study.yaml")


class SourceOf:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, text: str) -> Source:
        self.file.write_text(text, encoding="utf-8")
        return read(self.file)

    def value(self, text: str) -> Any:
        return self(f"value: {text}\n").data["value"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E3", 1e3),
        ("+1.5e3", 1.5e3),
        ("1.0e-3", 1e-3),
        (".5", 0.5),
        ("2.", 2.0),
        ("-7", -7),
        ("010", 10),
        ("1_000", 1000),
        ("9" * 19, int("9" * 19)),
        ("9" * 20, 1e20),
        ("9" * 5000, math.inf),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_plain_value_is_what_everybody_means(source_of: SourceOf, text: str, value: Any) -> None:
    read_back = source_of.value(text)
    assert read_back == value
    assert type(read_back) is type(value)


def test_not_a_number_is_a_number(source_of: SourceOf) -> None:
    assert math.isnan(source_of.value(".nan"))


@pytest.mark.parametrize(
    "text", ["maybe", "y", "1:30", "2024-01-01", "1__0", "1e", "-x", "0x1g", "<<", "inf"]
)
def test_what_only_looks_like_a_value_stays_text(source_of: SourceOf, text: str) -> None:
    assert source_of.value(text) == text


@pytest.mark.parametrize("word", ["yes", "No", "ON", "off"])
def test_word_that_is_true_or_false_for_some_must_be_quoted(
    source_of: SourceOf, word: str
) -> None:
    with pytest.raises(StudyFileError) as refused:
        source_of.value(f"[1, {word}]")
    (problem,) = refused.value.problems
    assert problem.message == f"`{word}` is ambiguous"
    assert problem.tip == "write `true` or `false`, or put it in quotes"
    assert (problem.line, problem.column) == (1, 12)
    assert source_of.value(f"['{word}']") == [word]
    assert source_of(f"{word}: 1\n").data == {word: 1}


def test_quoted_number_stays_text(source_of: SourceOf) -> None:
    assert source_of.value("'1e-3'") == "1e-3"


def test_keys_are_text(source_of: SourceOf) -> None:
    assert source_of("1: a\ntrue: b\n").data == {"1": "a", "true": "b"}


def test_alias_stands_for_its_value(source_of: SourceOf) -> None:
    assert source_of("a: &x [1, 2]\nb: *x\n").data == {"a": [1, 2], "b": [1, 2]}


def test_byte_order_mark_is_no_part_of_the_first_key(source_of: SourceOf) -> None:
    assert source_of("\ufeffstudy: x\n").data == {"study": "x"}


TEXT = """\
study: places
search:
  lr: {log_uniform: [1e-4, 1e-2]}
  schedule:
    choice:
      - constant
      - {linear: {warmup: 0.5}}
"""


@pytest.mark.parametrize(
    ("path", "on_key", "place"),
    [
        (("study",), False, (1, 8, 6)),
        (("study",), True, (1, 1, 5)),
        (("search", "lr"), False, (3, 7, 27)),
        (("search", "lr", "log_uniform"), False, (3, 21, 12)),
        (("search", "lr", "log_uniform", 1), False, (3, 28, 4)),
        (("search", "schedule", "choice", 0), False, (6, 9, 8)),
        (("search", "schedule", "choice", 1, "linear", "warmup"), False, (7, 27, 3)),
        (("search", "schedule", "choice", 1, "linear", "warmup"), True, (7, 19, 6)),
    ],
)
def test_problem_is_located_at_its_path(
    source_of: SourceOf, path: tuple[str | int, ...], on_key: bool, place: tuple[int, int, int]
) -> None:
    found = source_of(TEXT).locate(Problem("wrong", path, on_key=on_key))
    assert (found.line, found.column, found.width) == place


def test_value_of_several_lines_is_located_at_its_key(source_of: SourceOf) -> None:
    found = source_of(TEXT).locate(Problem("wrong", ("search", "schedule")))
    assert (found.line, found.column, found.width) == (4, 3, 8)


def test_path_that_is_not_in_the_file_falls_back_to_its_nearest_parent(
    source_of: SourceOf,
) -> None:
    source = source_of(TEXT)
    for path in (("search", "lr", "log_uniform", 7), ("search", "lr", "log_uniform", "low", "x")):
        assert source.locate(Problem("wrong", path)).line == 3
    deep = source.locate(Problem("wrong", ("search", "sigma"), on_key=True))
    assert (deep.line, deep.column) == (2, 1)


def test_path_of_which_nothing_is_in_the_file_has_no_place(source_of: SourceOf) -> None:
    assert source_of(TEXT).locate(Problem("wrong", ("train", "batch_size"))).line == 0


def test_place_that_is_known_already_stays(source_of: SourceOf) -> None:
    known = Problem("wrong", ("study",), line=5, column=3)
    assert source_of(TEXT).locate(known) is known


def test_duplicate_keys_keep_the_first_value_and_are_all_noted(source_of: SourceOf) -> None:
    source = source_of("a: 1\nb: {c: 2, c: 3}\na: 4\n")
    assert source.data == {"a": 1, "b": {"c": 2}}
    with pytest.raises(StudyFileError) as refused:
        source.fail()
    assert [(p.line, p.column) for p in refused.value.problems] == [(2, 11), (3, 1)]
    assert [p.tip for p in refused.value.problems] == [
        f"first given in line {line}; remove one of them" for line in (2, 1)
    ]


def test_problems_come_in_the_order_of_the_file(source_of: SourceOf) -> None:
    source = source_of(TEXT)
    source.problems = [Problem("c", ("search", "schedule")), Problem("a", ("study",))]
    source.problems += [Problem("b", ("search", "lr"))]
    with pytest.raises(StudyFileError) as refused:
        source.fail()
    assert [problem.message for problem in refused.value.problems] == ["a", "b", "c"]
    assert refused.value.text == TEXT


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "!!python/object/apply:os.system [touch pwned]",
            "`!!python/object/apply:os.system` has no",
        ),
        ("!!python/name:os.system ''", "`!!python/name:os.system` has no place here"),
        ("!!binary aGVsbG8=", "`!!binary` has no place here"),
        ("!!set {a, b}", "`!!set` has no place here"),
        ("!!str [a, b]", "`!!str` has no place here"),
        ("!!map text", "`!!map` has no place here"),
        ("!mine text", "`!mine` has no place here"),
        ("!!int ten", "`ten` is no `!!int`"),
        ("!!bool perhaps", "`perhaps` is no `!!bool`"),
    ],
)
def test_tag_beyond_plain_values_is_refused(source_of: SourceOf, text: str, message: str) -> None:
    with pytest.raises(StudyFileError) as refused:
        source_of.value(text)
    (problem,) = refused.value.problems
    assert message in problem.message
    assert (problem.line, problem.column) == (1, 8)
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ten", "`ten`"),
        ("8", "`'8'`"),
        ("no", "`no`"),
        (1.5, "`1.5`"),
        (None, "`null`"),
        (True, "`true`"),
        ([1, {"a": "b"}], "`[1, {a: b}]`"),
        ("one\ntwo", "`'one two'`"),
        ("\x1b[2J", '`"\\e[2J"`'),
    ],
)
def test_value_is_shown_as_the_file_would_have_it(value: object, text: str) -> None:
    assert shown(value) == text


def test_long_value_is_cut() -> None:
    assert len(shown("x" * 10_000)) == 62
    assert shown(list(range(10_000))).endswith("…`")


def test_same_list_twice_is_shown_twice() -> None:
    once = [1, 2]
    assert shown([once, once]) == "`[[1, 2], [1, 2]]`"


def test_value_that_is_not_plain_is_shown_all_the_same() -> None:
    assert shown(Path) == "`<class 'pathlib.Path'>`"


def test_nearest_looks_past_case_and_lists_what_exists_when_nothing_is_near() -> None:
    assert nearest("tpesampler", ["GPSampler", "TPESampler"]) == "did you mean `TPESampler`?"
    assert nearest("moon", ["b", "a"]) == "known: a, b"
    assert nearest("any", []) == "it takes no arguments"
