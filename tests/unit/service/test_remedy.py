"""What a study without a healthy trial is told to change."""

import pytest
import yaml

from tests.trials import study, trial_config
from tune_vae.science.health import Kind
from tune_vae.service.remedy import remedy
from tune_vae.service.results import StudyResults
from tune_vae.service.rows import TrialRow


def ended(kind: Kind, *configs: dict[str, float]) -> list[TrialRow]:
    return [
        TrialRow(trial_config(n, **config), "ended", False, kind.value, "", (), None, None, 4)
        for n, config in enumerate(configs)
    ]


def told(*rows: TrialRow, **changes: object) -> str:
    return remedy(StudyResults("small", ("bits_per_dim",), 9, rows), study(**changes))


def test_collapsed_study_is_told_a_range_below_all_that_collapsed() -> None:
    rows = ended(Kind.COLLAPSED, *({"beta_norm": b} for b in (0.5, 0.013, 2.0)))
    said = told(*rows)
    assert said == (
        "All 3 trials collapsed, down to the lowest beta_norm that was tried: 0.013 (`beta_norm` "
        "is 0.001 … 10 (log)): the KL term weighs too much wherever it was tried. Lower the "
        "bounds, for example `beta_norm: {log_uniform: [1.3e-05, 1.3e-02]}`, under a new name of "
        "the study."
    )
    proposed = yaml.safe_load(said.split("`")[3])
    assert study(search=proposed).knobs["beta_norm"].describe() == "1.3e-05 … 0.013 (log)"


def test_only_trials_of_the_commonest_end_count() -> None:
    rows = [
        *ended(Kind.COLLAPSED, {"beta_norm": 0.5}, {"beta_norm": 0.2}),
        *ended(Kind.DIVERGED, {"beta_norm": 1e-3}),
    ]
    assert told(*rows).startswith(
        "2 of 3 trials collapsed, down to the lowest beta_norm that was tried: 0.2 "
    )


def test_diverged_study_is_told_lower_learning_rates() -> None:
    said = told(*ended(Kind.DIVERGED, {"lr": 0.3}, {"lr": 0.1}), search={"lr": 0.1})
    assert "All 2 trials diverged, down to the lowest lr that was tried: 0.1 (`lr` is 0.1)" in said
    assert "`lr: {log_uniform: [1.0e-03, 1.0e-01]}`" in said


def test_collapse_without_any_kl_term_has_another_cause() -> None:
    said = told(*ended(Kind.COLLAPSED, {"beta_norm": 0.0}))
    assert "The weight is not the cause" in said


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Kind.HOPELESS, "All 1 trials were stopped by the pruner: give the study more trials."),
        (Kind.FAILED, "All 1 trials broke: `tune-vae report` says with which error."),
        (Kind.HEALTHY, "Give it more epochs."),
    ],
)
def test_other_ends_have_their_remedy(kind: Kind, words: str) -> None:
    assert told(*ended(kind, {})) == words


def test_study_without_an_ended_trial_has_nothing_to_mend() -> None:
    assert told() == "None has ended yet."
