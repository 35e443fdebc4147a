"""Who runs a trial: a process, named so that it is known later whether it is gone."""

import contextlib
import os
import signal
import socket
from pathlib import Path

__all__ = ["end", "is_dead", "owner"]


def owner() -> str:
    """Host, process and its start: enough to know later whether that process is gone."""
    return f"{socket.gethostname()} {os.getpid()} {_process_start(os.getpid())}"


def is_dead(owner: str) -> bool:
    """Whether an owner was a process of this machine that no longer runs."""
    host, _, process = owner.partition(" ")
    if host != socket.gethostname():
        return False
    pid, _, start = process.partition(" ")
    return _process_start(int(pid)) != start


def end(owner: str) -> None:
    """End an owner at once, if it is a process of this machine; also one that is stopped."""
    host, pid, _ = owner.split(" ", 2)
    if host == socket.gethostname() and not is_dead(owner):
        with contextlib.suppress(OSError):
            os.kill(int(pid), signal.SIGKILL)


def _process_start(pid: int) -> str:
    """When a process began, as text that no later process of the same number shares."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return "gone"
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return "gone"
        except OSError:
            return "running"
        return "running"
    fields = stat.rpartition(")")[2].split()
    return "gone" if fields[0] in "ZX" else fields[19]
