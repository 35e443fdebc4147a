"""Where trials run. Ray is imported here and nowhere else.

Ray Tune places packs on CPUs and GPUs, keeps their processes alive from trial to trial and
tells when one dies. It learns only "an epoch is done" and "a pack is done"; its own state is
thrown away, because the ledger, the checkpoints and MLflow are the truth.
"""

import logging
import math
import os
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

_SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Else Ray copies the folder that `uv run` stands in, and its workers write into the copy.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Of a desk that died, which is told in our own words.
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "60",
}
# Ray reads them when it is imported.
for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.progress_reporter import TrialProgressCallback  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

from tune_vae.data import Splits  # noqa: E402
from tune_vae.errors import StorageError, StudyError, TuneVaeError, masked  # noqa: E402
from tune_vae.science.health import Verdict  # noqa: E402
from tune_vae.science.history import EpochReport, Rollback  # noqa: E402
from tune_vae.service.desk import DataFacts, Desk, Snapshot  # noqa: E402
from tune_vae.service.journey import Decision, Fault, TrialResult, run_pack  # noqa: E402
from tune_vae.service.owner import owner  # noqa: E402
from tune_vae.service.signals import Interrupted, Signals  # noqa: E402
from tune_vae.spec.study import Storage, StudySpec  # noqa: E402
from tune_vae.spec.trial import TrialConfig  # noqa: E402
from tune_vae.training.checkpoint import CheckpointStore  # noqa: E402
from tune_vae.training.memory import is_out_of_memory, make_room  # noqa: E402

__all__ = ["search"]

REFRESH_SECONDS = 0.3
ANSWER_SECONDS = 30.0
"""Within which a desk that lives answers, however busy the machine."""
PULSE_SECONDS = 5.0
"""From one sign of life of a worker to the next."""
TRUST_SECONDS = 30.0
"""A third of a lease: for so long a worker may take an answer of the desk for true."""
PREFIX = "tune-vae-"
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
    with _ray(spec, verbose=verbose) as scratch:
        # Ray 2.60 takes SIGTERM for a crash, prints a trace and aborts.
        signals.renew()
        resources, slots = _resources(spec)
        here = NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(),
            soft=False,
        )
        actor = ray.remote(num_cpus=0, max_concurrency=16, scheduling_strategy=here)(Desk)
        desk = actor.remote(spec, facts, confirm=confirm)
        window = _Window(desk, show)
        with _noticing_its_death(desk, window):
            _wait_until_open(desk)
            try:
                while not signals.stop:
                    searcher = _AskDesk(desk, spec.name)
                    _fit(spec, desk, searcher, resources, slots, window, signals, scratch)
                    if searcher.refusal:
                        raise searcher.refusal
                    if signals.stop or not ray.get(desk.has_work.remote()):
                        break
                    window.refresh()
                    time.sleep(1.0)
            finally:
                ray.get(desk.stop.remote())
                final: Snapshot = ray.get(desk.snapshot.remote(window.seen))
                if not ray.get(desk.close.remote(note(final))):
                    final = replace(final, trouble="MLflow did not take everything")
        return final


@contextmanager
def _noticing_its_death(desk: Any, window: "_Window") -> Iterator[None]:
    """Tell an error that comes of the desk's death from all others."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  raised again, or told
        try:
            ray.get(desk.snapshot.remote(0), timeout=ANSWER_SECONDS)
        except ray.exceptions.RayActorError as death:
            if death.actor_init_failed:
                raise error from None
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
        raise _cause(error) from None


def _cause(error: Exception) -> Exception:
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


def _fit(
    spec: StudySpec,
    desk: Any,
    searcher: "_AskDesk",
    resources: dict[str, float],
    slots: int,
    window: "_Window",
    signals: Signals,
    scratch: Path,
) -> None:
    # Workers get no address of a database, and none of its passwords.
    places = Storage(checkpoints=spec.storage.checkpoints)
    trainable = tune.with_resources(
        tune.with_parameters(_PackTrial, spec=replace(spec, storage=places), desk=desk), resources
    )
    tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,
            max_concurrent_trials=slots,
            # One process serves trial after trial: starting one costs seconds.
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="packs",
            storage_path=str(scratch / "tune"),
            verbose=0,
            stop=_Stopper(signals),
            callbacks=[_Refresh(window)],
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()


class _PackTrial(tune.Trainable):
    """One pack in a worker process; a step is an epoch. Must be cheap to set up."""

    def setup(self, config: dict[str, Any], spec: StudySpec, desk: Any) -> None:
        spec.enable_imports()
        self._spec, self._desk = spec, desk
        self._data: Splits | None = None
        self._journey: Iterator[None] | None = None
        self._pulse: _Pulse | None = None
        self._attempts: dict[int, int] = {}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._journey = None
        return True

    def step(self) -> dict[str, Any]:
        configs = [TrialConfig.model_validate_json(text) for text in self.config["pack"]]
        try:
            if self._journey is None:
                self._journey = self._begin(configs)
            next(self._journey)
            return {"done": False}
        except StopIteration:
            return {"done": True}
        except ray.exceptions.RayError:
            # The desk died or cannot write, which is no fault of the trial; nobody could be told.
            raise
        except Exception as error:  # noqa: BLE001  a user's network may raise anything
            fault, reason = _fault(error)
        # Not above, where the frames of the error still hold the model.
        self._journey = None
        make_room()
        ray.get(self._desk.fail.remote(self._attempts, fault, reason))
        return {"done": True}

    def _begin(self, configs: list[TrialConfig]) -> Iterator[None]:
        import torch

        torch.set_num_threads(max(1, int(self._spec.budget.cpus_per_trial)))
        device = "cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu"
        if self._pulse is None:
            self._pulse = _Pulse(self._desk)
        trials = [config.trial for config in configs]
        self._attempts = self._pulse.begin(trials, _name_of(device))
        mine = [config for config in configs if config.trial in self._attempts]
        if not mine:
            # Handed over before it began.
            return iter(())
        if self._data is None:
            self._data = self._spec.dataset().load()
        handle = _DeskHandle(self._desk, self._attempts)
        return run_pack(
            mine,
            data=self._data,
            limits=self._spec.health,
            ledger=handle,
            tracker=handle,
            store=CheckpointStore(self._spec.storage.checkpoints, self._spec.name, self._attempts),
            device=device,
        )


def _name_of(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else device


class _Pulse:
    """Tells the desk that this process lives, whatever its training is busy with."""

    def __init__(self, desk: Any) -> None:
        self._desk, self._worker = desk, owner()
        self._trials: list[int] = []
        threading.Thread(target=self._beat, name="pulse", daemon=True).start()

    def begin(self, trials: list[int], device: str) -> dict[int, int]:
        """From now on it trains these; returns the numbers of their attempts."""
        self._trials = trials
        attempts: dict[int, int] = ray.get(
            self._desk.attempts.remote(trials, self._worker, device)
        )
        return attempts

    def _beat(self) -> None:
        while True:
            time.sleep(PULSE_SECONDS)
            self._desk.alive.remote(self._worker, self._trials)


class _DeskHandle:
    """The desk as a worker sees it: `journey.Ledger` and `journey.Tracker`.

    Arguments:
        desk: Of the search.
        attempts: The worker's own, by trial.
    """

    def __init__(self, desk: Any, attempts: dict[int, int]) -> None:
        self._desk, self._attempts = desk, attempts
        self._answered = dict.fromkeys(attempts, time.time())

    def holds(self, trial: int) -> bool:
        # Within the time of an answer the lease cannot have run out.
        if time.time() - self._answered[trial] < TRUST_SECONDS:
            return True
        return bool(self._ask(trial, self._desk.holds, trial))

    def report(self, report: EpochReport, verdict: Verdict) -> Decision:
        decision: Decision = self._ask(report.trial, self._desk.report, report, verdict)
        return decision

    def commit(self, result: TrialResult) -> None:
        self._ask(result.trial, self._desk.commit, result)

    def log(self, report: EpochReport, verdict: Verdict) -> None:
        self._desk.log.remote(report, verdict)

    def roll_back(self, trial: int, rollbacks: Sequence[Rollback]) -> None:
        # Waited for, lest it overtake the end, which says more.
        ray.get(self._desk.roll_back.remote(trial, rollbacks))

    def conclude(self, result: TrialResult) -> None:
        self._ask(result.trial, self._desk.conclude, result)

    def _ask(self, trial: int, method: Any, *arguments: Any) -> Any:
        answer = ray.get(method.remote(*arguments, self._attempts[trial]))
        self._answered[trial] = time.time()
        return answer


class _AskDesk(Searcher):
    """Tune's searcher: asks the desk for packs and tells it when a worker died."""

    def __init__(self, desk: Any, study: str) -> None:
        super().__init__()
        self._desk, self._study = desk, study
        self._packs: dict[str, dict[int, int]] = {}
        self.refusal: Exception | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune pickles its searcher into a file that nobody reads.
        return (_AskDesk, (None, self._study))

    def suggest(self, trial_id: str) -> Any:
        if self.refusal:
            return Searcher.FINISHED
        try:
            pack = ray.get(self._desk.ask.remote())
        except ray.exceptions.RayTaskError as error:
            self.refusal = _cause(error)
            return Searcher.FINISHED
        if pack is None or (not pack and not self._packs):
            # With nothing running, Tune would sleep on a None without showing anything.
            return Searcher.FINISHED
        if not pack:
            return None
        trials = [config.trial for config in pack]
        self._packs[trial_id] = ray.get(self._desk.attempts.remote(trials))
        return {"pack": [config.model_dump_json() for config in pack]}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        attempts = self._packs.pop(trial_id, {})
        if error and not self.refusal:
            try:
                ray.get(self._desk.fail.remote(attempts, Fault.PROCESS, "its worker died"))
            except ray.exceptions.RayTaskError as refused:
                self.refusal = _cause(refused)

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass


class _Stopper(tune.Stopper):
    def __init__(self, signals: Signals | None) -> None:
        self._signals = signals

    def __reduce__(self) -> tuple[Any, ...]:
        return (_Stopper, (None,))

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._signals is not None and self._signals.stop


class _Refresh(TrialProgressCallback):
    """Replaces Ray's own printer, and gives the terminal its turn."""

    def __init__(self, window: "_Window | None") -> None:
        super().__init__()
        self._window = window

    def __reduce__(self) -> tuple[Any, ...]:
        return (_Refresh, (None,))

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self._window:
            self._window.refresh()

    def on_trial_result(self, *args: Any, **info: Any) -> None:
        pass

    def on_trial_error(self, *args: Any, **info: Any) -> None:
        pass

    def on_trial_complete(self, *args: Any, **info: Any) -> None:
        pass


class _Window:
    """Fetches snapshots without ever waiting for one."""

    def __init__(self, desk: Any, show: Callable[[Snapshot], None]) -> None:
        self._desk, self._show = desk, show
        self._asked: Any = None
        self._begun = self._next = 0.0
        self._latest: Snapshot | None = None
        self.seen = 0

    def refresh(self) -> None:
        if self._asked is None:
            if time.monotonic() < self._next:
                return
            self._asked = self._desk.snapshot.remote(self.seen)
            self._begun = time.monotonic()
        done, _ = ray.wait([self._asked], timeout=0)
        if done:
            snapshot: Snapshot = ray.get(self._asked)
            self._asked = None
            # Of thousands of trials a look takes a while, in which nobody else is served.
            now = time.monotonic()
            self._next = now + max(REFRESH_SECONDS, 5 * (now - self._begun))
            self.seen += len(snapshot.ended)
            self._latest = snapshot
            self._show(snapshot)

    def say(self, trouble: str) -> None:
        """Show something beside what was known last."""
        if self._latest:
            self._show(replace(self._latest, running=(), ended=(), trouble=trouble))


@contextmanager
def _ray(spec: StudySpec, *, verbose: bool) -> Iterator[Path]:
    """A cluster for the time of a search: the one that is named, or one of our own."""
    _sweep()
    logging.getLogger("ray.tune").setLevel(logging.INFO if verbose else logging.CRITICAL)
    scratch = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=_temporary()))
    try:
        _start_ray(spec, scratch, verbose=verbose)
        with _watching_the_node(f"tune-vae search {spec.operand}"):
            yield scratch
    finally:
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _watching_the_node(again: str) -> Iterator[None]:
    """End in words when a node of our own dies, as by want of memory.

    Ray 2.60 ends this process then, within a quarter of a minute and without a word, and no
    exception could be handled: its `shutdown` does the same.
    """
    node, over = ray._private.worker._global_node, threading.Event()

    def watch() -> None:
        while not over.wait(REFRESH_SECONDS):
            if node is not None and any(name == "raylet" for name, _ in node.dead_processes()):
                shown = "\x1b[?25h\n" if sys.stderr.isatty() else ""
                sys.stderr.write(
                    f"{shown}error: Ray's own process on this machine died (too little memory?); "
                    f"everything is saved. Go on with: {again}\n"
                )
                sys.stderr.flush()
                os._exit(StorageError.exit_code)

    watcher = threading.Thread(target=watch, name="node", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _start_ray(spec: StudySpec, scratch: Path, *, verbose: bool) -> None:
    address = spec.ray.address or os.environ.get("RAY_ADDRESS")
    own: dict[str, Any] = {
        "num_cpus": _cores(),
        "include_dashboard": False,
        "object_store_memory": 256 * 2**20,
        "_temp_dir": str(scratch / "ray"),
    }
    try:
        ray.init(
            address=address or "local",
            log_to_driver=verbose,
            logging_level=logging.INFO if verbose else logging.ERROR,
            **({} if address else own),
        )
    except Exception as error:
        # Of a machine too busy to start in time Ray 2.60 says so by a bare Exception.
        where = f"the Ray cluster at {address}" if address else "Ray on this machine"
        raise StorageError(f"cannot start or reach {where}: {error}") from error


def _temporary() -> str:
    """Where Ray's sockets go, whose whole path may have about a hundred characters."""
    default = tempfile.gettempdir()
    return "/tmp" if len(default) > len("/var/tmp") and os.access("/tmp", os.W_OK) else default


def _sweep() -> None:
    """Remove what killed searches left in the temporary folder."""
    for folder in Path(_temporary()).glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _cores() -> int:
    """Cores this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


def _fault(error: Exception) -> tuple[Fault, str]:
    """Whose fault an error in a worker is, and what to say of it."""
    if isinstance(error, StorageError):
        return Fault.PLACE, str(error)
    if is_out_of_memory(error):
        return Fault.MEMORY, f"out of memory: {_reason(error)}"
    return Fault.PROGRAM, _reason(error)


def _reason(error: Exception) -> str:
    """An exception in one line, with the place that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error).strip().splitlines()
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return masked(f"{type(error).__name__}: {text[0] if text else ''} ({place})")
