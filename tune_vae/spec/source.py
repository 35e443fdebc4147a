"""A YAML file as plain values, each with its place in the file."""

from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from tune_vae.errors import Problem, StudyFileError

__all__ = ["Source", "nearest", "read"]

MOST_BYTES = 1_000_000
MOST_VALUES = 10_000
MOST_DEPTH = 40

YamlPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but with `1e-3` as the number that everybody means."""


_Loader.yaml_implicit_resolvers = dict(yaml.SafeLoader.yaml_implicit_resolvers)
_NUMBER = yaml.SafeLoader.yaml_implicit_resolvers["."][0][1]


def _add_exponent_form() -> None:
    import re

    form = re.compile(r"^[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$")
    for first in "-+0123456789":
        own = _Loader.yaml_implicit_resolvers.get(first, [])
        _Loader.yaml_implicit_resolvers[first] = [("tag:yaml.org,2002:float", form), *own]


_add_exponent_form()


@dataclass
class Source:
    """What a study file says, and where.

    Arguments:
        file: Path as given.
        text: The file's contents.
        data: Mappings, lists and scalars.
        problems: What is wrong with it so far.
    """

    file: str
    text: str
    data: Any = None
    problems: list[Problem] = field(default_factory=list)
    values: dict[YamlPath, tuple[int, int, int]] = field(default_factory=dict)
    keys: dict[YamlPath, tuple[int, int, int]] = field(default_factory=dict)

    def locate(self, problem: Problem) -> Problem:
        """The same problem with line and column of its path, or of the nearest parent's."""
        if problem.line:
            return problem
        path = problem.path
        places = self.keys if problem.on_key else self.values
        while path not in places and path:
            path, places = path[:-1], self.values
        line, column, width = places.get(path, (0, 0, 1))
        return replace(problem, line=line, column=column, width=width)

    def fail(self) -> None:
        """Raise if there are problems.

        Raises:
            StudyFileError: With all of them, in the order of the file.
        """
        if self.problems:
            placed = [self.locate(problem) for problem in self.problems]
            placed.sort(key=lambda problem: (problem.line, problem.column))
            raise StudyFileError(placed, file=self.file, text=self.text)


def read(file: Path) -> Source:
    """Read a YAML file; nothing in it is executed.

    Raises:
        StudyFileError: No such file, not text, too large, not YAML, or empty.
    """
    shown = str(file)

    def refuse(message: str, tip: str = "", **place: int) -> StudyFileError:
        return StudyFileError([Problem(message, tip=tip, **place)], file=shown)

    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        raise refuse(f"no such study file: {shown}", _similar_file(file)) from None
    except IsADirectoryError:
        raise refuse(
            f"{shown} is a folder", "name a study file, such as studies/digits.yaml"
        ) from None
    except OSError as error:
        raise refuse(f"cannot read {shown}: {error.strerror}") from None
    if len(raw) > MOST_BYTES:
        raise refuse(
            f"{shown} has {len(raw):,} bytes; a study file has at most {MOST_BYTES:,}",
            "is this the right file?",
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse(
            f"{shown} is not text: byte {error.start} cannot be read as UTF-8",
            "a study file is YAML text",
        ) from None
    source = Source(shown, text)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                raise refuse(f"{shown} is empty", "copy studies/digits.yaml and change it")
            source.data = _Builder(source, loader).build(node, (), 0)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        what = f"not YAML: {error.problem or error.context}"
        source.problems = [Problem(what, line=line, column=column)]
    except yaml.YAMLError as error:
        source.problems = [Problem(f"not YAML: {str(error).splitlines()[0]}")]
    except RecursionError:
        source.problems = [
            Problem(f"nested too deeply; a study file has at most {MOST_DEPTH} levels")
        ]
    source.fail()
    return source


class _Builder:
    """Turns nodes into plain values and notes their places."""

    def __init__(self, source: Source, loader: _Loader) -> None:
        self._source = source
        self._loader = loader
        self._count = 0

    def build(self, node: yaml.Node, path: YamlPath, depth: int) -> Any:
        # Aliases multiply: nine lines can name a billion values. Counting what is built, not
        # what is written, stops that.
        self._count += 1
        if self._count > MOST_VALUES or depth > MOST_DEPTH:
            many = f"more than {MOST_VALUES:,} values"
            what = many if depth <= MOST_DEPTH else f"more than {MOST_DEPTH} levels of nesting"
            raise yaml.MarkedYAMLError(
                problem=f"{what} in a study file", problem_mark=node.start_mark
            )
        self._source.values[path] = _place(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.build(item, (*path, index), depth + 1)
                for index, item in enumerate(node.value)
            ]
        try:
            value = self._loader.construct_object(node)
        except ValueError as error:
            raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from None
        if value is not None and not isinstance(value, (str, int, float)):
            # Dates and binary blobs: nobody means them in a study, take the text.
            return node.value
        return value

    def _mapping(self, node: yaml.MappingNode, path: YamlPath, depth: int) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    problem="a key must be plain text", problem_mark=key_node.start_mark
                )
            key = str(key_node.value)
            here = (*path, key)
            if key in built:
                first = self._source.keys[here][0]
                line, column, width = _place(key_node)
                self._source.problems.append(
                    Problem(
                        f"duplicate key `{key}`",
                        tip=f"first given in line {first}; remove one of them",
                        line=line,
                        column=column,
                        width=width,
                    )
                )
                continue
            self._source.keys[here] = _place(key_node)
            built[key] = self.build(value_node, here, depth + 1)
        return built


def _place(node: yaml.Node) -> tuple[int, int, int]:
    start, end = node.start_mark, node.end_mark
    width = end.column - start.column if end.line == start.line else 1
    return start.line + 1, start.column + 1, max(width, 1)


def nearest(name: str, names: list[str]) -> str:
    """`did you mean …?`, or what exists when nothing is near."""
    if not names:
        return "it takes no arguments"
    close = get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    return f"known: {', '.join(sorted(names))}"


def _similar_file(file: Path) -> str:
    folder = file.parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist either"
    names = [entry.name for entry in folder.iterdir() if entry.suffix in {".yaml", ".yml"}]
    close = get_close_matches(file.name, names, n=1, cutoff=0.6)
    return f"did you mean {folder / close[0]}?" if close else ""
