"""How often repeats call a winner: wrongly among equals, rightly where one trial is better.

A simulated study has 30 trials, each with one value of spread 1 over seeds; the three lowest are
repeated, and the rules of the product decide. `python -m tests.benchmarks.seeds` prints the table
of the README within some three minutes.
"""

import random
from dataclasses import replace

from tests.trials import trial_config
from tune_vae.service.results import StudyResults
from tune_vae.service.rows import TrialRow
from tune_vae.spec.trial import TrialConfig

TRIALS, STUDIES = 30, 300
LEADS = (0, 1, 2, 3, 5, 10)
SEEDS = (3, 4, 5, 6, 9)

_SAME = trial_config()
_CONFIGS = [
    _SAME.model_copy(update={"trial": trial, "lr": 1e-4 * (trial + 1)}) for trial in range(TRIALS)
]


def ended(config: TrialConfig, value: float) -> TrialRow:
    return TrialRow(config, "ended", True, "healthy", "", (value,), None, None, epoch=4)


def winner(dice: random.Random, lead: float, seeds: int) -> int | None:
    """Which trial of a study is called the winner; number 0 is better than the others."""

    def reached(trial: int | None) -> float:
        return dice.gauss(lead if trial else 0.0, 1.0)

    rows = [ended(config, reached(config.trial)) for config in _CONFIGS]
    study = StudyResults("simulated", ("bits_per_dim",), TRIALS, rows, seeds=seeds)
    repeats = [ended(config, reached(config.repeat_of)) for config in study.wanted]
    found = replace(study, repeats=repeats)
    return found.winner.trial if found.winner and found.proven else None


def main() -> None:
    dice = random.Random(0)
    print("lead in spreads:", *(f"{lead:>5}" for lead in LEADS), " (0: called, and wrongly)")
    for seeds in SEEDS:
        called = [[winner(dice, lead, seeds) for _ in range(STUDIES)] for lead in LEADS]
        rates = [
            sum(one is not None if not lead else one == 0 for one in found) / STUDIES
            for lead, found in zip(LEADS, called, strict=True)
        ]
        print(f"{seeds:>8} seeds: ", *(f"{rate:>5.0%}" for rate in rates), flush=True)


if __name__ == "__main__":
    main()
