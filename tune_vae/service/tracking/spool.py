"""A queue of jobs for MLflow, and the thread that does them.

The search never waits for it, and a server that does not answer costs the pages, not the study.
"""

import contextlib
import functools
import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from tune_vae.errors import masked

__all__ = ["Spool"]

TICK_SECONDS = 0.5
GATHER_SECONDS = 5.0
"""Epochs that end meanwhile go in one request: each costs MLflow a good 20 ms."""
_FINAL = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "ENDPOINT_NOT_FOUND")
"""MLflow's codes of requests that it will never take, as when somebody deleted the run."""
_DOUBTFUL = "BAD_REQUEST"
"""Its code of any error of its database but an absence, also of one that passes."""
TRIES = 6
"""How often a request that gets this answer is made: in fifteen seconds, in three at the end."""


class _GaveUpError(Exception):
    """The search is over and MLflow still does not answer."""


class _RefusedError(Exception):
    """MLflow answers, and will not take this."""


class Spool:
    """Jobs in their order, each done once MLflow answers."""

    def __init__(self) -> None:
        self._jobs: queue.Queue[Callable[[], None]] = queue.Queue()
        self._closing = threading.Event()
        self._trouble = self._refused = ""
        self._limit = self._silence = math.inf
        self._answered = time.monotonic()
        self._connected = self._finished = False

    def start(
        self,
        connect: Callable[[], None],
        *,
        flush: Callable[[], None],
        finish: Callable[[], None],
    ) -> None:
        """Begin with the jobs, in a thread.

        Arguments:
            connect: Done before the first of them.
            flush: Done whenever there is none.
            finish: Done after the last of them.
        """
        self._connect, self._flush, self._finish = connect, flush, finish
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why MLflow does not answer at the moment; empty when it does."""
        return self._trouble or self._refused

    def put(self, job: Callable[..., None], *args: Any) -> None:
        """Add a job; its requests to MLflow go through `call`."""
        self._jobs.put(functools.partial(job, *args))

    def close(self, *, silence: float = 120.0, limit: float = math.inf) -> bool:
        """Finish what is queued, for as long as MLflow answers.

        Arguments:
            silence: Seconds without an answer after which the rest is left to the next search.
            limit: The same for seconds in all.

        Returns:
            Whether MLflow took all there ever was.
        """
        self._answered = time.monotonic()
        self._silence, self._limit = silence, self._answered + limit
        self._closing.set()
        while self._thread.is_alive() and time.monotonic() < self._deadline + 5:
            self._thread.join(0.2)
        return self._finished and not self._refused

    @property
    def _deadline(self) -> float:
        """When what is left is given up."""
        return min(self._answered + self._silence, self._limit)

    def _work(self) -> None:
        with contextlib.suppress(_GaveUpError):
            self.call(self._connect)
            self._connected = True
            while not (self._closing.is_set() and self._jobs.empty()):
                try:
                    job = self._jobs.get(timeout=TICK_SECONDS)
                except queue.Empty:
                    self._flush()
                    continue
                self.attempt(job)
                if self._jobs.empty():
                    self._flush()
                    self._closing.wait(GATHER_SECONDS)
            self._finish()
            self._finished = True

    def attempt(self, job: Callable[..., None], *args: Any) -> None:
        """Do a job, and let the others go on if MLflow will never take it."""
        try:
            job(*args)
        except _RefusedError as error:
            self._refused = str(error)

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """A request to MLflow, repeated until it succeeds or the time to close is over.

        What it does is done as a whole once more, so it must look first what is there.
        """
        wait, doubtful = 0.5, 0
        while True:
            if time.monotonic() > self._deadline:
                raise _GaveUpError
            try:
                answer = function(*args, **options)
            except Exception as error:
                # Beside its own, MLflow lets the errors of its database through.
                # They quote the address of the server.
                message = masked(f"MLflow: {(str(error) or type(error).__name__).splitlines()[0]}")
                code = getattr(error, "error_code", "")
                doubtful += code == _DOUBTFUL
                if self._connected and (code in _FINAL or doubtful == TRIES):
                    # An answer, too; the others shall have their time.
                    self._answered = time.monotonic()
                    raise _RefusedError(message) from error
                self._trouble = message
                if time.monotonic() + wait > self._deadline:
                    raise _GaveUpError from error
                # Awake at once when the search ends, to use what time is left.
                if self._closing.wait(wait):
                    time.sleep(0.5)
                wait = min(2 * wait, 30.0)
            else:
                self._trouble = ""
                self._answered = time.monotonic()
                return answer
