"""A YAML file as plain values, each with its place in the file."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from tune_vae.errors import Problem, StudyFileError

__all__ = ["Source", "YamlPath", "nearest", "read", "shown"]

MOST_BYTES = 100_000
MOST_VALUES = 10_000
MOST_DEPTH = 40
MOST_SHOWN = 60

YamlPath = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_FORMS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    # A longer one is read as a real number, so that no number is too long to compare.
    "int": r"[-+]?[0-9](_?[0-9]){0,18}",
    "float": r"[-+]?([0-9](_?[0-9])*\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}
_VALUES: dict[str, Callable[[str], Any]] = {
    "str": str,
    "null": lambda text: None,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": int,
    "float": lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
}


# True and false in version 1.1 and text in 1.2: whoever writes it may mean either.
_AMBIGUOUS = {"yes", "no", "on", "off"}


class _Loader(yaml.SafeLoader):
    """YAML with the plain values of version 1.2, as everybody means them.

    PyYAML knows those of version 1.1, where `1e-3` is text, `010` is 8 and `1:30` is 90.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own attribute)
        None: [(_TAG + kind, re.compile(f"^({form})$")) for kind, form in _FORMS.items()]
    }


class _Dumper(yaml.SafeDumper):
    """Quotes the text that `_Loader` would not read as text, and no other."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: object) -> bool:
        return True


class _Refused(yaml.MarkedYAMLError):
    """Valid YAML that has no place in a study."""


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
        while path not in places and len(path) > 1:
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

    Duplicate keys are noted among its problems, for they need not hide what else is wrong.

    Raises:
        StudyFileError: No such file, not text, too large, not YAML, or empty.
    """
    path = str(file)

    def refuse(message: str, tip: str = "") -> StudyFileError:
        return StudyFileError([Problem(message, tip=tip)], file=path)

    try:
        with file.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise refuse(f"no such study file: {path}", _similar_file(file)) from None
    except IsADirectoryError:
        raise refuse(
            f"{path} is a folder", "name a study file, such as studies/digits.yaml"
        ) from None
    except OSError as error:
        raise refuse(f"cannot read {path}: {error.strerror}") from None
    if len(raw) > MOST_BYTES:
        raise refuse(
            f"{path} has more than {MOST_BYTES:,} bytes, which no study needs",
            "is this the right file?",
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refuse(
            f"{path} is not text: byte {error.start} cannot be read as UTF-8",
            "a study file is YAML, saved as UTF-8",
        ) from None
    source = Source(path, text)
    try:
        node = yaml.compose(text, _Loader)
        if node is None:
            raise refuse(f"{path} is empty", "copy studies/digits.yaml and change it")
        source.data = _Builder(source).build(node, (), 0)
    except yaml.MarkedYAMLError as error:
        source.problems.append(_problem(error))
    except yaml.YAMLError as error:
        source.problems.append(Problem(f"not YAML: {str(error).splitlines()[0]}"))
    except RecursionError:
        source.problems.append(
            Problem(f"more than {MOST_DEPTH} levels of nesting in a study file")
        )
    if source.data is None:
        source.fail()
    return source


_TIPS = {
    "'\\t'": "indent with spaces, not with tabs",
    "another document": "a study file holds one study; remove what begins with `---`",
    "expected ',' or": "a bracket or brace before this place is not closed",
    "<block end>": "the keys of one section begin in the same column",
    "mapping values": "the keys of one section begin in the same column; quote a value that "
    "holds `: `",
    "expected ':'": "write `key: value`",
    "is ambiguous": "write `true` or `false`, or put it in quotes",
}
"""What to do about a word in a message of PyYAML's or of ours."""


def _problem(error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    what = str(error.problem or error.context)
    if what.startswith("but "):
        what = f"{error.context}, {what}"
    tip = next((tip for word, tip in _TIPS.items() if word in what), "")
    message = what if isinstance(error, _Refused) else f"not YAML: {what}"
    return Problem(message, tip=tip, line=line, column=column)


class _Builder:
    """Turns nodes into plain values and notes their places."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._count = 0

    def build(self, node: yaml.Node, path: YamlPath, depth: int) -> Any:
        # Aliases multiply: nine lines can name a billion values. Counting what is built, not
        # what is written, stops that.
        self._count += 1
        if depth > MOST_DEPTH:
            raise _refused(f"more than {MOST_DEPTH} levels of nesting in a study file", node)
        if self._count > MOST_VALUES:
            raise _refused(f"more than {MOST_VALUES:,} values in a study file", node)
        self._source.values[path] = _place(node)
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [
                self.build(item, (*path, index), depth + 1)
                for index, item in enumerate(node.value)
            ]
        if isinstance(node, yaml.ScalarNode) and kind in _VALUES:
            if not node.style and node.value.lower() in _AMBIGUOUS:
                raise _refused(f"`{node.value}` is ambiguous", node)
            try:
                return _VALUES[kind](node.value)
            except (KeyError, ValueError):
                raise _refused(f"{shown(node.value)} is no `!!{kind}`", node) from None
        tag = node.tag.replace(_TAG, "!!")
        raise _refused(f"`{tag}` has no place here; a study holds plain values only", node)

    def _mapping(self, node: yaml.MappingNode, path: YamlPath, depth: int) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refused("a key must be plain text", key_node)
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
            if value_node.start_mark.line != value_node.end_mark.line:
                # Of a value of several lines, the key shows best which one is meant.
                self._source.values[here] = self._source.keys[here]
        return built


def _refused(message: str, node: yaml.Node) -> _Refused:
    return _Refused(problem=message, problem_mark=node.start_mark)


def _place(node: yaml.Node) -> tuple[int, int, int]:
    start, end = node.start_mark, node.end_mark
    width = end.column - start.column if end.line == start.line else 1
    return start.line + 1, start.column + 1, max(width, 1)


def shown(value: object) -> str:
    """A value in a message: as the file would have it, and cut where it would fill the screen.

    Example:
        >>> print(shown(["8", True, None]))
        `['8', true, null]`
    """
    try:
        text = yaml.dump(
            value,
            Dumper=_Dumper,
            default_flow_style=True,
            allow_unicode=True,
            sort_keys=False,
            width=math.inf,
        )
    except yaml.YAMLError:
        text = repr(value)
    text = " ".join(text.removesuffix("\n...\n").split())
    return f"`{text}`" if len(text) <= MOST_SHOWN else f"`{text[: MOST_SHOWN - 1]}…`"


def nearest(name: str, names: Sequence[str]) -> str:
    """`did you mean …?`, or what exists when nothing is near."""
    if not names:
        return "it takes no arguments"
    lower = {known.lower(): known for known in names}
    close = get_close_matches(name.lower(), lower, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{lower[close[0]]}`?"
    return f"known: {', '.join(sorted(names))}"


def _similar_file(file: Path) -> str:
    folder = file.parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist either"
    names = [entry.name for entry in folder.iterdir() if entry.suffix in {".yaml", ".yml"}]
    close = get_close_matches(file.name, names, n=1, cutoff=0.6)
    return f"did you mean {folder / close[0]}?" if close else ""
