"""The workers, which Ray Tune places on CPUs and GPUs, and of which it tells when one dies.

A worker lives as long as the search and takes pack after pack from the desk itself, so that
nothing is started, imported or loaded between two trials. To Ray Tune it is one trial.
"""

import threading
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

# First, because what it imports makes Ray's settings.
from tune_vae.service.cluster import Window, cause_of  # isort: skip
import ray
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.search import Searcher

from tune_vae.data import Splits
from tune_vae.errors import Remark, StorageError, TuneVaeError, masked
from tune_vae.science.health import Verdict
from tune_vae.science.history import EpochReport, Rollback
from tune_vae.service.journey import Decision, Fault, TrialResult, run_pack
from tune_vae.service.owner import owner
from tune_vae.service.signals import Signals
from tune_vae.spec.study import Storage, StudySpec
from tune_vae.spec.trial import TrialConfig
from tune_vae.training.checkpoint import CheckpointStore
from tune_vae.training.isolation import LeakError
from tune_vae.training.memory import is_out_of_memory, make_room

__all__ = ["start_in_waiting_processes", "train"]

STEP_SECONDS = 0.5
"""How long a worker trains without a word to Ray, if an epoch does not take longer."""
POLL_SECONDS = 0.5
"""How often a worker without a trial asks again for one."""
PULSE_SECONDS = 5.0
"""From one sign of life of a worker to the next."""
TRUST_SECONDS = 30.0
"""A third of a lease: for so long a worker may take an answer of the desk for true."""
ROUNDS = 3
"""How often the trials of a pack may be replaced before a graph is chosen freely again."""
DEATHS = 10
"""How many workers may die in a row before they have taken a trial."""


def start_in_waiting_processes() -> None:
    """Let workers start in the processes that Ray keeps waiting, where these are our own.

    Tune gives each worker an environment, for which Ray starts two more processes, one after the
    other, and leaves alone the ones that wait. On Ray's own machine they have ours already.
    """
    class_cache.DEFAULT_ENV_VARS.clear()
    class_cache.ENV_VARS_TO_PROPAGATE.clear()


def train(
    spec: StudySpec,
    desk: Any,
    resources: dict[str, float],
    slots: int,
    window: Window,
    signals: Signals,
    scratch: Path,
) -> Exception | None:
    """Let workers train what the desk gives out, until nothing is left or `signals` says so.

    Arguments:
        spec: The study.
        desk: The actor that owns it.
        resources: What each worker takes.
        slots: How many there are.
        window: Gets its turn a few times a second; ends it when the desk is gone.
        signals: Of the person or the scheduler.
        scratch: Folder for what Ray writes.

    Returns:
        Why it could not go on, if so.
    """
    crew = _Crew(desk, spec.name, slots, window)
    # Workers get no address of a database, and none of its passwords.
    places = Storage(checkpoints=spec.storage.checkpoints)
    trainable = tune.with_resources(
        tune.with_parameters(_Worker, spec=replace(spec, storage=places), desk=desk), resources
    )
    tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=crew,
            num_samples=-1,
            max_concurrent_trials=slots,
        ),
        run_config=tune.RunConfig(
            name="workers",
            storage_path=str(scratch / "tune"),
            verbose=0,
            stop=_Stopper(signals, window),
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
    return crew.refusal


class _Worker(tune.Trainable):
    """A process that trains pack after pack, which to Ray Tune is one trial.

    A step is about half a second of it, or one epoch: only between two steps can it be stopped.
    """

    def setup(self, config: dict[str, Any], spec: StudySpec, desk: Any) -> None:
        spec.enable_imports()
        self._spec, self._desk = spec, desk
        self._data: Splits | None = None
        self._pack: list[TrialConfig] = []
        self._attempts: dict[int, int] = {}
        self._journey: Iterator[None] | None = None
        self._pulse = _Pulse(desk)
        self._ends: list[Any] = []
        self._device = "cpu"
        _pass_on_remarks(desk)

    def step(self) -> dict[str, Any]:
        until = time.monotonic() + STEP_SECONDS
        while time.monotonic() < until:
            if not self._pack and not self._take_pack():
                return {"done": True}
            if not self._pack:
                # What is left runs elsewhere, and may yet be dropped there.
                time.sleep(POLL_SECONDS)
                continue
            self._train()
        return {"done": False}

    def _take_pack(self) -> bool:
        """Ask for the next pack, which may be empty; whether there can be another one."""
        self._pulse.trials = None
        given = ray.get(self._desk.take.remote(self.trial_id, *self._who()))
        self._look_at_ends()
        if given is None:
            # The sampler shall know how the last ones ended; and nobody leaves before they have.
            self._wait_for_ends()
            given = self._given()
        if given is None:
            return False
        # Not by the trials, which cannot help it where they are not to be had.
        self._images()
        self._pack, self._attempts = given
        self._pulse.trials = list(self._attempts)
        self._journey = self._begin() if self._pack else None
        return True

    def _given(self) -> tuple[list[TrialConfig], dict[int, int]] | None:
        """What the desk gives out when it is asked; None if nothing is left."""
        asked = self._desk.give.remote(self.trial_id, *self._who())
        self._images()
        try:
            given: tuple[list[TrialConfig], dict[int, int]] | None = ray.get(asked)
        except ray.exceptions.RayTaskError as error:
            if isinstance(cause_of(error), TuneVaeError):
                # The driver hears of it, too.
                return None
            raise
        return given

    def _images(self) -> Splits:
        """The data, loaded when they are first wanted."""
        if self._data is None:
            self._data = self._spec.dataset().load()
        return self._data

    def _wait_for_ends(self) -> None:
        """Until what was said of the ends of trials is written; raises why it could not be."""
        ray.get(self._ends)
        self._ends.clear()

    def _look_at_ends(self) -> None:
        """The same without waiting."""
        if self._ends:
            written, self._ends[:] = ray.wait(self._ends, num_returns=len(self._ends), timeout=0)
            ray.get(written)

    def _who(self) -> tuple[str, str]:
        """This process, and the name of what it computes on."""
        if ray.get_gpu_ids():
            import torch

            if torch.cuda.is_available():
                self._device = "cuda"
                return self._pulse.worker, torch.cuda.get_device_name()
        return self._pulse.worker, self._device

    def _train(self) -> None:
        """An epoch of the pack, or its end."""
        try:
            assert self._journey is not None
            next(self._journey)
            return
        except StopIteration:
            self._pack, self._journey = [], None
            return
        except ray.exceptions.RayError:
            # The desk died or cannot write, which is no fault of the trial; nobody could be told.
            raise
        except Exception as error:  # noqa: BLE001  a user's network may raise anything
            fault, reason = _fault(error)
        # Not above, where the frames of the error still hold the model.
        if fault is Fault.MEMORY and len(self._pack) > 1:
            self._desk.remark.remote(f"the trials of a pack go on in smaller ones: {reason}")
        self._pack, self._journey = [], None
        make_room()
        ray.get(self._desk.fail.remote(self._attempts, fault, reason))

    def _refill(self, places: int) -> list[TrialConfig]:
        """Trials for free places of the pack, whose attempts are noted.

        A pack takes so many only, lest its graph be the only one that the worker ever trains.
        """
        size = self._spec.train.pack
        places = min(places, size * ROUNDS - len(self._pack))
        if size == 1 or places < 1:
            return []
        self._wait_for_ends()
        beside = self._pack[0].trial
        more: list[TrialConfig]
        more, theirs = ray.get(
            self._desk.refill.remote(self.trial_id, beside, places, *self._who())
        )
        # In place: the journey's own view of the attempts is this one.
        self._attempts |= theirs
        self._handle.trust(theirs)
        self._pulse.trials = list(self._attempts)
        self._pack += more
        return more

    def _begin(self) -> Iterator[None]:
        import torch

        torch.set_num_threads(max(1, int(self._spec.budget.cpus_per_trial)))
        self._handle = handle = _DeskHandle(self._desk, self._attempts, self._ends)
        # A generator: what the journey raises at its beginning, it raises at its first epoch.
        yield from run_pack(
            tuple(self._pack),
            data=self._images(),
            limits=self._spec.health,
            ledger=handle,
            tracker=handle,
            store=CheckpointStore(self._spec.storage.checkpoints, self._spec.name, self._attempts),
            device=self._device,
            refill=self._refill,
        )


def _pass_on_remarks(desk: Any) -> None:
    """Let the desk show what a training remarks, which would be lost in a worker's log."""
    show = warnings.showwarning

    def told(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, Remark):
            desk.remark.remote(str(message))
        else:
            show(message, category, *place, **more)

    warnings.showwarning = told
    warnings.simplefilter("always", Remark)


class _Pulse:
    """Tells the desk that this process lives, whatever its training is busy with.

    Attributes:
        worker: The process, see `owner`.
        trials: What it trains; None while it does not know what it was given.
    """

    def __init__(self, desk: Any) -> None:
        self._desk, self.worker = desk, owner()
        self.trials: list[int] | None = []
        threading.Thread(target=self._beat, name="pulse", daemon=True).start()

    def _beat(self) -> None:
        while True:
            time.sleep(PULSE_SECONDS)
            self._desk.alive.remote(self.worker, self.trials)


class _DeskHandle:
    """The desk as a worker sees it: `journey.Ledger` and `journey.Tracker`.

    Arguments:
        desk: Of the search.
        attempts: The worker's own, by trial; grows with the pack.
        ends: Gets what stands for the ends of trials until they are written.
    """

    def __init__(self, desk: Any, attempts: Mapping[int, int], ends: list[Any]) -> None:
        self._desk, self._attempts, self._ends = desk, attempts, ends
        self._answered: dict[int, float] = {}
        self.trust(attempts)

    def trust(self, trials: Iterable[int]) -> None:
        """The desk just said of these that they are ours."""
        self._answered |= dict.fromkeys(trials, time.time())

    def holds(self, trial: int) -> bool:
        # Within the time of an answer the lease cannot have run out.
        if time.time() - self._answered.get(trial, 0.0) < TRUST_SECONDS:
            return True
        return bool(self._ask(trial, self._desk.holds, trial))

    def report(self, report: EpochReport, verdict: Verdict) -> Decision:
        decision: Decision = self._ask(report.trial, self._desk.report, report, verdict)
        return decision

    def commit(self, result: TrialResult) -> None:
        # Not waited for: the next trial may begin meanwhile.
        attempt = self._attempts[result.trial]
        self._ends.append(self._desk.commit.remote(result, attempt))

    def log(self, report: EpochReport, verdict: Verdict) -> None:
        self._desk.log.remote(report, verdict)

    def roll_back(self, trial: int, rollbacks: Sequence[Rollback]) -> None:
        # Waited for, lest it overtake the end, which says more.
        ray.get(self._desk.roll_back.remote(trial, rollbacks))

    def conclude(self, result: TrialResult) -> None:
        self._ask(result.trial, self._desk.conclude, result)

    def _ask(self, trial: int, method: Any, *arguments: Any) -> Any:
        answer = ray.get(method.remote(*arguments, self._attempts[trial]))
        self.trust([trial])
        return answer


class _Crew(Searcher):
    """Tune's searcher, which suggests workers, another one for each that died.

    The first has the cores to itself until it trains: importing PyTorch takes seconds of a core.
    """

    def __init__(self, desk: Any, study: str, slots: int, window: Window | None) -> None:
        super().__init__()
        self._desk, self._study, self._wanted = desk, study, slots
        self._window = window
        self._living: set[str] = set()
        self._deaths = 0
        self.refusal: Exception | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune pickles its searcher into a file that nobody reads.
        return (_Crew, (None, self._study, 0, None))

    def suggest(self, trial_id: str) -> Any:
        alone = self._window is not None and not self._window.busy
        if self._wanted and not self.refusal and not (alone and self._living):
            self._wanted -= 1
            self._living.add(trial_id)
            return {"study": self._study}
        # Another one may still be wanted; with nobody living, Tune would sleep on a None.
        return None if self._living else Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self._living.discard(trial_id)
        if not error or self.refusal:
            return
        try:
            blamed = ray.get(self._desk.bury.remote(trial_id))
        except ray.exceptions.RayTaskError as refused:
            self.refusal = cause_of(refused)
            return
        self._wanted += 1
        # One that had no trial yet dies of something else, as would the next.
        self._deaths = 0 if blamed else self._deaths + 1
        if self._deaths >= DEATHS:
            self.refusal = StorageError(
                f"{DEATHS} workers in a row died before they took a trial. See why with "
                "`tune-vae search --verbose`; everything is saved."
            )

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass


class _Stopper(tune.Stopper):
    """Ends the search, and gives the terminal its turn, as Tune asks it many times a second.

    A callback would be the place, but of any callback Tune counts the use, for which it imports
    MLflow into the driver, whether or not it may tell anybody: a second of each start.
    """

    def __init__(self, signals: Signals | None, window: Window | None) -> None:
        self._signals, self._window = signals, window

    def __reduce__(self) -> tuple[Any, ...]:
        return (_Stopper, (None, None))

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self._window:
            self._window.refresh()
        interrupted = self._signals is not None and self._signals.stop
        return interrupted or (self._window is not None and self._window.dark)


def _fault(error: Exception) -> tuple[Fault, str]:
    """Whose fault an error in a worker is, and what to say of it."""
    if isinstance(error, StorageError):
        return Fault.PLACE, str(error)
    if is_out_of_memory(error):
        return Fault.MEMORY, f"out of memory: {_reason(error)}"
    if isinstance(error, LeakError):
        # Smaller packs are tried, and at last single trials.
        return Fault.MEMORY, _reason(error)
    return Fault.PROGRAM, _reason(error)


def _reason(error: Exception) -> str:
    """An exception in one line, with the place that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error).strip().splitlines()
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return masked(f"{type(error).__name__}: {text[0] if text else ''} ({place})")
