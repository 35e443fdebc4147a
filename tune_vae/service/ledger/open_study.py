"""A study in Optuna's storage, opened: begun if there is none, refused if it is another one."""

import time
import weakref

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from tune_vae.errors import StudyError, masked
from tune_vae.service import databases
from tune_vae.service.ledger.looking import name_of_repeats
from tune_vae.service.ledger.patience import DATABASE_ERRORS, Outages, patient, unreachable
from tune_vae.service.plugins import pruner_of, quiet
from tune_vae.spec.study import StudySpec

__all__ = [
    "GRACE_SECONDS",
    "HEARTBEAT_SECONDS",
    "OpenStudy",
]

HEARTBEAT_SECONDS = 15
GRACE_SECONDS = 90


class OpenStudy:
    """The rows of a study and those of its repeats.

    Arguments:
        spec: The study.
        digest: Of its data.

    Raises:
        StorageError: The storage cannot be opened.
        StudyError: The study was begun with another space or other data.
    """

    def __init__(self, spec: StudySpec, digest: str) -> None:
        self.spec, self.outages = spec, Outages(spec)
        self.storage, self.study = _open(spec)
        self.repeats: optuna.Study | None = None
        self._settle(digest)

    def rows(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def repeat_rows(self) -> list[FrozenTrial]:
        return self.repeats.get_trials(deepcopy=False) if self.repeats else []

    def is_running(self, trial: optuna.Trial) -> bool:
        """As the database has it now."""
        return self.storage.get_trial(trial._trial_id).state is TrialState.RUNNING

    def find_repeats(self) -> None:
        """Open the study of the repeats, with which another machine may have begun meanwhile."""
        self.repeats = self.repeats or _repeats_of(self.spec, self.storage)

    def begin_repeats(self) -> optuna.Study:
        """The study of the repeats, made if there is none."""
        self.repeats = self.repeats or _repeats_of(self.spec, self.storage, create=True)
        assert self.repeats is not None
        return self.repeats

    def tell(
        self,
        trial: optuna.Trial,
        values: list[float] | None = None,
        state: TrialState | None = None,
    ) -> None:
        """Tell the sampler how a row ended."""
        try:
            trial.study.tell(trial, values, state)
        except RuntimeError:
            # Samplers of finite spaces call `Study.stop` after the last point, which Optuna
            # refuses outside of its own loop; by then it has written the state. Here the budget
            # says when to stop.
            if not self.storage.get_trial(trial._trial_id).state.is_finished():
                raise

    @patient
    def _settle(self, digest: str) -> None:
        """Join the study; the database may be started anew meanwhile."""
        self.repeats = _repeats_of(self.spec, self.storage)
        self._agree(digest)
        self.study.set_user_attr("study_file", masked(self.spec.text))

    def _agree(self, data: str) -> None:
        """Refuse to mix trials that could not be compared.

        Raises:
            StudyError: With every setting that differs from what the study was begun with.
        """
        # Bounds first: whoever finds a space finds what its `auto` came to.
        mine = {"bounds": self.spec.bounds, "space": self.spec.space_digest(), "data": data}
        theirs = self.study.user_attrs
        if theirs.get("space", mine["space"]) != mine["space"]:
            raise self._refusal(_differences(theirs.get("content"), self.spec.space_content()))
        if theirs.get("data", data) != data:
            raise self._refusal(
                f"contents of the data set, by fingerprint: {theirs['data']} → {data}"
            )
        # Studies that earlier versions began have no content yet.
        for key, value in (mine | {"content": self.spec.space_content()}).items():
            if value is not None and key not in theirs:
                self.study.set_user_attr(key, value)

    def _refusal(self, differences: str) -> StudyError:
        return StudyError(
            f"study `{self.spec.name}` was begun with something else, and its trials could not "
            f"be compared with new ones: {differences}. Restore what it was, or begin a new study "
            f"with the file as it is: tune-vae search {self.spec.operand} --fork NEW-NAME. "
            "Budget, health, storage, resources, sampler and pruner may change freely."
        )


def _open(spec: StudySpec) -> tuple[RDBStorage, optuna.Study]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = spec.storage.ledger
    databases.reach(url, "storage.ledger")
    # Two processes that create the tables of a new database at the same moment disturb each
    # other; the second finds them when it tries again.
    for attempt in range(5):
        try:
            storage = _storage_at(url)
            study = optuna.create_study(
                storage=storage,
                study_name=spec.name,
                load_if_exists=True,
                directions=["minimize"] * len(spec.objective),
                pruner=pruner_of(spec),
            )
        except DATABASE_ERRORS as error:
            failure = error
            time.sleep(0.3 * 2**attempt)
        else:
            return storage, study
    raise unreachable(spec, failure) from None


def _repeats_of(
    spec: StudySpec, storage: RDBStorage, *, create: bool = False
) -> optuna.Study | None:
    """The study of the repeats beside a study, which exists once one was asked for."""
    # Never asked: what a repeat is made of comes with its row.
    sampler, name = optuna.samplers.RandomSampler(), name_of_repeats(spec)
    if create:
        return optuna.create_study(
            storage=storage,
            study_name=name,
            load_if_exists=True,
            directions=["minimize"] * len(spec.objective),
            sampler=sampler,
        )
    try:
        return optuna.load_study(study_name=name, storage=storage, sampler=sampler)
    except KeyError:
        return None


def _storage_at(url: str) -> RDBStorage:
    """Optuna's storage in a database, with leases that run out."""
    with quiet():
        storage = RDBStorage(
            url,
            engine_kwargs={
                "connect_args": databases.connect_args(url),
                "pool_pre_ping": databases.sqlite_file(url) is None,
            },
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=GRACE_SECONDS,
        )
    databases.configure(storage.engine)
    # Servers count connections, and Optuna closes none.
    weakref.finalize(storage, storage.engine.dispose)
    return storage


def _differences(theirs: dict[str, str] | None, mine: dict[str, str]) -> str:
    """The settings that changed, each as `place: old → new`."""
    if theirs is None:
        return "another search space, epochs, seed or objective"
    places = [place for place in theirs | mine if theirs.get(place) != mine.get(place)]
    changes = [
        f"{place}: {theirs.get(place, 'the default')} → {mine.get(place, 'the default')}"
        for place in places
    ]
    return "; ".join(changes) or "a number, in a digit that is not shown"
