"""How a verdict changed, in a few rows."""

import pytest

from tests.factories import history, report
from tune_vae.science.health import Kind, Limits, Verdict, judge
from tune_vae.service.phases import MOST_PHASES, Phase, judged, markdown, phases

W, H, O = Kind.WARMING_UP, Kind.HEALTHY, Kind.OVERFITTING  # noqa: E741


def verdicts(*kinds: Kind) -> dict[int, Verdict]:
    return {n: Verdict(kind, f"as of epoch {n}") for n, kind in enumerate(kinds, start=1)}


def test_verdicts_of_one_kind_in_a_row_are_one_phase_with_its_last_sentence() -> None:
    found = phases(verdicts(W, W, H, H, H, O))
    assert found == [
        Phase(1, 2, Verdict(W, "as of epoch 2")),
        Phase(3, 5, Verdict(H, "as of epoch 5")),
        Phase(6, 6, Verdict(O, "as of epoch 6")),
    ]
    assert [phase.epochs for phase in found] == ["1–2", "3–5", "6"]


def test_order_in_which_epochs_come_does_not_matter() -> None:
    given = verdicts(W, H, H, W)
    assert phases(dict(reversed(given.items()))) == phases(given)


def test_verdicts_made_anew_are_those_that_were_given_at_the_time() -> None:
    curve = [report(n, rate_nats=8.0 if n < 4 else 0.001 * n) for n in range(1, 13)]
    limits, growing = Limits(steps=250), history([])
    given = {one.epoch: judge(growing.add(one), limits) for one in curve}
    made = judged(history(curve), limits)
    assert made == given
    assert [phase.verdict.kind for phase in phases(made)] == [H, W, Kind.COLLAPSED]


def test_table_has_a_row_for_each_change() -> None:
    assert markdown(verdicts(W, W, H)).splitlines() == [
        "| epochs | verdict | |",
        "|---|---|---|",
        "| 1–2 | warming up | as of epoch 2 |",
        "| 3 | healthy | as of epoch 3 |",
    ]
    assert markdown({}) == ""


@pytest.mark.parametrize("changes", [MOST_PHASES, MOST_PHASES + 1, 100])
def test_table_of_a_flickering_verdict_stays_small_and_keeps_both_ends(changes: int) -> None:
    kinds = [(W, H)[n % 2] for n in range(changes)]
    _, _, *rows = markdown(verdicts(*kinds)).splitlines()
    assert len(rows) == MOST_PHASES
    assert rows[0].startswith("| 1 | warming up |")
    assert rows[-1].startswith(f"| {changes} | ")
    if changes == 100:
        assert rows[3] == "| 4–96 | 93 changes | healthy in 47 epochs, warming up in 46 epochs |"


def test_sentence_cannot_break_the_table() -> None:
    (*_, last) = markdown({1: Verdict(Kind.FAILED, "a | b\n" + "c" * 5000)}).splitlines()
    assert last.startswith("| 1 | failed | a \\| b ccc")
    assert len(last) < 400
