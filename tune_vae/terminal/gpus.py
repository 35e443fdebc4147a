"""What the GPUs of this machine do, as NVIDIA's own program says."""

import contextlib
import shutil
import subprocess
import threading

__all__ = ["Gpus"]

EVERY_SECONDS = 5.0
QUERY = "--query-gpu=index,utilization.gpu,memory.used,memory.total"


class Gpus:
    """Asks in a thread of its own, since an answer may take a second; silent without GPUs."""

    def __init__(self) -> None:
        self.line = ""
        self._over = threading.Event()
        self._program = shutil.which("nvidia-smi")
        if self._program:
            threading.Thread(target=self._watch, name="gpus", daemon=True).start()

    def close(self) -> None:
        self._over.set()

    def _watch(self) -> None:
        while True:
            self.line = self._ask()
            if self._over.wait(EVERY_SECONDS):
                return

    def _ask(self) -> str:
        command = [str(self._program), QUERY, "--format=csv,noheader,nounits"]
        with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
            said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
            return "   ".join(map(_told, said.stdout.splitlines()))
        return ""


def _told(row: str) -> str:
    """`gpu0 82% · 9.2/139 GiB` of `0, 82, 9421, 142336`, memory in MiB.

    Example:
        >>> _told("0, 82, 9421, 142336")
        'gpu0 82% · 9.2/139.0 GiB'
        >>> _told("1, [N/A], 0, 24576")
        'gpu1 · 0.0/24.0 GiB'
    """
    index, busy, used, total = (cell.strip() for cell in row.split(","))
    share = f" {busy}%" if busy.isdigit() else ""
    return f"gpu{index}{share} · {int(used) / 1024:.1f}/{int(total) / 1024:.1f} GiB"
