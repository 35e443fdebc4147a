"""Lines of JSON against the schema that is shipped with them."""

import copy
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from tests.unit.science.test_diagnosis import EXCERPT
from tests.unit.snapshots import ROWS, repeat, results, row, running, snapshot, spec
from tune_vae import terminal
from tune_vae.science.curve import Curve, CurvePoint
from tune_vae.science.diagnosis import Cause, diagnose
from tune_vae.science.health import Kind
from tune_vae.service.curves import Source
from tune_vae.spec.study import Storage
from tune_vae.terminal.console import console
from tune_vae.terminal.json_lines import _config

SCHEMA = json.loads(files("tune_vae.terminal").joinpath("lines.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FINALISTS = tuple(repeat(ROWS[n], count, 3.3 + n, *()) for n in (0, 3) for count in (1, 2))
CONFIRMED = results(*ROWS, repeats=FINALISTS, seeds=3, top=2)


def written(*parts: Any, **options: Any) -> list[dict[str, Any]]:
    """Lines that functions write, each given as (function, arguments …)."""
    out = console()
    out.file = io.StringIO()
    for function, *arguments in parts:
        function(out, *arguments, **options)
    return [json.loads(line) for line in out.file.getvalue().splitlines()]


def searched() -> list[dict[str, Any]]:
    out = console()
    out.file = io.StringIO()
    with terminal.view(out, spec(), as_json=True) as show:
        show(replace(snapshot(), running=(running(6, None),)))
        show(snapshot(*ROWS, trouble="MLflow: [no] answer", remarks=("packs [of 4] shrink",)))
        show(snapshot(results=results(*ROWS)))
    terminal.write_results(out, results(*ROWS), spec())
    return [json.loads(line) for line in out.file.getvalue().splitlines()]


LINES = [
    *searched(),
    *written(
        (
            terminal.write_status,
            replace(CONFIRMED, rows=[*ROWS, replace(row(9), state="running")]),
            spec(),
        ),
        (terminal.write_results, CONFIRMED, spec()),
        (terminal.write_results, results(), spec()),
        (terminal.write_diagnosis, Source("a.log", EXCERPT), diagnose(EXCERPT)),
    ),
    *written((terminal.write_report, CONFIRMED, spec()), page="p/index.html", trouble=""),
]


def test_schema_is_one_and_describes_every_kind_of_line() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    kinds = {one["$ref"].rpartition("/")[2] for one in SCHEMA["oneOf"]}
    assert {line["event"] for line in LINES} == kinds
    assert all(SCHEMA["$defs"][kind]["description"] for kind in kinds)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line["event"])
def test_every_line_is_valid(line: dict[str, Any]) -> None:
    VALIDATOR.validate(line)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of an object that a name of ours stands for."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield (*path, key)
            if key not in (
                "likelihood",
                "sigma",
                "schedule",
                "prior",
                "network",
                "verdicts",
                "scores",
            ):
                yield from places(inner, (*path, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


@pytest.mark.parametrize("event", sorted({line["event"] for line in LINES}))
def test_line_that_lacks_a_key_has_one_more_or_another_type_is_refused(event: str) -> None:
    line = max((one for one in LINES if one["event"] == event), key=lambda one: len(str(one)))
    # Against that of its kind, as those of the others refuse it anyway: they want another event.
    validator = VALIDATOR.evolve(schema=SCHEMA | {"oneOf": [{"$ref": f"#/$defs/{event}"}]})
    assert validator.is_valid(line)
    for path in places(line):
        for spoil in ("lack", "more", "type"):
            made = copy.deepcopy(line)
            inner = made
            for step in path[:-1]:
                inner = inner[step]
            if spoil == "lack":
                del inner[path[-1]]
            elif spoil == "more":
                inner["surprise"] = 1
            else:
                inner[path[-1]] = {"not": {}, "one": {}}
            assert not validator.is_valid(made), (spoil, path)


def test_search_is_told_from_its_beginning_to_its_end_in_order() -> None:
    lines = searched()
    assert [lines[0]["event"], lines[-1]["event"]] == ["study", "study_end"]
    assert lines[-1]["best"]["trial"] == 3
    seen: dict[int, list[str]] = {}
    for line in lines:
        if "trial" in line:
            seen.setdefault(line["trial"], []).append(line["event"])
    assert seen == {
        6: ["trial_start"],
        8: ["trial_start", "epoch"],
        7: ["trial_start", "epoch"],
        **{one.trial: ["trial_start", "trial_end"] for one in ROWS},
    }
    assert [line["reason"] for line in lines if line["event"] == "waiting"] == [
        "MLflow: [no] answer",
        "",
    ]


def test_numbers_say_what_the_trials_have() -> None:
    (end,) = (line for line in LINES if line["event"] == "trial_end" and line["trial"] == 3)
    assert (end["values"], end["verdict"], end["best_so_far"]) == ([3.25], "healthy", True)
    (epoch,) = (one for one in LINES if one["event"] == "epoch" and one["trial"] == 8)
    assert (epoch["epoch"], epoch["epochs"], epoch["rate_nats"]) == (7, 20, 8.0)
    start = next(one for one in LINES if one["event"] == "trial_start" and one["trial"] == 7)
    assert start["config"]["sigma"] is None
    assert start["config"]["likelihood"] == {"continuous_bernoulli": {}}
    (report,) = (line for line in LINES if line["event"] == "report")
    assert [one["label"] for one in report["all_trials"]] == [
        *map(str, range(6)), "0/2", "0/3", "3/2", "3/3",
    ]  # fmt: skip


def test_number_that_is_not_finite_is_null_and_no_line_breaks() -> None:
    lost = row(0, Kind.HEALTHY, math.nan, reason="two\nlines \x1b[31m and [red]brackets[/]")
    (line,) = written((terminal.write_results, results(lost), spec()))
    assert line["best"] is None
    out = console()
    out.file = io.StringIO()
    terminal.write_report(out, results(lost), spec(), page="p", trouble="")
    text = out.file.getvalue()
    assert text.count("\n") == 1
    assert text.isascii()
    (trial,) = json.loads(text)["all_trials"]
    assert trial["values"] == [None]
    assert trial["reason"] == lost.reason


def test_password_is_in_no_line() -> None:
    study = replace(spec(), storage=Storage(ledger="postgresql://ann:hunter2@db/x"))
    (line,) = written((terminal.write_results, results(), study))
    assert line["ledger"] == "postgresql://ann:***@db/x"


def test_causes_of_the_schema_are_those_there_are() -> None:
    findings = SCHEMA["$defs"]["diagnosis"]["properties"]["findings"]
    assert set(findings["items"]["properties"]["cause"]["enum"]) == {c.name.lower() for c in Cause}
    verdicts = SCHEMA["$defs"]["trial_end"]["properties"]["verdict"]["enum"]
    assert set(verdicts) == {*Kind, ""}
    lost = Curve((CurvePoint(1, math.nan),))
    (line,) = written((terminal.write_diagnosis, Source("x", lost), diagnose(lost)))
    VALIDATOR.validate(line)
    assert line["beta"] is None


def test_configuration_is_that_of_the_trial() -> None:
    config = ROWS[0].config
    assert all(getattr(config, name) == value for name, value in _config(config).items())
