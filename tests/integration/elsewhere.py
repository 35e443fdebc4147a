"""What another process does with a study while a test looks at it."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from optuna.trial import TrialState

from tests.factories import report
from tests.trials import DIGEST, LEVELS, SHAPE
from tune_vae.science.collapse_point import CollapsePoints
from tune_vae.science.health import Kind, Verdict
from tune_vae.science.history import EpochReport
from tune_vae.service.journey import TrialResult
from tune_vae.service.ledger.optuna_ledger import OptunaLedger
from tune_vae.spec.study import StudySpec
from tune_vae.spec.trial import TrialConfig

HEALTHY = Verdict(Kind.HEALTHY, "as it should be")

# One process imports everything once, and forks before each use.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])


def open_ledger(spec: StudySpec, points: CollapsePoints | None = None) -> OptunaLedger:
    return OptunaLedger(spec, shape=SHAPE, levels=LEVELS, digest=DIGEST, points=points)


def train(
    ledger: OptunaLedger, config: TrialConfig, *, epochs: int, begun: int = 0
) -> EpochReport:
    """Report the epochs after `begun` up to `epochs`; returns the last report."""
    for epoch in range(begun + 1, epochs + 1):
        last = report(epoch, trial=config.trial, bits_per_dim=3.0 + 1 / epoch)
        decision = ledger.report(last, HEALTHY)
        assert not decision.stop, decision
    return last


def finish(ledger: OptunaLedger, config: TrialConfig, *, begun: int = 0) -> None:
    """Train a trial to its end."""
    last = train(ledger, config, epochs=config.epochs, begun=begun)
    values = tuple(last.value(name) for name in config.objective)
    ledger.commit(TrialResult(config.trial, HEALTHY, True, values, last, last))


@contextmanager
def dying_owner(spec: StudySpec, *, epochs: int) -> Iterator[TrialConfig]:
    """A trial that another process has begun; that process is killed when the block ends."""
    receive, send = multiprocessing.Pipe(duplex=False)
    process = _PROCESSES.Process(target=_begin_one, args=(spec, epochs, send))
    process.start()
    try:
        assert receive.poll(60), "the other process did not answer"
        yield receive.recv()
    finally:
        process.kill()
        process.join(60)
        receive.close()
        send.close()


def _begin_one(spec: StudySpec, epochs: int, send: Connection) -> None:
    ledger = open_ledger(spec)
    ((config,)) = ledger.ask_pack(1)
    if epochs:
        train(ledger, config, epochs=epochs)
    send.send(config)
    time.sleep(600)


def search_all(spec: StudySpec) -> list[int]:
    """Run trials until none is left; returns their numbers."""
    return _run_all(open_ledger(spec))


def search_here_and_elsewhere(spec: StudySpec) -> tuple[list[int], list[int]]:
    """Let this process and another search at the same time; returns what each of them ran."""
    return _both(spec, _run_all)


def take_rows_here_and_elsewhere(spec: StudySpec) -> tuple[list[int], list[int]]:
    """Let two processes take the waiting rows as fast as they can; returns who got which."""
    return _both(spec, _take_rows)


def _both(
    spec: StudySpec, work: Callable[[OptunaLedger], list[int]]
) -> tuple[list[int], list[int]]:
    near, far = multiprocessing.Pipe()
    process = _PROCESSES.Process(target=_work_elsewhere, args=(spec, work, far))
    process.start()
    ledger = open_ledger(spec)
    assert near.poll(60), "the other process did not open the study"
    near.recv()
    near.send("go")
    here = work(ledger)
    assert near.poll(60), "the other process did not come to an end"
    there: list[int] = near.recv()
    process.join(60)
    near.close()
    far.close()
    return here, there


def _work_elsewhere(
    spec: StudySpec, work: Callable[[OptunaLedger], list[int]], link: Connection
) -> None:
    ledger = open_ledger(spec)
    link.send("ready")
    link.recv()
    link.send(work(ledger))


def _take_rows(ledger: OptunaLedger) -> list[int]:
    # The storage itself: whoever asks the ledger does so much else that they rarely meet.
    storage, rows = ledger._opened.storage, ledger._opened.rows()
    return [
        row.number
        for row in rows
        if storage.set_trial_state_values(row._trial_id, TrialState.RUNNING)
    ]


def _run_all(ledger: OptunaLedger) -> list[int]:
    done = []
    while (pack := ledger.ask_pack(1)) is not None:
        for config in pack:
            finish(ledger, config)
            done.append(config.trial)
        # Training takes time, in which others come to the database.
        time.sleep(0.03)
    return done
