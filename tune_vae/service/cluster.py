"""A search on Ray: the desk, the crew of workers, and a window on both.

Ray is imported here, in `crew` and in `node`, and nowhere else. Its own state is thrown away,
because the ledger, the checkpoints and MLflow are the truth.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

# First, because it makes Ray's settings.
from tune_vae.service import node  # isort: skip
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tune_vae.errors import StorageError, StudyError, TuneVaeError
from tune_vae.service.desk import DataFacts, Desk, Snapshot
from tune_vae.service.signals import Interrupted, Signals
from tune_vae.spec.study import StudySpec

__all__ = ["Window", "cause_of", "search"]

REFRESH_SECONDS = 0.3
DARK_SECONDS = 5.0
"""At most between two looks, however long they take."""
ANSWER_SECONDS = 30.0
"""Within which a desk that lives answers, however busy the machine."""
UNSENT = "MLflow did not take everything; the same command sends the rest"
DEATHS = 10
"""How often the desk may die in one search before it is no accident any more."""


def search(
    spec: StudySpec,
    facts: DataFacts,
    *,
    show: Callable[[Snapshot], None],
    note: Callable[[Snapshot], str],
    confirm: bool = False,
    verbose: bool = False,
) -> Snapshot:
    """Run a study to its end, or go on with it.

    Arguments:
        spec: The study.
        facts: Of its data.
        show: Called a few times a second with what has happened.
        note: What MLflow's page shall say of the study at the end.
        confirm: Whether only repeats of finalists are run, and no trials.
        verbose: Whether Ray's own messages are shown.

    Returns:
        The study at its end.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; what ran was saved and handed over.
        StorageError: The ledger cannot be opened.
        StudyError: No trial fits the machine, or all trials break.
    """
    # A worker's folder is Ray's to choose.
    spec = replace(spec, storage=spec.storage.at(Path.cwd()))
    with Signals() as signals:
        for _ in range(DEATHS):
            try:
                final = _search(spec, facts, signals, show, note, confirm, verbose)
            except _LostError as error:
                death = error
            else:
                show(final)
                break
            if signals.stop:
                break
        else:
            raise StorageError(
                f"the owner of the search died {DEATHS} times, at last with: {death}. Everything "
                "is saved; see what ends its process (too little memory?), then search again."
            )
    if signals.stop:
        seeds = f" --top {spec.budget.finalists} --seeds {spec.budget.seeds}"
        again = f"confirm {spec.operand}{seeds}" if confirm else f"search {spec.operand}"
        raise Interrupted(f"interrupted; everything is saved. Go on with: tune-vae {again}")
    return final


class _LostError(Exception):
    """The desk is gone, and with it all that ran here; a new one takes it up."""


def _search(
    spec: StudySpec,
    facts: DataFacts,
    signals: Signals,
    show: Callable[[Snapshot], None],
    note: Callable[[Snapshot], str],
    confirm: bool,
    verbose: bool,
) -> Snapshot:
    """As `search`, until all is done, or it is interrupted, or the desk dies."""
    with node.entered(spec, verbose=verbose) as scratch:
        # Ray 2.60 would abort the process by its own handler of SIGTERM.
        signals.hold()
        resources, slots = _resources(spec)
        here = NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(),
            soft=False,
        )
        actor = ray.remote(num_cpus=0, max_concurrency=16, scheduling_strategy=here)(Desk)
        desk = actor.remote(spec, facts, confirm=confirm)
        # It takes seconds, in which the desk's process starts.
        from tune_vae.service.crew import start_in_waiting_processes, train

        if not node.address_of(spec):
            start_in_waiting_processes()
        window = Window(desk, show)
        with _noticing_its_death(desk, window):
            try:
                while not signals.stop:
                    # The workers start while the desk opens its stores.
                    refusal = train(spec, desk, resources, slots, window, signals, scratch)
                    _wait_until_open(desk)
                    if refusal:
                        raise refusal
                    if signals.stop or not _has_work(desk):
                        break
                    window.refresh()
                    time.sleep(1.0)
            finally:
                ray.get(desk.stop.remote())
                final = window.finish()
                closed = desk.close.remote(note(final), hurry=signals.stop)
                # Of a server that does not answer the person hears meanwhile.
                while not ray.wait([closed], timeout=REFRESH_SECONDS)[0]:
                    window.refresh()
                if not ray.get(closed):
                    final = replace(final, trouble=UNSENT)
        return final


@contextmanager
def _noticing_its_death(desk: Any, window: "Window") -> Iterator[None]:
    """Tell an error that comes of the desk's death from all others."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  raised again, or told
        try:
            ray.get(desk.snapshot.remote(0), timeout=ANSWER_SECONDS)
        except ray.exceptions.RayActorError as death:
            if death.actor_init_failed:
                raise cause_of(death) from None
        except (ray.exceptions.RayError, ConnectionError):
            pass
        else:
            raise
        window.say("the owner of the search died and is started again")
        raise _LostError((str(error) or type(error).__name__).splitlines()[-1]) from None


def _wait_until_open(desk: Any) -> None:
    """The desk has opened its stores, or says why it could not."""
    try:
        ray.get(desk.snapshot.remote(0))
    except ray.exceptions.RayActorError as error:
        raise cause_of(error) from None


def _has_work(desk: Any) -> bool:
    """See `Desk.has_work`; raises what the desk refused to give out trials for."""
    try:
        return bool(ray.get(desk.has_work.remote()))
    except ray.exceptions.RayTaskError as error:
        raise cause_of(error) from None


def cause_of(error: Exception) -> Exception:
    """Our own error inside what Ray makes of it when a constructor raises."""
    inner = getattr(error, "cause", None) or error.__cause__
    if isinstance(inner, TuneVaeError):
        return inner
    text = str(error)
    for kind in (StudyError, StorageError):
        marker = f"{kind.__module__}.{kind.__name__}: "
        if marker in text:
            return kind(text.rpartition(marker)[2].strip())
    return error


class Window:
    """Fetches snapshots without ever waiting for one; `dark` once the desk is gone."""

    def __init__(self, desk: Any, show: Callable[[Snapshot], None]) -> None:
        self._desk, self._show = desk, show
        self._asked: Any = None
        self._begun = self._next = 0.0
        self._latest: Snapshot | None = None
        self.seen = self._told = 0
        self.dark = False

    def refresh(self) -> None:
        if self._asked is None:
            if time.monotonic() < self._next:
                return
            self._asked = self._desk.snapshot.remote(self.seen, self._told)
            self._begun = time.monotonic()
        done, _ = ray.wait([self._asked], timeout=0)
        if done:
            try:
                snapshot: Snapshot = ray.get(self._asked)
            except ray.exceptions.RayActorError:
                # An error in here would end Tune in its own words.
                self.dark = True
                return
            self._asked = None
            # Of thousands of trials a look takes a while, in which nobody else is served. The
            # first has waited for the desk to start.
            now = time.monotonic()
            taken = now - self._begun if self._latest else 0.0
            self._next = now + min(max(REFRESH_SECONDS, 5 * taken), DARK_SECONDS)
            self._pass_on(snapshot)

    @property
    def busy(self) -> bool:
        """Whether a trial was seen running, or one that has ended since."""
        return bool(self.seen or (self._latest and self._latest.running))

    def finish(self) -> Snapshot:
        """Show all that has not been shown; returns what the study has come to."""
        # What was asked before has no more to tell, and would tell it twice.
        self._asked = None
        final: Snapshot = ray.get(self._desk.snapshot.remote(self.seen, self._told))
        self._pass_on(final)
        return replace(final, ended=(), remarks=())

    def _pass_on(self, snapshot: Snapshot) -> None:
        self.seen += len(snapshot.ended)
        self._told += len(snapshot.remarks)
        self._latest = snapshot
        self._show(snapshot)

    def say(self, trouble: str) -> None:
        """Show something beside what was known last."""
        if self._latest:
            self._show(replace(self._latest, running=(), ended=(), remarks=(), trouble=trouble))


def _resources(spec: StudySpec) -> tuple[dict[str, float], int]:
    """What each pack takes, and how many fit at once.

    Raises:
        StudyError: Not even one does.
    """
    have, budget = ray.cluster_resources(), spec.budget
    gpus = budget.gpus_per_trial
    if gpus is None:
        gpus = 0.25 if have.get("GPU") else 0.0
    wanted = {"cpu": budget.cpus_per_trial, "gpu": gpus}
    slots = math.inf
    for name, amount in wanted.items():
        there = have.get(name.upper(), 0.0)
        if amount > there:
            raise StudyError(
                f"a trial asks for {amount:g} {name.upper()} and there are {there:g}. Lower "
                f"`budget.{name}s_per_trial`, or name a larger cluster (`ray: {{address: …}}`)."
            )
        if amount:
            slots = min(slots, there // amount)
    packs = math.ceil(budget.trials / spec.train.pack)
    return wanted, int(min(slots, budget.concurrency or math.inf, packs))
