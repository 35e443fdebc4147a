"""What this process may use of the machine it runs on."""

import os

__all__ = ["cores"]


def cores() -> int:
    """Those this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
