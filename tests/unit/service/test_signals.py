"""What a search hears of Ctrl-C and of schedulers, in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tune_vae.service.signals import Interrupted, Signals

WAITING = """
import time
from tune_vae.service.signals import Signals

with Signals() as signals:
    print("ready", flush=True)
    while not signals.stop:
        time.sleep(0.01)
    print("finishing the epoch", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def waiting() -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, "-c", WAITING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_lets_it_finish_and_the_second_ends_it_at_once(
    waiting: "subprocess.Popen[str]", first: signal.Signals, second: signal.Signals
) -> None:
    waiting.send_signal(first)
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "finishing the epoch\n"
    assert waiting.poll() is None
    waiting.send_signal(second)
    assert waiting.wait(10) == Interrupted.exit_code == 130


def test_signals_are_afterwards_what_they_were_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.stop
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
