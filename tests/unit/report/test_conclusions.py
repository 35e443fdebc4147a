"""Every sentence against the data it speaks of."""

import math
import random
import statistics
from dataclasses import replace

import pytest

from tests.factories import history, report
from tests.unit.report import studies
from tests.unit.report.studies import dead, evidence, finished
from tune_vae.report.conclusions import doubts, findings, tied, wobble
from tune_vae.report.evidence import Evidence
from tune_vae.science.health import Kind


def told(study: Evidence) -> list[str]:
    return [str(finding) for finding in findings(study)]


def test_clear_winner_is_named_with_its_lead_and_its_settings() -> None:
    best, *_ = told(studies.clear_winner())
    assert best == (
        "Trial 3 is best: bits per dim 3, 0.2 ahead of trial 2. gaussian·optimal, beta_norm 0.05, "
        "linear schedule, lr 0.001; epoch 19 of 20."
    )


def test_report_of_a_clear_winner_says_all_that_its_data_hold() -> None:
    assert told(studies.clear_winner())[1:] == [
        "The decoder gaussian·optimal is best. The best of the others: gaussian·fixed +0.4, "
        "continuous_bernoulli +0.5.",
        "If samples are what you want, look at trial 2. Its samples lie 9 from real ones, those "
        "of trial 3 15.",
        "What was known before the search, and was tried first, is behind the best: optimal sigma "
        "at beta 1 +0.6.",
        "5 of 10 trials ran to the end. The others: 4 collapsed, 1 hopeless.",
        "All 4 collapsed trials had beta_norm above 1 (none of 6 others did).",
        "Stopping early spared 66 of 200 epochs (33%).",
    ]


def test_points_that_were_not_trained_are_counted_beside_the_trials() -> None:
    study = studies.clear_winner()
    told_of = told(replace(study, results=replace(study.results, foretold=17)))
    assert set(told_of) - set(told(study)) == {
        "17 drawn points were not trained: beta_norm beyond the collapse point of these data."
    }


def test_tie_has_no_winner_but_a_list() -> None:
    study = studies.tie()
    first, *_ = told(study)
    assert first.startswith(
        "Trials 2, 0 and 4 cannot be told apart: bits per dim from 3 to 3.01. The lowest is trial "
        "2: "
    )
    assert [row.trial for row in tied(study)] == [2, 0, 4]
    assert not any(" is best: " in sentence for sentence in told(study))


def test_long_tie_is_counted() -> None:
    rows = [finished(n, 3.0 + 1e-4 * n) for n in range(9)]
    assert told(evidence(rows, wobble=0.01))[0].startswith("9 trials cannot be told apart: ")


def test_same_values_on_quiet_curves_have_a_winner() -> None:
    quiet = replace(
        studies.tie(), histories=studies.evidence(studies.tie().results.rows).histories
    )
    assert told(quiet)[0].startswith("Trial 2 is best: bits per dim 3, 0.005 ahead of trial 0.")


def test_study_that_all_collapsed_says_so_and_what_to_change() -> None:
    first, second, third = told(studies.all_collapsed())
    assert first.startswith(
        "No trial finished healthy. All 6 trials collapsed, down to the lowest"
    )
    assert "tried: 0.5 " in first
    assert second == "0 of 6 trials ran to the end. The others: 6 collapsed."
    assert third == "Stopping early spared 84 of 120 epochs (70%)."


def test_front_is_told_with_its_ends_its_knee_and_what_each_budget_buys() -> None:
    sentences = told(studies.front())
    assert sentences[:5] == [
        "4 of 5 finished trials are on the front: none beats another in both, from (1, 0.1) of "
        "trial 0 to (30, 0.03) of trial 4 (rate, nats; squared error per value).",
        "The front bends at trial 1: 3, 0.04. From there less of one costs most of the other. "
        "gaussian·optimal, beta_norm 0.125, linear schedule, lr 0.001.",
        "With at most 1 nats, take trial 0: squared error per value 0.1.",
        "With at most 5 nats, take trial 1: squared error per value 0.04.",
        "With at most 10 nats, take trial 2: squared error per value 0.035.",
    ]
    assert not any(" best" in sentence for sentence in sentences)


def test_study_that_has_just_begun_claims_nothing() -> None:
    assert told(studies.begun()) == [
        "This is how it stands: 0 of 10 trials have ended. Running: 1."
    ]
    assert told(evidence([], planned=3)) == [
        "This is how it stands: 0 of 3 trials have ended. Running: 0."
    ]


def test_only_finished_trial_is_not_called_best() -> None:
    first, *_ = told(evidence([finished(0, 3.0), dead(1, Kind.HOPELESS)]))
    assert first == "Trial 0 is the only one that finished: bits per dim 3."


def test_overfitting_of_the_winner_is_told() -> None:
    rows = [replace(finished(0, 3.0), kind="overfitting"), finished(1, 4.0)]
    assert "; epoch 19 of 20, overfitting after it." in told(evidence(rows))[0]


def test_decoders_that_tie_are_told_as_equal() -> None:
    rows = [
        finished(0, 3.0, sigma=studies.OPTIMAL),
        finished(1, 3.001, sigma=studies.FIXED),
        finished(2, 3.5, **studies.BERNOULLI),
    ]
    assert (
        "The decoders gaussian·optimal, gaussian·fixed do equally well at their best. The best of "
        "the others: continuous_bernoulli +0.5." in told(evidence(rows, wobble=0.01))
    )


def test_narrow_ranges_of_the_best_are_told_and_wide_ones_not() -> None:
    lot = random.Random(0)
    rows = [
        finished(
            n,
            3.0 + 0.01 * n,
            beta_norm=0.04 + 0.01 * n if n < 5 else 10 ** lot.uniform(-3, 1),
            lr=(1e-4, 1e-1)[n % 2],
        )
        for n in range(20)
    ]
    betas = [row.config.beta_norm for row in rows]
    assert (
        f"The best 5 have beta_norm from 0.04 to 0.08. Tried were beta_norm from {min(betas):.2g} "
        f"to {max(betas):.2g}." in told(evidence(rows))
    )
    assert not any("lr from" in sentence for sentence in told(evidence(rows)))


@pytest.mark.parametrize(
    ("beta_norm", "bound"), [(0.0011, "0.001"), (9.5, "10"), (0.1, ""), (0.002, "")]
)
def test_best_at_the_edge_of_a_range_is_told(beta_norm: float, bound: str) -> None:
    sentences = told(evidence([finished(0, 3.0, beta_norm=beta_norm), finished(1, 4.0)]))
    edges = [sentence for sentence in sentences if "at the edge of its range" in sentence]
    assert [f"The best beta_norm lies at the edge of its range ({bound})" in e for e in edges] == (
        [True] if bound else []
    )


def test_winner_that_is_a_constant_of_the_literature_is_told() -> None:
    rows = [finished(0, 3.0, known_good="a constant"), finished(1, 4.0, known_good="another")]
    sentences = told(evidence(rows))
    assert "The best was known before the search: a constant." in sentences
    assert any(sentence.endswith("is behind the best: another +1.") for sentence in sentences)


def test_winner_whose_samples_are_the_nearest_is_told_so() -> None:
    rows = [finished(0, 3.0, distance=7.0), finished(1, 4.0, distance=8.0)]
    sentences = told(evidence(rows))
    assert "The samples of trial 0 are the nearest to real ones, too (7)." in sentences


def test_rank_correlation_with_samples_is_that_of_the_trials() -> None:
    rows = [finished(n, 3.0 + 0.1 * n, distance=50.0 - n) for n in range(9)]
    assert any(
        "Rank correlation of bits per dim and that distance: -1.00 over 9 trials." in sentence
        for sentence in told(evidence(rows))
    )


def test_wobble_is_the_deviation_of_a_value_about_its_trend() -> None:
    """Of curves with a trend and known noise, within the error of an estimate from 60 × 25."""
    lot, spread = random.Random(3), 0.02
    histories = {
        trial: history(
            (
                report(n, trial=trial, bits_per_dim=4 - 0.01 * n + lot.gauss(0, spread))
                for n in range(1, 101)
            ),
            epochs=100,
        )
        for trial in range(60)
    }
    study = evidence([finished(trial, 3.0) for trial in range(60)])
    measured = wobble(replace(study, histories=histories))
    assert measured is not None
    assert measured == pytest.approx(spread, rel=0.15)


def test_wobble_leaves_warm_up_and_values_that_are_not_finite_out() -> None:
    rough = history(
        report(n, bits_per_dim=math.nan if n == 18 else 3.0 + (-1) ** n, kl_weight=0.5)
        for n in range(1, 21)
    )
    study = replace(evidence([finished(0, 3.0)]), histories={0: rough})
    assert wobble(study) is None
    assert wobble(studies.front()) is None
    assert wobble(replace(study, histories={})) is None


def test_doubts_name_the_wobble_and_the_seed() -> None:
    study = studies.tie()
    one, moves, not_samples = doubts(study)
    assert one.startswith("One seed was run of each trial")
    measured = wobble(study)
    assert measured is not None
    steps = [abs(2 * 0.01), *[2 * 0.01] * 3]
    assert measured == pytest.approx(1.4826 * statistics.median(steps) / math.sqrt(2), rel=0.01)
    assert (
        f"moves by ±{measured:.2g}; differences below {2 * math.sqrt(2) * measured:.2g}" in moves
    )
    assert "not how samples look" in not_samples
